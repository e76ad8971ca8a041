"""Bytes in, frames out: cuts the two directions of a PostgreSQL connection into messages.

Implements the framing of "Message Flow" and "Message Formats" (protocol 3.0). No socket, no clock; a remainder is kept
until the rest arrives. What a frame holds is not read here, except in start-up packets, whose code is their type.

`feed` takes the bytes in at once and returns a lazy iterator over the events; one that is not exhausted loses nothing,
its successor goes on where it stopped. So everything before a violation is delivered before the error is raised, and
a setting changed between two events holds from the next frame on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pep.core.errors import ClientProtocolError, UpstreamProtocolError
from pep.postgres.frames import PROTOCOL_VIOLATION, BackendTag, Frame, FrontendTag
from pep.postgres.frontend import decode_startup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pep.postgres.frontend import Startup

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

# A header is the type byte and a length that includes itself but not the type byte.
_HEADER: Final = struct.Struct(">BI")
_HEADER_SIZE: Final = 5
_SHORTEST: Final = 4

# No server takes or sends more: its buffers end one byte short of 1 GiB (MaxAllocSize).
_LONGEST: Final = 0x3FFFFFFF

# The limits of start-up packets, without their length field (MAX_STARTUP_PACKET_LENGTH of the server).
_SHORTEST_STARTUP: Final = 4
_LONGEST_STARTUP: Final = 10_000


@dataclass(frozen=True, slots=True)
class Partial:
    """A piece of one frame too large to be held whole. The first piece begins with the header.

    The pieces of a frame come in order and, put together, are the frame exactly.
    """

    tag: int
    raw: bytes
    last: bool
    first: bool = False


@dataclass(frozen=True, slots=True)
class Oversized:
    """A frame over the limit, said once when its header is seen; its payload is dropped as it arrives."""

    tag: int
    length: int


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive whole frames of one bulk type (DataRow or CopyData) as they came."""

    tag: int
    count: int
    raw: bytes

    def frames(self) -> Iterator[Frame]:
        position, raw, tag = 0, self.raw, self.tag
        while position < len(raw):
            end = position + 1 + _HEADER.unpack_from(raw, position)[1]
            yield Frame(tag, raw[position + _HEADER_SIZE : end])
            position = end


class StartupCodec:
    """Cuts what a client sends before its session begins; these packets have no type byte.

    After a packet the bytes that follow it are in `rest`: none may follow an SSLRequest (they would be plaintext that
    an attacker put before the TLS handshake), and those behind a StartupMessage belong to the session's codec.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Startup | None:
        """The next packet, if it is complete. Raises ClientProtocolError."""
        self._buffer += data
        if len(self._buffer) < _SHORTEST:
            return None
        end = int.from_bytes(self._buffer[:4])
        if not _SHORTEST_STARTUP <= end - 4 <= _LONGEST_STARTUP:
            raise ClientProtocolError(PROTOCOL_VIOLATION, "invalid length of startup packet")
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[4:end])
        del self._buffer[:end]
        return decode_startup(payload)


class FrontendCodec:
    """Cuts what a client sends after its start-up packet.

    `max_statement` bounds every frame that must be held whole, header not counted; it may be changed at any time (a
    login needs far less than a session). CopyData is never refused for its size: over `max_copy_frame` it comes in
    pieces. A frame of an unknown type is a frame; refusing it is the session's task.
    """

    __slots__ = ("_buffer", "_dropping", "_left", "_tag", "max_copy_frame", "max_statement")

    def __init__(self, *, max_statement: int = _MIB, max_copy_frame: int = 64 * _KIB) -> None:
        self.max_statement = max_statement
        self.max_copy_frame = max_copy_frame
        self._buffer = bytearray()
        self._tag = 0
        self._left = 0  # bytes still to come of the frame that is being dropped or handed on in pieces
        self._dropping = False

    @property
    def rest(self) -> bytes:
        """What was received and not yet handed on."""
        return bytes(self._buffer)

    @property
    def mid_frame(self) -> bool:
        """Whether the bytes so far end inside a frame: at end of file, whether the client's last one was cut."""
        return bool(self._buffer) or self._left > 0

    def feed(self, data: bytes) -> Iterator[Frame | Partial | Oversized]:
        """The events of these bytes. Iterating raises ClientProtocolError on a length that cannot be."""
        self._buffer += data
        return self._events()

    def _events(self) -> Iterator[Frame | Partial | Oversized]:
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> Frame | Partial | Oversized | None:
        buffer = self._buffer
        if self._left and self._dropping:
            self._left -= len(_cut(buffer, self._left))
        if self._left:
            return self._piece(first=False) if buffer else None
        if len(buffer) < _HEADER_SIZE:
            return None
        tag, length = _HEADER.unpack_from(buffer)
        if not _SHORTEST <= length <= _LONGEST:
            raise ClientProtocolError(PROTOCOL_VIOLATION, "invalid message length")
        if tag == FrontendTag.COPY_DATA:
            if length > self.max_copy_frame:
                self._tag, self._left, self._dropping = tag, length + 1, False
                return self._piece(first=True)
        elif length - 4 > self.max_statement:
            del buffer[:_HEADER_SIZE]
            self._left, self._dropping = length - 4, True
            return Oversized(tag, length)
        if len(buffer) <= length:
            return None
        return Frame(tag, _cut(buffer, length + 1)[_HEADER_SIZE:])

    def _piece(self, *, first: bool) -> Partial:
        raw = _cut(self._buffer, self._left)
        self._left -= len(raw)
        return Partial(self._tag, raw, self._left == 0, first)


