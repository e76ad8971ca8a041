"""Work that no word of the statement names: triggers, rules, cascades, defaults, views, files, other sessions."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pep.postgres.catalog import Builtins
from pep.postgres.classification import Change
from tests.fix_classify import Classifier, columns, reached, read_classifier, relations
from tests.fix_postgres import PostgresServer


@pytest.fixture
def other(postgres18: PostgresServer, shop_builtins: Builtins) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(postgres18.create_database("other_hidden"), autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        ("INSERT INTO audited VALUES (1, 'x')", "trigger watch on public.audited"),
        ("UPDATE audited SET what = 'x'", "trigger watch on public.audited"),
        ("COPY audited FROM STDIN", "trigger watch on public.audited"),
        ("MERGE INTO audited USING orders o ON false WHEN NOT MATCHED THEN INSERT VALUES (1, 'x')", "trigger watch on"),
        ("WITH w AS (UPDATE audited SET what = 'x') SELECT 1", "trigger watch on public.audited"),
        ("DELETE FROM ruled", "rule instead on public.ruled"),
        ("INSERT INTO defaulted (id) VALUES (1)", "function public.secret behind public.defaulted"),
        ("INSERT INTO moods (id) VALUES (1)", "function public.secret behind public.moods"),
        ("SELECT id FROM remote", "foreign table public.remote"),
        ("INSERT INTO remote VALUES (1, 'x')", "foreign table public.remote"),
        ("SELECT content FROM reading", "function pg_read_file behind public.reading"),
        ("SELECT pg_read_file('/etc/passwd')", "function pg_read_file"),
        ("SELECT pg_ls_dir('.')", "function pg_ls_dir"),
        ("SELECT lo_get(1)", "function lo_get"),
        ("SELECT query_to_xml('SELECT ssn FROM customers', true, true, '')", "function query_to_xml"),
        ("SELECT table_to_xml('customers', true, true, '')", "function table_to_xml"),
        ("SELECT ts_stat('SELECT 1')", "function ts_stat"),
        ("SELECT pg_notify('c', ssn) FROM customers", "function pg_notify"),
        ("SELECT pg_terminate_backend(1)", "function pg_terminate_backend"),
        ("SELECT pg_sleep(9)", "function pg_sleep"),
        ("SELECT pg_advisory_lock(1)", "advisory lock"),
        ("SELECT pg_try_advisory_xact_lock(1)", "advisory lock"),
        ("SELECT set_config('application_name', ssn, false) FROM customers", "computed setting application_name"),
        ("SELECT 1 FROM pg_read_file('x')", "function pg_read_file"),
        ("NOTIFY c, 'x'", "notify channel c"),
        ("COMMIT PREPARED 'x'", "gid x"),
        ("PREPARE TRANSACTION 'x'", "gid x"),
        ("SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", "snapshot of another session"),
        ("COPY customers TO '/tmp/x'", "file /tmp/x"),
        ("COPY customers TO PROGRAM 'sh'", "program"),
        ("COPY customers FROM PROGRAM 'sh'", "program"),
        ("COPY (SELECT 1) TO PROGRAM 'sh'", "program"),
        ("TRUNCATE orders CASCADE", "cascade"),
        ("DROP TABLE orders CASCADE", "cascade"),
        ("ALTER TABLE orders DROP COLUMN id CASCADE", "cascade"),
        ("LOAD 'x'", "library"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "server configuration"),
        ("CREATE EXTENSION x", "extension"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p", "subscription"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "code in a function"),
        ("CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION touched()", "trigger"),
        ("CREATE TABLE t (a text DEFAULT pg_read_file('x'))", "function pg_read_file"),
        ("CREATE VIEW w AS SELECT pg_read_file('x')", "function pg_read_file"),
        ("PREPARE p AS SELECT pg_read_file('x')", "function pg_read_file"),
        ("DECLARE c CURSOR FOR SELECT pg_read_file('x')", "function pg_read_file"),
        ("EXPLAIN SELECT pg_read_file('x')", "function pg_read_file"),
    ],
)
def test_what_reaches_beyond_is_named(of: Classifier, text: str, beyond: str) -> None:
    found = of(text)
    assert found.opaque is None
    assert any(reason.startswith(beyond) for reason in found.properties["reaches_beyond"])


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_advisory_unlock_all()",
        "SELECT * FROM orders",
        "INSERT INTO orders (id) VALUES (1)",
        "UPDATE orders SET status = 'x' WHERE id = 1",
        "DELETE FROM orders WHERE id = 1",
        "DELETE FROM audited",
        "SELECT what FROM audited",
        "SELECT code FROM defaulted",
        "SELECT c FROM moods",
        "SELECT id FROM ruled",
        "SELECT current_setting('app.tenant'), now(), version(), gen_random_uuid()",
    ],
)
def test_ordinary_work_reaches_nothing_beyond(of: Classifier, text: str) -> None:
    found = of(text)
    assert found.opaque is None
    assert found.properties["reaches_beyond"] == []
    assert not found.changes


def test_triggers_and_rules_are_barriers_and_bind_their_definitions(of: Classifier) -> None:
    found = of("UPDATE audited SET what = 'x'")
    assert Change.UNKNOWN in found.changes
    assert any("public.touched()" in line for line in found.definitions)
    assert any("public.audited" in line for line in found.definitions)


def test_a_delete_lists_the_children_of_cascading_keys(of: Classifier) -> None:
    found = of("DELETE FROM customers WHERE id = 1")
    assert relations(found) == {("public.customers", "delete"), ("public.customers", "read")}
    assert reached(found) == {
        ("public.orders", "delete", "public.customers"),
        ("public.payments", "delete", "public.orders"),
        ("public.refunds", "update", "public.payments"),
    }


def test_a_write_through_a_view_writes_its_tables(of: Classifier) -> None:
    found = of("UPDATE customer_emails SET email = 'x'")
    assert ("public.customer_emails", "update") in relations(found)
    assert ("public.customers", "update", "public.customer_emails") in reached(found)


def test_a_write_to_a_partition_or_its_parent_lists_the_other(of: Classifier) -> None:
    assert ("public.events_old", "delete", "public.events") in reached(of("DELETE FROM events"))
    assert ("public.events", "delete", "public.events_old") in reached(of("DELETE FROM events_old"))


def test_a_write_to_the_system_catalog_is_opaque(of: Classifier) -> None:
    assert of("UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path'").opaque
    assert of("DELETE FROM pg_class").opaque


def test_sequences_are_written_by_name(of: Classifier) -> None:
    for text in (
        "SELECT nextval('numbers')",
        "SELECT nextval('public.numbers'::regclass)",
        "SELECT setval('\"numbers\"', 1)",
        "SELECT setval('PUBLIC.Numbers', 1)",
    ):
        found = of(text)
        assert (found.class_, found.writes) == ("write", True)
        assert relations(found) == {("public.numbers", "update")}
    assert of("SELECT nextval($1)").opaque
    assert of("SELECT nextval('nothing')").opaque
    assert of("SELECT ('numbers'::text).nextval").opaque
    assert of("SELECT currval('numbers')").class_ == "read"


@pytest.mark.parametrize(
    ("text", "minted"),
    [
        ("ALTER ROLE CURRENT_USER PASSWORD 'x'", ["role attributes", "role password"]),
        ("ALTER USER someone SET search_path TO evil", ["role settings"]),
        ("ALTER DATABASE classified SET search_path TO evil", ["database settings"]),
        ("CREATE ROLE someone LOGIN PASSWORD 'x'", ["role", "role password"]),
        ("GRANT SELECT ON customers TO someone", ["grant"]),
        ("GRANT postgres TO someone", ["role membership"]),
        ("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO someone", ["default privileges"]),
        ("ALTER TABLE customers OWNER TO someone", ["owner"]),
        ("ALTER FUNCTION secret(text) OWNER TO someone", ["owner"]),
        ("REASSIGN OWNED BY a TO b", ["owner"]),
        ("CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere OPTIONS (password 'x')", ["user mapping"]),
        ("SECURITY LABEL ON TABLE customers IS 'x'", ["security label"]),
    ],
)
def test_a_way_around_the_proxy_is_named(of: Classifier, text: str, minted: list[str]) -> None:
    found = of(text)
    assert found.properties["mints_access"] == minted
    assert found.class_ == "admin"


def test_taking_access_away_mints_nothing(of: Classifier) -> None:
    for text in ("REVOKE SELECT ON customers FROM someone", "REVOKE a FROM b", "DROP ROLE someone"):
        found = of(text)
        assert (found.class_, found.properties["mints_access"]) == ("admin", [])


def test_policies_of_row_security_and_their_functions(
    other: "psycopg.Connection[Any]", shop_builtins: Builtins
) -> None:
    other.execute(
        "CREATE FUNCTION mine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        "CREATE TABLE kept (owner text); ALTER TABLE kept ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON kept USING (mine(owner));"
        "CREATE TABLE tenants (owner text); ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON tenants USING (owner = current_setting('app.tenant'))"
    )
    of = read_classifier(other, shop_builtins)
    assert of("SELECT owner FROM kept").properties["reaches_beyond"] == ["function public.mine behind public.kept"]
    assert of("SELECT owner FROM tenants").properties["reaches_beyond"] == []


def test_event_triggers_run_behind_definitions(other: "psycopg.Connection[Any]", shop_builtins: Builtins) -> None:
    other.execute(
        "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION seen()"
    )
    of = read_classifier(other, shop_builtins)
    assert of("CREATE TABLE t (a int)").properties["reaches_beyond"] == ["event trigger watching"]
    assert of("SELECT 1").properties["reaches_beyond"] == []


def test_names_in_errors_are_those_of_the_statements_objects(of: Classifier) -> None:
    names = of("INSERT INTO customers (id) VALUES (1)").object_names
    assert {"public", "customers", "ssn", "customers_ssn_key", "customers_pkey"} <= names
    assert "spending" not in names


def test_the_definitions_of_everything_reached_are_bound(of: Classifier) -> None:
    lines = "\n".join(of("SELECT * FROM order_emails").definitions)
    for name in ("public.order_emails", "public.customer_emails", "public.customers", "public.orders"):
        assert name in lines
    assert columns(of("SELECT 1")) == {}
    assert of("SELECT 1").definitions == ()
