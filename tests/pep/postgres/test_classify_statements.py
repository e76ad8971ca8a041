"""Statements about the session: class, kind, barriers, names, what is refused; and definitions."""

import pytest

from pep.postgres.classification import (
    Change,
    CloseCursor,
    DeallocateName,
    DeclareCursor,
    Discard,
    ExecuteName,
    FetchCursor,
    PrepareName,
    TransactionStep,
    TransactionVerb,
    merge,
    opaque,
)
from tests.fix_classify import Classifier, columns, relations


@pytest.mark.parametrize(
    ("text", "class_", "kind"),
    [
        ("SELECT 1", "read", "select"),
        ("SELECT version()", "read", "select"),
        ("VALUES (1)", "read", "select"),
        ("SELECT * FROM orders", "read", "select"),
        ("SELECT relname FROM pg_class", "catalog", "select"),
        ("SELECT * FROM information_schema.tables", "catalog", "select"),
        ("SELECT relname FROM pg_class, orders", "read", "select"),
        ("COPY pg_class TO STDOUT", "catalog", "copy"),
        ("INSERT INTO orders (id) VALUES (1)", "write", "insert"),
        ("INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET status = 'x'", "write", "insert"),
        ("UPDATE orders SET status = 'x'", "write", "update"),
        ("DELETE FROM orders", "write", "delete"),
        ("MERGE INTO orders USING customers ON false WHEN MATCHED THEN DELETE", "write", "merge"),
        ("TRUNCATE orders", "write", "truncate"),
        ("SELECT * FROM orders FOR UPDATE", "write", "select"),
        ("LOCK orders", "write", "lock"),
        ("COPY orders FROM STDIN", "write", "copy"),
        ("COPY orders TO STDOUT", "read", "copy"),
        ("COPY (DELETE FROM orders RETURNING id) TO STDOUT", "write", "delete"),
        ("COPY orders TO '/tmp/x'", "admin", "copy"),
        ("EXPLAIN SELECT * FROM orders", "read", "explain"),
        ("EXPLAIN DELETE FROM orders", "read", "explain"),
        ("EXPLAIN (ANALYZE false) DELETE FROM orders", "read", "explain"),
        ("EXPLAIN ANALYZE DELETE FROM orders", "write", "delete"),
        ("EXPLAIN (ANALYZE, VERBOSE) DELETE FROM orders", "write", "delete"),
        ("EXPLAIN (ANALYZE 1) SELECT 1", "read", "select"),
        ("EXPLAIN (ANALYZE off, ANALYZE on) DELETE FROM orders", "write", "delete"),
        ("PREPARE p AS DELETE FROM orders", "write", "prepare"),
        ("DECLARE c CURSOR FOR SELECT * FROM orders", "read", "declare"),
        ("SHOW search_path", "catalog", "show"),
        ("SET work_mem = '1MB'", "setting", "set"),
        ("SET LOCAL statement_timeout = 0", "setting", "set"),
        ("SET TIME ZONE 'UTC'", "setting", "set"),
        ("SET app.tenant = 'acme'", "setting", "set"),
        ("SET NAMES 'utf8'", "setting", "set"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "setting", "set"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "setting", "set"),
        ("SET CONSTRAINTS ALL DEFERRED", "setting", "set"),
        ("SELECT set_config('work_mem', '1MB', false)", "setting", "select"),
        ("SELECT set_config('app.tenant', $1, true)", "setting", "select"),
        ("SELECT set_config('log_statement', 'none', false)", "admin", "select"),
        ("SET log_statement = 'none'", "admin", "set"),
        ("SET session_replication_role = 'replica'", "admin", "set"),
        ("SET row_security = off", "admin", "set"),
        ("SET local_preload_libraries = 'x'", "admin", "set"),
        ("SET pg_stat_statements.track = 'none'", "admin", "set"),
        ("SET ROLE someone", "admin", "set_role"),
        ("RESET ROLE", "admin", "set_role"),
        ("SET SESSION AUTHORIZATION someone", "admin", "set_session_authorization"),
        ("RESET work_mem", "setting", "reset"),
        ("RESET ALL", "setting", "reset"),
        ("DISCARD ALL", "setting", "discard"),
        ("DEALLOCATE ALL", "setting", "deallocate"),
        ("CLOSE ALL", "setting", "close"),
        ("LISTEN c", "setting", "listen"),
        ("UNLISTEN *", "setting", "unlisten"),
        ("NOTIFY c", "write", "notify"),
        ("BEGIN", "transaction", "begin"),
        ("START TRANSACTION READ WRITE", "transaction", "begin"),
        ("COMMIT", "transaction", "commit"),
        ("END", "transaction", "commit"),
        ("ROLLBACK", "transaction", "rollback"),
        ("SAVEPOINT s", "transaction", "savepoint"),
        ("RELEASE s", "transaction", "release"),
        ("ROLLBACK TO s", "transaction", "rollback_to"),
        ("CREATE TABLE t (id serial PRIMARY KEY, o int REFERENCES orders)", "schema", "create"),
        ("CREATE TABLE t AS SELECT 1", "schema", "create"),
        ("SELECT 1 INTO t", "schema", "create"),
        ("CREATE VIEW v AS SELECT 1", "schema", "create"),
        ("CREATE INDEX ON orders (id)", "schema", "create"),
        ("CREATE SCHEMA s", "schema", "create"),
        ("CREATE TYPE t AS ENUM ('a')", "schema", "create"),
        ("ALTER TABLE orders ADD COLUMN x int", "schema", "alter"),
        ("ALTER TABLE orders RENAME TO o", "schema", "alter"),
        ("DROP TABLE orders", "schema", "drop"),
        ("DROP FUNCTION secret(text)", "schema", "drop"),
        ("COMMENT ON TABLE orders IS 'x'", "schema", "comment"),
        ("REFRESH MATERIALIZED VIEW spending", "schema", "refresh"),
        ("VACUUM orders", "admin", "vacuum"),
        ("REINDEX TABLE orders", "admin", "reindex"),
        ("CHECKPOINT", "admin", "checkpoint"),
        ("CREATE DATABASE d", "admin", "create"),
        ("DROP OWNED BY someone", "admin", "drop"),
        ("DO 'BEGIN END'", "opaque", "do"),
        ("CALL p()", "opaque", "call"),
    ],
)
def test_class_and_kind(of: Classifier, text: str, class_: str, kind: str) -> None:
    found = of(text)
    assert (found.class_, found.kind) == (class_, kind)
    assert (found.properties["class"], found.properties["kind"]) == (class_, kind)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("SET search_path TO evil", {Change.SEARCH_PATH}),
        ("SET LOCAL search_path TO evil", {Change.SEARCH_PATH}),
        ("RESET search_path", {Change.SEARCH_PATH}),
        ("SELECT set_config('search_path', 'evil', false)", {Change.SEARCH_PATH}),
        ("SELECT set_config('SEARCH_PATH', $1, false)", {Change.SEARCH_PATH}),
        ("SET ROLE someone", {Change.ROLE}),
        ("SET SESSION AUTHORIZATION DEFAULT", {Change.ROLE}),
        ("RESET ALL", {Change.SEARCH_PATH, Change.ROLE}),
        ("DISCARD ALL", {Change.SEARCH_PATH, Change.ROLE, Change.TEMP}),
        ("DISCARD TEMP", {Change.TEMP}),
        ("CREATE TEMP TABLE t (a int)", {Change.SCHEMA, Change.TEMP}),
        ("CREATE TABLE pg_temp.t (a int)", {Change.SCHEMA, Change.TEMP}),
        ("SELECT 1 INTO TEMP t", {Change.SCHEMA, Change.TEMP}),
        ("CREATE TEMP VIEW v AS SELECT 1", {Change.SCHEMA, Change.TEMP}),
        ("CREATE TABLE t (a int)", {Change.SCHEMA}),
        ("COMMIT", {Change.END}),
        ("ROLLBACK", {Change.END}),
        ("ROLLBACK TO s", {Change.END}),
        ("DO 'BEGIN END'", {Change.UNKNOWN}),
        ("SELECT secret('x')", {Change.UNKNOWN}),
        ("BEGIN", set()),
        ("SAVEPOINT s", set()),
        ("SET work_mem = '1MB'", set()),
        ("SELECT * FROM orders", set()),
        ("LISTEN c", set()),
        ("CLOSE ALL", set()),
    ],
)
def test_barriers(of: Classifier, text: str, changes: set[Change]) -> None:
    assert of(text).changes == changes


