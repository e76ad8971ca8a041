"""A shop database on a real PostgreSQL 18, its catalog as the proxy reads it, and a classifier over it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest

from pep.postgres.catalog import Builtins, Catalog, SessionState
from pep.postgres.catalog_sql import BUILTIN_QUERY, SESSION_QUERY, USER_QUERY
from pep.postgres.classification import Classification, SessionFacts
from pep.postgres.classify import classify
from pep.postgres.parser import ParsedStatement, ParseTree, parse
from tests.fix_postgres import PostgresServer

_SCHEMA = json.loads((Path(__file__).parent.parent / "rego" / "schemas" / "input.json").read_text())
INPUT = jsonschema.Draft7Validator({"$defs": _SCHEMA["$defs"], "$ref": "#/$defs/postgres"})

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text UNIQUE, created timestamptz DEFAULT now());
CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers ON DELETE CASCADE, status text,
    total numeric, tags text[], note text);
CREATE TABLE payments (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE CASCADE, amount numeric);
CREATE TABLE refunds (id int PRIMARY KEY, payment_id int REFERENCES payments ON DELETE SET NULL);
CREATE VIEW customer_emails AS SELECT id, email FROM customers WHERE ssn IS NOT NULL;
CREATE VIEW order_emails AS SELECT o.id AS order_id, e.email
    FROM orders o JOIN customer_emails e ON e.id = o.customer_id;
CREATE MATERIALIZED VIEW spending AS SELECT c.ssn, sum(o.total) AS spent
    FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.ssn;
CREATE TABLE events (day date, ssn text, detail text) PARTITION BY RANGE (day);
CREATE TABLE events_old (detail text, extra int, ssn text, day date);
ALTER TABLE events_old DROP COLUMN extra;
ALTER TABLE events ATTACH PARTITION events_old FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE TABLE people (id int, ssn text);
CREATE TABLE employees (salary numeric) INHERITS (people);
CREATE TABLE invoices (id int, ssn text, mark text GENERATED ALWAYS AS ('x' || ssn) STORED);
CREATE SEQUENCE numbers;
CREATE FUNCTION secret(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE VIEW calling AS SELECT id, secret(name) AS name FROM customers;
CREATE VIEW reading AS SELECT pg_read_file('x') AS content;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE audited (id int, what text);
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION touched();
CREATE TABLE ruled (id int);
CREATE RULE instead AS ON DELETE TO ruled DO INSTEAD DELETE FROM orders;
CREATE TABLE defaulted (id int, code text DEFAULT secret('x'));
CREATE DOMAIN checked AS text CHECK (secret(VALUE) IS NOT NULL);
CREATE DOMAIN short AS text CHECK (length(VALUE) < 9);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text);
CREATE TABLE moods (id int, m mood, p pair, c checked);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE remote (id int, ssn text) SERVER elsewhere;
CREATE TABLE "Odd.Name" (id int, "Mixed Case" text);
INSERT INTO customers (id) VALUES (1);
INSERT INTO orders (id, customer_id) VALUES (1, 1);
INSERT INTO payments VALUES (1, 1, 1);
INSERT INTO refunds VALUES (1, 1);
INSERT INTO events VALUES ('2023-01-01', 'x', 'y');
CREATE SCHEMA evil;
CREATE TABLE evil.customers (id int, name text, email text, ssn text, created timestamptz);
CREATE FUNCTION evil.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION evil.eq(varchar, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = evil.eq);
CREATE TYPE evil.amount AS (value int);
CREATE FUNCTION evil.amount(text) RETURNS evil.amount LANGUAGE sql AS 'SELECT ROW(1)::evil.amount';
CREATE CAST (text AS evil.amount) WITH FUNCTION evil.amount(text);
"""


@dataclass
class DictNames:
    """What names denote, as a test says it."""

    statements: dict[str, Classification] = field(default_factory=dict)
    cursors: dict[str, Classification] = field(default_factory=dict)

    def prepared(self, name: str) -> Classification | None:
        return self.statements.get(name)

    def cursor(self, name: str) -> Classification | None:
        return self.cursors.get(name)


@dataclass
class Classifier:
    """Classifies texts of one statement against one catalog."""

    catalog: Catalog
    facts: SessionFacts
    names: DictNames = field(default_factory=DictNames)

    def __call__(self, text: str, parameters: Sequence[int] | None = None, **facts: Any) -> Classification:
        """Every answer is checked against the schema of the policies' input."""
        found = classify(parsed(text), self.catalog, replace(self.facts, **facts), self.names, parameters)
        INPUT.validate(found.properties)
        return found

    def hold(self, name: str, text: str) -> Classification:
        """Let `name` be a prepared statement and a cursor of this statement."""
        found = self(text)
        self.names.statements[name] = self.names.cursors[name] = found
        return found


def parsed(text: str) -> ParsedStatement:
    tree = parse(text)
    assert isinstance(tree, ParseTree), tree
    (statement,) = tree.statements
    return statement


def read_classifier(connection: "psycopg.Connection[Any]", builtins: Builtins) -> Classifier:
    """As the connection resolves names now, its temporary objects included."""
    catalog = Catalog.build(connection.execute(USER_QUERY).fetchall(), builtins)
    (text,) = connection.execute(SESSION_QUERY).fetchone()  # type: ignore[misc]
    state = SessionState.parse(text)
    facts = SessionFacts(
        search_path=state.path,
        user=state.user,
        session_user=state.session_user,
        temp_schema=state.temp_schema or None,
        database=connection.info.dbname,
        server_version=connection.info.server_version,
        in_transaction=False,
    )
    return Classifier(catalog, facts)


@pytest.fixture(scope="session")
def shop(postgres18: PostgresServer) -> Iterator["psycopg.Connection[Any]"]:
    """A superuser's connection to the shop."""
    with psycopg.connect(postgres18.create_database("classified"), autocommit=True) as connection:
        connection.execute(SHOP)
        yield connection


@pytest.fixture(scope="session")
def shop_builtins(shop: "psycopg.Connection[Any]") -> Builtins:
    return Builtins.build(shop.execute(BUILTIN_QUERY).fetchall())


@pytest.fixture(scope="session")
def shop_catalog(shop: "psycopg.Connection[Any]", shop_builtins: Builtins) -> Classifier:
    return read_classifier(shop, shop_builtins)


@pytest.fixture
def of(shop_catalog: Classifier) -> Classifier:
    """Classifies on the path `pg_catalog, public`, with no names prepared."""
    return replace(shop_catalog, names=DictNames())


def relations(classification: Classification) -> set[tuple[str, str]]:
    """What is touched directly, as (dataset, access)."""
    return {(r["dataset"], r["access"]) for r in classification.properties["relations"] if "via" not in r}


def reached(classification: Classification) -> set[tuple[str, str, str]]:
    """What is touched by way of another relation, as (dataset, access, via)."""
    return {(r["dataset"], r["access"], r["via"]) for r in classification.properties["relations"] if "via" in r}


def columns(classification: Classification) -> Mapping[str, str]:
    """`dataset.field` to its usages."""
    return {f"{c['dataset']}.{c['field']}": "+".join(c["usage"]) for c in classification.properties["columns"]}
