"""The store, on each database: its shape comes from the migrations, and transactions exclude one another."""

import asyncio
import datetime
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from pdp.store import tables
from pdp.store.database import Database, StoreUnavailable
from pdp.store.keys import signing_keys
from pdp.v1.strict_yaml import ConfigError
from tests.fix_postgres import PostgresServer
from tests.fix_store import server_url

NOW = datetime.datetime(2030, 1, 2, 3, 4, 5, 678901, datetime.UTC)


def test_the_migrations_make_what_the_tables_say(store_url: str, postgres18: PostgresServer):
    async def shape() -> dict[str, object]:
        async with Database(store_url) as database:
            return await database.short.run(described)

    migrated = asyncio.run(shape())
    assert migrated == asyncio.run(shape())
    if store_url.startswith("sqlite"):
        engine = create_engine("sqlite://")
    else:
        postgres18.create_database("store_by_tables")
        engine = create_engine(server_url(postgres18, "store_by_tables"))
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        said = described(connection)
    engine.dispose()
    assert said == migrated


def described(connection: Connection) -> dict[str, object]:
    found = inspect(connection)
    return {
        name: (
            [
                (each["name"], str(each["type"]), getattr(each["type"], "collation", None), each["nullable"])
                for each in found.get_columns(name)
            ],
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


def test_a_store_of_a_newer_version_is_not_touched(store_url: str):
    async def scenario():
        async with Database(store_url) as database:
            await database.short.run(lambda c: c.execute(text("update alembic_version set version_num = '9999'")))
        with pytest.raises(ConfigError, match="newer version"):
            async with Database(store_url):
                pass

    asyncio.run(scenario())


def test_two_that_start_at_once_make_one_shape(postgres18: PostgresServer, tmp_path: Path):
    async def start(url: str) -> list[str]:
        async with Database(url) as database:
            return await database.short.run(lambda c: inspect(c).get_table_names())

    async def scenario():
        postgres18.create_database("store_twice")
        for url in (f"sqlite:///{tmp_path}/pdp.db", server_url(postgres18, "store_twice")):
            one, two = await asyncio.gather(start(url), start(url))
            assert sorted(one) == sorted(two)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("sqlite://", "must be sqlite:///PATH or postgresql"),
        ("sqlite:///:memory:", "must be sqlite:///PATH or postgresql"),
        ("mysql://a/b", "must be sqlite:///PATH or postgresql"),
        ("postgresql+asyncpg://localhost/b", "must be sqlite:///PATH or postgresql"),
        ("postgresql://localhost", "must be sqlite:///PATH or postgresql"),
        ("no url", "must be sqlite:///PATH or postgresql"),
        ("postgresql://db.corp/b", "db.corp is not on this machine, so the URL needs sslmode=verify-full"),
        ("postgresql://db.corp/b?sslmode=require", "needs sslmode=verify-full"),
        ("postgresql:///b?host=localhost:5432&host=db.corp:5432", "db.corp is not on this machine"),
        ("postgresql:///b?hostaddr=10.0.0.1", "10.0.0.1 is not on this machine"),
    ],
)
def test_what_cannot_be_a_store_is_said_without_the_url(bad: str, expected: str):
    with pytest.raises(ConfigError, match=expected) as raised:
        Database(bad)
    assert "//" not in str(raised.value).replace("sqlite:///PATH", "").replace("://USER", "")


def test_a_server_that_does_not_answer_at_the_start_is_named_without_the_password():
    async def scenario():
        with pytest.raises(ConfigError, match=r"cannot open the store 127\.0\.0\.1, database b") as raised:
            async with Database("postgresql://me:hunter2@127.0.0.1:1/b"):
                pass
        assert "hunter2" not in str(raised.value)

    asyncio.run(scenario())


def test_instants_keep_their_microseconds_and_zone(store_url: str):
    async def scenario():
        async with Database(store_url) as database:
            await database.short.run(lambda connection: signing_keys(connection, "session", NOW))
            kept = await database.short.run(lambda c: c.execute(select(tables.keys.c.created_at)).scalar_one())
            assert kept == NOW

    asyncio.run(scenario())