def test_a_definition_in_a_prepared_statement_is_no_less_a_barrier(of: Classifier) -> None:
    of.hold("p", "SELECT set_config('search_path', 'evil', false)")
    assert Change.SEARCH_PATH in of("EXECUTE p").changes
    assert Change.SEARCH_PATH in of("EXPLAIN ANALYZE EXECUTE p").changes


@pytest.mark.parametrize(
    "text",
    [
        "SET client_encoding TO latin1",
        "SET client_encoding = 'SQL_ASCII'",
        "SET NAMES 'latin1'",
        "SET Client_Encoding = latin1",
        "SELECT set_config('client_encoding', 'latin1', false)",
        "SELECT set_config('client_encoding', $1, false)",
        "SET standard_conforming_strings = off",
        "SET standard_conforming_strings = 0",
        "SET LOCAL standard_conforming_strings TO 'FALSE'",
        "SELECT set_config('standard_conforming_strings', 'of', true)",
        "ALTER ROLE someone SET client_encoding TO latin1",
        "ALTER DATABASE classified SET standard_conforming_strings = off",
        "ALTER SYSTEM SET standard_conforming_strings = off",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET client_encoding = 'latin1' AS 'SELECT 1'",
        "ALTER FUNCTION secret(text) SET standard_conforming_strings = off",
        "PREPARE checkrein_p AS SELECT 1",
        "EXECUTE checkrein_p",
        "DEALLOCATE checkrein_p",
        "DECLARE checkrein_c CURSOR FOR SELECT 1",
        "FETCH checkrein_c",
        "CLOSE checkrein_c",
        "EXPLAIN ANALYZE SELECT set_config('client_encoding', 'latin1', false)",
        "PREPARE p AS SELECT set_config('client_encoding', 'latin1', false)",
    ],
)
def test_refused_by_name(of: Classifier, text: str) -> None:
    refused = of(text).refused
    assert refused is not None
    assert refused.sqlstate in {"0A000", "42939"}


