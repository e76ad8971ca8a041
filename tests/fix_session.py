"""Tables for session machines: those of a real server, whose catalog is read once, and what stands in them."""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import pytest

from pep.postgres.catalog import Builtins, Catalog
from pep.postgres.catalog_sql import BUILTIN_QUERY, USER_QUERY
from pep.postgres.resolution import SharedCatalog
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.model_server import Statement, Table, World

SCHEMA = """
CREATE SCHEMA other;
CREATE TABLE customers (id int, name text, ssn text);
CREATE TABLE orders (id int, status text);
CREATE TABLE other.customers (id int, name text, ssn text);
CREATE TABLE other.orders (id int, status text);
"""
TEMPORARY = "create temp table customers (id int, name text, ssn text)"


@dataclass(frozen=True)
class Setting:
    """The answers of the catalog's look-ups, and the tables of a model server that fit them."""

    shared: SharedCatalog
    tables: Mapping[tuple[str, str], Table]
    temporary: Table
    temp_schema: str
    catalog_rows: list[tuple[str, str]]
    catalog_rows_with_temporary: list[tuple[str, str]]

    def world(self, script: Mapping[str, tuple[Statement, ...]]) -> World:
        return World(
            script,
            self.tables,
            self.temporary,
            self.temp_schema,
            self.catalog_rows,
            self.catalog_rows_with_temporary,
        )


@pytest.fixture(scope="session")
def session_setting(postgres18: PostgresServer) -> Setting:
    dsn = postgres18.create_database("session_model")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        builtins = Builtins.build(connection.execute(BUILTIN_QUERY).fetchall())
        rows = connection.execute(USER_QUERY).fetchall()
        oids = dict(
            connection.execute(
                "select relnamespace::regnamespace::text || '.' || relname, oid::int from pg_class "
                "where relname in ('customers', 'orders')"
            ).fetchall()
        )
        connection.execute(TEMPORARY)
        with_temporary = connection.execute(USER_QUERY).fetchall()
        ((temp_schema, temp_oid),) = connection.execute(
            "select pg_my_temp_schema()::regnamespace::text, 'pg_temp.customers'::regclass::oid::int"
        ).fetchall()
    return Setting(
        SharedCatalog(Catalog.build(rows, builtins), builtins, 1.0),
        {
            ("public", "customers"): _customers(oids["public.customers"], "public.customers", "SSN-p"),
            ("public", "orders"): _orders(oids["public.orders"], "public.orders"),
            ("other", "customers"): _customers(oids["other.customers"], "other.customers", "SSN-o"),
            ("other", "orders"): _orders(oids["other.orders"], "other.orders"),
        },
        _customers(temp_oid, "pg_temp.customers", "TMP-"),
        temp_schema,
        [(str(a), str(b)) for a, b in rows],
        [(str(a), str(b)) for a, b in with_temporary],
    )


def _customers(oid: int, dataset: str, mark: str) -> Table:
    rows = tuple((str(n), f"name{n}", f"{mark}{n}") for n in range(1, 4))
    return Table(oid, dataset, ("id", "name", "ssn"), rows)


def _orders(oid: int, dataset: str) -> Table:
    return Table(oid, dataset, ("id", "status"), tuple((str(n), f"open{n}") for n in range(1, 4)))
