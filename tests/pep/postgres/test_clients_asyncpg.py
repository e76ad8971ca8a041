"""asyncpg under a policy that allows everything: what it sees through the proxy is what it sees directly."""

import asyncio
import io
from collections.abc import Awaitable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.fix_postgres import PostgresServer
from tests.pep.postgres.compared import Both, both

ERRORS = [
    ("select * from nowhere", ()),
    ("selec 1", ()),
    ("select 1 / $1::int", (0,)),
    ("select $1::text::int", ("x",)),
    ("insert into people(id, name) values ($1, $2)", (1, "again")),
    ("insert into orders(person, amount) values ($1, 1)", (99,)),
    ("select fail($1)", ("P0001",)),
    ("select 1; select 2", ()),
    ("drop type mood", ()),
    ("select $1 + $2", (1, 2)),
]


@pytest.fixture(scope="module")
def pair(postgres18: PostgresServer) -> Iterator[Both]:
    with both(postgres18, "clients_asyncpg") as running:
        yield running


async def _attempt(run: Awaitable[Any]) -> Any:
    """What it returns, or what the error says, its place in the server's source left out."""
    try:
        found = await run
    except asyncpg.PostgresError as error:
        return {key: value for key, value in error.as_dict().items() if not key.startswith("server_source")}
    return [tuple(record) for record in found] if isinstance(found, list) else found


