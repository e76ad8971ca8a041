"""The catalog against real servers: PostgreSQL 18, and 15 where the statements could differ."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from postgast.native import lib

from pep.postgres import catalog_sql
from pep.postgres.catalog import WHOLE_ROW, Builtins, Catalog, Relation, SessionState
from tests.fix_postgres import TRUST_ROLE, PostgresServer

DATABASE = "catalog_test"
PATH = ("pg_catalog", "public")
SCHEMA = """
CREATE SCHEMA shop;
CREATE SCHEMA "Odd.Schema";
CREATE TABLE customers (id int PRIMARY KEY, name text, email text UNIQUE, ssn text);
CREATE TABLE orders (
    id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE ON UPDATE SET NULL,
    total int CHECK (total >= 0), doubled int GENERATED ALWAYS AS (total * 2) STORED
);
CREATE TABLE shop.customers (id int, other text);
CREATE TABLE "Odd.Schema"."a.b""c" (x int);
CREATE VIEW v AS SELECT id, email FROM customers;
CREATE VIEW vv AS SELECT v.email FROM v JOIN orders o ON o.customer = v.id;
CREATE VIEW whole_row AS SELECT c, c.id FROM customers c;
CREATE VIEW counted AS SELECT count(*) FROM customers;
CREATE VIEW pinned AS SELECT rolname, pg_read_file('x') FROM pg_authid;
CREATE MATERIALIZED VIEW mv AS SELECT ssn FROM customers;
CREATE TABLE measures (at date, value int) PARTITION BY RANGE (at);
CREATE TABLE measures_1 (value int, at date);
ALTER TABLE measures ATTACH PARTITION measures_1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE animals (name text);
CREATE TABLE cats (lives int) INHERITS (animals);
CREATE TABLE kittens () INHERITS (cats);
CREATE FUNCTION noisy() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION shop.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1::text';
CREATE FUNCTION many(a int, VARIADIC b text[] DEFAULT '{}') RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE busy (id int DEFAULT noisy(), note text);
ALTER TABLE busy ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON busy USING (noisy() = 1);
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON busy FOR EACH ROW EXECUTE FUNCTION logged();
CREATE RULE divert AS ON DELETE TO busy DO INSTEAD INSERT INTO orders (id) SELECT id FROM customers;
CREATE VIEW calling AS SELECT noisy() AS n;
CREATE DOMAIN small AS int CHECK (VALUE < noisy());
CREATE VIEW by_domain AS SELECT id::small AS small FROM customers;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE FUNCTION shop.same(text, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR shop.=== (LEFTARG = text, RIGHTARG = int, FUNCTION = shop.same);
CREATE VIEW by_operator AS SELECT name OPERATOR(shop.===) 1 AS same FROM customers;
CREATE FUNCTION to_mood(int) RETURNS mood LANGUAGE sql AS 'SELECT ''happy''::mood';
CREATE CAST (int AS mood) WITH FUNCTION to_mood(int);
"""


@pytest.fixture(scope="module", params=["postgres18", "postgres15_tls"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    server: PostgresServer = request.getfixturevalue(request.param)
    server.create_database(DATABASE)
    server.sql(DATABASE, SCHEMA)
    server.sql(DATABASE, f"GRANT CREATE ON SCHEMA public TO {TRUST_ROLE}")
    return server


@pytest.fixture
def connection(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """As the proxy: no superuser."""
    with psycopg.connect(server.dsn(DATABASE, TRUST_ROLE), autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        yield connection


def rows(connection: psycopg.Connection[Any], query: str) -> list[tuple[str, str]]:
    return connection.execute(query).fetchall()


BUILTINS: dict[int, Builtins] = {}  # by port: they are the server's


def read(connection: psycopg.Connection[Any], previous: Catalog | None = None) -> Catalog:
    port = connection.info.port
    if port not in BUILTINS:
        BUILTINS[port] = Builtins.build(rows(connection, catalog_sql.BUILTIN_QUERY))
    return Catalog.build(rows(connection, catalog_sql.USER_QUERY), BUILTINS[port], previous)


@pytest.fixture(scope="module")
def catalog(server: PostgresServer) -> Catalog:
    with psycopg.connect(server.dsn(DATABASE, TRUST_ROLE)) as connection:
        return read(connection)


def fingerprint(connection: psycopg.Connection[Any]) -> str:
    ((found,),) = rows(connection, catalog_sql.FINGERPRINT_QUERY)  # type: ignore[misc]
    return found


def named(catalog: Catalog, name: str, schema: str = "public") -> Relation:
    relation = catalog.relation(schema, name)
    assert relation is not None
    return relation


def function_names(catalog: Catalog, oids: Any) -> set[str]:
    return {function.name for oid in oids if (function := catalog.function(oid)) is not None}


def reached(catalog: Catalog, name: str) -> dict[str, set[str]]:
    """The closure of a view in names, itself left out; '*' is the whole row."""
    found = {}
    top = named(catalog, name).oid
    for oid, numbers in catalog.closure(top).columns.items():
        relation = catalog.by_oid(oid)
        assert relation is not None
        columns = {
            "*" if n == WHOLE_ROW else column.name for n in numbers if (column := relation.column_at(n)) or n == 0
        }
        if oid != top:
            found[catalog.dataset(relation)] = columns
    return found


# --- the statements -------------------------------------------------------------------------------------------------


def nodes(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, dict):
                    yield key, value
                waiting.append(value)


def strings(names: list[dict[str, Any]]) -> list[str]:
    return [name["String"]["sval"] for name in names]


@pytest.mark.parametrize("query", ["BUILTIN_QUERY", "USER_QUERY", "FINGERPRINT_QUERY", "SESSION_QUERY"])
def test_a_statement_names_everything_with_its_schema(query: str) -> None:
    result = lib.pg_query_parse(getattr(catalog_sql, query).encode())
    assert not result.error
    tree = json.loads(result.parse_tree)
    common = {
        cte["CommonTableExpr"]["ctename"] for kind, node in nodes(tree) if kind == "withClause" for cte in node["ctes"]
    }
    looked_at = set()
    for kind, node in nodes(tree):
        looked_at.add(kind)
        match kind:
            case "RangeVar":
                assert node.get("schemaname") == "pg_catalog" or node["relname"] in common
            case "FuncCall":
                assert strings(node["funcname"])[0] == "pg_catalog"
            case "typeName":
                assert strings(node["names"])[0] == "pg_catalog"
            case "A_Expr":
                assert node["kind"] in ("AEXPR_OP", "AEXPR_OP_ANY")
                assert strings(node["name"])[0] == "pg_catalog"
            case "JoinExpr":
                assert "usingClause" not in node
                assert not node.get("isNatural")
            case "CaseExpr":
                assert "arg" not in node
            case "SubLink":
                assert node["subLinkType"] == "EXPR_SUBLINK"
            case _:
                assert kind not in ("sortClause", "MinMaxExpr", "JsonExpr")
    assert "FuncCall" in looked_at


PLANTED = [
    *(("=", "oid", "oid"), ("=", "name", "name"), ("=", '"char"', '"char"'), ("=", "int4", "int4")),
    *(("<>", "oid", "oid"), ("<>", "int4", "int4"), (">=", "oid", "oid"), ("<", "oid", "oid"), (">", "int2", "int2")),
    *(("||", "text", "text"), ("!~", "name", "text"), ("->>", "jsonb", "text")),
    *(("+", "int8", "int8"), ("*", "int8", "int8")),
]


def test_the_client_cannot_bend_the_answer_by_its_search_path(
    server: PostgresServer, owner: psycopg.Connection[Any]
) -> None:
    before = dict(rows(owner, catalog_sql.USER_QUERY))
    session_before = rows(owner, catalog_sql.SESSION_QUERY)
    trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'the evil one was called'; END $$"
    with psycopg.connect(server.dsn(DATABASE)) as evil:
        evil.execute("CREATE SCHEMA evil")
        for index, (symbol, left, right) in enumerate(PLANTED):
            evil.execute(f"CREATE FUNCTION evil.f{index}({left}, {right}) RETURNS bool {trap}")  # type: ignore[arg-type]
            evil.execute(
                f"CREATE OPERATOR evil.{symbol} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.f{index})"  # type: ignore[arg-type]
            )
        for signature in (
            "count(text)",
            "sha256(bytea)",
            "concat_ws(text, text)",
            "pg_my_temp_schema()",
            "strpos(text, text)",
        ):
            evil.execute(f"CREATE FUNCTION evil.{signature} RETURNS text {trap}")  # type: ignore[arg-type]
        evil.execute(
            "CREATE TABLE evil.pg_class (x int); CREATE TABLE evil.spaces (x int); CREATE DOMAIN evil.text AS int4"
        )
        evil.execute("SET LOCAL search_path = evil, pg_catalog")
        with pytest.raises(psycopg.errors.RaiseException), evil.transaction():
            evil.execute("SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.oid = n.oid")
        after = dict(rows(evil, catalog_sql.USER_QUERY))
        evil.rollback()
        evil.execute("SET LOCAL search_path = shop, pg_catalog")
        assert rows(evil, catalog_sql.SESSION_QUERY) != session_before
    catalog = Catalog.build(after.items(), Builtins.build(rows(owner, catalog_sql.BUILTIN_QUERY)))
    assert catalog.relation("evil", "pg_class") is not None
    assert reached(catalog, "vv") == {
        "public.v": {"id", "email"},
        "public.customers": {"id", "email"},
        "public.orders": {"customer"},
    }
    assert before.keys() == after.keys()
    assert before["casts"] == after["casts"]


# --- what is loaded -------------------------------------------------------------------------------------------------


def test_a_name_is_resolved_along_the_path(catalog: Catalog) -> None:
    assert catalog.resolve("customers", ("pg_catalog", "public", "shop")) is named(catalog, "customers")
    assert catalog.resolve("customers", ("shop", "public")) is named(catalog, "customers", "shop")
    assert catalog.resolve("pg_class", PATH) is named(catalog, "pg_class", "pg_catalog")
    assert catalog.resolve("nothing", PATH) is None
    assert {"public", "shop", "Odd.Schema", "pg_catalog", "information_schema"} <= catalog.schemas
    assert "pg_toast" not in catalog.schemas


def test_columns_have_names_numbers_types_and_what_they_are_computed_from(catalog: Catalog) -> None:
    orders = named(catalog, "orders")
    assert [(c.name, c.attnum, c.type_oid) for c in orders.columns] == [
        ("id", 1, 23),
        ("customer", 2, 23),
        ("total", 3, 23),
        ("doubled", 4, 23),
    ]
    assert [c.generated_from for c in orders.columns] == [(), (), (), (3,)]
    assert orders.column("total") == orders.column_at(3)
    row_type = catalog.type_by_oid(orders.row_type)
    assert row_type is not None
    assert row_type.relation == orders.oid
    assert named(catalog, "pg_class", "pg_catalog").column("relname") is not None


def test_a_view_reaches_the_base_columns_through_views(catalog: Catalog) -> None:
    assert reached(catalog, "v") == {"public.customers": {"id", "email"}}
    assert reached(catalog, "vv") == {
        "public.v": {"id", "email"},
        "public.customers": {"id", "email"},
        "public.orders": {"customer"},
    }
    assert reached(catalog, "mv") == {"public.customers": {"ssn"}}
    assert named(catalog, "mv").is_view
    assert named(catalog, "v").rules == ()


def test_a_whole_row_in_a_view_is_every_column_although_pg_depend_has_one(catalog: Catalog) -> None:
    assert reached(catalog, "whole_row") == {"public.customers": {"*"}}


def test_a_view_that_only_counts_reaches_its_table_without_columns(catalog: Catalog) -> None:
    assert reached(catalog, "counted") == {"public.customers": set()}
    assert function_names(catalog, named(catalog, "counted").calls) == {"count"}


def test_a_view_of_what_initdb_pinned_is_seen_through(catalog: Catalog) -> None:
    assert reached(catalog, "pinned") == {"pg_catalog.pg_authid": {"*"}}
    assert "pg_read_file" in function_names(catalog, catalog.closure(named(catalog, "pinned").oid).functions)


def test_functions_behind_views_are_named_also_behind_operators_and_domains(catalog: Catalog) -> None:
    assert function_names(catalog, named(catalog, "by_domain").calls) == {"noisy"}
    assert function_names(catalog, named(catalog, "calling").calls) == {"noisy"}
    assert function_names(catalog, named(catalog, "by_operator").calls) == {"same"}


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT a.id FROM customers a JOIN orders b USING (id)", "customers.id orders.id"),
        (
            "SELECT 1 FROM (SELECT id FROM customers) c NATURAL JOIN (SELECT id, total FROM orders) o",
            "customers.id orders.id orders.total",
        ),
        ("SELECT row_to_json(j) FROM (customers a JOIN orders b USING (id)) AS j", "customers.* orders.*"),
        ("SELECT (c).ssn FROM (SELECT c FROM customers c) s", "customers.*"),
        ("SELECT customers IS NULL FROM customers", "customers.*"),
        ("SELECT count(*) FILTER (WHERE ssn LIKE 'a%') FROM customers", "customers.ssn"),
        ("SELECT rank() OVER (PARTITION BY name ORDER BY ssn) FROM customers", "customers.name customers.ssn"),
        (
            "SELECT l.x FROM customers c, LATERAL (SELECT o.total + c.id AS x FROM orders o) l",
            "customers.id orders.total",
        ),
        ("SELECT 1 FROM customers GROUP BY GROUPING SETS ((email), (name))", "customers.email customers.name"),
        (
            "SELECT 1 FROM customers WHERE EXISTS (SELECT 1 FROM orders WHERE customer = customers.id)",
            "customers.id orders.customer",
        ),
        ("SELECT 1 FROM customers ORDER BY ssn LIMIT 1", "customers.ssn"),
        ("SELECT DISTINCT ON (ssn) id FROM customers", "customers.id customers.ssn"),
        ("SELECT id FROM customers UNION SELECT total FROM orders", "customers.id orders.total"),
        ("SELECT ARRAY(SELECT ssn FROM customers)", "customers.ssn"),
        (
            "SELECT COALESCE(a.ssn, b.name) FROM customers a FULL JOIN customers b ON a.id = b.id",
            "customers.id customers.name customers.ssn",
        ),
        (
            "SELECT (SELECT max(c.ssn) FROM orders o WHERE o.id = c.id) FROM customers c GROUP BY c.id",
            "customers.id customers.ssn orders.id",
        ),
        (
            (
                "WITH RECURSIVE r AS (SELECT id, ssn FROM customers UNION ALL "
                "SELECT r.id, r.ssn FROM r JOIN orders o ON o.customer = r.id) SELECT id FROM r"
            ),
            "customers.id customers.ssn orders.customer",
        ),
        ("TABLE ONLY customers", "customers.email customers.id customers.name customers.ssn"),
        ("SELECT tableoid FROM customers", ""),
    ],
)
def test_a_view_reaches_what_its_query_reads_however_it_reads_it(
    owner: psycopg.Connection[Any], query: str, columns: str
) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute(f"CREATE VIEW probe AS {query}")  # type: ignore[arg-type]
        found = reached(read(owner), "probe")
    assert sorted(f"{name.removeprefix('public.')}.{column}" for name, all_ in found.items() for column in all_) == (
        columns.split()
    )


def test_the_closure_keeps_a_relation_that_it_does_not_know(catalog: Catalog) -> None:
    assert catalog.closure(4_000_000_000).columns == {4_000_000_000: frozenset({WHOLE_ROW})}


def test_partitions_and_children_know_their_parents(catalog: Catalog) -> None:
    measures, partition = named(catalog, "measures"), named(catalog, "measures_1")
    assert (measures.kind, measures.children, partition.parents) == ("p", (partition.oid,), (measures.oid,))
    assert measures.column("value") != partition.column("value")  # another attribute number, the same name
    animals, cats, kittens = (named(catalog, name).oid for name in ("animals", "cats", "kittens"))
    assert catalog.descendants(animals) == (cats, kittens)
    assert catalog.ancestors(kittens) == (cats, animals)
    assert catalog.descendants(kittens) == ()


def test_what_a_write_sets_off_is_named(catalog: Catalog) -> None:
    busy, orders = named(catalog, "busy"), named(catalog, "orders")
    (watch,) = busy.triggers
    assert (watch.name, watch.timing, set(watch.events)) == ("watch", "before", {"insert", "update"})
    assert function_names(catalog, [watch.function]) == {"logged"}
    (divert,) = busy.rules
    assert (divert.name, divert.event, divert.instead) == ("divert", "delete", True)
    assert {read.relation for read in divert.reads} == {orders.oid, named(catalog, "customers").oid}
    assert function_names(catalog, busy.hidden_calls) == {"noisy"}
    assert busy.row_security
    assert busy.reads == ()
    assert [(c.child, c.on, c.action) for c in named(catalog, "customers").cascades] == [
        (orders.oid, "delete", "cascade"),
        (orders.oid, "update", "set null"),
    ]


def test_the_names_that_errors_may_carry_belong_to_the_relation(catalog: Catalog) -> None:
    assert named(catalog, "customers").object_names == {"customers_pkey", "customers_email_key", "orders_customer_fkey"}
    assert named(catalog, "orders").object_names == {"orders_pkey", "orders_customer_fkey", "orders_total_check"}
    assert "watch" in named(catalog, "busy").object_names
    assert named(catalog, "orders_pkey").index_of == named(catalog, "orders").oid


def test_functions_are_found_along_the_path_and_told_from_the_servers_own(catalog: Catalog) -> None:
    assert catalog.user_functions_named("lower", PATH) == ()
    (planted,) = catalog.user_functions_named("lower", (*PATH, "shop"))
    assert (planted.schema, planted.volatility, planted.strict, planted.argument_types) == ("shop", "i", True, (1043,))
    assert len(catalog.functions_in_path("lower", (*PATH, "shop"))) == len(catalog.functions("pg_catalog", "lower")) + 1
    (many,) = catalog.functions("public", "many")
    assert (many.argument_types, many.variadic, many.defaults, many.security_definer) == ((23, 1009), 25, 1, True)
    assert "public.many(int4, _text)" in many.definition
    assert [f.kind for name in ("proc", "total") for f in catalog.functions("public", name)] == ["p", "a"]
    assert all(f.is_builtin for f in catalog.functions("pg_catalog", "lower"))


def test_a_function_of_the_temporary_schema_is_never_found_by_its_bare_name(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute("CREATE FUNCTION pg_temp.sneaky() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    state = SessionState.parse(rows(connection, catalog_sql.SESSION_QUERY)[0][0])
    catalog = read(connection)
    assert len(catalog.functions(state.temp_schema, "sneaky")) == 1
    assert catalog.functions_in_path("sneaky", (state.temp_schema, *PATH)) == ()


def test_types_operators_and_casts(catalog: Catalog) -> None:
    small, mood = catalog.resolve_type("small", PATH), catalog.resolve_type("mood", PATH)
    assert small is not None
    assert mood is not None
    assert (small.kind, small.base, function_names(catalog, small.calls)) == ("d", 23, {"noisy"})
    assert (mood.kind, mood.is_builtin) == ("e", False)
    assert catalog.resolve_type("int4", PATH) == catalog.type_by_oid(23)
    text_array = catalog.type_by_oid(1009)
    assert text_array is not None
    assert text_array.element == 25
    assert catalog.user_operators_named("===", PATH) == ()
    (operator,) = catalog.user_operators_named("===", (*PATH, "shop"))
    assert (operator.left, operator.right, function_names(catalog, [operator.function])) == (25, 23, {"same"})
    (cast,) = catalog.casts_between(23, mood.oid)
    assert (cast.context, function_names(catalog, [cast.function])) == ("e", {"to_mood"})
    assert catalog.casts_between(0, mood.oid) == (cast,)
    assert catalog.casts_between(25, 0) == ()


def test_a_dataset_name_is_unambiguous(catalog: Catalog) -> None:
    assert catalog.dataset(named(catalog, "orders")) == "public.orders"
    assert catalog.dataset(named(catalog, 'a.b"c', "Odd.Schema")) == '"Odd.Schema"."a.b""c"'


# --- sessions and changes -------------------------------------------------------------------------------------------


def test_temporary_objects_are_seen_by_their_own_session_only(
    server: PostgresServer, connection: psycopg.Connection[Any]
) -> None:
    shared = read(connection)
    with psycopg.connect(server.dsn(DATABASE, TRUST_ROLE)) as session:
        before = SessionState.parse(rows(session, catalog_sql.SESSION_QUERY)[0][0])
        assert (before.temp_schema, before.transaction, before.path) == ("", "", PATH)
        session.execute("CREATE TEMP TABLE orders (secret text)")
        state = SessionState.parse(rows(session, catalog_sql.SESSION_QUERY)[0][0])
        assert state.transaction != ""
        assert state.path == (state.temp_schema, *PATH)
        assert state.user == state.session_user == TRUST_ROLE
        assert state.settings["standard_conforming_strings"] == "on"
        own = read(session, shared)
        temporary = own.resolve("orders", state.path)
        assert temporary is not None
        assert (temporary.is_temporary, own.dataset(temporary)) == (True, "pg_temp.orders")
        assert own.version == fingerprint(session) != shared.version
        # What did not change is shared between the two.
        assert own.relation("public", "vv") is shared.relation("public", "vv")
        session.commit()
        assert fingerprint(connection) == shared.version
        assert read(connection).version == shared.version


CHANGES = [
    "ALTER TABLE customers RENAME COLUMN ssn TO tax_id",
    "ALTER TABLE customers ADD COLUMN more int",
    "ALTER TABLE customers DROP COLUMN name CASCADE",
    "ALTER TABLE orders ALTER COLUMN id SET DEFAULT 3",
    "ALTER TABLE orders ADD CONSTRAINT cheap CHECK (total < 100)",
    "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
    "ALTER TABLE orders RENAME TO purchases",
    "ALTER TABLE orders SET SCHEMA shop",
    "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
    "CREATE OR REPLACE VIEW v AS SELECT id, ssn AS email FROM customers",
    "ALTER VIEW v SET (security_barrier = true)",
    "CREATE RULE r AS ON INSERT TO animals DO ALSO NOTIFY x",
    "ALTER TABLE busy DISABLE RULE divert",
    "CREATE TRIGGER late AFTER TRUNCATE ON orders EXECUTE FUNCTION logged()",
    "ALTER TABLE busy DISABLE TRIGGER watch",
    "CREATE INDEX ON orders (abs(total))",
    "ALTER POLICY mine ON busy USING (true)",
    "ALTER TABLE measures DETACH PARTITION measures_1",
    "CREATE OR REPLACE FUNCTION noisy() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 2'",
    "ALTER FUNCTION noisy() SECURITY DEFINER",
    "CREATE OR REPLACE AGGREGATE total(int) (SFUNC = int4mul, STYPE = int)",
    "CREATE FUNCTION shop.upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1::text'",
    "CREATE DOMAIN big AS int",
    "ALTER DOMAIN small ADD CHECK (VALUE > 0)",
    "DROP CAST (int AS mood)",
    "DROP OPERATOR shop.=== (text, int) CASCADE",
    "CREATE SCHEMA another",
    "ALTER SCHEMA shop RENAME TO store",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_definition_that_changes_changes_the_fingerprint(owner: psycopg.Connection[Any], change: str) -> None:
    before = fingerprint(owner)
    with owner.transaction(force_rollback=True):
        owner.execute(change)  # type: ignore[arg-type]
        assert fingerprint(owner) != before
        assert read(owner).version == fingerprint(owner)
    assert fingerprint(owner) == before


@pytest.mark.parametrize(
    ("change", "relation"),
    [
        ("CREATE OR REPLACE VIEW v AS SELECT id, ssn AS email FROM customers", "v"),
        ("ALTER VIEW v SET (security_barrier = true)", "v"),
        ("ALTER TABLE customers ADD COLUMN more int", "customers"),
        ("ALTER TABLE orders ALTER COLUMN id SET DEFAULT 3", "orders"),
        ("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey", "customers"),
        ("CREATE TRIGGER late AFTER TRUNCATE ON orders EXECUTE FUNCTION logged()", "orders"),
        ("ALTER TABLE busy DISABLE TRIGGER watch", "busy"),
        ("ALTER POLICY mine ON busy USING (true)", "busy"),
        ("CREATE OR REPLACE RULE divert AS ON DELETE TO busy DO INSTEAD NOTHING", "busy"),
        ("CREATE INDEX ON orders (abs(total))", "orders"),
    ],
)
def test_the_definition_of_a_relation_changes_with_it_and_no_other(
    owner: psycopg.Connection[Any], change: str, relation: str
) -> None:
    before = read(owner)
    with owner.transaction(force_rollback=True):
        owner.execute(change)  # type: ignore[arg-type]
        after = read(owner, before)
    assert named(after, relation).definition != named(before, relation).definition
    assert named(after, "kittens") is named(before, "kittens")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE FUNCTION noisy() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 2'",
        "ALTER FUNCTION noisy() SET search_path = shop",
        "ALTER FUNCTION noisy() STABLE",
    ],
)
def test_the_definition_of_a_function_changes_with_it(owner: psycopg.Connection[Any], change: str) -> None:
    (before,) = read(owner).functions("public", "noisy")
    with owner.transaction(force_rollback=True):
        owner.execute(change)  # type: ignore[arg-type]
        (after,) = read(owner).functions("public", "noisy")
    assert (after.oid, after.definition != before.definition) == (before.oid, True)


def test_a_replaced_aggregate_has_another_definition(owner: psycopg.Connection[Any]) -> None:
    (before,) = read(owner).functions("public", "total")
    with owner.transaction(force_rollback=True):
        owner.execute("CREATE OR REPLACE AGGREGATE total(int) (SFUNC = int4mul, STYPE = int)")
        (after,) = read(owner).functions("public", "total")
    assert after.definition != before.definition


def test_rows_statistics_and_grants_change_no_definition(owner: psycopg.Connection[Any]) -> None:
    before = read(owner)
    owner.execute("INSERT INTO customers SELECT g, 'n', g::text, 's' FROM generate_series(1, 100) g")
    owner.execute("UPDATE customers SET name = 'm'")
    owner.execute("DELETE FROM customers WHERE id > 50")
    owner.execute("ANALYZE customers")
    owner.execute("VACUUM customers")
    owner.execute("TRUNCATE customers CASCADE")
    owner.execute(f"GRANT SELECT ON customers, v TO {TRUST_ROLE}")  # type: ignore[arg-type]
    owner.execute("REFRESH MATERIALIZED VIEW mv")
    owner.execute("COMMENT ON TABLE customers IS 'those who buy'")
    assert fingerprint(owner) == before.version
    after = read(owner, before)
    assert all(relation is before.by_oid(oid) for oid, relation in after.relations.items() if not relation.is_system)


def test_ddl_of_an_open_transaction_is_seen_by_that_session_only(
    server: PostgresServer, connection: psycopg.Connection[Any]
) -> None:
    before = fingerprint(connection)
    with psycopg.connect(server.dsn(DATABASE)) as session:
        session.execute("ALTER TABLE customers RENAME COLUMN email TO ssn2")
        assert fingerprint(session) != before
        # Not even a lock is waited for: the table is locked exclusively now.
        connection.execute("SET statement_timeout = '5s'")
        assert fingerprint(connection) == read(connection).version == before
        session.rollback()


def test_builtins_are_shared_between_snapshots(owner: psycopg.Connection[Any]) -> None:
    builtins = Builtins.build(rows(owner, catalog_sql.BUILTIN_QUERY))
    one, two = (Catalog.build(rows(owner, catalog_sql.USER_QUERY), builtins) for _ in range(2))
    assert one.relation("pg_catalog", "pg_class") is two.relation("pg_catalog", "pg_class")
    assert one.type_by_oid(23) is two.type_by_oid(23)


def test_a_missing_section_is_an_error_and_no_guess(owner: psycopg.Connection[Any]) -> None:
    builtins = Builtins.build(rows(owner, catalog_sql.BUILTIN_QUERY))
    partial = [row for row in rows(owner, catalog_sql.USER_QUERY) if row[0] != "rules"]
    with pytest.raises(KeyError, match="rules"):
        Catalog.build(partial, builtins)
