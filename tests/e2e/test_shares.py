"""One agent uses up everything that it shares with another; the other one's statements go on all the while.

Every part is real, with limits so small that a few connections reach them. Nothing here is about time: the neighbour is
answered, never denied, while the greedy one is at its limit.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.e2e.clients import Refusal, Waiting, refusal
from tests.fix_postgres import HOST, PostgresServer
from tests.fix_stack import AGENT, PATIENCE, Stack, installed, seed

SESSIONS = 6
PENDING = 2
STRANGERS = 4
SPOOL = 4 << 20
DELETE = "delete from orders where status = 'stale' and id = {}"


@pytest.fixture(scope="module")
def shared(postgres18: PostgresServer, opa_path: Any) -> Iterator[Stack]:
    def edit(document: dict[str, Any]) -> None:
        document["pdp"]["limits"] = {"pending_approvals_per_subject": PENDING, "decisions_at_once_per_subject": 1}
        document["decisions"]["spool"] = {"max_bytes": SPOOL, "share": 0.25}
        document["proxies"][0]["limits"] = {
            "sessions_per_subject": SESSIONS,
            "decisions_at_once_per_subject": 1,
            "unauthenticated_connections": 2 * STRANGERS,
            "unauthenticated_per_address": STRANGERS,
        }

    seed(postgres18, "shares_shop")
    with installed(postgres18, opa_path, "shares_shop", edit) as stack:
        stack.serve()
        yield stack


@pytest.fixture
def neighbour(shared: Stack) -> Iterator[Callable[[], None]]:
    """Says something, which has to be answered."""
    token = shared.token("agent:calm-bot", ("support-agents",), node="read_orders", on_behalf_of="user:nina")
    # Those of the test before may be at their login still.
    shared.until(lambda: _connects(shared, token), what="there is room for the neighbour")
    with shared.connect(token) as connection:

        def speak() -> None:
            assert connection.execute("select 1").fetchone() == (1,)

        speak()
        yield speak
        speak()


def greedy(stack: Stack, node: str) -> str:
    return stack.token(AGENT, ("support-agents",), node=node, on_behalf_of="user:greta")


def test_sessions(shared: Stack, neighbour: Callable[[], None]):
    with contextlib.ExitStack() as open_:
        for _ in range(SESSIONS):
            open_.enter_context(shared.connect(greedy(shared, "read_orders")))
        # Another agent of the same person: the share is the person's.
        other = shared.token("agent:other-bot", ("support-agents",), node="read_orders", on_behalf_of="user:greta")
        with pytest.raises(psycopg.OperationalError, match="as many sessions at this proxy as it may"):
            shared.connect(other)
        neighbour()
    shared.until(lambda: _connects(shared, other), what="what has ended makes room")


def _connects(stack: Stack, token: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), stack.connect(token):
        return True
    return False


def test_decisions(shared: Stack, neighbour: Callable[[], None]):
    """Many at once, of which the service sees one: all of them are answered, each in its turn."""
    token = greedy(shared, "read_orders")
    with contextlib.ExitStack() as open_:
        clients = [open_.enter_context(shared.connect(token)) for _ in range(SESSIONS)]
        for _ in range(2):
            for client in clients:
                client.pgconn.send_query(b"select 1")
            neighbour()
            for client in clients:
                _answered(client)


def _answered(client: psycopg.Connection[Any]) -> None:
    results = []
    while (result := client.pgconn.get_result()) is not None:
        results.append(result.error_message or result.get_value(0, 0))
    assert results == [b"1"]


def test_messages_that_ask_for_nothing(shared: Stack, neighbour: Callable[[], None]):
    """They are worked off in turns; a client that sends nothing else keeps nobody from the loop."""
    flush = b"H" + struct.pack("!i", 4)
    with contextlib.ExitStack() as open_:
        clients = [open_.enter_context(shared.connect(greedy(shared, "read_orders"))) for _ in range(3)]
        for _ in range(2):
            for client in clients:
                with socket.socket(fileno=socket.dup(client.fileno())) as wire:
                    wire.setblocking(True)
                    wire.sendall(flush * 10_000)
                    wire.setblocking(False)
            neighbour()
        for client in clients:
            client.pgconn.send_query(b"select 1")
            _answered(client)


def test_statements_that_a_child_parses(shared: Stack, neighbour: Callable[[], None]):
    long = b"select id from orders where id in (" + b",".join(b"%d" % number for number in range(20_000)) + b")"
    with contextlib.ExitStack() as open_:
        clients = [open_.enter_context(shared.connect(greedy(shared, "read_orders"))) for _ in range(3)]
        for client in clients:
            client.pgconn.send_query(long)
        neighbour()
        for client in clients:
            while client.pgconn.get_result() is not None:
                neighbour()


def test_pending_approvals(shared: Stack, neighbour: Callable[[], None]):
    with contextlib.ExitStack() as open_:
        clients = [open_.enter_context(_closing(shared, greedy(shared, "delete_stale"))) for _ in range(PENDING + 1)]
        waiting = [Waiting(client, DELETE.format(50 + index)) for index, client in enumerate(clients[:-1])]
        said = refusal(clients[-1], DELETE.format(99))
        assert (said.detail["code"], said.detail["retry"]) == ("share-exhausted", True)
        neighbour()
        others = shared.token(AGENT, ("support-agents",), node="delete_stale", on_behalf_of="user:paul")
        with _closing(shared, others) as connection:
            Waiting(connection, DELETE.format(98))
        assert all(each.waits for each in waiting)


def _closing(stack: Stack, token: str) -> contextlib.closing[psycopg.Connection[Any]]:
    """For a connection that is left while its statement waits."""
    return contextlib.closing(stack.connect(token))


def test_clients_that_are_not_known(shared: Stack, neighbour: Callable[[], None]):
    with contextlib.ExitStack() as open_:
        for _ in range(STRANGERS):
            open_.enter_context(socket.create_connection((HOST, shared.port), timeout=PATIENCE))

        def turned_away() -> bool:
            with socket.create_connection((HOST, shared.port), timeout=PATIENCE) as one_more:
                try:
                    return b"C53300" in one_more.recv(1024)
                except ConnectionResetError:
                    return True

        shared.until(turned_away, what="one more is turned away")
        neighbour()


def test_the_spool(shared: Stack, neighbour: Callable[[], None]):
    """The service does not take any records meanwhile; it decides all the same."""
    text = "select '{}'".format("x" * 100_000)
    with shared.connect(greedy(shared, "read_orders")) as connection:
        full = None
        while full is None:
            try:
                connection.execute(text.encode())
            except psycopg.Error as error:
                full = Refusal.of(error)
            neighbour()
            if full is not None and full.detail["code"] != "record-unavailable":
                full = None
    assert full.detail["retry"]
