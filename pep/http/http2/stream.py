"""One stream, as the client connection that the driver and the session machine take it for.

What the client sends becomes HTTP/1.1 (`fields`, chunks), and what the machine writes is read back into a head, a body
and an end. The stream holds at most what its window lets the client send and what the machine writes before the target
is paused. A client that resets the stream has left, as one that closes its connection.

An answer may come before the end of its request, whose rest nobody wants then. It is still looked at for a while, as
far as the window goes, and goes nowhere: a client that ends its request in good order is not reset, and one whose
request turns out to be malformed hears of it (RFC 9113, sections 8.1 and 8.1.1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from h2.errors import ErrorCodes

from pep.core.leg import Receiver
from pep.http.codec import LAST_CHUNK, ResponseCodec, chunk
from pep.http.http2.fields import (
    Malformed,
    RawField,
    StreamHead,
    request_head,
    response_fields,
    trailer_fields,
    trailer_section,
)
from pep.http.messages import BodyData, EndOfMessage, ResponseHead

# Unsent bytes of a response, above which the target is not read, and below which it is read again.
WRITE_HIGH: Final = 64 * 1024
WRITE_LOW: Final = 16 * 1024
# So much of its window is given back to the client at once.
CREDIT: Final = 16 * 1024


class Wire(Protocol):
    """What a stream needs of its connection."""

    @property
    def peer(self) -> str: ...

    def peer_certificate(self) -> bytes | None: ...

    def gone(self) -> bool: ...

    def sendable(self) -> None:
        """A stream has something to send."""

    def credit(self, stream: int, size: int) -> None:
        """The client may send so many bytes more on that stream."""

    def may_come(self, stream: int) -> int:
        """How many bytes that is in all."""

    def reset(self, stream: int, code: ErrorCodes) -> None: ...

    def send_head(self, stream: int, fields: list[RawField], *, end: bool) -> None: ...

    def send_data(self, stream: int, data: memoryview, *, end: bool) -> int:
        """Sends as much as one frame and the windows take; returns how much that was."""


@dataclass(frozen=True, slots=True)
class _End:
    trailers: list[RawField]


class Stream:
    """One request and its response. Raises Malformed."""

    def __init__(self, wire: Wire, number: int, fields: list[RawField], *, ended: bool) -> None:
        head: StreamHead = request_head(fields, ended=ended)
        self.number = number
        self._wire = wire
        self._chunked = head.chunked
        self._length = head.length
        self._inbox: deque[tuple[bytes, int]] = deque()
        # What would make the request whole: a length is believed once the stream has ended where it says.
        self._last: list[tuple[bytes, int]] = []
        self._take(head.text, 0, ended=ended)
        self._credit = 0
        self._receiver: Receiver | None = None
        self._pauses: set[str] = set()
        self._request_over = ended
        self._left = False  # the client has, or this side has reset the stream
        self._response = ResponseCodec()
        self._response.expect(head.method)
        self._outbox: deque[list[RawField] | memoryview | _End] = deque()
        self._queued = 0
        self._throttled = False
        self._answered = False  # the end of the response is queued or sent
        self._closing = False  # nobody reads the request any more
        self._sent = asyncio.Event()
        self._settled = asyncio.Event()  # the request has ended, or the stream has
        if ended:
            self._settled.set()
        self.moved = 0  # frames sent, ever

    # --- for the connection -------------------------------------------------------------------------------------------

    def received(self, data: bytes, size: int) -> None:
        """A part of the body, which took `size` bytes of the window. Raises Malformed."""
        if self._left or self._request_over:
            return
        if self._chunked:
            data = chunk(data) if data else b""
        elif len(data) > self._length:
            raise Malformed("the body is longer than it says")
        else:
            self._length -= len(data)
        if not self._closing:
            self._take(data, size, ended=False)
            self._deliver()
        elif self._sent.is_set() and self._wire.may_come(self.number) <= 0:
            self._unwanted()

    def request_ended(self, trailers: list[RawField] | None = None) -> None:
        """Nothing more of the request comes. Raises Malformed."""
        if self._left or self._request_over:
            return
        end = LAST_CHUNK if trailers is None else trailer_section(trailers)
        if not self._chunked:
            # There is no place for trailers behind a body of known length, and none of them is forwarded anyway.
            end = b""
            if self._length:
                raise Malformed("the body is shorter than it says")
        self._request_over = True
        self._settled.set()
        self._inbox += (*self._last, (end, 0))
        self._last.clear()
        self._deliver()

    def leave(self) -> None:
        """The client has reset the stream, or its connection is over."""
        if self._left:
            return
        self._left = True
        self._inbox.clear()
        self._last.clear()
        self._outbox.clear()
        self._queued = 0
        self._sent.set()
        self._settled.set()
        if self._receiver is not None:
            self._unthrottle()
            self._receiver.ended()

    @property
    def done(self) -> bool:
        """Whether nothing more is sent or received on it, however long it takes to be cleared away."""
        return self._left or self._sent.is_set()

    async def let_end(self, seconds: float) -> None:
        """Once the answer is sent: gives the client so long to end its request, and then says that the rest of it is
        not wanted."""
        if self._wire.may_come(self.number) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
        self._unwanted()

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._outbox)

    def send_one(self) -> bool:
        """Sends one frame; whether there was one to send and the client's windows took it."""
        if not self._outbox:
            return False
        item = self._outbox[0]
        follows = self._outbox[1] if len(self._outbox) > 1 else None
        end = isinstance(follows, _End) and not follows.trailers
        match item:
            case _End(trailers):
                self._outbox.popleft()
                if trailers:
                    self._wire.send_head(self.number, trailers, end=True)
                else:
                    self._wire.send_data(self.number, memoryview(b""), end=True)
            case memoryview():
                sent = self._wire.send_data(self.number, item, end=end)
                if not sent:
                    return False
                self._queued -= sent
                if sent < len(item):
                    self._outbox[0] = item[sent:]
                    end = False
                else:
                    self._outbox.popleft()
            case fields:
                self._outbox.popleft()
                self._wire.send_head(self.number, fields, end=end)
        if end:
            self._outbox.popleft()
        self.moved += 1
        if self._queued <= WRITE_LOW:
            self._unthrottle()
        if not self._outbox:
            self._all_sent()
        return True

    # --- for the driver: see `pep.core.leg.Leg` -----------------------------------------------------------------------

    @property
    def peer(self) -> str:
        return self._wire.peer

    def peer_certificate(self) -> bytes | None:
        return self._wire.peer_certificate()

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._deliver()
        if self._left:
            receiver.ended()

    def write(self, data: bytes) -> None:
        if self._left:
            return
        self._response.feed(data)
        while (part := self._response.next()) is not None:
            match part:
                case ResponseHead():
                    self._outbox.append(response_fields(part))
                case BodyData(content):
                    self._outbox.append(memoryview(content))
                    self._queued += len(content)
                case EndOfMessage(trailers):
                    self._outbox.append(_End(trailer_fields(trailers)))
                    self._answered = True
                    break
        if self._queued > WRITE_HIGH and not self._throttled and self._receiver is not None:
            self._throttled = True
            self._receiver.writable(yes=False)
        self._wire.sendable()

    def pause(self, reason: str) -> None:
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        self._pauses.discard(reason)
        self._deliver()

    def paused_for(self, reason: str) -> bool:
        return reason in self._pauses

    def gone(self) -> bool:
        return self._left or self._wire.gone()

    def linger(self) -> None:
        """Nothing to do: see `let_end`."""

    def close(self) -> None:
        """Once what was written is sent: a response that is not whole is reset, never ended."""
        self._closing = True
        self._inbox.clear()
        self._last.clear()
        if not self._outbox:
            self._all_sent()

    def abort(self) -> None:
        if not self.done:
            self._reset(ErrorCodes.INTERNAL_ERROR)
            self.leave()

    async def finish(self) -> None:
        """Until what was written is sent; the connection resets a stream whose client takes nothing."""
        self.close()
        await self._sent.wait()

    # ------------------------------------------------------------------------------------------------------------------

    def _all_sent(self) -> None:
        if not self._closing or self._left or self._sent.is_set():
            return
        self._sent.set()
        if not self._answered:
            self._reset(ErrorCodes.INTERNAL_ERROR)
            self.leave()

    def _unwanted(self) -> None:
        """The answer is whole, and the rest of the request is not wanted (RFC 9113, section 8.1)."""
        if not self._left and not self._request_over:
            self._reset(ErrorCodes.NO_ERROR)
            self.leave()

    def _reset(self, code: ErrorCodes) -> None:
        self._wire.reset(self.number, code)

    def _unthrottle(self) -> None:
        if self._throttled and self._receiver is not None:
            self._throttled = False
            self._receiver.writable(yes=True)

    def _take(self, data: bytes, size: int, *, ended: bool) -> None:
        whole = not self._chunked and not self._length and not ended
        (self._last if whole else self._inbox).append((data, size))

    def _deliver(self) -> None:
        """What is there of the request goes to the machine; only then the client may send as much again."""
        if self._closing:
            self._inbox.clear()
        while self._inbox and not self._pauses and self._receiver is not None:
            data, size = self._inbox.popleft()
            self._credit += size
            if data:
                self._receiver.received(data)
        if self._credit >= CREDIT and not self._request_over and not self._left:
            credit, self._credit = self._credit, 0
            self._wire.credit(self.number, credit)
