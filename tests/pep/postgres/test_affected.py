"""A limit of changed rows: what changes more has no effect, whichever way it is sent; nothing of it is shown before."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from pep.core.model import Action, Decision, LimitAffected
from pep.postgres.messages import (
    Bind,
    Describe,
    Execute,
    Kind,
    Parse,
    Query,
    ReadyForQuery,
    Sync,
    TransactionStatus,
)
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, errors, rows, shape
from tests.relay import Relay, allow, relay

NAME = "affected"
MOST = 3
SCHEMA = """
create table items (id int primary key, note text);
create table parents (id int primary key);
create table children (id int primary key, parent int references parents on delete cascade);
create table watched (id int);
create table log (id int);
create function keep_log() returns trigger language plpgsql as
  'begin insert into log select generate_series(1, 100); return null; end';
create trigger t after insert on watched for each row execute function keep_log();
create table ruled (id int);
create rule r as on delete to ruled do also delete from log;
create table late (id int constraint late_once unique deferrable initially deferred);
create view seen as select * from items where id > 0;
create table halves (id int) partition by range (id);
create table lower_half partition of halves for values from (0) to (100);
create table upper_half partition of halves for values from (100) to (200);
grant all on all tables in schema public to public;
"""


def policy(action: Action) -> Decision:
    return allow() if action.name == "prepare" else allow(LimitAffected(MOST))


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, SCHEMA)
    with relay(postgres18, NAME, policy) as found:
        yield found


@pytest.fixture
def limited(running: Relay, postgres18: PostgresServer) -> Relay:
    postgres18.sql(NAME, "truncate items, parents, children, watched, log, ruled, late, halves cascade")
    postgres18.sql(NAME, "insert into items select n, 'x' from generate_series(1, 10) n")
    return running


@pytest.fixture
def count(postgres18: PostgresServer) -> Any:
    def counted(table: str = "items") -> int:
        ((number,),) = postgres18.sql(NAME, f"select count(*) from {table}")
        assert isinstance(number, int)
        return number

    return counted


def status(frames: Any) -> TransactionStatus:
    return ReadyForQuery.decode(frames[-1].payload).status


def extended(text: str, *, describe: bool = True) -> tuple[Any, ...]:
    described = (Describe(Kind.PORTAL, ""),) if describe else ()
    return Parse("", text), Bind("", "", ()), *described, Execute("")


MANY = "delete from items where id <= 5"
FEW = "delete from items where id <= 3"
MERGE_FEW = (
    "merge into items i using (values (1), (11)) v(id) on v.id = i.id when matched then delete "
    "when not matched then insert values (v.id, 'new')"
)


@pytest.mark.parametrize(
    ("few", "many", "tag"),
    [
        (FEW, MANY, b"DELETE 3\0"),
        ("update items set note = 'y' where id < 3", "update items set note = 'y'", b"UPDATE 2\0"),
        ("insert into items values (11)", "insert into items select generate_series(11, 14)", b"INSERT 0 1\0"),
        (
            "insert into items values (1) on conflict (id) do update set note = 'y'",
            "insert into items select generate_series(1, 4) on conflict (id) do update set note = 'y'",
            b"INSERT 0 1\0",
        ),
        (
            MERGE_FEW,
            "merge into items i using (select generate_series(1, 4) id) v on v.id = i.id when matched then delete",
            b"MERGE 2\0",
        ),
        ("delete from seen where id = 1", "delete from seen", b"DELETE 1\0"),
        ("insert into halves values (1), (101)", "insert into halves values (1), (2), (101), (102)", b"INSERT 0 2\0"),
    ],
)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_what_changes_more_than_that_has_no_effect(
    limited: Relay, postgres18: PostgresServer, protocol: str, few: str, many: str, tag: bytes
):
    def everything() -> Any:
        return postgres18.sql(NAME, "select * from items order by id"), postgres18.sql(NAME, "select * from halves")

    with Wire(limited.port).login(NAME) as client:
        before = everything()
        said = client.ask(Query(many)) if protocol == "simple" else client.ask(*extended(many), Sync())
        assert codes(said) == ["ERROR 54000"]
        (error,) = errors(said)
        assert "may change at most 3 rows; it had no effect" in error["M"]
        assert "[decision d-" in error["M"]
        assert "narrower WHERE" in error["M"]
        assert '"code":"limit-affected"' in error["D"]
        assert status(said) is TransactionStatus.IDLE
        assert everything() == before
        said = client.ask(Query(few)) if protocol == "simple" else client.ask(*extended(few), Sync())
        assert shape(said) == ("CZ" if protocol == "simple" else "12nCZ")
        assert said[-2].payload == tag
        assert status(said) is TransactionStatus.IDLE
        assert everything() != before


def test_rows_that_it_returns_are_shown_once_they_are_counted(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        said = client.ask(Query(f"{MANY} returning id"))
        assert shape(said) == "EZ"
        said = client.ask(*extended(f"{MANY} returning id"), Sync())
        assert shape(said) == "12TEZ"
        assert count() == 10
        said = client.ask(Query(f"{FEW} returning id"))
        assert shape(said) == "TDDDCZ"
        said = client.ask(*extended("delete from items where id = 4 returning id, note"), Sync())
        assert shape(said) == "12TDCZ"
        assert rows(said) == [(b"4", b"x")]
        assert count() == 6


def test_a_few_rows_at_a_time_they_cannot_be_counted(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        said = client.ask(
            Parse("", f"{FEW} returning id"), Bind("", "", ()), Execute("", 1), Execute("", 1), Execute("", 1), Sync()
        )
        assert codes(said) == ["ERROR 54000"]
        assert rows(said) == []
        assert count() == 10
        # Without rows there is nothing to show before.
        said = client.ask(Parse("", FEW), Bind("", "", ()), Execute("", 1), Sync())
        assert shape(said) == "12CZ"
        assert count() == 7


def test_more_bytes_than_can_be_held_back_are_refused(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        for text in (Query, lambda text: b"".join(each.encode() for each in (*extended(text), Sync()))):
            said = client.ask(text("delete from items where id <= 2 returning id, repeat('x', 2000000)"))
            assert codes(said) == ["ERROR 54000"]
            assert not rows(said)
        assert count() == 10
        assert shape(client.ask(Query("select 1"))) == "TDCZ"


def test_inside_the_client_s_transaction_it_fails_as_any_error_does(limited: Relay, count: Any):
    for run in (lambda text: (Query(text),), lambda text: (*extended(text), Sync())):
        with Wire(limited.port).login(NAME) as client:
            assert status(client.ask(Query("begin"))) is TransactionStatus.IN_TRANSACTION
            said = client.ask(*run("delete from items where id = 10"))
            assert status(said) is TransactionStatus.IN_TRANSACTION
            client.ask(Query("savepoint s"))
            said = client.ask(*run(MANY))
            assert codes(said) == ["ERROR 54000"]
            assert status(said) is TransactionStatus.FAILED
            assert codes(client.ask(Query("select 1"))) == ["ERROR 25P02"]
            assert status(client.ask(Query("rollback to s"))) is TransactionStatus.IN_TRANSACTION
            said = client.ask(*run("delete from items where id = 9"))
            assert status(said) is TransactionStatus.IN_TRANSACTION
            assert rows(client.ask(Query("select count(*) from items"))) == [(b"8",)]
            client.ask(Query("rollback"))
    assert count() == 10


def test_in_a_pipeline_nothing_of_the_group_stays(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        one, two = (extended(f"delete from items where id = {n}", describe=False) for n in (9, 10))
        client.send(*one, *extended(MANY, describe=False), *two, Sync(), *one, Sync())
        said = client.until()
        assert shape(said) == "12C12EZ"
        assert codes(said) == ["ERROR 54000"]
        assert shape(client.until()) == "12CZ"
        assert count() == 9


def test_simple_queries_behind_one_another_each_have_their_own_end(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        client.send(Query(FEW), Query(MANY), Query("select 1"), Query("delete from items where id > 9"))
        assert [shape(client.until()) for _ in range(4)] == ["CZ", "CZ", "TDCZ", "CZ"]
        assert count() == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("with gone as (delete from items returning id) select count(*) from gone", "inside of a query"),
        ("with gone as (delete from items returning id) insert into log select id from gone", "in several places"),
        ("delete from parents", "rows of public.children change with it by keys"),
        ("insert into watched values (1)", "trigger t on public.watched"),
        ("delete from ruled", "rule r on public.ruled"),
        ("truncate items", "does not say how many rows"),
        ("create table other as select * from items", "does not say how many rows"),
        ("drop table items", "does not say how many rows"),
        ("copy items from stdin", "COPY brings rows"),
        ("explain analyze delete from items", "does not say how many rows"),
        ("prepare p as delete from items", "does not say how many rows"),
        ("prepare p as delete from items; execute p", "does not say how many rows"),
        ("delete from items where id = 1; delete from items where id = 2", "send one statement at a time"),
        ("do $$ begin delete from items; end $$", "not understood in full"),
    ],
)
def test_what_has_no_count_is_refused_in_words(limited: Relay, count: Any, text: str, said: str):
    with Wire(limited.port).login(NAME) as client:
        frames = client.ask(Query(text))
        assert codes(frames) == ["ERROR 42501"]
        assert said in errors(frames)[0]["M"]
        assert status(frames) is TransactionStatus.IDLE
        assert count() == 10


def test_what_changes_no_rows_goes_through(limited: Relay):
    with Wire(limited.port).login(NAME) as client:
        for text in (
            "select count(*) from items",
            "select id from items for update",
            "begin; select 1; commit",
            "set application_name = 'x'",
            "explain delete from items",
            "",
        ):
            assert errors(client.ask(Query(text))) == [], text


def test_what_the_server_refuses_at_the_commit_is_told_in_place_of_the_result(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        for text in ("insert into late values (1), (1)", "insert into late values (2), (2) returning id"):
            said = client.ask(Query(text))
            assert codes(said) == ["ERROR 23505"]
            assert shape(said) == "EZ"
            assert status(said) is TransactionStatus.IDLE
        assert codes(client.ask(Query("insert into items values (1)"))) == ["ERROR 23505"]
        assert shape(client.ask(Query("insert into late values (1)"))) == "CZ"
    assert count("late") == 1


def test_a_simple_query_in_an_open_group_is_refused(limited: Relay, count: Any):
    with Wire(limited.port).login(NAME) as client:
        client.send(*extended("select 1", describe=False), Query(FEW))
        said = client.until()
        assert codes(said) == ["ERROR 42501"]
        assert "send Sync" in errors(said)[0]["M"]
        assert count() == 10


def test_the_server_is_sent_a_transaction_around_a_simple_query_alone(limited: Relay, postgres18: PostgresServer):
    position = postgres18.log_position()
    with Wire(limited.port).login(NAME) as client:
        client.ask(Query(f"{MANY} returning note"))
        client.ask(Query(FEW))
        client.ask(*extended(MANY.replace("5", "8")), Sync())
    log = postgres18.log_after(position)
    assert log.count("statement: begin") == 2
    assert log.count("statement: rollback") == 1
    assert log.count("statement: commit") == 1


def test_drivers_see_nothing_of_it(limited: Relay, count: Any):
    with limited.connect(autocommit=True) as connection:
        assert connection.execute(FEW + " returning id").fetchall() == [(1,), (2,), (3,)]
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="it changes 7 rows"):
            connection.execute("delete from items where id > %s", (0,))
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        with pytest.raises(psycopg.errors.ProgramLimitExceeded), connection.transaction():
            connection.execute("delete from items")
        connection.execute("insert into items values (%s, %s)", (1, "y"))
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            _pipelined(connection)
    assert count() == 8

    async def asyncpg_too() -> None:
        connection = await asyncpg.connect(limited.url)
        try:
            assert await connection.execute("delete from items where id = $1", 1) == "DELETE 1"
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                await connection.execute("delete from items")
            assert len(await connection.fetch("update items set note = 'z' where id > 8 returning id")) == 2
        finally:
            await connection.close()

    asyncio.run(asyncpg_too())
    assert count() == 7


def _pipelined(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("delete from items where id = %s", (1,))
        connection.execute("delete from items where id > %s", (0,))
