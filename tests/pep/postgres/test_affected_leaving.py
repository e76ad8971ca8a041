"""A limit of changed rows while the server is kept waiting: who leaves, cancels or pipelines, and what stays of it.

A unique key that is checked at the end of the transaction makes the proxy's own COMMIT wait, for as long as another
transaction has not said whether its row of that key stays.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator

import psycopg
import pytest

from pep.core.model import Action, Decision, FieldMask, LimitAffected, NullMask
from pep.postgres.messages import (
    Bind,
    CancelRequest,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Kind,
    Parse,
    Query,
    ReadyForQuery,
    Sync,
    Terminate,
    TransactionStatus,
)
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, joined, rows, shape
from tests.relay import Relay, allow, mask, relay, touches
from tests.stub_service import eventually

NAME = "affected_leaving"
MOST = 3
SCHEMA = """
create table items (id int primary key, note text);
create table late (id int constraint late_once unique deferrable initially deferred);
create table secrets (id int, ssn text);
grant all on all tables in schema public to public;
"""
LATE = "insert into late values (5)"
ONE = "update items set note = 'y' where id = 1"
MANY = "update items set note = 'z' where id <= 5"


def policy(action: Action) -> Decision:
    if action.name == "prepare":
        return allow()
    if touches(action, "public.secrets"):
        return mask(FieldMask("public.secrets", "ssn", NullMask()), also=(LimitAffected(MOST),))
    return allow(LimitAffected(MOST))


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, SCHEMA)
    with relay(postgres18, NAME, policy) as found:
        yield found


@pytest.fixture
def limited(running: Relay, postgres18: PostgresServer) -> Relay:
    postgres18.sql(NAME, "truncate items, late, secrets")
    postgres18.sql(NAME, "insert into items select n, 'x' from generate_series(1, 10) n")
    postgres18.sql(NAME, "insert into secrets select n, 'SSN-' || n from generate_series(1, 3) n")
    return running


@contextlib.contextmanager
def another(server: PostgresServer, statement: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction beside, which has done this and then does nothing; it is rolled back at the end."""
    with psycopg.connect(server.dsn(NAME)) as connection:
        connection.execute(statement)
        yield connection
        connection.rollback()


def waiting(server: PostgresServer, pid: int, query: str) -> bool:
    """Whether the server process waits for a lock with this statement."""
    found = server.sql(
        NAME, f"select query from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock' and query = '{query}'"
    )
    return bool(found)


def gone(server: PostgresServer, pid: int) -> bool:
    return not server.sql(NAME, f"select from pg_stat_activity where pid = {pid}")


def values(server: PostgresServer, query: str) -> list[object]:
    return [value for (value,) in server.sql(NAME, query)]


def cancel(port: int, client: Wire) -> None:
    with Wire(port) as other:
        other.send(CancelRequest(client.pid, client.key))
        assert other.rest() == []


@pytest.mark.parametrize("way", ["fin", "rst", "half", "terminate and fin"])
@pytest.mark.parametrize(("statement", "waits_in"), [(LATE, "commit"), (ONE, ONE)], ids=["commit", "statement"])
def test_who_leaves_meanwhile_leaves_nothing(
    limited: Relay, postgres18: PostgresServer, way: str, statement: str, waits_in: str
) -> None:
    with another(postgres18, LATE if statement is LATE else ONE), Wire(limited.port).login(NAME) as client:
        client.send(Query(statement))
        eventually(lambda: waiting(postgres18, client.pid, waits_in.replace("'", "''")), 30.0)
        match way:
            case "fin":
                client.socket.close()
            case "rst":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.socket.close()
            case "half":
                client.socket.shutdown(socket.SHUT_WR)
            case _:
                client.send(Terminate())
                client.socket.close()
        eventually(lambda: gone(postgres18, client.pid), 30.0)
    assert values(postgres18, "select id from late") == []
    assert values(postgres18, "select id from items where note <> 'x'") == []


def test_who_says_goodbye_and_stays_has_its_answer(limited: Relay, postgres18: PostgresServer) -> None:
    with Wire(limited.port).login(NAME) as client:
        with another(postgres18, LATE):
            client.send(Query(LATE))
            eventually(lambda: waiting(postgres18, client.pid, "commit"), 30.0)
            client.send(Terminate())
        assert shape(client.rest()) == "CZ"
    assert values(postgres18, "select id from late") == [5]


@pytest.mark.parametrize(("statement", "waits_in"), [(LATE, "commit"), (ONE, ONE)], ids=["commit", "statement"])
def test_a_cancel_request_meanwhile_undoes_it_and_hits_nothing_else(
    limited: Relay, postgres18: PostgresServer, statement: str, waits_in: str
) -> None:
    with another(postgres18, LATE if statement is LATE else ONE), Wire(limited.port).login(NAME) as client:
        client.send(Query(statement), Query("update items set note = 'w' where id = 9"))
        eventually(lambda: waiting(postgres18, client.pid, waits_in.replace("'", "''")), 30.0)
        cancel(limited.port, client)
        said = client.until()
        assert codes(said) == ["ERROR 57014"]
        assert ReadyForQuery.decode(said[-1].payload).status is TransactionStatus.IDLE
        assert shape(client.until()) == "CZ"
    assert values(postgres18, "select id from late") == []
    assert values(postgres18, "select id from items where note <> 'x'") == [9]


