"""Counts the frames of a client before anything reads them, and refuses what costs more than it says. Pure, no clock.

What h2 and hpack bound themselves is the decoded field section and the flow-control windows. Bounded here is the rest:
a frame longer than was offered (which h2 would first buffer), field blocks in pieces (CVE-2024-27316), streams that are
opened and reset (CVE-2023-44487, CVE-2025-8671), and frames that cost an answer or a look and bring nothing
(CVE-2019-9512, 9514, 9515, 9518). GOAWAY frames are taken out: to h2 they end the connection, and a client that sends
one still waits for its answers (RFC 9113, section 6.8).
"""

from __future__ import annotations

from typing import Final

from h2.errors import ErrorCodes

FRAME_BYTES: Final = 16 * 1024
_PREFACE: Final = 24
_HEADER: Final = 9
_END_STREAM, _END_HEADERS = 0x1, 0x4

# Bursts, and how many of them a second are earned back.
CONTROL: Final = (1000, 50.0)  # pings, settings, window updates, priorities, unknown ones
RESETS: Final = (200, 30.0)  # by either side: what a client makes this side reset counts as well
EMPTY: Final = (100, 10.0)  # frames of a body that bring nothing of it
CONTINUATIONS: Final = 16  # of one field block
# A body's frames are answered by window updates, and clients measure the way with pings.
_PER_DATA: Final = 4
_PER_REQUEST: Final = 2


class Violation(Exception):
    """The connection ends, with that code of GOAWAY."""

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Bucket:
    """So many at once, and so many a second."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "_what")

    def __init__(self, size: tuple[int, float], what: str) -> None:
        self._burst, self._rate = size
        self._left = float(self._burst)
        self._at: float | None = None
        self._what = what

    def take(self, now: float) -> None:
        if self._at is not None:
            self.earn((now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, f"too many {self._what}")
        self._left -= 1

    def earn(self, more: float) -> None:
        self._left = min(self._left + more, float(self._burst))


class Meter:
    """The frames of one client."""

    def __init__(self, max_block: int) -> None:
        self._max_block = max_block
        self._header = bytearray()
        self._left = _PREFACE
        self._dropped = False
        self._control = _Bucket(CONTROL, "control frames")
        self._resets = _Bucket(RESETS, "streams that are reset")
        self._empty = _Bucket(EMPTY, "empty frames")
        self._block = 0  # bytes of the field block that is open
        self._pieces = 0
        self.block_since: float | None = None  # when the field block began that is open
        self.leaving = False  # the client has said that it opens no more streams

    def feed(self, data: bytes, now: float) -> bytes:
        """What is for h2 of these bytes. Raises Violation."""
        passed: list[bytes] = []
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                if not self._dropped:
                    passed.append(piece)
                continue
            piece = data[position : position + _HEADER - len(self._header)]
            position += len(piece)
            self._header += piece
            if len(self._header) == _HEADER:
                self._begin(now)
                if not self._dropped:
                    passed.append(bytes(self._header))
                self._header.clear()
        return b"".join(passed)

    def reset(self, now: float) -> None:
        """This side resets a stream, for something that the client did."""
        self._resets.take(now)

    def nothing(self, now: float) -> None:
        """A frame of a body brought only padding."""
        self._empty.take(now)

    def sent(self) -> None:
        """This side has sent a part of a body."""
        self._control.earn(_PER_DATA)

    def _begin(self, now: float) -> None:
        header = self._header
        size, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
        stream = int.from_bytes(header[5:]) & 0x7FFFFFFF
        if size > FRAME_BYTES:
            raise Violation(ErrorCodes.FRAME_SIZE_ERROR, "a frame is longer than what was offered")
        self._left, self._dropped = size, False
        match kind:
            case 0x0:
                self._control.earn(_PER_DATA)
                if not size and not flags & _END_STREAM:
                    self._empty.take(now)
            case 0x1:
                self._control.earn(_PER_REQUEST)
                self._block = self._pieces = 0
                self._in_block(size, flags, now)
            case 0x9:
                self._pieces += 1
                self._in_block(size, flags, now)
            case 0x3:
                self._resets.take(now)
            case 0x7 if not stream and size >= 8 and self.block_since is None:
                self._control.take(now)
                self._dropped = self.leaving = True
            case _:
                self._control.take(now)

    def _in_block(self, size: int, flags: int, now: float) -> None:
        self._block += size
        if self._block > self._max_block or self._pieces > CONTINUATIONS:
            raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, "a field block is too long or comes in too many pieces")
        if flags & _END_HEADERS:
            self.block_since = None
        elif self.block_since is None:
            self.block_since = now