@pytest.mark.parametrize(
    "text",
    [
        "SET client_encoding TO 'UTF-8'",
        "SET client_encoding TO unicode",
        "RESET client_encoding",
        "SET client_encoding TO DEFAULT",
        "SET standard_conforming_strings = on",
        "SELECT set_config('standard_conforming_strings', 'true', false)",
        "PREPARE p AS SELECT 1",
        "RESET ALL",
    ],
)
def test_what_keeps_the_wire_as_it_is_is_not_refused(of: Classifier, text: str) -> None:
    assert of(text).refused is None


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", TransactionStep(TransactionVerb.BEGIN)),
        ("COMMIT AND CHAIN", TransactionStep(TransactionVerb.COMMIT, chain=True)),
        ("ROLLBACK AND CHAIN", TransactionStep(TransactionVerb.ROLLBACK, chain=True)),
        ("ABORT", TransactionStep(TransactionVerb.ROLLBACK)),
        ("SAVEPOINT s", TransactionStep(TransactionVerb.SAVEPOINT, "s")),
        ("RELEASE SAVEPOINT s", TransactionStep(TransactionVerb.RELEASE, "s")),
        ("ROLLBACK TO SAVEPOINT s", TransactionStep(TransactionVerb.ROLLBACK_TO, "s")),
        ("PREPARE TRANSACTION 'g'", TransactionStep(TransactionVerb.PREPARE_TRANSACTION, "g")),
        ("COMMIT PREPARED 'g'", TransactionStep(TransactionVerb.COMMIT_PREPARED, "g")),
        ("ROLLBACK PREPARED 'g'", TransactionStep(TransactionVerb.ROLLBACK_PREPARED, "g")),
    ],
)
def test_transaction_steps(of: Classifier, text: str, step: TransactionStep) -> None:
    assert of(text).transaction == step


def test_what_takes_no_snapshot(of: Classifier) -> None:
    for text in ("BEGIN", "SET work_mem = 1", "SET TRANSACTION READ ONLY", "SHOW work_mem", "LOCK orders", "LISTEN c"):
        assert not of(text).takes_snapshot, text
    for text in ("SELECT 1", "DELETE FROM orders", "COPY orders TO STDOUT", "DECLARE c CURSOR FOR SELECT 1"):
        assert of(text).takes_snapshot, text