def test_types_that_it_looks_up_in_the_catalog(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("select * from people order by id")
        arrays = await connection.fetchrow(
            "select array_agg(feels) f, array_agg(home) h, array_agg(amount) a, int4range(1, 3) r from people"
        )
        sent = await connection.fetchval("select $1::mood[]", ["ok", "sad"])
        composite = await connection.fetchval("select ($1::place).number", ("Row", 5))
        await connection.set_type_codec("jsonb", encoder=str, decoder=len, schema="pg_catalog")
        lengths = await connection.fetch("select doc from people order by id")
        await connection.close()
        return (
            [tuple(row) for row in rows],
            [str(value) for value in arrays],
            sent,
            composite,
            list(map(tuple, lengths)),
        )

    rows, _, sent, composite, _ = pair.same_async(scenario)
    assert rows[0][6:8] == ("happy", ("Row", 1))
    assert (sent, composite) == (["ok", "sad"], 5)


@pytest.mark.parametrize(("statement", "values"), ERRORS)
def test_an_error_says_the_same(pair: Both, statement: str, values: tuple[Any, ...]) -> None:
    async def scenario(url: str) -> Any:
        connection = await asyncpg.connect(url)
        alone = await _attempt(connection.fetch(statement, *values))
        transaction = connection.transaction()
        await transaction.start()
        inside = await _attempt(connection.fetch(statement, *values))
        after = await _attempt(connection.fetch("select 1"))
        await transaction.rollback()
        usable = await connection.fetchval("select 5")
        await connection.close()
        return alone, inside, after, usable

    alone, _, after, usable = pair.same_async(scenario)
    assert alone["sqlstate"]
    assert (after["sqlstate"], usable) == ("25P02", 5)


def test_scripts_tags_and_transactions(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        saw: list[Any] = []
        connection = await asyncpg.connect(url)
        saw.append(
            await connection.execute("create temp table t(x int); insert into t values (1), (2); update t set x = x")
        )
        saw.append(await connection.execute("insert into t values ($1)", 3))
        async with connection.transaction(isolation="serializable"):
            await connection.execute("insert into t values (4)")
            try:
                async with connection.transaction():
                    await connection.execute("insert into t values (5)")
                    await connection.fetch("select 1 / (x - x) from t")
            except asyncpg.DivisionByZeroError as error:
                saw.append(str(error))
        saw.append(await _attempt(connection.fetch("select x from t order by x")))
        await connection.executemany("insert into t values ($1)", [(number,) for number in range(300)])
        saw.append(await _attempt(connection.executemany("insert into t values (1 / $1::int)", [(1,), (0,), (2,)])))
        saw.append(await connection.fetchval("select count(*) from t"))
        await connection.close()
        return saw

    saw = pair.same_async(scenario)
    assert saw[:2] == ["UPDATE 2", "INSERT 0 1"]
    assert saw[3] == [(1,), (2,), (3,), (4,)]
    assert saw[4]["sqlstate"] == "22012"
    assert saw[5] == 304


def test_prepared_statements_and_cursors(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        saw: list[Any] = []
        connection = await asyncpg.connect(url)
        statement = await connection.prepare("select id, name from people where id >= $1 order by id")
        saw.append([(a.name, a.type.name) for a in statement.get_attributes()])
        saw.append([p.name for p in statement.get_parameters()])
        saw += [list(map(tuple, await statement.fetch(number))) for number in (1, 2, 3)]
        saw.append(await statement.fetchrow(9))
        async with connection.transaction():
            saw.append([row["x"] async for row in connection.cursor("select generate_series(1, 500) x", prefetch=33)])
            cursor = await connection.cursor("select generate_series(1, 100) x")
            saw.append(list(map(tuple, await cursor.fetch(2))))
            saw.append(await cursor.forward(10))
            saw.append(list(map(tuple, await cursor.fetch(1))))
        many = await connection.fetchmany("select $1::int * 2", [(number,) for number in range(5)])
        saw.append(list(map(tuple, many)))
        await connection.execute("create temp table c(x int)")
        saw.append(await _attempt(connection.fetch("select * from c")))
        await connection.execute("alter table c add y int")
        saw.append(await _attempt(connection.fetch("select * from c")))
        await connection.reload_schema_state()
        saw.append(await _attempt(connection.fetch("select * from c")))
        await connection.close()
        return saw

    saw = pair.same_async(scenario)
    assert saw[0] == [("id", "int4"), ("name", "text")]
    assert saw[6] == list(range(1, 501))
    assert saw[7:10] == [[(1,), (2,)], 10, [(13,)]]


def test_a_pool_resets_what_it_takes_back(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                await connection.execute("set search_path = pg_catalog")
                await connection.execute("set timezone = 'Asia/Tokyo'")
                before = await connection.fetchval("show timezone")
                await connection.fetchval("select pg_advisory_lock(42)")
            async with pool.acquire() as connection:
                locks = await connection.fetchval(
                    "select count(*) from pg_locks where locktype = 'advisory' and objid = 42"
                )
                return before, await connection.fetchval("show search_path"), locks

    assert pair.same_async(scenario) == ("Asia/Tokyo", '"$user", public', 0)


def test_a_pool_under_load(pair: Both) -> None:
    async def one(pool: Any, number: int) -> Any:
        async with pool.acquire() as connection, connection.transaction():
            return await connection.fetchval("select $1::int + count(*) from people", number)

    async def scenario(url: str) -> Any:
        async with asyncpg.create_pool(url, min_size=3, max_size=6) as pool:
            return await asyncio.gather(*(one(pool, number) for number in range(60)))

    assert pair.same_async(scenario) == [number + 3 for number in range(60)]


def test_copy(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        saw: list[Any] = []
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        records = [(number, "é" * (number % 7), bytes(number % 5)) for number in range(1000)]
        saw.append(await connection.copy_records_to_table("copied", records=records))
        out = io.BytesIO()
        saw.append(await connection.copy_from_query("select * from copied where i < $1 order by i", 10, output=out))
        saw.append(await connection.copy_from_table("copied", output=out, format="csv"))
        saw.append(out.getvalue())
        source = io.BytesIO(b"1;one;\n2;two;\n")
        saw.append(await connection.copy_to_table("copied", source=source, format="csv", delimiter=";"))
        saw.append(await connection.fetchval("select count(*) from copied"))
        await transaction.rollback()
        saw.append(await _attempt(connection.copy_to_table("copied", source=io.BytesIO(b"x\ty\n"))))
        saw.append(await connection.fetchval("select count(*) from copied"))
        await connection.close()
        return saw

    saw = pair.same_async(scenario)
    assert saw[:3] == ["COPY 1000", "COPY 10", "COPY 1000"]
    assert saw[5] == 1002
    assert (saw[6]["sqlstate"], saw[7]) == ("22P02", 0)


def test_listeners_and_notices(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        notices: list[Any] = []
        connection, sender = await asyncpg.connect(url), await asyncpg.connect(url)
        connection.add_log_listener(lambda _, notice: notices.append((notice.severity, notice.message, notice.detail)))
        await connection.add_listener(
            "news", lambda _, pid, channel, payload: heard.put_nowait((pid, channel, payload))
        )
        await sender.execute("select pg_notify('news', 'one'); notify news, 'two'")
        async with asyncio.timeout(5):
            got = [await heard.get(), await heard.get()]
        assert {pid for pid, *_ in got} == {sender.get_server_pid()}
        await connection.fetch("select shout('ada')")
        await connection.close()
        await sender.close()
        return [rest for _, *rest in got], notices

    heard, notices = pair.same_async(scenario)
    assert heard == [["news", "one"], ["news", "two"]]
    assert notices == [("NOTICE", "hello ada", "loud")]


def test_a_time_out_of_the_client_cancels_at_the_server(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        connection = await asyncpg.connect(url)
        with pytest.raises(TimeoutError):
            await connection.fetch("select pg_sleep(20)", timeout=0.2)
        after = await connection.fetchval("select 1")
        task = asyncio.create_task(connection.fetch("select pg_sleep(20)"))
        watcher = await asyncpg.connect(pair.direct_url)
        asleep = "select count(*) from pg_stat_activity where pid = $1 and state = 'active' and wait_event = 'PgSleep'"
        async with asyncio.timeout(5):
            while not await watcher.fetchval(asleep, connection.get_server_pid()):
                pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        again = await connection.fetchval("select 2")
        asleep_now = await watcher.fetchval(asleep, connection.get_server_pid())
        await watcher.close()
        await connection.close()
        return after, again, asleep_now

    assert pair.same_async(scenario) == (1, 2, 0)


def test_large_results_and_values(pair: Both) -> None:
    async def scenario(url: str) -> Any:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("select i, repeat('x', 50) from generate_series(1, 30000) i")
        wide = await connection.fetchval("select repeat('y', 5000000)")
        sent = await connection.fetchval("select length($1)", "z" * 700_000)
        settings = connection.get_settings()
        version = connection.get_server_version()
        await connection.close()
        return len(rows), rows[-1][0], len(wide), sent, version, settings.server_encoding, settings.TimeZone

    assert pair.same_async(scenario)[:4] == (30_000, 30_000, 5_000_000, 700_000)
