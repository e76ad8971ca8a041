"""What a session keeps while it lives: many long prepared statements, and its temporary tables in a long group."""

import asyncio
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from pep.core.model import Action, Decision
from pep.postgres.classification import Classification
from pep.postgres.names import Change, Names, Prepared
from pep.postgres.parser import ParseTree, parse
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, allow, deny, relay

NAME = "long_sessions"


def _understood(action: Action) -> Decision:
    return deny(str(action.properties["opaque"])) if action.properties["opaque"] else allow()


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, "grant all on schema public to public")
    # A catalog that is due again at once, whenever it was read.
    with relay(postgres18, NAME, _understood, catalog={"max_age": "1ms"}) as running:
        yield running


def _entry(name: str, tree: ParseTree) -> Prepared:
    return Prepared(name, tree.statements[0], (), None, Classification({}, "select", "read"), (0, ""))


def _long(number: int) -> str:
    columns = ", ".join(f"$1::int + {column} as column_{column}" for column in range(200))
    return f"select {columns}, {number} as number"


def test_a_hundred_long_statements_stay_prepared(proxy: Relay) -> None:
    """As many as SQLAlchemy keeps on an asyncpg connection, of the length that its reflection has."""

    async def scenario() -> list[tuple[int, int]]:
        connection = await asyncpg.connect(proxy.url, statement_cache_size=0)
        statements = [await connection.prepare(_long(number)) for number in range(100)]
        found = []
        for _ in range(2):
            rows = [await statement.fetchrow(1) for statement in statements]
            found += [(row["column_199"], row["number"]) for row in rows if row is not None]
        await connection.close()
        return found

    assert sum(len(_long(number)) for number in range(100)) > 500_000
    assert asyncio.run(scenario()) == [(200, number) for number in range(100)] * 2


def test_a_tree_that_was_packed_is_the_same_tree() -> None:
    text = "select a.x, 'é\u2028', 1.5e300, $1 from a join b using (id) where b.y in (1, 2147483648) limit 3"
    tree = parse(text)
    assert isinstance(tree, ParseTree)
    entry = _entry("p", tree)
    entry.pack()
    entry.pack()
    assert entry.parsed == tree.statements[0]
    assert entry.size == len(text)


def test_the_newest_statements_are_not_packed() -> None:
    names = Names()
    text = "select " + ", ".join(f"c{number}" for number in range(3000))
    tree = parse(text)
    assert isinstance(tree, ParseTree)
    entries = [_entry(f"p{number}", tree) for number in range(30)]
    for entry in entries:
        names.confirm(names.pend(Change(0, "statement", entry.name, entry)))
    assert entries[-1].parsed is tree.statements[0]
    assert entries[0].parsed is not tree.statements[0]
    assert entries[0].parsed == entries[-1].parsed


def test_a_long_group_uses_a_temporary_table_while_the_catalog_falls_due(proxy: Relay) -> None:
    """A fetch in a pipeline sends Flush and no Sync, so all is one group."""
    with proxy.connect(autocommit=True) as client:
        client.execute("create temp table own (id int)")
        with client.pipeline():
            for number in range(30):
                inserted = client.execute("insert into own values (%s) returning id", (number,))
                assert inserted.fetchone() == (number,)
        assert client.execute("select count(*) from own").fetchone() == (30,)


def test_a_group_is_refused_once_the_schema_has_changed_under_its_temporary_table(proxy: Relay) -> None:
    def until_refused(client: psycopg.Connection[tuple[object, ...]]) -> None:
        with client.pipeline():
            client.execute("insert into own values (1) returning id").fetchone()
            with proxy.connect(autocommit=True) as maker:
                maker.execute("create table news (id int)")
            end = time.monotonic() + 60
            while time.monotonic() < end:
                client.execute("insert into own values (2) returning id").fetchone()

    with proxy.connect(autocommit=True) as client:
        client.execute("create temp table own (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="behind a barrier in one group of messages"):
            until_refused(client)
        assert client.execute("select count(*) from own").fetchone() == (0,)
        assert client.execute("insert into own values (3) returning id").fetchone() == (3,)
