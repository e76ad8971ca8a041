"""One HTTP/2 connection of a client (RFC 9113), on h2: frames to streams, and what streams send to frames.

Each stream is served like a client connection, by a session machine of its own. Here are what streams share: the bounds
on frames (`meter`) and on streams, the clock, fairness in sending, and the end. What arrives is always read, so that a
stream that is reset is known to be; what may pile up by that is bounded by the windows, by the meter and by the number
of streams that are served.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from pep.core.leg import Leg
from pep.http.http2.fields import Malformed, RawField
from pep.http.http2.meter import FRAME_BYTES, Meter, Violation
from pep.http.http2.opening import Limits, opened
from pep.http.http2.stream import Stream

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CONNECTION_CREDIT: Final = 32 * 1024
_TABLE: Final = 4096  # bytes of the table of fields that a client may have this side keep
_MOST_UNREAD: Final = 256 * 1024
_TICK: Final = 1.0
# A client whose request is answered before its end has so long to end it.
_LINGER: Final = 2.0


class Http2Connection:
    """One connection.

    `serve` serves a stream to its end; `may_open` says whether one more may be; `fault` puts a refusal on record.
    """

    def __init__(
        self,
        leg: Leg,
        serve: Callable[[Stream], Awaitable[None]],
        *,
        limits: Limits,
        may_open: Callable[[], bool],
        fault: Callable[[str], None],
    ) -> None:
        self._leg = leg
        self._serve = serve
        self._limits = limits
        self._may_open = may_open
        self._fault = fault
        self._h2 = opened(limits)
        self._meter = Meter(limits.head_bytes)
        self._streams: dict[int, Stream] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._writable = True
        self._greeted = False  # the client's own settings are here
        self._going = False
        self._ended = False
        self._credit = 0
        self._unread = 0  # bytes that were written although the client takes none
        self._pumping = False
        self._began = self._active = self._moved = self._loop.time()

    async def run(self) -> None:
        """Until the connection is over, and what it served as well."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                watch = tasks.create_task(self._watch())
                self._flush()
                self._leg.attach(self)
                try:
                    await self._over
                finally:
                    self._end()
                    watch.cancel()
        except BaseException:
            self._leg.abort()
            raise
        await self._leg.finish()

    def go_away(self) -> None:
        """No more streams; the connection ends with those that are served."""
        if self._going or self._ended:
            return
        self._going = True
        # Not by h2, to which nothing may follow it.
        frame = GoAwayFrame(0)
        frame.last_stream_id = self._h2.highest_inbound_stream_id
        self._flush()
        self._leg.write(frame.serialize())
        self._settle()

    # --- what the leg reports -----------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._receive(data)
        except Violation as violation:
            self._fail(violation.code, violation.reason)
        except Exception as error:  # noqa: BLE001 - raised where the connection is awaited
            self._end(error)

    def ended(self) -> None:
        self._end()

    def writable(self, *, yes: bool) -> None:
        self._writable = yes
        self._moved = self._loop.time()
        if yes:
            self._unread = 0
            self.sendable()

    # --- what streams need: see `Wire` --------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        return self._leg.peer

    def peer_certificate(self) -> bytes | None:
        return self._leg.peer_certificate()

    def gone(self) -> bool:
        return self._ended or self._leg.gone()

    def sendable(self) -> None:
        if not self._pumping and not self._ended:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def credit(self, stream: int, size: int) -> None:
        if not self._ended:
            with contextlib.suppress(ProtocolError):  # the client has closed it in the same breath
                self._h2.increment_flow_control_window(size, stream)
            self.sendable()

    def may_come(self, stream: int) -> int:
        try:
            return self._h2.remote_flow_control_window(stream)
        except ProtocolError:  # it is closed
            return 0

    def reset(self, stream: int, code: ErrorCodes) -> None:
        if not self._ended:
            with contextlib.suppress(ProtocolError):  # it is closed already
                self._h2.reset_stream(stream, code)
            self.sendable()

    def send_head(self, stream: int, fields: list[RawField], *, end: bool) -> None:
        self._h2.send_headers(stream, fields, end_stream=end)

    def send_data(self, stream: int, data: memoryview, *, end: bool) -> int:
        if not data:
            self._h2.end_stream(stream)
            return 0
        size = min(len(data), self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, FRAME_BYTES)
        if size <= 0:
            return 0
        self._h2.send_data(stream, bytes(data[:size]), end_stream=end and size == len(data))
        self._meter.sent()
        return size

    # --- receiving ----------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        passed = self._meter.feed(data, self._loop.time())
        try:
            events = self._h2.receive_data(passed)
        except ProtocolError as error:
            # h2 has said why to the client. Its words may repeat what that sent.
            self._broken(f"the client broke the protocol: {type(error).__name__}")
            return
        for event in events:
            if self._ended:
                return
            self._on(event)
        if self._meter.leaving:
            self._going = True
        self._settle()
        self.sendable()

    def _on(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(number), headers=headers):
                self._open(number, _fields(headers), ended=event.stream_ended is not None)
            case DataReceived(stream_id=int(number), data=data, flow_controlled_length=size):
                self._data(number, bytes(data or b""), size or 0, last=event.stream_ended is not None)
            case TrailersReceived(stream_id=int(number), headers=headers):
                self._checked(number, lambda stream: stream.request_ended(_fields(headers)))
            case StreamEnded(stream_id=int(number)):
                self._checked(number, lambda stream: stream.request_ended())
            case StreamReset(stream_id=int(number), remote_reset=remote):
                if not remote:
                    self._meter.reset(self._loop.time())
                if (stream := self._streams.get(number)) is not None:
                    stream.leave()
            case RemoteSettingsChanged():
                self._greeted = True
                # However much of it the client offers to remember.
                self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, _TABLE)
            case _:
                pass  # pings and settings are answered by h2; priorities are not followed; windows are looked at

    def _open(self, number: int, fields: list[RawField], *, ended: bool) -> None:
        if self._going or self._full() or not self._may_open():
            self._refuse(number, ErrorCodes.REFUSED_STREAM)
            return
        try:
            stream = Stream(self, number, fields, ended=ended)
        except Malformed as malformed:
            self._refuse(number, ErrorCodes.PROTOCOL_ERROR)
            self._fault(f"a malformed request: {malformed}")
            return
        self._streams[number] = stream
        assert self._tasks is not None, "nothing arrives before the connection runs"
        self._tasks.create_task(self._served(stream))

    def _full(self) -> bool:
        """Whether as many are served as may be; a stream that is over takes a moment to be cleared away."""
        served = sum(not stream.done for stream in self._streams.values())
        return served >= self._limits.streams or len(self._streams) >= 2 * self._limits.streams

    async def _served(self, stream: Stream) -> None:
        try:
            await self._serve(stream)
            await stream.let_end(_LINGER)
        finally:
            stream.abort()
            del self._streams[stream.number]
            self._active = self._loop.time()
            self._settle()

    def _data(self, number: int, data: bytes, size: int, *, last: bool) -> None:
        # The connection's window is not held back for one stream: the others share it.
        self._credit += size
        if self._credit >= _CONNECTION_CREDIT:
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0
        if size and not data and not last:
            self._meter.nothing(self._loop.time())
        self._checked(number, lambda stream: stream.received(data, size))

    def _checked(self, number: int, step: Callable[[Stream], None]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        try:
            step(stream)
        except Malformed as malformed:
            self._refuse(number, ErrorCodes.PROTOCOL_ERROR)
            stream.leave()
            self._fault(f"a malformed request: {malformed}")

    def _refuse(self, number: int, code: ErrorCodes) -> None:
        self._meter.reset(self._loop.time())
        try:
            self._h2.reset_stream(number, code)
        except ProtocolError:
            # What is refused has ended its stream, behind an answer that has ended as well: to h2 it is closed.
            frame = RstStreamFrame(number)
            frame.error_code = code
            self._flush()
            self._leg.write(frame.serialize())
        self.sendable()

    # --- sending ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """A frame of each stream in turn, as long as the client takes them."""
        self._pumping = False
        if self._ended:
            return
        try:
            going = [stream for stream in self._streams.values() if stream.waiting]
            while going and self._writable:
                going = [stream for stream in going if stream.send_one()]
                self._flush()
            self._flush()
        except Violation as violation:
            self._fail(violation.code, violation.reason)
        except Exception as error:  # noqa: BLE001 - raised where the connection is awaited
            self._end(error)

    def _flush(self) -> None:
        if not (data := self._h2.data_to_send()):
            return
        if not self._writable:
            # Answers to frames that cost the client nothing, which does not read them.
            self._unread += len(data)
            if self._unread > _MOST_UNREAD:
                raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, "the client does not read what is answered")
        self._leg.write(data)

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ends what takes too long."""
        marks: dict[int, tuple[int, float]] = {}
        limits = self._limits
        while True:
            await asyncio.sleep(min(_TICK, limits.head / 4, limits.idle / 4, limits.stalled / 4))
            now = self._loop.time()
            block = self._meter.block_since
            if not self._greeted and now - self._began > limits.head:
                self._fail(ErrorCodes.SETTINGS_TIMEOUT, "the client did not begin in time")
            elif block is not None and now - block > limits.head:
                self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "a request's head did not arrive in time")
            elif not self._writable and now - self._moved > limits.stalled:
                self._end()
                self._leg.abort()
            elif not self._streams and now - self._active > limits.idle:
                self.go_away()
            else:
                marks = self._stalled(marks, now)

    def _stalled(self, marks: dict[int, tuple[int, float]], now: float) -> dict[int, tuple[int, float]]:
        """Gives up streams of which the client takes nothing; what was seen of the others, and when it changed."""
        seen = {}
        for number, stream in tuple(self._streams.items()):
            if not stream.waiting:
                continue
            moved, since = marks.get(number, (-1, now))
            seen[number] = (stream.moved, since if stream.moved == moved else now)
            if now - seen[number][1] > self._limits.stalled:
                stream.abort()
        return seen

    # --- the end ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """A connection on which no more streams are opened ends with the last one."""
        if self._going and not self._streams and not self._ended:
            self._flush()
            self._end()

    def _fail(self, code: ErrorCodes, reason: str) -> None:
        if not self._ended:
            self._h2.close_connection(code)
            self._broken(reason)

    def _broken(self, reason: str) -> None:
        self._leg.write(self._h2.data_to_send())
        try:
            self._fault(reason)
        except Exception as error:  # noqa: BLE001 - raised where the connection is awaited
            self._end(error)
        else:
            self._end()

    def _end(self, error: Exception | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        for stream in tuple(self._streams.values()):
            stream.leave()
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)


def _fields(headers: Any) -> list[RawField]:
    return [(bytes(name), bytes(value)) for name, value in headers]
