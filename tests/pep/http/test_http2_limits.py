"""What one client may cost the others over HTTP/2: floods, stalls, bombs, streams that are opened and forgotten."""

import asyncio
import gc
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pep.core.model import Action, Decision
from pep.http.http2.connection import PREFACE, Http2Connection
from pep.http.http2.opening import Limits
from pep.http.http2.stream import Stream
from tests.http_api import HttpApi
from tests.http_relay import HttpRelay, allow, http_relay, require_approval
from tests.pep.http.frames import PATIENCE, Frames, request
from tests.stub_service import eventually

CALM = 11  # ENHANCE_YOUR_CALM
PROTOCOL_ERROR = 1
REFUSED = 7  # REFUSED_STREAM
CLEAR = {"address": "127.0.0.1:0", "http2": True}
BYTES = ("content-type", "application/octet-stream")


def policy(action: Action) -> Decision:
    return require_approval() if action.properties["method"] == "PUT" else allow()


@pytest.fixture
def relay(api: HttpApi) -> Iterator[HttpRelay]:
    with http_relay(api.url, policy, listen=CLEAR) as running:
        yield running


@pytest.fixture(scope="module")
def enduring(running_api: HttpApi) -> Iterator[HttpRelay]:
    """One proxy for all floods, which have to leave it as it was."""
    none = {"default": {"none": True}}
    with http_relay(running_api.url, policy, listen=CLEAR, credentials=none) as running:
        yield running


def others_are_served(relay: HttpRelay) -> None:
    with Frames(relay.port) as client:
        assert client.answer(request()).status == 200


# --- floods -----------------------------------------------------------------------------------------------------------


def empty_block(number: int) -> HeadersFrame:
    return HeadersFrame(number, b"", flags=["END_HEADERS"])


FLOODS: dict[str, Callable[[int, bytes], bytes]] = {
    "pings": lambda count, _: PingFrame(0, opaque_data=b"12345678").serialize() * count,
    "settings": lambda count, _: SettingsFrame(0, settings={4: 65_535}).serialize() * count,
    "acknowledgements": lambda count, _: SettingsFrame(0, flags=["ACK"]).serialize() * count,
    "priorities": lambda count, _: PriorityFrame(3, depends_on=0).serialize() * count,
    "window updates": lambda count, _: WindowUpdateFrame(0, window_increment=1).serialize() * count,
    "unknown frames": lambda count, _: struct.pack(">HBBBL", 0, 0, 0xEE, 0, 1) * count,
    "empty data": lambda count, block: (
        HeadersFrame(1, block, flags=["END_HEADERS"]).serialize() + DataFrame(1, b"").serialize() * count
    ),
    "padding": lambda count, block: (
        HeadersFrame(1, block, flags=["END_HEADERS"]).serialize()
        + DataFrame(1, b"", pad_length=1, flags=["PADDED"]).serialize() * count
    ),
    "rapid resets": lambda count, block: b"".join(
        HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]).serialize()
        + RstStreamFrame(number, error_code=8).serialize()
        for number in range(1, 2 * count, 2)
    ),
    "malformed requests": lambda count, _: b"".join(
        HeadersFrame(number, b"\x82", flags=["END_HEADERS", "END_STREAM"]).serialize()
        for number in range(1, 2 * count, 2)
    ),
    "resets that are provoked": lambda count, block: b"".join(
        HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]).serialize()
        + WindowUpdateFrame(number, window_increment=2**31 - 1).serialize()
        for number in range(1, 2 * count, 2)
    ),
    "pieces of a head": lambda count, block: (
        HeadersFrame(1, block).serialize() + ContinuationFrame(1, b"").serialize() * count
    ),
    "large pieces of a head": lambda count, _: (
        HeadersFrame(1, b"\0" * 16_000).serialize() + ContinuationFrame(1, b"\0" * 16_000).serialize() * min(count, 8)
    ),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_ends_its_connection_and_no_other(enduring: HttpRelay, flood: Callable[[int, bytes], bytes]) -> None:
    """So many that no machine is slow enough to earn them back: a thousand and 50 a second are free."""
    block = Encoder().encode([*request("/gate"), BYTES])
    with Frames(enduring.port) as client:
        client.raw(flood(6000, block))
        client.finish()
        assert client.goaway is not None
        # As soon as more streams are open than could ever be served, h2 has the first word.
        assert client.goaway[0] in {CALM, PROTOCOL_ERROR}
    others_are_served(enduring)


