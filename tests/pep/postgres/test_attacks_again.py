# ruff: noqa: E501 - a table reads best with one attempt to a line
"""More attempts at the values of masked columns, by a second reader. See `tests.attacks` and `test_attacks_columns`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pep.postgres.messages import Bind, Describe, Execute, Flush, Kind, Parse
from tests.attacks import Attack, attack, run, shipped_policies, shop, team_policy, ways
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, relay

NAME = "attacked_again"


@pytest.fixture(scope="module")
def shipped(postgres18: PostgresServer, opa_path: Path) -> Iterator[Relay]:
    shop(postgres18, NAME)
    with shipped_policies(opa_path) as policy, relay(postgres18, NAME, policy) as running:
        yield running


@pytest.fixture(scope="module")
def team(postgres18: PostgresServer, shipped: Relay) -> Iterator[Relay]:
    with relay(postgres18, NAME, team_policy) as running:
        yield running


EXPRESSIONS = [
    attack(name, f"select {expression} from customers c", "denied")
    for name, expression in {
        "is it valid": "pg_input_is_valid(ssn, 'int')",
        "why is it not valid": "(pg_input_error_info(ssn, 'int')).message",
        "privilege of a role of that name": "has_table_privilege(ssn, 'customers', 'select')",
        "privilege on a column of that name": "has_column_privilege('customers', ssn, 'select')",
        "sequence of that name": "currval(ssn)",
        "serial sequence of that column": "pg_get_serial_sequence('customers', ssn)",
        "role of that name": "to_regrole(ssn)",
        "date of that format": "to_date(ssn, 'YYYY')",
        "json_table of the row": "(select v from json_table(to_jsonb(c), '$' columns (v text path '$.ssn')) j)",
        "xmltable of the row": "(select v from xmltable('/a' passing xmlforest(ssn as a) columns v text path '.') x)",
        "record filled from the row": "jsonb_populate_record(c, '{}')",
        "field of a record filled from it": "(jsonb_populate_record(c, '{}')).ssn",
        "key of an object": "jsonb_object_agg(ssn, id)",
        "json aggregate": "json_arrayagg(ssn)",
        "json path condition": "json_exists(to_jsonb(ssn), '$ ? (@ starts with \"Q\")')",
        "json query of the row": "json_query(to_jsonb(c), '$.ssn' with wrapper)",
        "xml of it": "xmlparse(content ssn)",
        "xml instruction": "xmlpi(name x, ssn)",
        "overlay": "overlay(ssn placing '' from 1 for 0)",
        "position": "position('1' in ssn)",
        "trim": "trim(both from ssn)",
        "normalize": "normalize(ssn)",
        "similar to": "ssn similar to 'Q%'",
        "regular expression": "ssn ~ '^Q'",
        "between symmetric": "ssn between symmetric 'Z' and 'A'",
        "nulls counted": "num_nulls(ssn)",
        "variadic": "greatest(name, ssn)",
        "named and variadic": "format(formatstr => '%s', variadic \"any\" => array[ssn])",
        "identifier": "quote_ident(ssn)",
        "compression": "pg_column_compression(ssn)",
        "character by character": "(select string_agg(substr(ssn, g, 1), '') from generate_series(1, 11) g)",
        "field of a scalar subquery": "((select d from customers d limit 1)).ssn",
        "qualified whole row": "public.customers.ssn::name",
        "ntile": "ntile(2) over (order by ssn)",
        "frame by its distance": "count(*) over (order by salary range between 10 preceding and current row)",
        "frame bound": "count(*) over (order by id rows between salary preceding and current row)",
        "nth value": "nth_value(ssn, 1) over (order by id)",
        "two arguments": "regr_count(id, salary)",
        "hypothetical": "rank('M') within group (order by ssn)",
        "multirange": "range_agg(int4range(salary, salary, '[]'))",
        "array slice": "(array[ssn])[1:1]",
        "array of rows": "array(select d from customers d)",
        "set-returning beside": "generate_series(1, ascii(ssn) - 60)",
    }.items()
]

STATEMENTS = [
    attack("row of a subquery", "select x from (select ssn from customers) x", "denied"),
    attack("row of a cte", "with x as (select ssn from customers) select x from x", "denied"),
    attack("star of a row of a subquery", "select (x).* from (select ssn from customers) x", "denied"),
    attack("natural join with itself", "select id from customers natural join (select ssn from customers) d", "denied"),
    attack("lateral field", "select l.v from customers c, lateral (select c.ssn v) l", "masked"),
    attack("lateral expression", "select l.v from customers c, lateral (select c.ssn || '' v) l", "denied"),
    attack("lateral function", "select f from customers c, lateral lower(c.ssn) f", "denied"),
    attack("ordinality", "select * from customers c, unnest(array[c.ssn]) with ordinality", "denied"),
    attack("nested cte", "with a as (with b as (select ssn s from customers) select s t from b) select t || '' from a", "denied"),
    attack("cte that cycles", "with recursive r (s) as (select ssn from customers union select s from r where false) cycle s set is_cycle using path select path from r", "denied"),
    attack("group by all but it", "select id from customers group by cube (id, ssn)", "denied"),
    attack("having null", "select id from customers group by id having count(ssn) > 0", "denied"),
    attack("in pairs", "select id from customers where (id, ssn) in (values (1, 'a'))", "denied"),
    attack("all of an array", "select id from customers where 'a' < all (select ssn from customers)", "denied"),
    attack("values in a condition", "select id from customers where exists (values (ssn))", "denied"),
    attack("merge that returns an action for it", "merge into notes n using customers c on n.body = c.ssn when not matched then insert values (c.id, 'x') returning merge_action()", "denied"),
    attack("merge that returns it changed", "merge into notes n using customers c on n.id = c.id when not matched then insert values (c.id, 'x') returning c.ssn || ''", "denied"),
    attack("update that returns another table's", "update notes set body = 'x' from customers c where c.id = notes.id returning c.ssn || ''", "denied"),
    attack("insert that returns a subquery", "insert into notes values (1, 'x') returning (select ssn from customers limit 1)", "denied"),
    attack("insert that returns a cte", "with c as (select ssn s from customers) insert into notes values (1, 'x') returning (select max(s) from c)", "denied"),
    attack("upsert on its condition", "insert into orders values (1, 1, 'x') on conflict (id) do update set note = 'y' where (select ssn from customers limit 1) > 'M'", "denied"),
    attack("upsert by the index on an expression", "insert into customers (id, ssn) values (99, 'a') on conflict (lower(ssn)) do nothing", "denied"),
    attack("returning with other names", "update vips set name = name returning with (old as o) o.ssn || ''", "denied"),
    attack("plan for a parameter", "explain (generic_plan) select id from customers where ssn > $1", "denied"),
    attack("plan with buffers", "explain (analyze, buffers, timing off) select id from customers where ssn > 'M'", "denied"),
    attack("copy of a condition", "copy (select 1 where exists (select from customers where ssn like 'Q%')) to stdout", "denied"),
    attack("copy that is forced to quote", "copy customers to stdout with (format csv, header, force_quote (ssn))", "denied"),
    attack("copy of what a change returns", "copy (update vips set name = name returning ssn) to stdout", "denied"),
    attack("order on disk", "cluster customers using customers_ssn_key", "denied"),
    attack("fresh statistics", "analyze verbose customers", "denied"),
    attack("expression statistics", "create statistics s on (lower(ssn)), id from customers", "denied"),
    attack("statistics of expressions", "select most_common_vals from pg_stats_ext_exprs", "denied"),
    attack("statistics by function", "select pg_mcv_list_items(stxdmcv) from pg_statistic_ext_data", "denied"),
    attack("table like it", "create temp table loot (like customers including all)", "denied"),
    attack("copied without data", "create temp table loot as table customers with no data", "denied"),
    attack("argument of an execute", "prepare p (text) as select $1", "execute p ((select ssn from customers limit 1))", "denied"),
    attack("argument of a call", "call in_argument((select ssn from customers limit 1))", "denied"),
    attack("cursor with hold of an order", "declare c cursor with hold for select id from customers order by ssn", "denied"),
    attack("cursor over a change", "declare c insensitive cursor for select ssn || '' from customers for read only", "denied"),
    attack("row as a set", "select (v).ssn from (select unnest(array(select c from customers c)) v) s", "denied"),
    attack("table function of a row type", "select * from jsonb_populate_recordset(null::customers, (select jsonb_agg(c) from customers c))", "denied"),
    attack("table in a string, with a cursor", "select query_to_xml_and_xmlschema('select ssn from customers', true, true, '')", "denied"),
    attack("table with its schema", "select table_to_xml_and_xmlschema('customers', true, true, '')", "denied"),
    attack("page by page", "select * from pg_read_binary_file((select pg_relation_filepath('customers')))", "denied"),
    attack("statements of others", "select query from pg_stat_activity", "denied"),
    attack("own cursors", "select statement from pg_cursors, customers c where c.ssn > 'M'", "denied"),
    attack("lock by condition", "select id from customers where id = 1 for update of customers skip locked", "denied"),
    attack("publication of a condition", "create publication p for table customers where (ssn > 'M')", "denied"),
    attack("foreign key to it", "create table mine (ssn text references customers (ssn))", "denied"),
    attack("exclusion of it", "alter table customers add exclude using btree (ssn with =)", "denied"),
    attack("rule on a selection", 'create rule "_RETURN" as on select to notes do instead select id, ssn from customers', "denied"),
    attack("set a custom setting by a subquery", "select set_config('a.b', string_agg(ssn, ','), true) from customers", "denied"),
    attack("wait for it", "select pg_sleep(0) from customers where ssn > 'M'", "denied"),
    attack("error in a division", "select id from customers where id / (ascii(ssn) - 81) = 0", "denied"),
    attack("error of a limit", "select id from customers limit -(select ascii(ssn) from customers limit 1)", "denied"),
]  # fmt: skip

# Messages of the extended protocol: a description that is older than the statement, one portal for another.
SSN = "select ssn from customers"
MESSAGES = [
    attack("described as another", (Parse("", "select note from orders"), Bind("", ""), Describe(Kind.PORTAL, ""), Parse("", SSN), Bind("", ""), Execute("")), "masked"),
    attack("flush between", (Parse("a", SSN), Flush(), Bind("p", "a"), Flush(), Execute("p", 1), Flush(), Execute("p", 2), Execute("p")), "masked"),
    attack("two portals of one statement", (Parse("a", SSN), Bind("p", "a"), Bind("q", "a", (), (), (1,)), Execute("q", 1), Execute("p", 1), Execute("q"), Execute("p")), "masked"),
    attack("statement described, portal not", (Parse("a", SSN), Describe(Kind.STATEMENT, "a"), Bind("", "a", (), (), (1,)), Execute("")), "masked"),
    attack("more formats than columns", (Parse("", SSN), Bind("", "", (), (), (1, 1)), Execute("")), "08P01"),
    attack("parameter as the column", (Parse("", "select $1::text from customers"), Bind("", "", (), (b"ssn",)), Execute("")), "withheld"),
]  # fmt: skip

ALL = [*EXPRESSIONS, *STATEMENTS, *MESSAGES]


def _name(case: object) -> str | None:
    return case.name.replace(" ", "-") if isinstance(case, Attack) else str(case)


@pytest.mark.parametrize(("attempt", "way"), ways(ALL), ids=_name)
def test_shipped_policies(shipped: Relay, postgres18: PostgresServer, attempt: Attack, way: str) -> None:
    run(shipped, postgres18, attempt, way)


@pytest.mark.parametrize("attempt", EXPRESSIONS, ids=_name)
def test_a_team_s_policy(team: Relay, postgres18: PostgresServer, attempt: Attack) -> None:
    run(team, postgres18, attempt)
