"""What ordinary clients send on connect and for introspection is understood, and does nothing but read the catalog."""

import asyncio
import re
import subprocess
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from langchain_community.utilities import SQLDatabase
from psycopg.types import TypeInfo

from pep.postgres.parser import ParseTree, parse
from tests.fix_classify import Classifier
from tests.fix_postgres import HOST, PostgresServer

DATABASE = "classified"
_STATEMENT = re.compile(
    rf"^\S+ \S+ \S+ \[\d+\] {DATABASE} \S+ LOG:  (?:statement|execute [^:]+): (.*(?:\n\t.*)*)", re.MULTILINE
)
PSQL = r"""
\d
\d customers
\d+ order_emails
\d events
\d numbers
\d customers_pkey
\dt+
\dv
\dm
\di
\ds
\df
\df secret
\dn
\dT
\dD
\du
\dp
\l
\db
\det
\dO
\dc
\dL
\dy
\sf secret
\sv order_emails
\conninfo
"""


def run_psql(server: PostgresServer) -> None:
    address = ["-h", HOST, "-p", str(server.port), "-U", "postgres", "-X", DATABASE]
    subprocess.run([server.psql, *address], input=PSQL, text=True, check=True, capture_output=True)


def run_sqlalchemy(server: PostgresServer) -> None:
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@{HOST}:{server.port}/{DATABASE}")
    with engine.connect() as connection:
        sqlalchemy.MetaData().reflect(connection, views=True, only=["customers", "orders", "order_emails", "events"])
        inspector = sqlalchemy.inspect(connection)
        inspector.get_table_names()
        inspector.get_view_names()
        inspector.get_schema_names()
        inspector.get_sequence_names()
        inspector.get_check_constraints("orders")
        inspector.get_view_definition("order_emails")
        inspector.has_table("customers")
    engine.dispose()


def run_langchain(server: PostgresServer) -> None:
    address = f"postgresql+psycopg://postgres@{HOST}:{server.port}/{DATABASE}"
    tool = SQLDatabase.from_uri(address, include_tables=["customers", "orders"], sample_rows_in_table_info=3)
    tool.get_usable_table_names()
    tool.get_table_info()
    tool.run("SELECT count(*) FROM orders")
    tool._engine.dispose()


def run_psycopg(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn(DATABASE)) as connection:
        TypeInfo.fetch(connection, "mood")
        connection.execute("SELECT 1").fetchall()
        with connection.pipeline(), connection.transaction():
            connection.execute("SELECT id FROM orders WHERE id = %s", (1,), prepare=True)


def run_asyncpg(server: PostgresServer) -> None:
    async def conversation() -> None:
        address = f"postgresql://postgres@{HOST}:{server.port}/{DATABASE}"
        async with asyncpg.create_pool(address, min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                await connection.fetch("SELECT m, p FROM moods WHERE id = $1", 1)
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchval("SELECT 1")

    asyncio.run(conversation())


@pytest.mark.parametrize("client", [run_psql, run_sqlalchemy, run_langchain, run_psycopg, run_asyncpg])
def test_what_a_client_sends_by_itself_is_understood(
    of: Classifier, postgres18: PostgresServer, shop: Any, client: Callable[[PostgresServer], None]
) -> None:
    position = postgres18.log_position()
    client(postgres18)
    texts = [found.replace("\n\t", "\n") for found in _STATEMENT.findall(postgres18.log_after(position))]
    assert len(texts) > 3
    for text in texts:
        for part in split(text):
            found = of(part)
            assert (found.opaque, found.properties["reaches_beyond"], found.refused) == (None, [], None), part
            assert found.class_ in {"catalog", "read", "setting", "transaction"}, part
            assert not found.writes, part


def split(text: str) -> list[str]:
    """The statements of one query."""
    tree = parse(text)
    assert isinstance(tree, ParseTree), (tree, text)
    return [statement.text for statement in tree.statements]