class Written:
    """A leg on which `first` has arrived, and which keeps what is written to it."""

    peer = "test"

    def __init__(self, first: bytes) -> None:
        self._first = first
        self.data = b""
        self.ready = asyncio.Event()

    def attach(self, receiver: Http2Connection) -> None:
        receiver.received(self._first)
        self.ready.set()

    def write(self, data: bytes) -> None:
        self.data += data

    def abort(self) -> None: ...

    async def finish(self) -> None: ...


def test_a_reset_makes_room_only_once_its_work_is_over() -> None:
    """Whatever the client takes back, no more is worked on than twice what may be open."""
    served: list[int] = []

    async def scenario() -> None:
        leg, over = Written(PREFACE + SettingsFrame(0).serialize()), asyncio.Event()

        async def serve(stream: Stream) -> None:
            served.append(stream.number)
            await over.wait()

        limits = Limits(streams=5)
        connection = Http2Connection(leg, serve, limits=limits, may_open=lambda: True, fault=lambda _: None)
        running = asyncio.create_task(connection.run())
        await leg.ready.wait()
        encoder = Encoder()
        for number in range(1, 61, 2):
            head = HeadersFrame(number, encoder.encode(list(request())), flags=["END_HEADERS", "END_STREAM"])
            connection.received(head.serialize() + RstStreamFrame(number, error_code=8).serialize())
            await asyncio.sleep(0)
        over.set()
        connection.ended()
        await running

    asyncio.run(scenario())
    assert served == list(range(1, 21, 2))


def test_as_many_streams_as_were_offered(api: HttpApi) -> None:
    with http_relay(api.url, policy, listen=CLEAR, limits={"streams": 5}) as relay, Frames(relay.port) as client:
        client.settle()
        assert client.settings[3] == 5
        held = [client.open(request("/gate")) for _ in range(5)]
        more = [client.open(request()) for _ in range(3)]
        assert [client.wait(number).reset for number in more] == [REFUSED] * 3
        others_are_served(relay)
        eventually(lambda: len(api.seen) == 6, PATIENCE)
        api.open()
        assert [client.wait(number).status for number in held] == [200] * 5
        assert client.answer(request()).status == 200
        assert len(api.seen) == 7


def test_all_connections_together_have_a_bound(api: HttpApi) -> None:
    with (
        http_relay(api.url, policy, listen=CLEAR, limits={"connections": 4}) as relay,
        Frames(relay.port) as one,
        Frames(relay.port) as other,
    ):
        for client in (one, other):
            for _ in range(4):
                client.open(request("/gate"))
            client.settle()
        eventually(lambda: len(api.seen) == 8, PATIENCE)
        assert one.wait(one.open(request())).reset == REFUSED
        api.open()
        for client in (one, other):
            for number in (1, 3, 5, 7):
                assert client.wait(number).status == 200
        assert one.answer(request()).status == 200


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_head_that_grows_when_it_is_unpacked(relay: HttpRelay) -> None:
    """A field of 4 KB in the table, and a reference of one byte to it, many times."""
    encoder = Encoder()
    encoder.encode([("x-a", "a" * 3900)])
    with Frames(relay.port) as client:
        bomb = client.block([*request(), ("x-bomb", "a" * 3900)])
        reference = client.block([("x-bomb", "a" * 3900)])
        assert len(reference) == 1
        client.send(HeadersFrame(1, bomb + reference * 10_000, flags=["END_HEADERS", "END_STREAM"]))
        client.finish()
        assert client.goaway is not None
    others_are_served(relay)


def test_a_head_that_is_too_long(api: HttpApi) -> None:
    with http_relay(api.url, policy, listen=CLEAR, http={"header_bytes": "4KiB"}) as relay:
        with Frames(relay.port) as client:
            client.settle()
            assert client.settings[6] == 4096
            assert client.answer(request("/orders/1", ("x-note", "a" * 3000))).status == 200
            client.open(request("/orders/2", ("x-note", "a" * 5000)))
            client.finish()
        others_are_served(relay)
    assert "GET /orders/2" not in api.targets()


def test_more_fields_than_a_request_may_have(relay: HttpRelay, api: HttpApi) -> None:
    with Frames(relay.port) as client:
        assert client.answer(request("/orders/1", *((f"x-{number}", "a") for number in range(200)))).status == 431
        assert client.answer(request()).status == 200
    assert len(api.seen) == 1


