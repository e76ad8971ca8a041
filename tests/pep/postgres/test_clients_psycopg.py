"""psycopg 3 under a policy that allows everything: what it sees through the proxy is what it sees directly."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Jsonb
from psycopg.types.range import RangeInfo

from tests.fix_postgres import PostgresServer
from tests.pep.postgres.compared import Both, attempt, both, seen, told

ERRORS = [
    "select * from nowhere",
    "select missing from people",
    "select no_such_function(1)",
    "selec 1",
    "select 'unterminated",
    "select * from people where",
    "select 1/0",
    "select 'x'::int",
    "insert into people(id, name) values (1, 'again')",
    "insert into people(id, name) values (9, null)",
    "insert into orders(person, amount) values (99, 1)",
    "update orders set amount = -amount where id = 5",
    "update people set amount = -1 where id = 1",
    "select fail('P0001')",
    "select fail('22012')",
    "select fail('42501')",
    "create table people(x int)",
    "drop table nowhere",
    "drop type mood",
    "set nonsense = 1",
    "set statement_timeout = 'many'",
    "savepoint s",
    "execute nothing",
    "fetch 1 from nothing",
    "close nothing",
    "deallocate nothing",
    "vacuum nowhere",
    "copy nowhere from stdin",
    "select * from people for update of nobody",
    "do $$ begin raise exception 'x'; end $$",
    "select * from generate_series(1, 3) limit -1",
    "select pg_sleep('x')",
    "set session authorization postgres",
    "set role nobody_at_all",
]

VALUES = """select id, name, born, tags, doc, size, feels, home, amount, raw, seen, null::int, true, 1.5::float8,
    'a'::"char", '1 day 02:03'::interval, '10.0.0.0/8'::cidr, int4range(1, 5), 9007199254740993::int8,
    '6b1c2f2e-0000-4000-8000-000000000000'::uuid from people order by id"""


@pytest.fixture(scope="module")
def pair(postgres18: PostgresServer) -> Iterator[Both]:
    with both(postgres18, "clients_psycopg") as running:
        yield running


@pytest.mark.parametrize(
    ("cursor", "binary"),
    [(psycopg.Cursor, False), (psycopg.Cursor, True), (psycopg.RawCursor, True), (psycopg.ClientCursor, False)],
)
def test_every_type_arrives_as_it_was_sent(pair: Both, cursor: type, binary: bool) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, cursor_factory=cursor) as connection, connection.cursor(binary=binary) as cur:
            return seen(cur.execute(VALUES))

    ((columns, rows, tag, count),) = pair.same(scenario)
    assert len(columns) == 20
    assert rows[0][:2] == (1, "Ada")
    assert (tag, count) == ("SELECT 3", 3)


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("statement", ERRORS)
def test_an_error_says_the_same(pair: Both, statement: str, cursor: type, autocommit: bool) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, autocommit=autocommit, cursor_factory=cursor) as connection:
            got = attempt(lambda: seen(connection.execute(statement)))
            status = connection.info.transaction_status.name
            again = attempt(lambda: seen(connection.execute("select 1")))
            connection.rollback()
            return got, status, again, seen(connection.execute("select 2"))

    got, *_ = pair.same(scenario)
    # Outside a transaction block `savepoint` fails as well.
    assert isinstance(got, tuple) or (statement == "savepoint s" and not autocommit)


def test_several_statements_of_one_query(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as connection:
            everything = (
                "select 1 as a; create temp table t(x int); insert into t values (1), (2); table t; ; drop table t"
            )
            return [
                seen(connection.execute(everything)),
                attempt(lambda: connection.execute("create temp table u(x int); select 1/0; select 3")),
                attempt(lambda: connection.execute("table u")),
                seen(connection.execute("begin; select 1; commit; select 2")),
                connection.info.transaction_status.name,
                seen(connection.execute("")),
                seen(connection.execute(" ; -- nothing")),
            ]

    results = pair.same(scenario)
    assert [tag for _, _, tag, _ in results[0]] == ["SELECT 1", "CREATE TABLE", "INSERT 0 2", "SELECT 2", "DROP TABLE"]
    assert results[2][0] == "UndefinedTable"


def test_transactions_and_savepoints(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw = []
        with psycopg.connect(dsn) as connection:
            connection.execute("create temp table t(x int) on commit preserve rows")
            connection.commit()
            with connection.transaction():
                connection.execute("insert into t values (1)")
                with connection.transaction(force_rollback=True):
                    connection.execute("insert into t values (2)")
                    saw.append(seen(connection.execute("select x from t order by x")))

                def fails() -> None:
                    with connection.transaction():
                        connection.execute("insert into t values (3)")
                        connection.execute("select %s / 0", (1,))

                saw.append(attempt(fails)[0])
                saw.append(seen(connection.execute("select x from t order by x")))
            connection.execute("insert into t values (4)")
            connection.rollback()
            saw.append(seen(connection.execute("select x from t order by x")))
            connection.execute("create table made(x int)")
            saw.append(seen(connection.execute("select * from made")))
            connection.rollback()
            saw.append(attempt(lambda: connection.execute("select * from made")))
            saw.append(attempt(lambda: connection.execute("select 1")))
            connection.rollback()
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.read_only = True
            saw.append(seen(connection.execute("show transaction_isolation")))
            saw.append(attempt(lambda: connection.execute("insert into orders(person, amount) values (1, 1)")))
        return saw

    saw = pair.same(scenario)
    assert saw.pop(1) == "DivisionByZero"
    assert [rows for _, rows, _, _ in (*saw[0], *saw[1], *saw[2])] == [[(1,), (2,)], [(1,)], [(1,)]]
    assert [saw[4][0], saw[5][0], saw[7][0]] == ["UndefinedTable", "InFailedSqlTransaction", "ReadOnlySqlTransaction"]


def test_two_phase_commit_is_what_the_server_makes_of_it(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection:
            connection.tpc_begin(connection.xid(1, "gtrid", "bqual"))
            connection.execute("insert into orders(person, amount) values (1, 1000)")
            got = attempt(connection.tpc_prepare), connection.info.transaction_status.name
            connection.close()
            return got

    # max_prepared_transactions is 0.
    assert pair.same(scenario)[0][0] == "NotSupportedError"


@pytest.mark.parametrize("threshold", [0, 5, None])
def test_a_statement_run_often_is_prepared_and_stays_right(pair: Both, threshold: int | None) -> None:
    def scenario(dsn: str) -> Any:
        saw = []
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=threshold) as connection:
            query = "select name, amount from people where id = %s"
            saw += [seen(connection.execute(query, (1 + number % 3,))) for number in range(12)]
            saw.append(seen(connection.execute("select count(*) from pg_prepared_statements")))
            saw.append(seen(connection.execute("create temp table p(x int)")))
            for number in range(8):
                connection.execute("insert into p values (%s)", (number,))
            saw.append(seen(connection.execute("select sum(x) from p")))
            saw += [attempt(lambda: connection.execute("select 10 / %s::int", (0,))) for _ in range(8)]
            connection.execute("deallocate all")
            saw.append(attempt(lambda: seen(connection.execute("select name, amount from people where id = %s", (1,)))))
        return saw

    saw = pair.same(scenario)
    assert saw[0][0][1] == [("Ada", 7)]
    assert (saw[12][0][1] == [(0,)]) is (threshold is None)
    assert saw[14][0][1] == [(28,)]


def test_a_cached_statement_after_its_table_changed(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw = []
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
            connection.execute("create temp table c(x int)")
            connection.execute("insert into c values (1)")
            saw.append(seen(connection.execute("select * from c where x = %s", (1,))))
            connection.execute("alter table c add y int default 5")
            saw.append(attempt(lambda: seen(connection.execute("select * from c where x = %s", (1,)))))
            saw.append(attempt(lambda: seen(connection.execute("select * from c where x = %s", (1,)))))
        return saw

    assert pair.same(scenario)[0][0][1] == [(1,)]


def test_a_pipeline(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as connection:
            with connection.pipeline() as pipeline:
                cursors = [connection.execute("select %s::int", (number,)) for number in range(30)]
                made = connection.execute("create temp table t(x int)")
                pipeline.sync()
                filled = connection.execute("insert into t values (1), (2)")
                read = connection.execute("select x from t order by x")
            return [seen(cursor) for cursor in (*cursors, made, filled, read)]

    results = pair.same(scenario)
    assert results[7][0][1] == [(7,)]
    assert results[-1][0][1] == [(1,), (2,)]


def test_an_error_inside_a_pipeline_aborts_up_to_the_sync(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw: list[Any] = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create temp table t(x int primary key)")

            def broken() -> None:
                with connection.pipeline():
                    connection.execute("insert into t values (1)")
                    connection.execute("select 1 / %s::int", (0,))
                    connection.execute("insert into t values (2)")

            saw.append(attempt(broken))
            with connection.pipeline():
                connection.execute("insert into t values (3)")
            saw.append(seen(connection.execute("select x from t order by x")))
        return saw

    saw = pair.same(scenario)
    assert saw[0][0] == "DivisionByZero"
    assert saw[-1][0][1] == [(3,)]


def test_a_pipeline_inside_a_transaction(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw: list[Any] = []
        with psycopg.connect(dsn) as connection:
            with connection.pipeline(), connection.transaction():
                connection.execute("create temp table t(x int)")
                with connection.transaction():
                    connection.execute("insert into t values (1)")
                cursor = connection.cursor().executemany
                cursor("insert into t values (%s)", [(number,) for number in range(100)])
            saw.append(seen(connection.execute("select count(*), sum(x) from t")))

            def failing() -> None:
                with connection.pipeline(), connection.transaction():
                    connection.execute("insert into t values (1000)")
                    connection.execute("select * from nowhere")

            connection.commit()
            saw.append(attempt(failing))
            saw.append(seen(connection.execute("select count(*), sum(x) from t")))
        return saw

    saw = pair.same(scenario)
    assert saw[0][0][1] == saw[2][0][1] == [(101, 4951)]
    assert saw[1][0] == "UndefinedTable"


def test_executemany(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("create temp table t(x int, y text)")
            cursor.executemany("insert into t values (%s, %s)", [(number, str(number)) for number in range(200)])
            count = cursor.rowcount
            cursor.executemany(
                "insert into t values (%s, %s) returning x", [(number, None) for number in range(3)], returning=True
            )
            returned = seen(cursor)
            failed = attempt(lambda: cursor.executemany("insert into t values (%s, %s)", [(1, "a"), ("no", "b")]))
            return count, returned, failed

    count, returned, failed = pair.same(scenario)
    assert count == 200
    assert [rows for _, rows, _, _ in returned] == [[(0,)], [(1,)], [(2,)]]
    assert failed[0] == "InvalidTextRepresentation"


@pytest.mark.parametrize("binary", [False, True])
def test_server_side_cursors(pair: Both, binary: bool) -> None:
    def scenario(dsn: str) -> Any:
        saw: list[Any] = []
        with psycopg.connect(dsn) as connection:
            with connection.cursor(name="plain", binary=binary) as cursor:
                cursor.itersize = 7
                saw.append(list(cursor.execute("select id, amount from orders where person = %s order by id", (1,))))
            with connection.cursor(name="scrolls", scrollable=True, binary=binary) as cursor:
                cursor.execute("select amount from orders order by id")
                saw.append(cursor.fetchmany(3))
                cursor.scroll(10)
                saw.append(cursor.fetchone())
                cursor.scroll(0, mode="absolute")
                saw.append(cursor.fetchmany(2))
                cursor.scroll(-1)
                saw.append(cursor.fetchone())
            with connection.cursor(name="forward", scrollable=False) as cursor:
                cursor.execute("select amount from orders order by id")
                cursor.fetchone()
                saw.append(attempt(lambda: cursor.scroll(-1)))
            connection.rollback()
            held = connection.cursor(name="held", withhold=True, scrollable=True)
            held.execute("select amount from orders order by id")
            connection.commit()
            saw.append(held.fetchmany(4))
            connection.commit()
            saw.append(len(held.fetchall()))
            held.close()
            connection.commit()
            connection.execute("declare mine scroll cursor for select 1 union select 2 order by 1")
            saw.append(seen(connection.execute("fetch all from mine")))
            saw.append(seen(connection.execute("move backward all in mine")))
            stolen = psycopg.ServerCursor(connection, "mine")
            saw.append(stolen.fetchall())
            stolen.close()
            connection.commit()
            saw.append(attempt(lambda: connection.execute("fetch 1 from mine")))
        return saw

    saw = pair.same(scenario)
    assert len(saw[0]) == 20
    assert saw[1:5] == [[(1,), (2,), (3,)], (14,), [(1,), (2,)], (2,)]
    assert saw[5][0] == "ObjectNotInPrerequisiteState"
    assert saw[7] == 56
    assert saw[-1][0] == "InvalidCursorName"


@pytest.mark.parametrize("options", ["", "(format csv, header)", "(format binary)"])
def test_copy_out_and_in(pair: Both, options: str) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into copied select i, repeat('é', i), decode(repeat('00', i), 'hex') "
                "from generate_series(1, 300) i"
            )
            with cursor.copy(f"copy (select * from copied order by i) to stdout {options}") as copy:
                chunks = list(copy)
            cursor.execute("create temp table back(i int, t text, b bytea)")
            with cursor.copy(f"copy back from stdin {options}") as copy:
                for chunk in chunks:
                    copy.write(chunk)
            back = seen(cursor.execute("select count(*), sum(i), sum(length(t)), sum(length(b)) from back"))
            connection.rollback()
            return b"".join(map(bytes, chunks)), back

    data, back = pair.same(scenario)
    assert back[0][1] == [(300, 45150, 45150, 45150)]
    assert len(data) > 100_000


def test_copy_that_fails(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw: list[Any] = []
        with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:

            def bad_data() -> None:
                with cursor.copy("copy copied from stdin") as copy:
                    copy.write(b"1\ta\t\n")
                    copy.write(b"x\ta\t\n" * 5000)

            def gives_up() -> None:
                with cursor.copy("copy copied(i) from stdin") as copy:
                    copy.write_row((1,))
                    raise ValueError("changed its mind")

            def rows_late() -> None:
                with cursor.copy("copy (select 1 / (3 - i) from generate_series(1, 5) i) to stdout") as copy:
                    list(copy)

            saw.append(attempt(bad_data))
            with pytest.raises(ValueError, match="changed"):
                gives_up()
            saw.append(seen(connection.execute("select count(*) from copied")))
            saw.append(attempt(rows_late))
            saw.append(seen(connection.execute("select 1")))
        return saw

    saw = pair.same(scenario)
    assert [saw[0][0], saw[2][0]] == ["InvalidTextRepresentation", "DivisionByZero"]
    assert saw[1][0][1] == [(0,)]


def test_notifications_arrive_with_the_pid_of_the_server(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as listener, psycopg.connect(dsn, autocommit=True) as sender:
            listener.execute("listen news")
            sender.execute("notify news, 'one'")
            sender.execute("select pg_notify(%s, %s)", ("news", "two"))
            own = sender.execute("select pg_backend_pid()").fetchone()
            assert own == (sender.info.backend_pid,)
            got = list(listener.notifies(timeout=5, stop_after=2))
            assert {each.pid for each in got} == {sender.info.backend_pid}
            listener.execute("unlisten *")
            return [(each.channel, each.payload) for each in got]

    assert pair.same(scenario) == [("news", "one"), ("news", "two")]


def test_notices(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        notices: list[Any] = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.add_notice_handler(
                lambda d: notices.append((d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint))
            )
            connection.execute("select shout(%s)", ("ada",))
            connection.execute("select shout('bob'); drop table if exists nowhere")
            connection.execute("commit")
        return notices

    notices = pair.same(scenario)
    assert notices[0] == ("NOTICE", "00000", "hello ada", "loud", "quiet")
    assert [n[0] for n in notices] == ["NOTICE", "NOTICE", "NOTICE", "WARNING"]


def test_type_lookups(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection:
            enum = EnumInfo.fetch(connection, "mood")
            composite = CompositeInfo.fetch(connection, "place")
            domain = TypeInfo.fetch(connection, "positive")
            span = RangeInfo.fetch(connection, "int4range")
            nothing = TypeInfo.fetch(connection, "nothing_like_it")
            assert enum
            assert composite
            assert domain
            assert span
            return (
                (enum.name, enum.oid, list(enum.labels)),
                (composite.name, composite.oid, list(composite.field_names), list(composite.field_types)),
                (domain.name, domain.oid),
                (span.name, span.oid, span.subtype_oid),
                nothing,
            )

    enum, composite, _, span, nothing = pair.same(scenario)
    assert enum[2] == ["sad", "ok", "happy"]
    assert composite[2] == ["street", "number"]
    assert span[2] == 23
    assert nothing is None


def test_a_large_parameter_passes(pair: Both) -> None:
    """Where no policy reads parameters they do not travel, so only the limit of statements bounds them."""
    with pair.relay.connect() as connection:
        photo = bytes(range(256)) * 4000
        returned = connection.execute("select md5(%b::bytea)", (photo,)).fetchone()
        assert returned == (hashlib.md5(photo).hexdigest(),)


def test_a_large_result_is_streamed(pair: Both) -> None:
    query = "select i, repeat('x', 100) from generate_series(1, %s) i"

    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
            total = sum(row[0] for row in cursor.stream(query, (50_000,)))
            rows = [len(row[1]) for row in cursor.stream("select i, repeat('y', 3000000) from generate_series(1, 3) i")]
            failed = attempt(lambda: list(cursor.stream("select 1 / (2000 - i) from generate_series(1, 5000) i")))
            connection.rollback()
            whole = cursor.execute(query, (20_000,)).fetchall()
            return total, rows, failed, len(whole), cursor.statusmessage

    total, rows, failed, *rest = pair.same(scenario)
    assert (total, rows, rest) == (1_250_025_000, [3_000_000] * 3, [20_000, "SELECT 20000"])
    assert failed[0] == "DivisionByZero"


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
def test_a_statement_is_cancelled(pair: Both, cursor: type) -> None:
    def scenario(dsn: str) -> Any:
        with (
            psycopg.connect(dsn, autocommit=True, cursor_factory=cursor) as connection,
            psycopg.connect(pair.direct, autocommit=True) as watcher,
        ):
            timer = threading.Thread(target=_cancel_once_running, args=(watcher, connection))
            timer.start()
            got = attempt(lambda: connection.execute("select pg_sleep(%s)", (20,)))
            timer.join()
            return got, seen(connection.execute("select 1"))

    got, after = pair.same(scenario)
    assert got[0] == "QueryCanceled"
    assert after[0][1] == [(1,)]


def _cancel_once_running(watcher: psycopg.Connection[Any], connection: psycopg.Connection[Any]) -> None:
    """Cancel as soon as the server says that the statement runs."""
    running = "select count(*) from pg_stat_activity where pid = %s and state = 'active' and wait_event = 'PgSleep'"
    while watcher.execute(running, (connection.info.backend_pid,)).fetchone() == (0,):
        watcher.execute("select pg_sleep(0.02)")
    connection.cancel_safe(timeout=5)


def test_statement_timeout_of_the_server(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, autocommit=True, options="-c statement_timeout=50") as connection:
            return attempt(lambda: connection.execute("select pg_sleep(20)")), seen(connection.execute("select 1"))

    assert pair.same(scenario)[0][0] == "QueryCanceled"


def test_values_of_all_kinds_are_sent(pair: Both) -> None:
    def scenario(dsn: str) -> Any:
        saw: list[Any] = []
        with psycopg.connect(dsn, row_factory=dict_row) as connection:
            for binary in ("%s", "%b", "%t"):
                query = f"select {binary}::int[] as a, {binary}::jsonb as j, {binary}::text as t, {binary}::bytea as b"
                saw.append(seen(connection.execute(query, ([1, None], Jsonb({"k": "v"}), "é\n\\'\"", b"\0\xff"))))
            statement = sql.SQL("select {} from {} where {} = {}").format(
                sql.Identifier("name"), sql.Identifier("public", "people"), sql.Identifier("id"), sql.Literal(3)
            )
            saw.append(seen(connection.execute(statement)))
            saw.append(attempt(lambda: connection.execute("select %s::text", ("a\0b",))))
            connection.rollback()
            saw.append(seen(connection.execute("select length(%s) as n", ("x" * 500_000,))))
        return saw

    saw = pair.same(scenario)
    assert saw[0][0][1] == [{"a": [1, None], "j": {"k": "v"}, "t": "é\n\\'\"", "b": b"\0\xff"}]
    assert saw[3][0][1] == [{"name": "Zoë"}]
    assert saw[-1][0][1] == [{"n": 500_000}]


def test_what_the_connection_knows_about_the_server(pair: Both) -> None:
    names = [
        "server_version",
        "server_encoding",
        "client_encoding",
        "DateStyle",
        "IntervalStyle",
        "TimeZone",
        "integer_datetimes",
        "is_superuser",
        "standard_conforming_strings",
        "application_name",
        "in_hot_standby",
        "default_transaction_read_only",
        "search_path",
        "scram_iterations",
    ]

    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn, application_name="me", options="-c search_path=public") as connection:
            before = {name: connection.info.parameter_status(name) for name in names}
            connection.execute("set timezone to 'Asia/Tokyo'")
            connection.execute("set application_name to 'you'")
            after = {name: connection.info.parameter_status(name) for name in names}
            return before, after, connection.info.server_version, connection.info.encoding, connection.info.dbname

    before, after, version, *_ = pair.same(scenario)
    assert (before["application_name"], before["search_path"]) == ("me", "public")
    assert (after["application_name"], after["TimeZone"]) == ("you", "Asia/Tokyo")
    assert version >= 180000


def test_async_connections(pair: Both) -> None:
    async def run(dsn: str) -> Any:
        saw: list[Any] = []
        async with await psycopg.AsyncConnection.connect(dsn) as connection, connection.cursor() as cursor:
            for number in range(8):
                await cursor.execute("select name from people where id = %s", (1 + number % 3,))
                saw.append(await cursor.fetchall())
            async with connection.transaction(), connection.pipeline():
                many = [await connection.execute("select %s::int", (number,)) for number in range(20)]
                saw.append([await each.fetchone() for each in many])
            async with connection.cursor(name="c") as named:
                await named.execute("select amount from orders order by id")
                saw.append(len([row async for row in named]))
            async with cursor.copy("copy people(id, name) to stdout") as copy:
                saw.append([row async for row in copy.rows()])
            try:
                await connection.execute("select * from nowhere")
            except psycopg.Error as error:
                saw.append(told(error))
            await connection.rollback()
            sleeping = asyncio.create_task(_sleep(connection))
            await asyncio.sleep(0)
            while not await _asleep(pair.direct, connection.info.backend_pid):
                pass
            await connection.cancel_safe(timeout=5)
            saw.append(await sleeping)
            await connection.rollback()
            saw.append(await (await connection.execute("select 1")).fetchall())
        return saw

    saw = pair.same(lambda dsn: asyncio.run(run(dsn)))
    assert saw[0] == [("Ada",)]
    assert saw[-2:] == ["57014", [(1,)]]


async def _sleep(connection: psycopg.AsyncConnection[Any]) -> str | None:
    with pytest.raises(psycopg.errors.QueryCanceled) as caught:
        await connection.execute("select pg_sleep(20)")
    return caught.value.sqlstate


async def _asleep(dsn: str, pid: int) -> bool:
    async with await psycopg.AsyncConnection.connect(dsn) as watcher:
        found = await watcher.execute(
            "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'", (pid,)
        )
        return await found.fetchone() is not None


def test_many_connections_at_once(pair: Both) -> None:
    async def one(dsn: str, number: int) -> Any:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            total = 0
            for step in range(10):
                found = await connection.execute("select %s::int + count(*) from orders", (number * step,))
                row = await found.fetchone()
                assert row is not None
                total += row[0]
            return total

    async def run(dsn: str) -> Any:
        return await asyncio.gather(*(one(dsn, number) for number in range(20)))

    assert pair.same(lambda dsn: asyncio.run(run(dsn)))[1] == 645
