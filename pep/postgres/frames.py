"""What every PostgreSQL message is made of: type bytes, frames and the fields inside a payload.

Implements "Message Data Types" and "Message Formats" of the PostgreSQL documentation (protocol 3.0).
It knows no single message; those are in `frontend` and `backend`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pep.core.errors import ProtocolError

PROTOCOL_VIOLATION: Final = "08P01"
CHARACTER_NOT_IN_REPERTOIRE: Final = "22021"
FEATURE_NOT_SUPPORTED: Final = "0A000"

_HEADER = struct.Struct(">BI")
_INT16 = struct.Struct(">h")
_UINT16 = struct.Struct(">H")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")


class FrontendTag(enum.IntEnum):
    """Types of the messages that a client sends after its start-up packet."""

    BIND = ord("B")
    CLOSE = ord("C")
    COPY_DATA = ord("d")
    COPY_DONE = ord("c")
    COPY_FAIL = ord("f")
    DESCRIBE = ord("D")
    EXECUTE = ord("E")
    FLUSH = ord("H")
    FUNCTION_CALL = ord("F")
    PARSE = ord("P")
    PASSWORD = ord("p")  # also SASLInitialResponse, SASLResponse and GSSResponse: only the phase tells them apart
    QUERY = ord("Q")
    SYNC = ord("S")
    TERMINATE = ord("X")


class BackendTag(enum.IntEnum):
    """Types of the messages that a server sends."""

    AUTHENTICATION = ord("R")
    BACKEND_KEY_DATA = ord("K")
    BIND_COMPLETE = ord("2")
    CLOSE_COMPLETE = ord("3")
    COMMAND_COMPLETE = ord("C")
    COPY_BOTH_RESPONSE = ord("W")
    COPY_DATA = ord("d")
    COPY_DONE = ord("c")
    COPY_IN_RESPONSE = ord("G")
    COPY_OUT_RESPONSE = ord("H")
    DATA_ROW = ord("D")
    EMPTY_QUERY_RESPONSE = ord("I")
    ERROR_RESPONSE = ord("E")
    FUNCTION_CALL_RESPONSE = ord("V")
    NEGOTIATE_PROTOCOL_VERSION = ord("v")
    NO_DATA = ord("n")
    NOTICE_RESPONSE = ord("N")
    NOTIFICATION_RESPONSE = ord("A")
    PARAMETER_DESCRIPTION = ord("t")
    PARAMETER_STATUS = ord("S")
    PARSE_COMPLETE = ord("1")
    PORTAL_SUSPENDED = ord("s")
    READY_FOR_QUERY = ord("Z")
    ROW_DESCRIPTION = ord("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it travels: the type byte and the payload, neither interpreted.

    `encode` restores the received bytes exactly, because a header is a pure function of tag and payload; so a
    message that is passed through is never decoded and encoded again.
    """

    tag: int
    payload: bytes

    def encode(self) -> bytes:
        return _HEADER.pack(self.tag, len(self.payload) + 4) + self.payload


def frame(tag: int, *parts: bytes) -> bytes:
    """The bytes of a message of this type whose payload is the parts, joined."""
    payload = b"".join(parts)
    return _HEADER.pack(tag, len(payload) + 4) + payload


class Fields:
    """Reads the fields of one payload in order; whatever is wrong raises `error`, the leaf of the sending side."""

    __slots__ = ("_error", "_payload", "_position", "_what")

    def __init__(self, payload: bytes, error: type[ProtocolError], what: str) -> None:
        self._payload = payload
        self._position = 0
        self._error = error
        self._what = what

    def malformed(self, reason: str) -> ProtocolError:
        return self._error(PROTOCOL_VIOLATION, f"malformed {self._what} message: {reason}")

    def take(self, size: int) -> bytes:
        end = self._position + size
        if size < 0 or end > len(self._payload):
            raise self.malformed("a field reaches past the end")
        taken = self._payload[self._position : end]
        self._position = end
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._payload) - self._position)

    def byte(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        return int(_INT16.unpack(self.take(2))[0])

    def count(self) -> int:
        """A count of 16 bits. The server reads it unsigned: a Bind may carry 65,535 parameters."""
        return int(_UINT16.unpack(self.take(2))[0])

    def int32(self) -> int:
        return int(_INT32.unpack(self.take(4))[0])

    def oid(self) -> int:
        return int(_UINT32.unpack(self.take(4))[0])

    def int16s(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}h", self.take(2 * count))

    def oids(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}I", self.take(4 * count))

    def string(self) -> str:
        """A C string. Text is UTF-8: any other client encoding ends a session before it gets here."""
        end = self._payload.find(0, self._position)
        if end < 0:
            raise self.malformed("a string does not end")
        raw = self._payload[self._position : end]
        self._position = end + 1
        try:
            return raw.decode()
        except UnicodeDecodeError as cause:
            code = CHARACTER_NOT_IN_REPERTOIRE
            raise self._error(code, f'invalid byte sequence for encoding "UTF8" in a {self._what} message') from cause

    def values(self, count: int) -> tuple[bytes | None, ...]:
        """Values with a length each; length -1 is NULL."""
        return tuple(self._value() for _ in range(count))

    def _value(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.take(size)

    def end(self) -> None:
        if self._position != len(self._payload):
            raise self.malformed("bytes follow the last field")


def c_string(text: str) -> bytes:
    """Raises ValueError for a NUL: it would end the string early and let the rest be read as fields."""
    raw = text.encode()
    if b"\0" in raw:
        raise ValueError("a string on the wire cannot contain NUL")
    return raw + b"\0"


def int16(value: int) -> bytes:
    return _INT16.pack(value)


def int32(value: int) -> bytes:
    return _INT32.pack(value)


def oid(value: int) -> bytes:
    return _UINT32.pack(value)


def counted(count: int) -> bytes:
    return _UINT16.pack(count)


def int16s(values: Sequence[int]) -> bytes:
    return struct.pack(f">H{len(values)}h", len(values), *values)


def oids(values: Sequence[int]) -> bytes:
    return struct.pack(f">H{len(values)}I", len(values), *values)


def values(cells: Iterable[bytes | None]) -> bytes:
    return b"".join(int32(-1) if cell is None else int32(len(cell)) + cell for cell in cells)