class BackendCodec:
    """Cuts what a server sends.

    DataRow and CopyData come as runs, so that a response which needs no change is forwarded in a few large pieces and
    only the messages around it are looked at. A single one of them over `large` comes in pieces while `stream_large`
    is set, which is right only for a response that needs no change; else it is held whole up to `max_row`.
    """

    __slots__ = ("_buffer", "_left", "_position", "_tag", "large", "max_row", "stream_large")

    def __init__(self, *, large: int = 64 * _KIB, max_row: int = 64 * _MIB, stream_large: bool = False) -> None:
        self.large = large
        self.max_row = max_row
        self.stream_large = stream_large
        self._buffer = bytearray()
        self._position = 0  # everything before it has been handed on
        self._tag = 0
        self._left = 0  # bytes still to come of the frame that is being handed on in pieces

    @property
    def mid_frame(self) -> bool:
        """Whether the bytes so far end inside a frame: at end of file, whether the upstream's last one was cut."""
        return len(self._buffer) > self._position or self._left > 0

    def feed(self, data: bytes) -> Iterator[Frame | Run | Partial]:
        """The events of these bytes. Iterating raises UpstreamProtocolError."""
        del self._buffer[: self._position]
        self._position = 0
        self._buffer += data
        return self._events()

    def _events(self) -> Iterator[Frame | Run | Partial]:
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> Frame | Run | Partial | None:
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if self._left:
            return self._piece(first=False) if available else None
        if available < _HEADER_SIZE:
            return None
        tag, length = _HEADER.unpack_from(buffer, position)
        if not _SHORTEST <= length <= _LONGEST:
            raise UpstreamProtocolError(PROTOCOL_VIOLATION, "the server sent an invalid message length")
        bulk = tag in (BackendTag.DATA_ROW, BackendTag.COPY_DATA)
        if bulk and length > self.large and self.stream_large:
            self._tag, self._left = tag, length + 1
            return self._piece(first=True)
        if length > self.max_row:
            raise UpstreamProtocolError(PROTOCOL_VIOLATION, "the server sent a message over the limit")
        if available <= length:
            return None
        if bulk:
            return self._run(tag)
        self._position = end = position + 1 + length
        return Frame(tag, bytes(buffer[position + _HEADER_SIZE : end]))

    def _run(self, tag: int) -> Run:
        """All whole frames of this type from here on; the first is known to be whole and within limits."""
        buffer, unpack = self._buffer, _HEADER.unpack_from
        longest = min(self.large, self.max_row) if self.stream_large else self.max_row
        position, size, count = self._position, len(buffer), 0
        last_header = size - _HEADER_SIZE
        while position <= last_header:
            found, length = unpack(buffer, position)
            end = position + length + 1
            # Whatever is odd about the next frame ends the run; `_next` then says what is odd about it.
            if found != tag or end > size or not _SHORTEST <= length <= longest:
                break
            position = end
            count += 1
        start, self._position = self._position, position
        return Run(tag, count, _copy(buffer, start, position))

    def _piece(self, *, first: bool) -> Partial:
        start = self._position
        self._position = min(start + self._left, len(self._buffer))
        self._left -= self._position - start
        return Partial(self._tag, _copy(self._buffer, start, self._position), self._left == 0, first)


def _copy(buffer: bytearray, start: int, end: int) -> bytes:
    # By way of a view the bytes are copied once, not twice; released at once, it does not lock the buffer's size.
    with memoryview(buffer) as view:
        return bytes(view[start:end])


def _cut(buffer: bytearray, size: int) -> bytes:
    """Takes up to so many bytes off the front."""
    taken = _copy(buffer, 0, size)
    del buffer[: len(taken)]
    return taken