def test_copy_says_its_direction_only_where_the_client_is_the_other_end(of: Classifier) -> None:
    assert of("COPY orders FROM STDIN").copy == "in"
    assert of("COPY orders (id) FROM STDIN WHERE id > 1").copy == "in"
    assert of("COPY orders TO STDOUT").copy == "out"
    assert of("COPY (SELECT 1) TO STDOUT").copy == "out"
    assert of("COPY orders TO '/tmp/x'").copy is None
    assert of("COPY orders FROM PROGRAM 'x'").copy is None


def test_whether_rows_come_back(of: Classifier) -> None:
    of.hold("p", "SELECT 1")
    for text in ("SELECT 1", "SHOW all", "EXPLAIN SELECT 1", "EXECUTE p", "FETCH p", "DELETE FROM orders RETURNING id"):
        assert of(text).returns_rows, text
    for text in ("DELETE FROM orders", "PREPARE q AS SELECT 1", "DECLARE c CURSOR FOR SELECT 1", "MOVE p", "BEGIN"):
        assert not of(text).returns_rows, text


def test_preparing_names_the_inner_statement(of: Classifier) -> None:
    found = of("PREPARE p (int) AS DELETE FROM orders WHERE id = $1")
    change = found.name_change
    assert isinstance(change, PrepareName)
    assert (change.name, change.inner.kind) == ("p", "delete")
    assert list(change.statement.node) == ["DeleteStmt"]
    assert relations(found) == {("public.orders", "delete"), ("public.orders", "read")}
    assert found.properties["has_where"] is True


def test_executing_does_what_the_name_denotes(of: Classifier) -> None:
    of.hold("p", "SELECT ssn FROM customers")
    found = of("EXECUTE p")
    assert (found.class_, found.kind, found.uses) == ("read", "select", ExecuteName("p", False))
    assert columns(found) == {"public.customers.ssn": "output"}
    assert found.origins
    assert of("EXECUTE p(1)").uses == ExecuteName("p", True)
    assert columns(of("CREATE TABLE t AS EXECUTE p")) == {"public.customers.ssn": "other"}
    assert of("CREATE TABLE t AS EXECUTE p").uses == ExecuteName("p", False)
    assert columns(of("EXPLAIN EXECUTE p")) == {"public.customers.ssn": "other"}


def test_the_arguments_of_execute_are_evaluated(of: Classifier) -> None:
    of.hold("p", "SELECT 1")
    assert of("EXECUTE p(pg_read_file('x'))").properties["reaches_beyond"] == ["function pg_read_file"]
    assert of("EXECUTE p(secret('x'))").opaque


def test_a_delete_by_execute_is_a_delete(of: Classifier) -> None:
    of.hold("p", "DELETE FROM orders")
    found = of("EXECUTE p")
    assert (found.kind, found.writes, found.properties["has_where"]) == ("delete", True, False)


def test_cursors(of: Classifier) -> None:
    found = of("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT ssn FROM customers")
    change = found.name_change
    assert isinstance(change, DeclareCursor)
    assert (change.name, change.holdable, change.scroll) == ("c", True, True)
    assert columns(found) == {"public.customers.ssn": "output"}
    plain = of("DECLARE c CURSOR FOR SELECT 1").name_change
    assert isinstance(plain, DeclareCursor)
    assert not plain.holdable
    of.hold("c", "SELECT ssn FROM customers")
    fetched = of("FETCH ALL FROM c")
    assert (fetched.class_, fetched.kind, fetched.uses) == ("read", "fetch", FetchCursor("c", False))
    assert columns(fetched) == {"public.customers.ssn": "output"}
    assert of("MOVE 1 IN c").uses == FetchCursor("c", True)
    current = of("DELETE FROM customers WHERE CURRENT OF c")
    assert current.uses == FetchCursor("c", False)
    assert current.opaque is None


def test_names_that_end(of: Classifier) -> None:
    assert of("DEALLOCATE p").name_change == DeallocateName("p")
    assert of("DEALLOCATE ALL").name_change == DeallocateName(None)
    assert of("CLOSE c").name_change == CloseCursor("c")
    assert of("CLOSE ALL").name_change == CloseCursor(None)
    assert of("DISCARD ALL").name_change == Discard("all")
    assert of("DISCARD PLANS").name_change == Discard("plans")


