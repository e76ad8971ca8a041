"""What a proxy bounds by itself: the time and the bytes of a login, idle time, and how many there may be."""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import AsyncIterator

import psycopg
import pytest

from pdp.v1.addresses import TcpAddress
from pep.core.leg import Leg
from pep.core.listener import Listener
from tests.doors.calling import PATIENCE
from tests.fix_postgres import PostgresServer
from tests.relay import relay

DATABASE = "proxy_limits"


@pytest.fixture(scope="module")
def target(postgres18: PostgresServer) -> PostgresServer:
    postgres18.create_database(DATABASE)
    return postgres18


def rest(connection: socket.socket) -> bytes:
    """Everything that comes until the other end closes."""
    received = b""
    connection.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def startup() -> bytes:
    said = struct.pack(">I", 196608) + f"user\0anybody\0database\0{DATABASE}\0\0".encode()
    return struct.pack(">I", len(said) + 4) + said


@pytest.mark.parametrize("sent", [b"", startup()], ids=["nothing", "no password"])
def test_a_login_has_a_time(target: PostgresServer, sent: bytes) -> None:
    with (
        relay(target, DATABASE, limits={"login": "300ms"}) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as silent,
    ):
        silent.sendall(sent)
        assert b"canceling authentication due to timeout" in rest(silent)


def test_a_login_says_only_so_much(target: PostgresServer) -> None:
    with (
        relay(target, DATABASE, limits={"unauthenticated_bytes": "8KiB"}) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as talkative,
    ):
        talkative.sendall(startup() + b"p" + struct.pack(">I", 1 << 20))
        # Refused by what it says of its length, while the rest is not there.
        assert b"expected password response" in rest(talkative)


def test_an_idle_session_ends(target: PostgresServer) -> None:
    with relay(target, DATABASE, limits={"idle": "300ms"}) as proxy, proxy.connect(autocommit=True) as connection:
        connection.execute("select 1")
        assert select.select([connection.fileno()], [], [], PATIENCE)[0]
        with pytest.raises(psycopg.OperationalError, match="idle"):
            connection.execute("select 1")


def test_one_person_has_so_many_sessions_at_a_proxy(target: PostgresServer) -> None:
    with relay(target, DATABASE, limits={"sessions_per_subject": 1}) as proxy, proxy.connect() as connection:
        connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="as many sessions at this proxy"):
            proxy.connect()
        connection.execute("select 1")


def test_a_proxy_has_so_many_sessions(target: PostgresServer) -> None:
    with (
        relay(target, DATABASE, limits={"sessions": 1, "sessions_per_subject": 1}) as proxy,
        proxy.connect() as connection,
    ):
        connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="serves as many sessions as it may"):
            proxy.connect()


@contextlib.asynccontextmanager
async def listening(*, connections: int, per_address: int) -> AsyncIterator[tuple[Listener, list[Leg]]]:
    """A listener whose connections say hello and stay."""
    legs: list[Leg] = []
    listener = Listener(TcpAddress("127.0.0.1", 0), connections=connections, limit=100, per_address=per_address)

    async def one(leg: Leg) -> None:
        legs.append(leg)
        leg.write(b"h")
        await asyncio.get_running_loop().create_future()

    serving = asyncio.create_task(listener.serve(one))
    await listener.ready.wait()
    try:
        yield listener, legs
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def accepted(listener: Listener, opened: list[asyncio.StreamWriter]) -> bool:
    assert isinstance(listener.address, TcpAddress)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
    opened.append(writer)
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read(1) == b"h"
        except ConnectionError:
            return False


def test_of_one_address_so_many_come_that_are_not_known() -> None:
    async def scenario() -> None:
        opened: list[asyncio.StreamWriter] = []
        async with listening(connections=10, per_address=1) as (listener, legs):
            assert [await accepted(listener, opened) for _ in range(2)] == [True, False]
            listener.known_now(legs[0])
            assert [await accepted(listener, opened) for _ in range(2)] == [True, False]
            for writer in opened:
                writer.close()

    asyncio.run(scenario())


def test_a_listener_has_so_many_connections() -> None:
    async def scenario() -> None:
        opened: list[asyncio.StreamWriter] = []
        async with listening(connections=2, per_address=10) as (listener, _):
            assert [await accepted(listener, opened) for _ in range(3)] == [True, True, False]
            for writer in opened:
                writer.close()

    asyncio.run(scenario())
