"""The store: its shape comes from the migrations, and transactions exclude one another."""

import asyncio
import datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, func, inspect, select, text

from pdp.store import tables
from pdp.store.database import Database
from pdp.store.keys import signing_keys
from pdp.v1.strict_yaml import ConfigError

NOW = datetime.datetime(2030, 1, 2, 3, 4, 5, 678901, datetime.UTC)


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/state/pdp.db"


def test_the_migrations_make_what_the_tables_say(tmp_path: Path):
    async def shape() -> dict[str, object]:
        async with Database(url(tmp_path)) as database:
            return await database.short.run(described)

    migrated = asyncio.run(shape())
    assert migrated == asyncio.run(shape())
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        said = described(connection)
    engine.dispose()
    assert said == migrated


def described(connection: Connection) -> dict[str, object]:
    found = inspect(connection)
    return {
        name: (
            [(each["name"], str(each["type"]), each["nullable"]) for each in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((each["name"], tuple(each["column_names"])) for each in found.get_indexes(name)),
            sorted((each["name"], tuple(each["column_names"])) for each in found.get_unique_constraints(name)),
            sorted(
                (tuple(each["constrained_columns"]), each["referred_table"]) for each in found.get_foreign_keys(name)
            ),
        )
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def test_a_store_of_a_newer_version_is_not_touched(tmp_path: Path):
    async def scenario():
        async with Database(url(tmp_path)) as database:
            await database.short.run(lambda c: c.execute(text("update alembic_version set version_num = '9999'")))
        with pytest.raises(ConfigError, match="newer version"):
            async with Database(url(tmp_path)):
                pass

    asyncio.run(scenario())


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///:memory:", "postgresql://a/b"])
def test_only_a_file_is_a_store(bad: str):
    with pytest.raises(ConfigError):
        Database(bad)


def test_instants_keep_their_microseconds_and_zone(tmp_path: Path):
    async def scenario():
        async with Database(url(tmp_path)) as database:
            await database.short.run(lambda connection: signing_keys(connection, "session", NOW))
            kept = await database.short.run(lambda c: c.execute(select(tables.keys.c.created_at)).scalar_one())
            assert kept == NOW

    asyncio.run(scenario())


def test_a_signing_key_is_made_once_for_each_purpose(tmp_path: Path):
    async def scenario():
        async with Database(url(tmp_path)) as one, Database(url(tmp_path)) as two:
            got = await asyncio.gather(
                *(each.short.run(lambda c: signing_keys(c, "session", NOW)[0][0]) for each in (one, two) * 5)
            )
            assert len(set(got)) == 1
            assert await one.short.run(lambda c: signing_keys(c, "other", NOW)[0][0]) not in got

    asyncio.run(scenario())


def test_reading_and_writing_in_one_transaction_excludes_others(tmp_path: Path):
    def count_and_add(connection: Connection) -> int:
        number = connection.execute(select(func.count()).select_from(tables.records)).scalar_one()
        connection.execute(tables.records.insert().values(session_id="s", seq=number, event=b"", hash=b""))
        return number

    async def scenario():
        async with Database(url(tmp_path)) as database:
            lanes = (database.short, database.bulk) * 25
            got = await asyncio.gather(*(lane.run(count_and_add) for lane in lanes))
            assert sorted(got) == list(range(50))

    asyncio.run(scenario())