def test_lock_locks_what_is_under_it(of: Classifier) -> None:
    found = of("LOCK order_emails IN ACCESS SHARE MODE")
    assert {r["access"] for r in found.properties["relations"]} == {"lock"}
    assert "public.customers" in {r["dataset"] for r in found.properties["relations"]}
    assert found.writes


def test_explain_without_analyze_writes_nothing(of: Classifier) -> None:
    found = of("EXPLAIN DELETE FROM orders")
    assert not found.writes
    assert {r["access"] for r in found.properties["relations"]} == {"read"}


def test_settings_are_named_in_lower_case(of: Classifier) -> None:
    assert of("SET Search_Path TO a").properties["settings"] == ["search_path"]
    assert of("SHOW TimeZone").properties["settings"] == ["timezone"]
    assert of("SELECT set_config('App.X', '1', false)").properties["settings"] == ["app.x"]
    assert of("BEGIN READ WRITE").properties["settings"] == ["transaction_read_only"]
    assert of("SELECT set_config($1, 'x', false)").opaque
    assert of("SELECT set_config(name, 'x', false) FROM customers").opaque


def test_definitions_list_what_they_name(of: Classifier) -> None:
    assert relations(of("DROP TABLE orders, evil.customers")) == {
        ("public.orders", "schema"),
        ("evil.customers", "schema"),
    }
    assert relations(of("DROP TABLE IF EXISTS nothing")) == {("public.nothing", "schema")}
    assert relations(of("CREATE TABLE t (o int REFERENCES orders)")) == {
        ("public.t", "schema"),
        ("public.orders", "schema"),
    }
    assert ("public.customers", "schema") in relations(of("DROP INDEX customers_pkey"))
    assert ("public.orders", "schema") in relations(of("ALTER TABLE orders ADD COLUMN x int"))
    assert ("public.audited", "schema") in relations(of("DROP TRIGGER watch ON audited"))
    assert relations(of("CREATE TEMP TABLE t (a int)")) == {("pg_temp.t", "schema")}


def test_queries_inside_policies_and_rules_see_their_table(of: Classifier) -> None:
    policy = of("CREATE POLICY p ON orders USING (EXISTS (SELECT 1 FROM customers c WHERE c.id = orders.customer_id))")
    assert policy.opaque is None
    assert {("public.orders", "schema"), ("public.customers", "read")} <= relations(policy)
    rule = of("CREATE RULE r AS ON UPDATE TO orders DO ALSO INSERT INTO audited VALUES (old.id, new.note)")
    assert rule.opaque is None
    assert ("public.audited", "insert") in relations(rule)
    assert of("CREATE RULE r AS ON UPDATE TO orders DO ALSO DELETE FROM nothing").opaque


def test_a_union_says_all_that_any_of_them_does(of: Classifier) -> None:
    read, write = of("SELECT ssn FROM customers WHERE id = 1 LIMIT 3"), of("DELETE FROM orders")
    both = merge([read, write])
    assert both == merge([write, read, write])
    assert (both.class_, both.kind, both.writes) == ("write", "delete", True)
    assert relations(both) == relations(read) | relations(write)
    assert both.properties["has_where"] is False
    assert "limit" not in both.properties
    assert both.origins == read.origins | write.origins
    assert set(both.definitions) == {*read.definitions, *write.definitions}
    update = of("UPDATE orders SET status = 'x'")
    assert merge([update, write]).kind == merge([write, update]).kind == "delete"
    unclear = merge([read, opaque("not known")])
    assert (unclear.class_, unclear.opaque) == ("opaque", "not known")
    assert relations(unclear) == relations(read)
    usages = merge([of("SELECT ssn FROM customers"), of("SELECT ssn || '' FROM customers")])
    assert columns(usages) == {"public.customers.ssn": "other+output"}


def test_answers_are_in_a_fixed_order(of: Classifier) -> None:
    text = "SELECT upper(c.name), lower(o.note), c.*, o.* FROM customers c JOIN orders o ON o.customer_id = c.id"
    assert of(text) == of(text)
    for key in ("functions", "columns", "relations"):
        listed = of(text).properties[key]
        assert listed == sorted(listed, key=lambda each: str(each if isinstance(each, str) else list(each.values())))
