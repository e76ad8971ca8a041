"""A stream between a driver and a connection, without either: what is held back, and when."""

import asyncio

import pytest
from h2.errors import ErrorCodes

from pep.http.http2.fields import Malformed, RawField
from pep.http.http2.stream import CREDIT, WRITE_HIGH, Stream

FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"api.test"), (b":path", b"/a")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


class Wire:
    """A connection whose client takes `room` bytes."""

    peer = "test"

    def __init__(self, room: int = 0, window: int = 65_535) -> None:
        self.room = room
        self.window = window
        self.sent: list[object] = []
        self.credits = 0

    def peer_certificate(self) -> None: ...

    def gone(self) -> bool:
        return False

    def sendable(self) -> None: ...

    def credit(self, stream: int, size: int) -> None:
        self.credits += size

    def may_come(self, stream: int) -> int:
        return self.window

    def reset(self, stream: int, code: ErrorCodes) -> None:
        self.sent.append(code)

    def send_head(self, stream: int, fields: list[RawField], *, end: bool) -> None:
        self.sent.append((dict(fields)[b":status"], end))

    def send_data(self, stream: int, data: memoryview, *, end: bool) -> int:
        size = min(len(data), self.room)
        self.room -= size
        if size or not data:
            self.sent.append((bytes(data[:size]), end and size == len(data)))
        return size


class Driver:
    """What a driver is told."""

    def __init__(self) -> None:
        self.data = b""
        self.over = False
        self.may_write = True

    def received(self, data: bytes) -> None:
        self.data += data

    def ended(self) -> None:
        self.over = True

    def writable(self, *, yes: bool) -> None:
        self.may_write = yes


def served(wire: Wire, *more: RawField, ended: bool = False) -> tuple[Stream, Driver]:
    stream, driver = Stream(wire, 1, [*FIELDS, *more], ended=ended), Driver()
    stream.attach(driver)
    return stream, driver


def test_a_window_is_given_back_for_what_is_taken() -> None:
    wire = Wire()
    stream, driver = served(wire)
    before = len(driver.data)
    stream.pause("backlog")
    for _ in range(4):
        stream.received(b"x" * 16_000, 16_000)
    assert (len(driver.data), wire.credits) == (before, 0)
    stream.resume("backlog")
    assert driver.data.count(b"x") == 64_000
    assert 64_000 - CREDIT < wire.credits <= 64_000


def test_the_target_is_stopped_by_what_the_client_does_not_take() -> None:
    wire = Wire()
    stream, driver = served(wire, ended=True)
    stream.write(HEAD + b"x" * WRITE_HIGH)
    assert driver.may_write
    stream.write(b"x")
    assert not driver.may_write
    assert stream.send_one()
    assert not stream.send_one()
    wire.room = 1_000_000
    assert stream.send_one()
    assert stream.send_one()
    assert driver.may_write


def test_a_length_is_believed_once_the_stream_ends() -> None:
    stream, driver = served(Wire(), (b"content-length", b"6"))
    stream.received(b"abc", 3)
    assert driver.data.endswith(b"\r\n\r\nabc")
    stream.received(b"def", 3)
    assert driver.data.endswith(b"\r\n\r\nabc")
    stream.request_ended()
    assert driver.data.endswith(b"\r\n\r\nabcdef")


def test_a_length_of_nothing_as_well() -> None:
    stream, driver = served(Wire(), (b"content-length", b"0"))
    assert driver.data == b""
    stream.request_ended()
    assert b"content-length: 0" in driver.data.lower()


def test_a_client_that_resets_has_left_and_nothing_of_it_is_told_any_more() -> None:
    stream, driver = served(Wire())
    stream.pause("backlog")
    stream.received(b"abc", 3)
    stream.leave()
    assert driver.over
    assert stream.gone()
    stream.resume("backlog")
    stream.received(b"def", 3)
    assert b"abc" not in driver.data


def test_how_a_response_ends() -> None:
    async def ending(written: bytes, *, ended: bool) -> list[object]:
        wire = Wire(room=1_000_000)
        stream, _ = served(wire, ended=ended)
        stream.write(written)
        while stream.send_one():
            pass
        await stream.finish()
        await stream.let_end(0)
        return wire.sent

    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    head, last = (b"200", False), (b"ok", True)
    assert asyncio.run(ending(whole, ended=True)) == [head, last]
    assert asyncio.run(ending(whole, ended=False)) == [head, last, ErrorCodes.NO_ERROR]
    assert asyncio.run(ending(chunks + b"0\r\n\r\n", ended=True)) == [head, last]
    assert asyncio.run(ending(chunks, ended=True)) == [head, (b"ok", False), ErrorCodes.INTERNAL_ERROR]
    assert asyncio.run(ending(b"", ended=True)) == [ErrorCodes.INTERNAL_ERROR]
    assert asyncio.run(ending(b"HTTP/1.1 204 No Content\r\n\r\n", ended=True)) == [(b"204", True)]


def test_what_comes_behind_the_answer_is_looked_at_and_goes_nowhere() -> None:
    async def answered(wire: Wire, *more: RawField) -> tuple[Stream, Driver]:
        stream, driver = served(wire, *more)
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        while stream.send_one():
            pass
        await stream.finish()
        return stream, driver

    async def ending() -> None:
        wire = Wire(room=1_000_000)
        stream, driver = await answered(wire)
        before = driver.data
        stream.received(b"x" * 40_000, 40_000)
        stream.request_ended()
        await stream.let_end(3600)
        assert (driver.data, wire.credits, wire.sent[2:]) == (before, 0, [])
        stream, _ = await answered(Wire(room=1_000_000))
        with pytest.raises(Malformed):
            stream.request_ended([(b":path", b"/other")])
        stream, _ = await answered(Wire(room=1_000_000), (b"content-length", b"5"))
        with pytest.raises(Malformed):
            stream.received(b"123456", 6)
        # Who has no window left to send in has to be told.
        wire = Wire(room=1_000_000)
        stream, _ = await answered(wire)
        waiting = asyncio.create_task(stream.let_end(3600))
        await asyncio.sleep(0)
        wire.window = 0
        stream.received(b"x", 1)
        await waiting
        assert wire.sent[2:] == [ErrorCodes.NO_ERROR]
        wire = Wire(room=1_000_000, window=0)
        stream, _ = await answered(wire)
        await stream.let_end(3600)
        assert wire.sent[2:] == [ErrorCodes.NO_ERROR]

    asyncio.run(ending())


def test_what_comes_while_the_answer_waits_for_its_client_is_not_kept() -> None:
    wire = Wire()
    stream, driver = served(wire)
    stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    stream.close()
    before = driver.data
    for _ in range(100):
        stream.received(b"x" * 16_000, 16_000)
    assert (driver.data, wire.credits, len(stream._inbox)) == (before, 0, 0)
