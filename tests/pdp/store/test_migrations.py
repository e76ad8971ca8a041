"""The store's shape comes forward from every release, on both databases, with what was in it.

The dumps of releases are in `tests/data/store`; beside them stands one that is made here of today's shape, which shows
that a dump of that kind is read.
"""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pdp.store import records, sessions
from pdp.store.database import Database
from tests.fix_postgres import PostgresServer
from tests.fix_store import server_url
from tests.pdp.store.dump import EVENT, FOLDER, SESSION, fill, postgres_dump, sqlite_dump
from tests.pdp.store.test_database import described

TODAY = "today"
RELEASES = sorted({each.name.removesuffix(".sqlite.sql") for each in FOLDER.glob("*.sqlite.sql")})


def test_every_release_left_a_dump_for_each_database():
    assert {each.name for each in FOLDER.glob("*.sql")} == {
        f"{release}.{database}.sql" for release in RELEASES for database in ("sqlite", "postgresql")
    }


@pytest.fixture
def load(tmp_path: Path, postgres18: PostgresServer) -> Callable[[str, str], str]:
    """Loads a release's dump into a database of that kind; its URL."""

    def loaded(release: str, database: str) -> str:
        if database == "sqlite":
            text = sqlite_dump(fill) if release == TODAY else dump_of(release, database)
            with closing(sqlite3.connect(tmp_path / "pdp.db")) as store:
                store.executescript(text)
            return f"sqlite:///{tmp_path}/pdp.db"
        if release == TODAY:
            postgres18.create_database("dumped")
            text = postgres_dump(postgres18, "dumped", server_url(postgres18, "dumped"), fill)
        else:
            text = dump_of(release, database)
        dsn = postgres18.create_database("released")
        (tmp_path / "dump.sql").write_text(text, "utf-8")
        words = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(tmp_path / "dump.sql"), dsn]
        subprocess.run([postgres18.psql, *words], check=True, capture_output=True)
        return server_url(postgres18, "released")

    return loaded


def dump_of(release: str, database: str) -> str:
    return (FOLDER / f"{release}.{database}.sql").read_text("utf-8")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("release", [TODAY, *RELEASES])
def test_a_released_store_comes_forward_with_what_is_in_it(
    release: str, database: str, load: Callable[[str, str], str], tmp_path: Path, postgres_store: str
):
    fresh = f"sqlite:///{tmp_path}/fresh.db" if database == "sqlite" else postgres_store

    async def scenario():
        async with Database(load(release, database)) as store, Database(fresh) as empty:
            assert await store.short.run(described) == await empty.short.run(described)
            session = await store.short.run(lambda c: sessions.find(c, SESSION))
            assert session is not None
            assert session.subject.id == "planner"
            assert [each.event for each in await store.bulk.run(lambda c: records.page(c, SESSION, 0, 9))] == [EVENT]
            # And it is used as any other.
            assert await store.short.run(lambda c: sessions.keep(c, [SESSION], session.proxy, session.opened_at))

    asyncio.run(scenario())
