# ruff: noqa: E501, PT018 - a table reads best with one attempt to a line
"""Attempts by the protocol: names, plans, state moved in one batch, parsers, ways around, messages. See `tests.attacks`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pep.core.model import Action, Decision, FieldMask, NullMask
from pep.postgres.messages import (
    Bind,
    Close,
    CopyData,
    CopyDone,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Kind,
    Parse,
    Query,
)
from tests.attacks import (
    DATABASE,
    Attack,
    Attacker,
    attack,
    extended,
    leaks,
    run,
    shipped_policies,
    shop,
    team_policy,
    usable,
)
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, allow, mask, relay, touches

NAME = "attacked_protocol"


@pytest.fixture(scope="module")
def shipped(postgres18: PostgresServer, opa_path: Path) -> Iterator[Relay]:
    shop(postgres18, NAME)
    with shipped_policies(opa_path) as policy, relay(postgres18, NAME, policy) as running:
        yield running


@pytest.fixture(scope="module")
def team(postgres18: PostgresServer, shipped: Relay) -> Iterator[Relay]:
    with relay(postgres18, NAME, team_policy) as running:
        yield running


def _name(case: object) -> str:
    assert isinstance(case, Attack)
    return case.name.replace(" ", "-")


HARMLESS = "select note from orders"
SSN = "select ssn from customers"
EXPRESSION = "select ssn || '' from customers"


def bind(name: str, portal: str = "", *, formats: tuple[int, ...] = ()) -> tuple[Bind, Execute]:
    return Bind(portal, name, (), (), formats), Execute(portal)


# Under the team's policy, which prepares anything: only what is executed is decided.
NAMES = [
    attack("SQL PREPARE, protocol Bind", f"prepare p as {SSN}", bind("p"), "masked"),
    attack("SQL PREPARE, binary Bind", f"prepare p as {SSN}", bind("p", formats=(1,)), "masked"),
    attack("SQL PREPARE of an expression, protocol Bind", f"prepare p as {EXPRESSION}", bind("p"), "26000"),
    attack("Parse, DEALLOCATE and PREPARE, Bind", (Parse("p", HARMLESS),), f"deallocate p; prepare p as {EXPRESSION}", bind("p"), "allowed"),
    attack("Parse, DEALLOCATE and PREPARE, masked", (Parse("p", HARMLESS),), f"deallocate p; prepare p as {SSN}", bind("p"), "masked"),
    attack("second Parse fails", (Parse("p", EXPRESSION),), (Parse("p", HARMLESS),), bind("p"), "denied"),
    attack("second Parse fails, same batch", (Parse("p", EXPRESSION),), (Parse("p", HARMLESS), *bind("p")), "42P05"),
    attack("Close and Parse skipped to Sync", (Parse("p", EXPRESSION),), (Parse("", "select 1/0"), *bind(""), Close(Kind.STATEMENT, "p"), Parse("p", HARMLESS)), bind("p"), "denied"),
    attack("Close skipped, Bind behind it", (Parse("p", EXPRESSION),), (Parse("x", "no sql"), Close(Kind.STATEMENT, "p"), Parse("p", HARMLESS), *bind("p")), "42601"),
    attack("DECLARE, protocol Execute", "begin", f"declare c cursor for {SSN}", (Execute("c"),), "masked"),
    attack("DECLARE binary, protocol Execute", "begin", f"declare c binary cursor for {SSN}", (Execute("c"),), "masked"),
    attack("DECLARE, FETCH", "begin", f"declare c cursor for {SSN}", "fetch all from c", "masked"),
    attack("DECLARE, FETCH backward", "begin", f"declare c scroll cursor for {SSN}", "move last in c", "fetch backward 2 from c", "masked"),
    attack("DECLARE WITH HOLD, FETCH", f"declare c cursor with hold for {SSN}", "fetch all from c", "masked"),
    attack("DECLARE WITH HOLD, FETCH binary", f"declare c cursor with hold for {SSN}", extended("fetch all from c", binary=True), "masked"),
    attack("DECLARE, closed and declared again", "begin", f"declare c cursor for {HARMLESS}", f"close c; declare c cursor for {SSN}", "fetch all from c", "masked"),
    attack("DECLARE, savepoint, rollback", "begin", f"declare c cursor for {SSN}", "savepoint s", "close c", f"declare c cursor for {HARMLESS}", "rollback to s", "fetch all from c", "34000"),
    attack("protocol portal, FETCH", "begin", (Parse("", SSN), Bind("c", "")), "fetch all from c", "masked"),
    attack("protocol portal, FETCH slice", "begin", (Parse("", SSN), Bind("c", ""), Execute("c", 1)), "fetch all from c", "masked"),
    attack("cursor of another transaction", "begin", f"declare c cursor for {SSN}", "commit", "fetch all from c", "denied"),
    attack("unknown statement", bind("nobody"), "26000"),
    attack("unknown portal", (Execute("nobody"),), "34000"),
    attack("unknown statement in SQL", "execute nobody", "denied"),
    attack("unknown cursor in SQL", "fetch all from nobody", "denied"),
    attack("EXECUTE", f"prepare p as {SSN}", "execute p", "masked"),
    attack("EXECUTE of an expression", f"prepare p as {EXPRESSION}", "execute p", "denied"),
    attack("EXECUTE with a condition", f"prepare p (text) as {SSN} where ssn > $1", "execute p ('M')", "denied"),
    attack("EXECUTE of a protocol statement", (Parse("p", EXPRESSION),), "execute p", "denied"),
    attack("EXECUTE in EXPLAIN ANALYZE", f"prepare p as {EXPRESSION}", "explain analyze execute p", "denied"),
    attack("EXECUTE into a table", f"prepare p as {SSN}", "create temp table t as execute p", "denied"),
    attack("PREPARE and EXECUTE in one query", f"prepare p as {EXPRESSION}; execute p", "denied"),
    attack("shadow behind a plan", f"prepare p as {EXPRESSION}", "create temp table customers (ssn text)", "execute p", "denied"),
    attack("shadow behind a plan, plain column", f"prepare p as {SSN}", "create temp table customers (ssn text)", "execute p", "allowed"),
    attack("shadow behind a protocol plan", (Parse("p", EXPRESSION),), "create temp table customers (ssn text)", bind("p"), "denied"),
    attack("shadow dropped in one query", "create temp table customers (ssn text)", f"drop table pg_temp.customers; {EXPRESSION}", "denied"),
    attack("shadow rolled back", "begin", "savepoint s", "create temp table customers (ssn text)", f"rollback to s; {EXPRESSION}", "denied"),
    attack("shadow rolled back, then alone", "begin", "savepoint s", "create temp table customers (ssn text)", "rollback to s", EXPRESSION, "denied"),
    attack("shadow discarded", "create temp table customers (ssn text)", "discard temp", EXPRESSION, "denied"),
    attack("reserved name", (Parse("checkrein_facts", HARMLESS),), "42939"),
    attack("reserved portal", (Parse("p", HARMLESS), Bind("checkrein_refusal", "p")), "42939"),
    attack("reserved name in SQL", f"prepare checkrein_facts as {HARMLESS}", "42939"),
]  # fmt: skip

SET_EVIL = "select set_config('search_path', 'evil', false)"
STATE = [
    attack("search_path in the same query", "set search_path = evil; select v from rep", "denied"),
    attack("search_path before", "set search_path = evil", "select v from rep", "denied"),
    attack("search_path by set_config in the same query", f"{SET_EVIL}; select v from rep", "denied"),
    attack("search_path by set_config before", SET_EVIL, "select v from rep", "denied"),
    attack("set_config executed, Parse behind it", (*extended(SET_EVIL), Parse("q", "select v from rep"), *bind("q")), "denied"),
    attack("set_config executed, old statement behind it", (Parse("q", "select v from rep"),), (*extended(SET_EVIL), *bind("q")), "denied"),
    attack("old statement, search_path since", (Parse("q", "select v from rep"),), "set search_path = evil", bind("q"), "denied"),
    attack("SET LOCAL and ROLLBACK TO", "set search_path = evil, public", "begin", "savepoint s", "set local search_path = public", "rollback to s", "select v from rep", "denied"),
    attack("SET LOCAL ends", "set search_path = evil, public", "begin", "set local search_path = public", "commit", "select v from rep", "denied"),
    attack("SET LOCAL ends in the same query", "set search_path = evil, public", "begin", "set local search_path = public", "commit; select v from rep", "denied"),
    attack("SET undone in a pipeline", "set search_path = evil, public", (*extended("begin"), *extended("set local search_path = public"), *extended("rollback"), *extended("select v from rep")), "denied"),
    attack("RESET ALL", "set search_path = public", "reset all; set search_path = evil; select v from rep", "denied"),
    attack("update of pg_settings", "update pg_settings set setting = 'evil' where name = 'search_path'", "denied"),
    attack("temporary view", "create temp view rep as select ssn as v from customers", "denied"),
    attack("schema of one's own", "create schema mine create view rep as select ssn v from public.customers", "denied"),
    attack("rename", "alter table rep rename to gone", "alter table customers rename to rep", f"select {'ssn'} || '' from rep", "denied"),
    attack("second statement", f"select 1; {EXPRESSION}", "denied"),
    attack("second statement is masked, both plain", f"{HARMLESS}; {SSN}", "masked"),
    attack("second statement is masked", f"select 1; {SSN}", "withheld"),
    attack("denied second, nothing ran", f"insert into notes values (7, 'ran'); {EXPRESSION}", "denied"),
    attack("denied in a transaction", "begin", "insert into notes values (7, 'ran')", EXPRESSION, "commit", "select id from notes where id = 7", "allowed"),
]  # fmt: skip

PARSERS = [
    attack("standard_conforming_strings", "set standard_conforming_strings = off", "0A000"),
    attack("standard_conforming_strings by set_config", "select set_config('standard_conforming_strings', 'off', false)", "0A000"),
    attack("standard_conforming_strings computed", "select set_config('standard_conforming_strings', lower('OFF'), false)", "0A000"),
    attack("setting with a computed name", "select set_config(lower('STANDARD_CONFORMING_STRINGS'), 'off', false)", "denied"),
    attack("client_encoding", "set client_encoding = latin1", "0A000"),
    attack("set names", "set names 'SJIS'", "0A000"),
    attack("backslash in a string", f"select '\\'; {EXPRESSION}; --'", "denied"),
    attack("backslash in an E string", f"select E'\\'; {EXPRESSION}; --'", "allowed"),
    attack("dollar quotes", f"select $a$ $b$; {EXPRESSION} $b$ $a$", "allowed"),
    attack("dollar quotes that end", f"select $a$ $a$; {EXPRESSION}; select $a$ $a$", "denied"),
    attack("nested comment that ends late", f"select 1 /* /* */ ; {EXPRESSION}; /* */ */", "allowed"),
    attack("nested comment that ends", f"select 1 /* /* */ */ ; {EXPRESSION}", "denied"),
    attack("line comment ended by CR", f"select 1 --\r; {EXPRESSION}", "denied"),
    attack("line comment ended by LF", f"select 1 --\n; {EXPRESSION}", "denied"),
    attack("unicode space", f"select 1;\u00a0{EXPRESSION}", "42601"),
    attack("unicode identifier", "select U&\"ss\\006e\" || '' from customers", "denied"),
    attack("unicode string to a regclass", "select U&'\\0063ustomers'::regclass", "allowed"),
    attack("identifier with a dot", 'select ssn from "public.customers"', "denied"),
    attack("not SQL", "selec ssn", "42601"),
    attack("operator as a function", "select ssn operator(pg_catalog.||) '' from customers", "denied"),
    attack("NUL inside", (b"Q" + (4 + 12).to_bytes(4) + b"select 1\0xyz",), "closed:08P01"),
]  # fmt: skip

AROUND = [
    attack(text, text, "denied")
    for text in (
        "alter role current_user password 'x'",
        "alter user checkrein_trust set search_path = evil",
        "alter role all set search_path = evil",
        "alter role current_user valid until 'infinity'",
        f"alter database {NAME} set search_path = evil",
        "alter system set log_statement = none",
        "create role mallory login",
        "create user mapping for current_user server s options (password 'x')",
        "grant pg_read_server_files to current_user",
        "grant select on customers to public",
        "alter table customers owner to current_user",
        "alter default privileges grant select on tables to public",
        "security label on table customers is 'x'",
        "set role postgres",
        "set session authorization postgres",
        "reset role",
        "select set_config('role', 'postgres', false)",
        "select pg_read_file('postgresql.conf')",
        "select pg_read_binary_file('postgresql.conf')",
        "select * from pg_ls_dir('.')",
        "select pg_stat_file('postgresql.conf')",
        "copy notes to program 'cat'",
        "copy notes from program 'echo 1'",
        "copy notes to '/tmp/never'",
        "copy notes from '/etc/passwd'",
        "select lo_import('/etc/passwd')",
        "select lo_export(424242, '/tmp/never')",
        "select lo_unlink(424242)",
        "select lo_put(424242, 0, 'x')",
        "create extension dblink",
        "select dblink('', 'select 1')",
        "create server s foreign data wrapper w",
        "create publication p for all tables",
        "create subscription s connection 'x' publication p",
        "select pg_create_logical_replication_slot('s', 'test_decoding')",
        "select * from pg_logical_slot_peek_changes('s', null, null)",
        "select pg_terminate_backend(1)",
        "select pg_cancel_backend(1)",
        "select pg_reload_conf()",
        "select pg_rotate_logfile()",
        "select pg_switch_wal()",
        "select pg_promote()",
        "select pg_export_snapshot()",
        "select pg_sleep(1000)",
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_xact_lock(1)",
        "select nextval('numbers')",
        "select query from pg_stat_activity",
        "select pg_stat_get_backend_activity(1)",
        "select * from pg_stat_get_activity(null)",
        "select statement from pg_prepared_statements",
        "select statement from pg_cursors",
        "select * from pg_prepared_xacts",
        "select rolpassword from pg_authid",
        "select passwd from pg_shadow",
        "select * from pg_hba_file_rules",
        "select * from pg_file_settings",
        "select umoptions from pg_user_mappings",
        "select * from pg_db_role_setting",
        "prepare transaction 'g'",
        "commit prepared 'g'",
        "rollback prepared 'g'",
        "set session_preload_libraries = 'x'",
        "set local_preload_libraries = 'x'",
        "set log_statement = none",
        "set session_replication_role = replica",
        "load 'auto_explain'",
        "notify news, 'x'",
        "select pg_notify('news', 'x')",
        "do $$ begin perform 1; end $$",
        "call in_argument('x')",
        "create function f() returns int language sql as 'select 1'",
        "create trigger t before insert on notes for each row execute function raise_it()",
        "create view v as select 1",
        "create rule r as on insert to notes do also select 1",
        "create event trigger e on ddl_command_start execute function raise_it()",
        "drop table notes",
        "truncate customers cascade",
        "alter table customers disable row level security",
        "alter table customers rename ssn to name2",
        "alter table customers rename to c",
        "alter table vips no inherit customers",
        "comment on table customers is 'x'",
        "analyze customers",
        "vacuum customers",
        "cluster customers using customers_pkey",
        "reindex table customers",
        "refresh materialized view m_customers",
        "lock table customers",
        "checkpoint",
        "import foreign schema s from server s into public",
    )
]

READS = [
    attack(text, text, "allowed")
    for text in (
        "select table_name, column_name from information_schema.columns where table_schema = 'public'",
        "select relname, reltuples from pg_class where relname = 'customers'",
        "select attname from pg_attribute where attrelid = 'customers'::regclass",
        "show server_version",
        "show application_name",
        "set application_name = 'x'",
        "select current_setting('application_name')",
        "begin; select 1; commit",
        "set search_path = public; reset search_path",
        "select note from orders where id = 1",
        "insert into notes values (1, 'x')",
        "update notes set body = 'y' where id = 1",
        "",
        "unlisten *",
        "discard all",
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all",
        "deallocate all",
    )
]

MESSAGES = [
    attack("unknown type", (b"y\0\0\0\4",), "closed:08P01"),
    attack("server's type", (b"T\0\0\0\6\0\0",), "closed:08P01"),
    attack("late password", (b"p\0\0\0\5\0",), "closed:08P01"),
    attack("copy data outside of COPY", (CopyData(b"1\tx\n"), CopyDone()), "allowed"),
    attack("malformed Bind", (b"B\0\0\0\6\0\0",), "closed:08P01"),
    attack("length too short", (b"Q\0\0\0\3",), "closed:08P01"),
    attack("text in binary", (*extended("select id, email, ssn, salary from customers", binary=True, describe=False),), "masked"),
    attack("mixed formats", (Parse("", "select id, salary, ssn from customers"), Bind("", "", (), (), (0, 1, 0)), Execute("")), "masked"),
    attack("cached, second run", (Parse("p", SSN), *bind("p")), (*bind("p"), *bind("p")), "masked"),
    attack("slices", "begin", (Parse("p", SSN), Bind("c", "p"), Execute("c", 1)), (Execute("c", 1), Execute("c", 1)), "masked"),
    attack("slices, never described", (Parse("p", SSN), Bind("c", "p"), Execute("c", 1), Execute("c", 1), Execute("c", 0)), "masked"),
    attack("described before another Bind", (Parse("p", SSN), Parse("q", "select id from orders"), Bind("c", "q"), Describe(Kind.PORTAL, "c"), Close(Kind.PORTAL, "c"), Bind("c", "p"), Execute("c")), "masked"),
    attack("flush in between", (Parse("p", SSN), Flush(), Bind("", "p"), Flush(), Execute(""), Flush()), "masked"),
    attack("masked and unmasked in one batch", (*extended(HARMLESS), *extended(SSN), *extended(HARMLESS)), "masked"),
    attack("denied in the middle", (*extended("insert into notes values (8, 'ran')"), *extended(EXPRESSION), *extended("insert into notes values (9, 'ran')")), "denied"),
]  # fmt: skip


@pytest.mark.parametrize("attempt", [*NAMES, *STATE], ids=_name)
def test_names_and_state_under_a_policy_that_lets_much_pass(
    team: Relay, postgres18: PostgresServer, attempt: Attack
) -> None:
    try:
        run(team, postgres18, attempt)
    finally:
        postgres18.sql(NAME, "delete from notes where id in (7, 8, 9)")


@pytest.mark.parametrize("attempt", [*PARSERS, *AROUND, *READS, *MESSAGES], ids=_name)
def test_parsers_ways_around_and_messages_under_the_shipped_policies(
    shipped: Relay, postgres18: PostgresServer, attempt: Attack
) -> None:
    run(shipped, postgres18, attempt)


def test_nothing_of_a_pipeline_with_a_denial_is_committed(team: Relay, postgres18: PostgresServer) -> None:
    with Attacker(team.port, NAME) as client:
        insert = extended("insert into notes values (70, 'ran')")
        reply = client.batch(*insert, *insert, *extended(EXPRESSION), *insert)
        assert reply.codes == ["42501"]
        client.query("begin")
        client.query("insert into notes values (70, 'ran')")
        assert client.query(EXPRESSION).codes == ["42501"]
        assert client.query("commit").frames[0] == ("C", b"ROLLBACK\0")
        usable(client)
    assert postgres18.sql(NAME, "select count(*) from notes where id = 70") == [(0,)]


def test_what_a_session_is_told_after_a_mask(team: Relay, postgres18: PostgresServer) -> None:
    """Errors of the same transaction, reports of settings and notifications: none carries a value any more."""
    with Attacker(team.port, NAME) as client:
        client.query("listen news")
        client.query("begin")
        assert client.query(SSN).rows == 6
        postgres18.sql(NAME, "select pg_notify('news', ssn) from only customers")
        error = client.query("insert into customers (id) values (1)").errors[0]
        assert error["C"] == "23505" and "D" not in error, error
        told = client.query("rollback")
        assert {tag for tag, _ in told.frames} >= {"A"}, told.frames
        assert not leaks(bytes(client.received))


START_UPS = [
    ({"replication": "database"}, "closed"),
    ({"replication": "true"}, "closed"),
    ({"options": "-c standard_conforming_strings=off"}, "closed"),
    ({"options": "--standard-conforming-strings=off"}, "closed"),
    ({"options": "-cstandard_conforming_strings=off"}, "closed"),
    ({"options": "-c\\ standard_conforming_strings=off"}, "closed"),
    ({"standard_conforming_strings": "off"}, "closed"),
    ({"client_encoding": "SJIS"}, "closed"),
    ({"options": "-c role=postgres"}, "closed"),
    ({"role": "postgres"}, "closed"),
    ({"session_authorization": "postgres"}, "closed"),
    ({"options": "-c session_preload_libraries=x"}, "closed"),
    ({"options": "-c log_statement=none"}, "closed"),
    ({"options": "-r /tmp/out"}, "closed"),
    ({"user": "postgres"}, "open"),
    ({"options": "-c search_path=evil"}, "open"),
    ({"search_path": "evil"}, "open"),
]


@pytest.mark.parametrize(("parameters", "outcome"), START_UPS, ids=str)
def test_start_up(team: Relay, parameters: dict[str, str], outcome: str) -> None:
    with Attacker(team.port, NAME, **parameters) as client:
        assert client.greeting.closed is (outcome == "closed"), client.greeting.frames
        if outcome == "open":
            assert client.query("select v from rep").codes in (["42501"], [])
            usable(client)
        assert not leaks(bytes(client.received))


@pytest.mark.parametrize("database", ["postgres", DATABASE + "x", NAME.upper()])
def test_another_database(team: Relay, database: str) -> None:
    with Attacker(team.port, database) as client:
        assert client.greeting.closed
        assert client.greeting.codes == ["3D000"]


def test_wrong_password(team: Relay) -> None:
    with Attacker(team.port, NAME, "wrong") as client:
        assert client.greeting.closed
        assert client.greeting.codes == ["28P01"]


def test_swapped_columns_behind_a_plan(postgres18: PostgresServer, shipped: Relay) -> None:
    """Another session swaps two columns between Parse and Execute, and between executions of a described statement."""
    postgres18.sql(NAME, "drop table if exists swapped; create table swapped (id int, a text, ssn text)")
    postgres18.sql(NAME, "insert into swapped select id, 'plain', ssn from only customers")
    postgres18.sql(NAME, "grant all on swapped to public")

    def policy(action: Action) -> Decision:
        if action.name == "query" and touches(action, "public.swapped"):
            return mask(FieldMask("public.swapped", "ssn", NullMask()))
        return allow()

    renames = ("a to x", "ssn to a", "x to ssn")
    swap = f"begin; {' '.join(f'alter table swapped rename {each};' for each in renames)} commit"
    # The proxy does not look at the catalog again while this test runs.
    with relay(postgres18, NAME, policy, catalog={"max_age": "60s"}) as running, Attacker(running.port, NAME) as client:
        assert client.query("select a from swapped").rows == 3
        client.batch(Parse("p", "select a from swapped"), Describe(Kind.STATEMENT, "p"))
        client.query("prepare q as select a from swapped")
        assert client.batch(*bind("p")).rows == 3
        postgres18.sql(NAME, swap)
        for reply in (client.batch(*bind("p")), client.query("execute q"), client.query("select a from swapped")):
            assert reply.rows == 3 or reply.codes, reply.frames
        assert not leaks(bytes(client.received))


def test_copy_from_the_client_into_a_masked_table_goes_on(team: Relay, postgres18: PostgresServer) -> None:
    with Attacker(team.port, NAME) as client:
        client.send(Query("copy customers (id, name) from stdin"))
        assert client.read("GZ").tags == "G"
        client.send(CopyData(b"500\tnew\n"), CopyDone())
        assert client.read().tags == "CZ"
        client.send(Parse("", "copy customers (id, name) from stdin"), Bind("", ""), Execute(""), Flush())
        assert client.read("GZ").tags == "12G"
        assert client.batch(CopyData(b"501\tnew\n"), CopyDone()).tags == "CZ"
        usable(client)
    postgres18.sql(NAME, "delete from customers where id in (500, 501)")


def test_a_function_call_and_a_text_in_no_encoding_are_refused_by_name(shipped: Relay) -> None:
    with Attacker(shipped.port, NAME) as client:
        client.send(FunctionCall(1))
        assert client.read().codes == ["0A000"]
        client.send(b"Q\0\0\0\x0fselect '\xff'\0")
        assert client.read().codes == ["22021"]
        usable(client)
