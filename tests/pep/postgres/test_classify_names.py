"""Which relation, function, operator and type a name means: search_path, temporary objects, what else is visible."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pep.postgres.catalog import Builtins
from pep.postgres.classification import Change
from pep.postgres.classify import classify
from tests.fix_classify import Classifier, DictNames, columns, parsed, read_classifier, relations
from tests.fix_postgres import PostgresServer

EVIL_FIRST = ("pg_catalog", "evil", "public")
EVIL_BEFORE_THE_SERVER = ("evil", "pg_catalog", "public")


@pytest.fixture
def other(postgres18: PostgresServer, shop_builtins: Builtins) -> Iterator["psycopg.Connection[Any]"]:
    """A database for objects that would be in the way of other tests."""
    with psycopg.connect(postgres18.create_database("other_names"), autocommit=True) as connection:
        yield connection


def test_the_first_table_on_the_path_is_meant(of: Classifier) -> None:
    assert relations(of("SELECT id FROM customers")) == {("public.customers", "read")}
    moved = of("SELECT id FROM customers", search_path=EVIL_FIRST)
    assert relations(moved) == {("evil.customers", "read")}


def test_a_temporary_table_shadows(shop: "psycopg.Connection[Any]", shop_builtins: Builtins) -> None:
    with shop.transaction(force_rollback=True):
        shop.execute("CREATE TEMP TABLE customers (id int, secret text)")
        of = read_classifier(shop, shop_builtins)
        for text in ("SELECT secret FROM customers", "SELECT secret FROM pg_temp.customers"):
            found = of(text)
            assert found.properties["relations"] == [
                {
                    "dataset": "pg_temp.customers",
                    "schema": "pg_temp",
                    "name": "customers",
                    "access": "read",
                    "temporary": True,
                }
            ]
            assert columns(found) == {"pg_temp.customers.secret": "output"}
        assert relations(of("SELECT ssn FROM public.customers")) == {("public.customers", "read")}
        assert Change.TEMP in of("DROP TABLE customers").changes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT 1 FROM nothing", "unknown relation: nothing"),
        ("SELECT 1 FROM nowhere.customers", "unknown relation: nowhere.customers"),
        ("SELECT 1 FROM elsewhere.public.customers", "unknown relation: elsewhere.public.customers"),
        ("SELECT 1 FROM pg_temp.customers", "unknown relation: pg_temp.customers"),
        ("DELETE FROM nothing", "unknown relation: nothing"),
        ("COPY nothing TO STDOUT", "unknown relation: nothing"),
        ("LOCK nothing", "unknown relation: nothing"),
        ("TRUNCATE nothing", "unknown relation: nothing"),
        ("SELECT nothing FROM customers", "unknown column: nothing"),
        ("SELECT c.nothing FROM customers c", "unknown column: nothing"),
        ("SELECT customers.id FROM customers c", "unknown column: customers.id"),
        ("SELECT evil.customers.id FROM customers", "unknown column: evil.customers.id"),
        ("SELECT x.* FROM customers", "unknown table: x"),
        ("COPY customers (nothing) TO STDOUT", "unknown column: nothing"),
        ("SELECT nothing()", "unknown function: nothing"),
        ("SELECT pg_catalog.nothing()", "unknown function: pg_catalog.nothing"),
        ("SELECT 'x'::nothing", "unknown type: nothing"),
        ("EXECUTE nothing", "unknown prepared statement: nothing"),
        ("FETCH nothing", "unknown cursor: nothing"),
        ("UPDATE customers SET name = 'x' WHERE CURRENT OF nothing", "unknown cursor: nothing"),
    ],
)
def test_what_the_catalog_does_not_have_is_opaque(of: Classifier, text: str, reason: str) -> None:
    found = of(text)
    assert (found.opaque, found.class_) == (reason, "opaque")
    assert Change.UNKNOWN in found.changes


@pytest.mark.parametrize(
    "text",
    [
        "SELECT secret('x')",
        "SELECT public.secret('x')",
        "SELECT name.secret FROM (SELECT 'x'::text AS name) name",
        "SELECT (name).secret FROM customers",
        "SELECT c.secret FROM customers c",
        "SELECT 1 FROM secret('x')",
        "SELECT 1 FROM customers WHERE secret(ssn) LIKE 'x'",
        "SELECT evil.lower('X')",
        "SELECT 1 FROM calling",
        "SELECT 'x'::checked",
        "SELECT CAST(name AS evil.amount) FROM customers",
        "SELECT evil.amount(name) FROM customers",
        "SELECT name OPERATOR(evil.=) 'x' FROM customers",
        "DO 'BEGIN END'",
        "CALL secret('x')",
    ],
)
def test_code_of_the_databases_own_is_opaque_and_a_barrier(of: Classifier, text: str) -> None:
    found = of(text)
    assert found.opaque
    assert Change.UNKNOWN in found.changes


@pytest.mark.parametrize("path", [EVIL_FIRST, EVIL_BEFORE_THE_SERVER])
@pytest.mark.parametrize(
    "text",
    [
        "SELECT lower(name) FROM public.customers",
        "SELECT c.lower FROM public.customers c",
        "SELECT id FROM public.customers WHERE name = 'x'",
        "SELECT id FROM public.customers WHERE name IN ('x')",
        "SELECT id FROM public.customers WHERE name IN (SELECT 'x')",
        "SELECT id FROM public.customers WHERE name IS DISTINCT FROM 'x'",
        "SELECT nullif(name, 'x') FROM public.customers",
        "SELECT CASE name WHEN 'x' THEN 1 END FROM public.customers",
        "SELECT 1 FROM public.customers JOIN public.orders USING (id)",
        "SELECT 1 FROM public.customers NATURAL JOIN public.orders",
    ],
)
def test_a_visible_candidate_makes_the_servers_own_name_opaque(
    of: Classifier, text: str, path: tuple[str, ...]
) -> None:
    assert of(text, search_path=path).opaque
    assert not of(text).opaque


def test_a_qualified_name_of_the_server_is_not_shadowed(of: Classifier) -> None:
    text = "SELECT pg_catalog.lower('X'), 'x' OPERATOR(pg_catalog.=) 'y'"
    assert not of(text, search_path=EVIL_BEFORE_THE_SERVER).opaque


def test_a_quoted_constant_is_read_by_the_type_and_not_by_a_cast(of: Classifier) -> None:
    assert not of("SELECT '(1)'::evil.amount").opaque
    assert of("SELECT $1::evil.amount").opaque


def test_a_parameter_of_a_type_with_code_is_opaque(of: Classifier) -> None:
    # Bind reads the value, and with it the domain's check runs.
    checked = of.catalog.resolve_type("checked", of.facts.search_path)
    mood = of.catalog.resolve_type("mood", of.facts.search_path)
    assert checked is not None
    assert mood is not None
    assert of("SELECT $1", parameters=[checked.oid]).opaque
    assert of("SELECT $1", parameters=[mood.oid]).opaque is None
    assert of("SELECT $1", parameters=[4_000_000_000]).opaque
    assert of("SELECT id FROM moods WHERE m = $1", parameters=[0]).opaque is None


def test_a_record_built_from_json_runs_the_checks_of_its_columns(of: Classifier) -> None:
    assert of("SELECT jsonb_populate_record(m, '{}') FROM moods m").opaque
    assert of("SELECT * FROM json_populate_recordset(NULL::moods, '[]')").opaque
    assert of("SELECT * FROM json_to_record('{}') AS r(c checked)").opaque
    assert of("SELECT jsonb_populate_record(o, '{}') FROM orders o").opaque is None


def test_attribute_notation_calls(of: Classifier) -> None:
    for name in ("row_to_json", "to_jsonb", "record_out", "hash_record", "count"):
        found = of(f"SELECT c.{name} FROM customers c")
        assert f"pg_catalog.{name}" in found.properties["functions"]
        assert columns(found)["public.customers.ssn"] == "other"


def test_attribute_notation_reaches_beyond_as_the_call_does(of: Classifier) -> None:
    found = of("SELECT ('/etc/passwd'::text).pg_read_file")
    assert found.properties["reaches_beyond"] == ["function pg_read_file"]


def test_a_call_may_be_a_column(of: Classifier) -> None:
    found = of("SELECT 1 FROM customers c WHERE ssn(c) LIKE 'x%'")
    assert not found.opaque
    assert columns(found)["public.customers.ssn"] == "other"


def test_a_field_loses_its_origin(of: Classifier) -> None:
    assert columns(of("SELECT (x).ssn FROM (SELECT c x FROM customers c) s"))["public.customers.ssn"] == "other"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("SELECT system_user", 150000),
        ("SELECT JSON_ARRAY(1)", 150000),
        ("SELECT JSON_OBJECTAGG('a': id) FROM customers", 150000),
        ("SELECT '1' IS JSON", 150000),
        ("SELECT JSON_SCALAR(1)", 160000),
        ("SELECT JSON_VALUE('{}'::jsonb, '$')", 160000),
        ("SELECT 1 FROM JSON_TABLE('{}'::jsonb, '$' COLUMNS (a int)) j", 160000),
        ("DELETE FROM customers RETURNING WITH (OLD AS o) o.id", 170000),
        ("DELETE FROM customers RETURNING old.id", 170000),
    ],
)
def test_words_that_an_older_server_reads_otherwise_are_opaque(of: Classifier, text: str, version: int) -> None:
    assert of(text, server_version=version).opaque
    assert not of(text).opaque


def test_user_types_without_code_are_plain(of: Classifier) -> None:
    found = of("SELECT 'sad'::mood, 'x'::short, m, (p).a, NULL::pair, ARRAY['ok']::mood[] FROM moods")
    assert not found.opaque
    assert columns(found) == {"public.moods.m": "output", "public.moods.p": "other"}


def test_whatever_names_something_resolves(of: Classifier) -> None:
    for text in ("SELECT 1", "BEGIN", "SET work_mem = 1", "SHOW work_mem", "SELECT pg_catalog.now()", "DISCARD PLANS"):
        assert not of(text).resolves, text
    for text in ("TABLE orders", "SELECT now()", "SELECT 1 + 1", "SELECT 'x'::regclass", "EXECUTE p", "FETCH c"):
        assert of(text).resolves, text


def test_an_operator_for_a_type_of_its_own_in_c_is_that_types_arithmetic(
    other: "psycopg.Connection[Any]", shop_builtins: Builtins
) -> None:
    # The extension that is to be had here brings =, < and sum for its own type into the schema public.
    other.execute("CREATE EXTENSION vector; CREATE TABLE items (id int, name text, embedding vector(2))")
    of = read_classifier(other, shop_builtins)
    found = of("SELECT id FROM items WHERE name = 'x' ORDER BY embedding <-> '[1,2]' LIMIT 3")
    assert found.opaque is None
    assert columns(found)["public.items.embedding"] == "other"
    assert of("SELECT l2_distance(embedding, '[1,2]') FROM items").opaque
    other.execute("CREATE TABLE plain (n int)")
    of = read_classifier(other, shop_builtins)
    assert of("SELECT sum(n) FROM plain").opaque is None
    assert of("SELECT sum(embedding) FROM items").opaque


def test_an_operator_in_sql_for_the_servers_own_types_is_opaque(
    other: "psycopg.Connection[Any]", shop_builtins: Builtins
) -> None:
    other.execute(
        "CREATE FUNCTION same(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        "CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = same);"
        "CREATE TYPE own AS (a int);"
        "CREATE FUNCTION own_text(own) RETURNS text LANGUAGE sql AS 'SELECT ''x''';"
        "CREATE CAST (own AS text) WITH FUNCTION own_text(own) AS IMPLICIT;"
        "CREATE TABLE owned (o own); CREATE TABLE plain (n int)"
    )
    of = read_classifier(other, shop_builtins)
    assert of("SELECT 1 === 2").opaque
    assert of("SELECT 1 + 2").opaque is None
    assert of("SELECT o || 'x' FROM owned").opaque  # the implicit cast runs
    assert of("SELECT n FROM plain").opaque is None
    assert of("SELECT $1 || 'x'").opaque  # the client may say that the parameter is of that type
    assert of("SELECT $1 || 'x'", parameters=[0]).opaque is None
    assert of("SELECT $1 || 'x'", parameters=[25]).opaque is None
    own = of.catalog.resolve_type("own", of.facts.search_path)
    assert own is not None
    assert of("SELECT $1 || 'x'", parameters=[own.oid]).opaque
    assert of("SELECT $1::text", parameters=[own.oid]).opaque
    assert of("SELECT $1::text", parameters=[0]).opaque is None
    assert of("PREPARE p (own) AS SELECT $1 || 'x'", parameters=[]).opaque


def test_what_is_syntax_now_was_a_call_by_its_bare_name(
    other: "psycopg.Connection[Any]", shop_builtins: Builtins
) -> None:
    other.execute("CREATE FUNCTION \"json_object\"(text) RETURNS json LANGUAGE sql AS 'SELECT ''{}''::json'")
    of = read_classifier(other, shop_builtins)
    assert of("SELECT json_object('{a,1}')", server_version=150000).opaque
    assert of("SELECT json_object('{a,1}')").opaque is None


def test_nothing_escapes_from_a_tree_of_another_shape(of: Classifier) -> None:
    for node in ({"Nothing": {}}, {"SelectStmt": {"targetList": [{"Unknown": 1}]}}, {"SelectStmt": {"newClause": 1}}):
        found = classify(replace(parsed("SELECT 1"), node=node), of.catalog, of.facts, DictNames())
        assert found.opaque
    unknown = {"SelectStmt": {"targetList": [{"ResTarget": {"val": {"NewExpr": {}}}}], "op": "SETOP_NONE"}}
    found = classify(replace(parsed("SELECT 1"), node=unknown), of.catalog, of.facts, DictNames())
    assert found.opaque == "NewExpr is not understood"
    new_field = {"SelectStmt": {"whereClause": {"NullTest": {"arg": {}, "newField": True}}, "op": "SETOP_NONE"}}
    found = classify(replace(parsed("SELECT 1"), node=new_field), of.catalog, of.facts, DictNames())
    assert found.opaque == "NullTest.newField is not understood"


def test_long_chains_and_nesting_of_ordinary_tools_are_understood(of: Classifier) -> None:
    assert not of("SELECT " + " || ".join(["name"] * 400) + " FROM customers").opaque
    assert not of(" UNION ALL ".join(["SELECT id FROM customers"] * 150)).opaque
    assert not of("SELECT id FROM (" * 40 + "TABLE customers" + ") s" * 40).opaque
    assert not of("SELECT id FROM customers WHERE id IN (" + ", ".join(map(str, range(2000))) + ")").opaque


def test_nesting_past_the_walks_limit_is_opaque_and_not_an_error(of: Classifier) -> None:
    node: dict[str, Any] = {"A_Const": {"ival": {"ival": 1}}}
    for _ in range(5000):
        node = {"NullTest": {"arg": node, "nulltesttype": "IS_NULL"}}
    tree = {"SelectStmt": {"whereClause": node, "op": "SETOP_NONE"}}
    found = classify(replace(parsed("SELECT 1"), node=tree), of.catalog, of.facts, DictNames())
    assert found.opaque == "nested too deeply"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT *, * FROM (" * 30 + "TABLE customers" + ") s" * 30,
        "SELECT id, id FROM (" * 30 + "SELECT id, id FROM customers" + ") s" * 30,
        "SELECT " + ", ".join(["customers.*"] * 1500) + " FROM customers",
        "SELECT " + "id + " * 300 + "1 FROM " + ", ".join(f"events e{i}" for i in range(1500)),
    ],
)
def test_statements_made_to_be_dear_cost_little(of: Classifier, text: str) -> None:
    found = of(text)
    assert len(columns(found)) < 100
