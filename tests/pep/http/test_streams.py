"""Many streams, slow ends and long bodies: what they cost the proxy, and what ends them.

The proxy is a process of its own here, because its memory is what is measured. The target is a server of a few lines
that counts what it could send and what it got.
"""

import asyncio
import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from tests.http_relay import PASSWORD
from tests.http_relay_child import RelayProcess

MIB = 1 << 20
BLOCK = bytes(256 * 1024)
# A POST without a type may be a form, whose fields are read before it is decided.
OPAQUE = "Content-Type: application/octet-stream"
EVENT = b"data: tick\n\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

# What a stream may hold in the proxy: two sockets' objects, a machine with two codecs, a driver with its tasks, a grant
# and the beginning of the response, for the record. 12 KiB were seen; the rest is for the allocator's rounding.
STREAM_BYTES = 48 * 1024
# A response's beginning is kept for the record, and no more of it.
SAMPLE_BYTES = 64 * 1024
# The same for a connection on which only a part of a head has arrived: no target's side, no decision.
WAITING_BYTES = 32 * 1024
# What a relayed body may add: unsent bytes on both sides up to their marks, a few reads under way, the allocator's
# rounding. It does not depend on the body's length.
RELAY_BYTES = 24 * MIB


class Target:
    """The server. All its state changes in its own thread; numbers may be read from any."""

    def __init__(self) -> None:
        self.port = 0
        self.sent = self.got = 0
        self.connections: set[Served] = set()
        self.streams: set[Served] = set()
        self.loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell_all(self, data: bytes) -> None:
        """An event to every stream."""

        def tell() -> None:
            for stream in self.streams:
                stream.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

        self.loop.call_soon_threadsafe(tell)


