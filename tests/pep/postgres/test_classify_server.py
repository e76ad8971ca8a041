"""The server as the oracle: random queries, its own column privileges, and the origins in its RowDescription.

A role that may read exactly the columns listed must be able to run the statement: a column that we missed is a
"permission denied" of the server's own. And what it names as the origin of an output column must be listed as output.
"""

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pep.postgres.catalog import Builtins
from tests.fix_classify import Classifier, columns, read_classifier
from tests.fix_postgres import PostgresServer

TABLES = {"a": "kxy", "b": "kxz", "c": "kpq", "g": "kxw", "p": "kxy"}
SETUP = """
CREATE TABLE a (k text PRIMARY KEY, x text, y text);
CREATE TABLE b (k text PRIMARY KEY, x text, z text);
CREATE TABLE c (k text PRIMARY KEY, p text, q text);
CREATE TABLE g (k text PRIMARY KEY, x text, w text GENERATED ALWAYS AS (x || '') STORED);
CREATE TABLE p (k text, x text, y text) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p DEFAULT;
INSERT INTO a VALUES ('1', '2', '3');
CREATE ROLE column_reader;
GRANT INSERT, UPDATE, DELETE ON a, b, c, g, p TO column_reader;
"""


class Writer:
    """Writes random statements."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def source(self, depth: int, visible: dict[str, str]) -> str:
        """An item of FROM; what it brings goes into `visible`, alias to columns."""
        alias = self.name()
        roll = self.random.random()
        if depth and roll < 0.2:
            lateral, inner = self.pick("", "LATERAL "), self.random.choice(list(TABLES))
            outer = visible if lateral else {}
            expression = self.expression(depth - 1, {**outer, alias + "i": TABLES[inner]})
            visible[alias] = "m"
            # A bare column that nobody uses is read by nobody, and yet the server asks for the privilege.
            return f"{lateral}(SELECT upper({expression}) AS m FROM {inner} {alias}i) {alias}"
        table = self.random.choice(list(TABLES))
        if roll < 0.35:
            visible[alias] = "ef" + TABLES[table][2:]
            return f"{table} AS {alias}(e, f)"
        visible[alias] = TABLES[table]
        return f"{table} {alias}"

    def origin(self, depth: int, visible: dict[str, str]) -> str:
        text = self.source(depth, visible)
        for _ in range(self.random.randrange(3)):
            join = self.pick("CROSS JOIN", "JOIN", "LEFT JOIN", "NATURAL JOIN", "USING", ",")
            right = self.source(depth if join in {",", "CROSS JOIN"} else 0, visible)
            if join == "USING":
                text += f" JOIN {right} USING (k)"
            elif join in {"JOIN", "LEFT JOIN"}:
                text += f" {join} {right} ON {self.condition(0, visible)}"
            else:
                text += f"{join if join == ',' else ' ' + join} {right}"
        return text

    def column(self, visible: dict[str, str]) -> str:
        alias = self.random.choice(list(visible))
        column = self.random.choice(visible[alias])
        # Not (alias).column: for that the server asks for the whole row's privileges, and reads the column.
        return self.pick(f"{alias}.{column}", f"{alias}.{column}", column)

    def expression(self, depth: int, visible: dict[str, str]) -> str:
        column = self.column(visible)
        alias = self.random.choice(list(visible))
        choices = [
            column,
            column,
            f"upper({column})",
            f"{column} || {self.column(visible)}",
            f"CASE WHEN {column} > 'a' THEN {self.column(visible)} END",
            f"coalesce({column}, 'x')",
            f"{alias}::text",
            f"row_to_json({alias})::text",
            f"concat({alias}.*)",
            f"max({column}) OVER (PARTITION BY {self.column(visible)} ORDER BY {self.column(visible)})",
        ]
        if depth:
            inner = self.name()
            table = self.random.choice(list(TABLES))
            seen = {**visible, inner: TABLES[table]}
            where = self.condition(0, seen)
            choices += [
                f"(SELECT {self.expression(depth - 1, seen)} FROM {table} {inner} WHERE {where} LIMIT 1)",
                f"(EXISTS (SELECT FROM {table} {inner} WHERE {self.condition(depth - 1, seen)}))::text",
                f"({column} IN (SELECT {self.column(seen)} FROM {table} {inner}))::text",
            ]
        return self.random.choice(choices)

    def condition(self, depth: int, visible: dict[str, str]) -> str:
        return f"{self.expression(depth, visible)} {self.pick('=', '<', 'LIKE')} {self.column(visible)}"

    def select(self) -> str:
        visible: dict[str, str] = {}
        origin = self.origin(2, visible)
        names = ["o1", "o2", "o3"][: self.random.randrange(1, 4)]
        targets = [f"{self.expression(2, visible)} AS {name}" for name in names]
        if self.random.random() < 0.25:
            targets.append(self.pick("*", f"{self.random.choice(list(visible))}.*"))
        text = f"SELECT {self.pick('', '', '', 'DISTINCT ')}{', '.join(targets)} FROM {origin}"
        if self.random.random() < 0.5:
            text += f" WHERE {self.condition(1, visible)}"
        if self.random.random() < 0.4:
            text += f" ORDER BY {self.pick('1', names[0], self.column(visible))}"
        roll = self.random.random()
        if roll < 0.15:
            return f"WITH q AS ({text}) SELECT * FROM q"
        if roll < 0.25:
            return f"SELECT q.* FROM ({text}) q"
        if roll < 0.3:
            return f"({text}) UNION ALL ({text})"
        return text

    def grouped(self) -> str:
        visible: dict[str, str] = {}
        origin = self.origin(1, visible)
        column = self.column(visible)
        key = self.pick(column, "1", "o")
        return (
            f"SELECT {column} AS o, max({self.column(visible)}) FROM {origin} GROUP BY {key} HAVING max({column}) > 'a'"
        )

    def write(self) -> str:
        table = self.pick("a", "b", "c")
        visible = {"t": TABLES[table]}
        first, second = TABLES[table][1], TABLES[table][2]
        returning = self.pick("", f" RETURNING {self.column(visible)}", " RETURNING t.*", " RETURNING old.k, new.*")
        match self.random.randrange(5):
            case 0:
                return f"DELETE FROM {table} t WHERE {self.condition(1, visible)}{returning}"
            case 1:
                value = self.expression(1, visible)
                return f"UPDATE {table} t SET {first} = {value} WHERE {self.condition(1, visible)}{returning}"
            case 2:
                other: dict[str, str] = dict(visible)
                origin = self.source(0, other)
                value = self.expression(1, other)
                return f"UPDATE {table} t SET ({first}, {second}) = ROW({value}, 'x') FROM {origin}{returning}"
            case 3:
                # Not excluded.x: the server asks for a privilege on it, although it is what the statement proposes.
                action = self.pick("NOTHING", f"UPDATE SET {first} = t.{second} WHERE {self.condition(0, visible)}")
                return f"INSERT INTO {table} AS t (k) VALUES ('9') ON CONFLICT (k) DO {action}{returning}"
            case _:
                other = dict(visible)
                origin = self.source(0, other)
                condition = self.condition(0, other)
                return (
                    f"MERGE INTO {table} t USING {origin} ON {condition} "
                    f"WHEN MATCHED AND {self.condition(0, other)} THEN UPDATE SET {first} = {self.column(other)} "
                    f"WHEN NOT MATCHED THEN INSERT (k) VALUES ('x')"
                )

    def statement(self) -> str:
        roll = self.random.random()
        return self.select() if roll < 0.6 else self.grouped() if roll < 0.75 else self.write()


@pytest.fixture(scope="module")
def database(postgres18: PostgresServer) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(postgres18.create_database("oracle"), autocommit=True) as connection:
        connection.execute(SETUP)
        yield connection
        connection.execute("DROP OWNED BY column_reader; DROP ROLE column_reader")


@pytest.fixture(scope="module")
def classifier(database: "psycopg.Connection[Any]", shop_builtins: Builtins) -> Classifier:
    return read_classifier(database, shop_builtins)


def run_as_reader(database: "psycopg.Connection[Any]", text: str, listed: set[str]) -> list[tuple[int, int]] | None:
    """The origins of the output columns; None for a statement that is wrong in itself. Raises if a column is denied."""
    # Whoever names a table needs a privilege on one column of it at least.
    allowed: dict[str, set[str]] = {table: {"k"} for table in TABLES}
    for column in listed:
        _, table, field = column.split(".")
        if table in allowed:
            allowed[table].add(field)
    with database.transaction(force_rollback=True):
        try:
            with database.transaction(force_rollback=True):
                database.execute(b"EXPLAIN " + text.encode())
        except psycopg.Error:
            return None
        for table, fields in allowed.items():
            names = sql.SQL(", ").join(map(sql.Identifier, sorted(fields)))
            grant = sql.SQL("GRANT SELECT ({}) ON {} TO column_reader")
            database.execute(grant.format(names, sql.Identifier(table)))
        database.execute("SET LOCAL ROLE column_reader")
        cursor = database.execute(text.encode())
        result = cursor.pgresult
        assert result is not None
        return [(result.ftable(i), result.ftablecol(i)) for i in range(result.nfields)]


@pytest.mark.parametrize("seed", range(12))
def test_the_server_reads_no_column_that_is_not_listed(
    database: "psycopg.Connection[Any]", classifier: Classifier, seed: int
) -> None:
    writer = Writer(seed)
    ran = 0
    for _ in range(60):
        text = writer.statement()
        found = classifier(text)
        listed = columns(found)
        try:
            origins = run_as_reader(database, text, set(listed))
        except psycopg.errors.InsufficientPrivilege as error:
            pytest.fail(f"{error}\n{text}\n{listed}")
        if origins is None:
            continue
        ran += 1
        assert found.opaque is None, (found.opaque, text)
        for table, number in origins:
            if table == 0 or number == 0:
                continue
            assert table in found.origins, text
            relation = classifier.catalog.by_oid(table)
            assert relation is not None
            column = relation.column_at(number)
            assert column is not None
            name = f"{classifier.catalog.dataset(relation)}.{column.name}"
            usage = listed[name]
            # RETURNING old.k names the table, too; it is listed as `other`, which is the stricter.
            assert "output" in usage or "old." in text, (name, usage, text)
    assert ran > 25


LOCKING = """
SELECT * FROM order_emails
SELECT * FROM spending
SELECT * FROM events WHERE day < '2020-01-01'
SELECT * FROM events_old
SELECT * FROM people
SELECT * FROM calling
SELECT * FROM order_emails WHERE EXISTS (SELECT 1 FROM employees) ORDER BY 1
SELECT nextval('numbers')
DELETE FROM customers WHERE id = 1
DELETE FROM orders
UPDATE customer_emails SET email = 'x'
DELETE FROM customer_emails
INSERT INTO customer_emails VALUES (77, 'x')
INSERT INTO audited VALUES (1, 'x')
INSERT INTO events VALUES ('2024-06-06', 'a', 'b')
UPDATE events SET day = '2020-01-01'
DELETE FROM people
MERGE INTO orders o USING customers c ON c.id = o.customer_id WHEN MATCHED THEN DELETE
WITH d AS (DELETE FROM events RETURNING *) INSERT INTO audited SELECT 1, ssn FROM d
TRUNCATE payments, refunds
LOCK TABLE order_emails
DECLARE c CURSOR FOR SELECT * FROM order_emails
EXPLAIN SELECT * FROM order_emails FOR UPDATE
COPY (SELECT * FROM order_emails) TO '/dev/null'
REFRESH MATERIALIZED VIEW spending
CREATE TABLE another AS SELECT * FROM order_emails
CREATE VIEW another AS SELECT * FROM events
CREATE TABLE another () INHERITS (people)
CREATE INDEX ON events (ssn)
ALTER TABLE events ADD COLUMN another int
ALTER TABLE people RENAME COLUMN ssn TO another
COMMENT ON VIEW order_emails IS 'x'
ANALYZE events
"""


@pytest.mark.parametrize("text", LOCKING.strip().splitlines())
def test_the_server_locks_no_relation_that_is_not_reached(
    shop: "psycopg.Connection[Any]", of: Classifier, text: str
) -> None:
    """Locks are what a statement really touched: views, what is under them, partitions, children of cascading keys."""
    reached = of(text).reached
    with shop.transaction(force_rollback=True):
        shop.execute(text.encode())
        locked = {oid: name for oid, name in locks(shop) if oid in of.catalog.relations}
    assert locked
    assert locked.keys() <= reached, locked


def locks(connection: "psycopg.Connection[Any]") -> list[tuple[int, str]]:
    rows = connection.execute(
        "SELECT l.relation, c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
        " WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.oid >= 16384 AND c.relkind IN"
        " ('r', 'p', 'v', 'm', 'f', 'S')"
    )
    return rows.fetchall()