def test_a_server_process_that_is_ended_at_the_commit_is_no_success(limited: Relay, postgres18: PostgresServer) -> None:
    with another(postgres18, LATE), Wire(limited.port).login(NAME) as client:
        client.send(Query(LATE))
        eventually(lambda: waiting(postgres18, client.pid, "commit"), 30.0)
        postgres18.sql(NAME, f"select pg_terminate_backend({client.pid})")
        frames = client.rest()
        assert [code.split()[0] for code in codes(frames)][-1:] == ["FATAL"]
        assert "C" not in shape(frames)
    assert values(postgres18, "select id from late") == []


def test_byte_by_byte(limited: Relay, postgres18: PostgresServer) -> None:
    def group(text: str) -> bytes:
        return joined((Parse("s", text), Bind("p", "s", ()), Describe(Kind.PORTAL, "p"), Execute("p"), Flush()))

    with Wire(limited.port).login(NAME) as client:
        client.trickle(joined([Query(f"{ONE} returning id"), Query(MANY), Query("select 7")]))
        assert [shape(client.until()) for _ in range(3)] == ["TDCZ", "EZ", "TDCZ"]
        client.trickle(group(f"{ONE.replace('y', 'v')} returning id, note"))
        assert shape(client.until(ord("C"))) == "12TDC"
        assert values(postgres18, "select id from items where note = 'v'") == []
        client.trickle(Sync().encode())
        assert shape(client.until()) == "Z"
        assert values(postgres18, "select id from items where note = 'v'") == [1]
        client.trickle(group(MANY.replace("z", "u").replace("update", "/* */ update")) + Sync().encode())
        assert codes(client.until()) == ["ERROR 42P05"]
    with Wire(limited.port).login(NAME) as client:
        client.trickle(group(MANY) + joined([Query(ONE)]))
        assert codes(client.until(ord("E"))) == ["ERROR 54000"]
        client.trickle(Sync().encode())
        assert shape(client.until()) == "Z"
    assert values(postgres18, "select id from items where note = 'z'") == []


def test_flush_keeps_what_sync_has_not_ended(limited: Relay, postgres18: PostgresServer) -> None:
    """Within the limit and told, a group without its Sync is not committed; a client that leaves then undoes it."""
    with Wire(limited.port).login(NAME) as client:
        client.send(Parse("", ONE), Bind("", "", ()), Execute(""), Flush())
        assert shape(client.until(ord("C"))) == "12C"
    eventually(lambda: gone(postgres18, client.pid), 30.0)
    assert values(postgres18, "select id from items where note = 'y'") == []


def test_a_portal_that_is_run_again_changes_nothing_more(limited: Relay, postgres18: PostgresServer) -> None:
    with Wire(limited.port).login(NAME) as client:
        said = client.ask(Parse("", ONE), Bind("p", "", ()), Execute("p"), Execute("p", 1), Execute("p"), Sync())
        assert (shape(said), codes(said)) == ("12CEZ", ["ERROR 55000"])
    assert values(postgres18, "select id from items where note = 'y'") == []


def test_what_it_returns_is_masked_and_what_it_changes_is_counted(limited: Relay, postgres18: PostgresServer) -> None:
    change = "update secrets set id = id + 10 where id <= {} returning id, ssn"
    with Wire(limited.port).login(NAME) as client:
        for ask in (
            lambda text: client.ask(Query(text)),
            lambda text: client.ask(Parse("", text), Bind("", "", ()), Execute(""), Sync()),
        ):
            assert rows(ask(change.format(1))) == [(b"11", None)]
            postgres18.sql(NAME, "update secrets set id = 1 where id = 11")
            postgres18.sql(NAME, "insert into secrets values (2, 'SSN-5'), (3, 'SSN-6')")
            said = ask(change.format(3))
            assert codes(said) == ["ERROR 54000"]
            assert not any(b"SSN-" in frame.payload for frame in said)
            postgres18.sql(NAME, "delete from secrets where ssn in ('SSN-5', 'SSN-6')")
    assert values(postgres18, "select count(*) from secrets where id > 10") == [0]


def test_function_calls_are_closed_and_hurt_nothing(limited: Relay) -> None:
    with Wire(limited.port).login(NAME) as client:
        call = FunctionCall(957, (1,), (struct.pack(">i", 0x60000),), 1)
        client.trickle(joined([call, Query(ONE)]))
        assert codes(client.until()) == ["ERROR 42501"]
        assert shape(client.until()) == "CZ"