def test_a_table_larger_than_needed_is_not_kept_for_a_client(relay: HttpRelay) -> None:
    with Frames(relay.port, settings={1: 1 << 24}) as client:
        client.settle()
        for number in range(1, 4):
            assert client.answer(request(f"/orders/{number}")).status == 200
        assert client.table_size == 4096


def test_a_frame_longer_than_offered_is_not_waited_for(relay: HttpRelay) -> None:
    with Frames(relay.port) as client:
        client.raw(b"\xff\xff\xff\0\0\0\0\0\1")
        client.finish()
        assert client.goaway == (6, 0)


# --- time -------------------------------------------------------------------------------------------------------------


LATE = {
    "a head that does not end": (
        PREFACE + SettingsFrame(0).serialize() + HeadersFrame(1, b"\x82").serialize(),
        "a request's head did not arrive in time",
    ),
    "nothing": (PREFACE, "the client did not begin in time"),
    "a frame that does not end": (PREFACE + SettingsFrame(0).serialize()[:-1], "the client did not begin in time"),
}


@pytest.mark.parametrize(("arrived", "why"), LATE.values(), ids=LATE.keys())
def test_what_does_not_arrive_is_not_waited_for(arrived: bytes, why: str) -> None:
    faults: list[str] = []

    async def serve(_: Stream) -> None:
        raise AssertionError("nothing is asked for")

    async def scenario() -> None:
        limits = Limits(head=0.1)
        leg = Written(arrived)
        await Http2Connection(leg, serve, limits=limits, may_open=lambda: True, fault=faults.append).run()

    asyncio.run(scenario())
    assert faults == [why]


def test_a_beginning_that_is_not_completed_is_read_as_what_it_is(api: HttpApi) -> None:
    with http_relay(api.url, policy, listen=CLEAR, limits={"head": "1s"}) as relay:
        assert relay.raw(PREFACE[:16], timeout=PATIENCE).startswith(b"HTTP/1.1 505 ")


def test_a_connection_without_streams_is_told_to_end(api: HttpApi) -> None:
    with http_relay(api.url, policy, listen=CLEAR, limits={"idle": "200ms"}) as relay, Frames(relay.port) as client:
        client.finish()
        assert client.goaway == (0, 0)


@pytest.mark.parametrize("shut", ["the stream's window", "the connection's window"])
def test_a_window_that_stays_shut_resets_its_stream(api: HttpApi, shut: str) -> None:
    settings = {4: 10} if shut == "the stream's window" else {4: 1 << 20}
    with http_relay(api.url, policy, listen=CLEAR, limits={"stalled": "300ms"}) as relay:
        with Frames(relay.port, greedy=False, settings=settings) as client:
            answer = client.wait(client.open(request("/large/1000000")))
            assert (answer.size, answer.ended, answer.reset) == (min(settings[4], 65_535), False, 2)
            if shut == "the stream's window":
                assert client.wait(client.open(request("/status/204"))).status == 204
        others_are_served(relay)


def test_a_request_whose_body_does_not_come_is_given_up(api: HttpApi) -> None:
    with http_relay(api.url, policy, listen=CLEAR, limits={"stalled": "300ms"}) as relay, Frames(relay.port) as client:
        number = client.open(request("/echo", method="POST"), end=False)
        client.data(number, b"a part")
        assert client.wait(number).status == 408
        assert client.answer(request()).status == 200


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_stream_that_waits_costs_a_bounded_amount(relay: HttpRelay) -> None:
    """A thousand streams, held for people: of every one a machine, a driver and what it asked."""
    clients = [Frames(relay.port) for _ in range(10)]
    try:
        for client in clients:
            assert client.answer(request()).status == 200
        gc.collect()
        before = resident()
        for client in clients:
            for _ in range(100):
                client.open(request(method="PUT"))
        eventually(lambda: len(relay.decisions.approvals) == 1000, PATIENCE)
        assert resident() - before < 1000 * 128 * 1024
        for client in clients:
            for number in list(client.answers)[1:]:
                client.reset(number)
        eventually(lambda: len(relay.decisions.cancelled) == 1000, PATIENCE)
    finally:
        for client in clients:
            client.__exit__()
    others_are_served(relay)


def resident() -> int:
    """Bytes of this process, the proxy's among them."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()
