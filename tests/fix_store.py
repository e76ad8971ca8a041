"""What a service keeps its things in: each database that it can use, empty, one for each test.

`store_url` gives the URL of one; `each_store` has every service of `tests.pdp.serving` use it. A database of PostgreSQL
is a copy of one that has the tables already.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine

from pdp.store.database import migrate
from tests.fix_postgres import PostgresServer
from tests.pdp import serving

_TEMPLATE = "store_template"
_numbers = itertools.count(1)


def server_url(server: PostgresServer, database: str) -> str:
    return f"postgresql+psycopg://postgres@{server.host}:{server.port}/{database}"


@pytest.fixture(scope="session")
def store_template(postgres18: PostgresServer) -> PostgresServer:
    """The server, with a database from which stores are copied."""
    postgres18.create_database(_TEMPLATE)
    engine = create_engine(server_url(postgres18, _TEMPLATE))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    return postgres18


@pytest.fixture
def postgres_store(store_template: PostgresServer) -> Iterator[str]:
    """The URL of an empty store in PostgreSQL."""
    name = sql.Identifier(database := f"store_{next(_numbers)}")
    with psycopg.connect(store_template.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(name, sql.Identifier(_TEMPLATE))
        )
        yield server_url(store_template, database)
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, in turn of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/pdp.db"
    url: str = request.getfixturevalue("postgres_store")
    return url


@pytest.fixture
def each_store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Services that the test starts keep their things there."""
    monkeypatch.setattr(serving, "STORE", store_url)
    return store_url