def test_a_signing_key_is_made_once_for_each_purpose(store_url: str):
    async def scenario():
        async with Database(store_url) as one, Database(store_url) as two:
            got = await asyncio.gather(
                *(each.short.run(lambda c: signing_keys(c, "session", NOW)[0].id) for each in (one, two) * 5)
            )
            assert len(set(got)) == 1
            assert await one.short.run(lambda c: signing_keys(c, "other", NOW)[0].id) not in got

    asyncio.run(scenario())


def test_reading_and_writing_in_one_transaction_excludes_others(store_url: str):
    def count_and_add(connection: Connection) -> int:
        number = connection.execute(select(func.count()).select_from(tables.records)).scalar_one()
        connection.execute(tables.records.insert().values(session_id="s", seq=number, event=b"", hash=b""))
        return int(number)

    async def scenario():
        async with Database(store_url) as one, Database(store_url) as two:
            lanes = (one.short, one.bulk, two.short, two.bulk) * 10
            got = await asyncio.gather(*(lane.run(count_and_add) for lane in lanes))
            assert sorted(got) == list(range(40))

    asyncio.run(scenario())


def test_what_two_read_and_one_of_them_changes_is_read_again_by_the_other(postgres_store: str):
    """Neither row that they write is the other's: only the order of the two tells that one has read too early."""
    both = threading.Barrier(2)
    runs = {"a": 0, "b": 0}

    def add(name: str) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            runs[name] += 1
            seen = connection.execute(select(func.count()).select_from(tables.records)).scalar_one()
            if runs[name] == 1:
                both.wait(30)
            connection.execute(tables.records.insert().values(session_id=name, seq=0, event=b"", hash=b""))
            return int(seen)

        return work

    async def scenario():
        async with Database(postgres_store) as one, Database(postgres_store) as two:
            seen = await asyncio.gather(one.short.run(add("a")), two.short.run(add("b")))
        assert sorted(seen) == [0, 1]
        assert sorted(runs.values()) == [1, 2]

    asyncio.run(scenario())


def test_a_connection_that_the_server_ended_is_replaced(postgres_store: str, postgres18: PostgresServer):
    async def scenario():
        async with Database(postgres_store) as database:
            name = postgres_store.rpartition("/")[2]
            gone = postgres18.sql(
                "postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            )
            assert gone
            assert await database.short.run(lambda c: c.execute(text("select 1")).scalar_one()) == 1

    asyncio.run(scenario())


def test_a_server_that_takes_no_connections_is_unavailable_until_it_does(
    postgres_store: str, postgres18: PostgresServer
):
    name = postgres_store.rpartition("/")[2]

    async def scenario():
        async with Database(postgres_store) as database:
            await database.probe()
            assert database.problem == ""
            postgres18.sql(
                "postgres",
                f"alter database {name} allow_connections false;"
                f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
            )
            with pytest.raises(StoreUnavailable):
                await database.short.run(lambda c: c.execute(text("select 1")))
            await database.probe()
            assert database.problem == "the store is not available"
            postgres18.sql("postgres", f"alter database {name} allow_connections true")
            await database.probe()
            assert database.problem == ""

    asyncio.run(scenario())


def test_an_account_is_read_again_for_each_connection(postgres_store: str, postgres18: PostgresServer):
    """A password may change while the service runs: what counts is what the reference gives now."""
    urls = [postgres_store]

    async def scenario():
        async with Database(lambda: urls[-1]) as database:
            user = "select current_user"
            assert await database.short.run(lambda c: c.execute(text(user)).scalar_one()) == "postgres"
            urls.append(postgres_store.replace("postgres@", "checkrein_trust@"))
            name = postgres_store.rpartition("/")[2]
            postgres18.sql(
                "postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            )
            assert await database.short.run(lambda c: c.execute(text(user)).scalar_one()) == "checkrein_trust"

    asyncio.run(scenario())


def test_a_key_that_is_taken_again_and_again_is_an_error_and_no_endless_loop(store_url: str):
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        for _ in range(2):
            connection.execute(tables.records.insert().values(session_id="s", seq=0, event=b"", hash=b""))

    async def scenario():
        async with Database(store_url) as database:
            with pytest.raises(IntegrityError):
                await database.short.run(work)
            assert len(tries) == 4

    asyncio.run(scenario())


def test_a_driver_that_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'checkrein\[postgres\]'"):
        Database("postgresql+psycopg://localhost/b")