class Served(asyncio.Protocol):
    """One connection of the target: /events never ends, /large/N is N bytes, /swallow takes a body, /deaf does not."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._head = b""
        self._body = 0  # still to come
        self._left = 0  # still to be sent
        self._may_write = True
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._target.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._target.connections.discard(self)
        self._target.streams.discard(self)
        self._left = 0

    def data_received(self, data: bytes) -> None:
        if self._body:
            self._swallow(data)
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        head, _, rest = self._head.partition(b"\r\n\r\n")
        self._head = b""
        path = head.split()[1].decode()
        match path.split("/")[1:]:
            case ["events"]:
                self.transport.write(SSE + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                self._target.streams.add(self)
            case ["large", size]:
                self._left = int(size)
                self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                self._go_on()
            case ["deaf"]:
                self.transport.pause_reading()
            case _:
                (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                self._body = int(length.partition(b":")[2])
                self._swallow(rest)

    def _swallow(self, data: bytes) -> None:
        self._body -= len(data)
        self._target.got += len(data)
        if not self._body:
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    def _go_on(self) -> None:
        while self._left and self._may_write:
            piece = BLOCK[: self._left]
            self._left -= len(piece)
            self._target.sent += len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._go_on()


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    made = Target()
    ready, stopping = threading.Event(), asyncio.Event()

    async def main() -> None:
        made.loop = asyncio.get_running_loop()
        server = await made.loop.create_server(lambda: Served(made), "127.0.0.1", 0, backlog=1024)
        made.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stopping.wait()
        server.close()
        left = tuple(made.connections)
        for connection in left:
            connection.transport.abort()
        await asyncio.gather(*(connection.closed.wait() for connection in left))

    runner = threading.Thread(target=lambda: uvloop.run(main()), daemon=True)
    runner.start()
    assert ready.wait(10)
    yield made
    made.loop.call_soon_threadsafe(stopping.set)
    runner.join(10)


@pytest.fixture(scope="module")
def many() -> int:
    """As many connections as the descriptors of this process allow: it has both ends of those of the proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * 1000 + 200
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(300, min(1000, (soft - 200) // 2))


def request(path: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: t", f"Authorization: Bearer {PASSWORD}", *fields, "", ""]
    return "\r\n".join(lines).encode()


@contextlib.contextmanager
def connections(port: int, count: int, buffer: int = 0) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.settimeout(15)
            if buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.connect(("127.0.0.1", port))
            made.append(client)
        yield made


def until(client: socket.socket, what: bytes) -> bytes:
    received = b""
    while what not in received:
        data = client.recv(65536)
        assert data, f"the connection closed after {received!r}"
        received += data
    return received


def drained(client: socket.socket) -> int:
    """How many bytes come until the last chunk: the proxy looks for its credential, so it does not keep the length."""
    count, end, buffer = 0, b"", bytearray(1 << 20)
    while not end.endswith(b"\r\n0\r\n\r\n"):
        got = client.recv_into(buffer)
        assert got, "the response was cut"
        count += got
        end = (end + buffer[max(0, got - 16) : got])[-16:]
    return count


def read_all(clients: list[socket.socket], size: int) -> None:
    """At least `size` bytes of each."""
    left = {client.fileno(): size for client in clients}
    by_number = {client.fileno(): client for client in clients}
    poll = select.poll()
    for number in left:
        poll.register(number, select.POLLIN)
    ends = time.monotonic() + 15
    while left:
        assert time.monotonic() < ends, f"{len(left)} streams have not got everything"
        for number, _ in poll.poll(1000):
            data = by_number[number].recv(1 << 17)
            assert data, "a stream was closed"
            left[number] -= len(data)
            if left[number] <= 0:
                poll.unregister(number)
                del left[number]


def settled(value: Callable[[], int], seconds: float = 0.5) -> int:
    """The value, once it has not changed for so long."""
    last, since, ends = value(), time.monotonic(), time.monotonic() + 10
    while time.monotonic() - since < seconds:
        assert time.monotonic() < ends, "it does not come to rest"
        select.select([], [], [], 0.02)
        if (now := value()) != last:
            last, since = now, time.monotonic()
    return last


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it does not come to that"
        select.select([], [], [], 0.01)


def open_streams(port: int, clients: list[socket.socket]) -> None:
    for client in clients:
        client.sendall(request("/events"))
    for client in clients:
        assert until(client, EVENT).startswith(b"HTTP/1.1 200 ")


def test_idle_streams_hold_little_and_nothing_stays_of_them(target: Target, many: int):
    with RelayProcess(target.url) as relay:
        first = 100
        with connections(relay.port, many) as clients:
            open_streams(relay.port, clients[:first])
            before = relay.rss
            open_streams(relay.port, clients[first:])
            assert len(target.streams) == many
            grown = relay.rss - before
            assert grown < (many - first) * STREAM_BYTES, f"{grown / (many - first) / 1024:.1f} KiB for a stream"
            target.tell_all(EVENT)
            read_all(clients, len(EVENT))
        # Those who left are noticed, and the target's connections go with them.
        eventually(lambda: not target.streams)
        again = relay.rss
        with connections(relay.port, many) as clients:
            open_streams(relay.port, clients)
            assert relay.rss - again < 16 * MIB, "what earlier streams held is used again"


def test_a_stream_holds_no_more_for_having_run_long(target: Target):
    count, event = 100, b"data: " + b"x" * 20_000 + b"\n\n"
    with RelayProcess(target.url) as relay, connections(relay.port, count) as clients:
        before = relay.rss
        open_streams(relay.port, clients)
        for _ in range(4):
            target.tell_all(event)
            read_all(clients, len(event))
        full = relay.rss
        assert full - before < count * (STREAM_BYTES + 2 * SAMPLE_BYTES) + 4 * MIB
        for _ in range(20):
            target.tell_all(event)
            read_all(clients, len(event))
        assert relay.rss - full < 4 * MIB, "40 MB later a stream holds what it held"


@pytest.mark.alone
def test_clients_with_half_a_head_hold_little_and_are_sent_away(target: Target, many: int):
    with RelayProcess(target.url, limits={"head": "2s"}) as relay, connections(relay.port, many) as clients:
        before = relay.rss
        for client in clients:
            client.sendall(request("/large/5")[:-10])
        with connections(relay.port, 1) as (other,):
            # Nobody waits for them.
            began = time.monotonic()
            other.sendall(request("/large/5"))
            until(other, bytes(5))
            assert time.monotonic() - began < 2.0
        assert relay.open_files > many
        grown = relay.rss - before
        assert grown < many * WAITING_BYTES + 4 * MIB, f"{grown / many / 1024:.1f} KiB for a connection"
        # One that goes on sending gets no more time for it.
        dribbling = clients[-1]
        for client in clients[:-1]:
            assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 408 ")
        with contextlib.suppress(ConnectionError):
            dribbling.sendall(b"x")
            while dribbling.recv(65536):
                pass
        assert target.sent <= 5 * 2, "nothing of a request that never was whole reached the target"


def test_slow_readers_hold_back_the_target(target: Target):
    size, count = 200 * MIB, 10
    with RelayProcess(target.url) as relay, connections(relay.port, count, buffer=64 * 1024) as clients:
        before, sent = relay.rss, target.sent
        for client in clients:
            client.sendall(request(f"/large/{size}"))
        # As far as the buffers of the sockets reach: not a tenth of what there is.
        assert settled(lambda: target.sent) - sent < count * size // 10
        assert relay.rss - before < RELAY_BYTES
        assert drained(clients[0]) >= size
        assert relay.peak - before < RELAY_BYTES


def test_a_target_that_does_not_read_holds_back_the_client(target: Target):
    with RelayProcess(target.url) as relay, connections(relay.port, 1) as (client,):
        before, sent = relay.rss, 0
        client.sendall(request("/deaf", OPAQUE, f"Content-Length: {200 * MIB}", method="POST"))
        client.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < 200 * MIB:
                sent += client.send(BLOCK)
        assert sent < 20 * MIB
        assert relay.peak - before < RELAY_BYTES


def test_a_long_response_passes_through_fixed_memory(target: Target):
    size = 512 * MIB
    with RelayProcess(target.url) as relay, connections(relay.port, 1) as (client,):
        before = relay.peak
        client.sendall(request(f"/large/{size}"))
        assert drained(client) >= size
        assert relay.peak - before < RELAY_BYTES


def test_a_long_request_passes_through_fixed_memory(target: Target):
    size = 1024 * MIB
    with RelayProcess(target.url) as relay, connections(relay.port, 1) as (client,):
        before, got = relay.peak, target.got
        client.sendall(request("/swallow", OPAQUE, f"Content-Length: {size}", method="POST"))
        for _ in range(size // len(BLOCK)):
            client.sendall(BLOCK)
        assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        assert target.got - got == size
        assert relay.peak - before < RELAY_BYTES


def test_a_stream_goes_on_without_the_decision_service_and_no_other_request_does(target: Target):
    with RelayProcess(target.url) as relay, connections(relay.port, 2) as (stream, other):
        open_streams(relay.port, [stream])
        relay.tell("down")
        target.tell_all(EVENT)
        assert EVENT in until(stream, EVENT)
        other.sendall(request("/large/5"))
        assert until(other, b"\r\n\r\n").startswith(b"HTTP/1.1 503 ")
        target.tell_all(b"data: still here\n\n")
        until(stream, b"still here")


@pytest.mark.alone
def test_a_revoked_stream_is_cut_within_a_second(target: Target):
    with RelayProcess(target.url) as relay, connections(relay.port, 1) as (stream,):
        open_streams(relay.port, [stream])
        began = time.monotonic()
        relay.tell("revoke")
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := stream.recv(65536):
                received += data
        assert time.monotonic() - began < 1.0
        # Not the end of a whole body.
        assert b"0\r\n\r\n" not in received
        eventually(lambda: not target.streams, 1.0)
