"""What a header section says of a message's framing, and its body's framing: RFC 9112, sections 5 to 7, strictly.

Everything here serves both directions; the one who reads says which error a violation is. A body is cut into parts as
it arrives and never held whole. Nothing is mended: what two parsers could read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pep.core.errors import ClientProtocolError, ProtocolError
from pep.http.messages import BodyData, Chunked, EndOfMessage, Field, Fields, Framing, Length, NoBody, UntilClose

_CR: Final = 0x0D

# Code and message to the error of the side that is read.
Fault = Callable[[str, str], ProtocolError]

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = r"[\t\x20-\x7e\x80-\xff]"

# Fields that speak of one connection only.
HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "te", "trailer",
        "transfer-encoding", "upgrade", "http2-settings",
    }
)  # fmt: skip
_OPTIONS: Final = HOP_BY_HOP | {"close"}

# What must reach the other end; to nominate one in Connection is to have it taken away on the way.
_END_TO_END: Final = frozenset(
    {
        "host", "authorization", "content-length", "content-type", "content-encoding", "content-range", "cookie",
        "set-cookie", "cache-control", "pragma", "expect", "range", "if-range", "if-match", "if-none-match",
        "if-modified-since", "if-unmodified-since", "forwarded", "via", "origin", "referer", "accept",
        "accept-encoding", "user-agent", "date", "location", "www-authenticate", "authentication-info", "max-forwards",
        "vary", "etag", "age", "prefer", "digest", "content-digest", "signature", "signature-input", "mcp-session-id",
        "mcp-protocol-version", "last-event-id", "x-real-ip", "x-api-key", "x-http-method-override", "x-http-method",
        "x-method-override",
    }
)  # fmt: skip
_END_TO_END_PREFIXES: Final = ("x-forwarded-", "checkrein-", "x-checkrein-", "sec-", "x-amz-")

# A trailer is read after everything was decided: nothing that decides anything may come in one.
_NO_TRAILER: Final = _END_TO_END | HOP_BY_HOP

MAX_TRAILERS: Final = 8 * 1024
MAX_EXTENSION: Final = 128  # of one chunk
MAX_EXTENSIONS: Final = 1024  # of one message
_MAX_CHUNK_LINE: Final = 15 + MAX_EXTENSION

# Fifteen digits: every size fits a signed number of 64 bits, and zeros in front have an end.
_CHUNK: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb"(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"[\t \x21\x23-\x5b\x5d-\x7e]*\"))?)*)"
)
_LENGTH: Final = re.compile(r"(?:0|[1-9][0-9]{0,17})")
_SECTION: Final = re.compile(rf"(?:{TOKEN}++:{VALUE}*+\r\n)*+")
_FIELDS: Final = re.compile(r"([^:\r\n]++):([^\r\n]*)")
_BROKEN_LINE: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def broken(data: bytes | bytearray, start: int = 0) -> bool:
    """Whether there is a bare CR, a bare LF or a control character; a CR at the very end may yet be completed.

    What is before `start` was looked at. An expression does not look behind where it begins, so a CR there is taken in.
    """
    if start and data[start - 1] == _CR:
        start -= 1
    return _BROKEN_LINE.search(data, start) is not None


def read_fields(section: str, fault: Fault, code: str) -> list[Field]:
    """The fields of a header section, each line with its CRLF, without the empty line."""
    if _SECTION.fullmatch(section) is None:
        raise fault(code, _what_is_wrong(section))
    return [(name, value.strip(" \t")) for name, value in _FIELDS.findall(section)]


def _what_is_wrong(section: str) -> str:
    for line in section.split("\r\n"):
        if line[:1] in {" ", "\t"}:
            return "a header line begins with white space"
        name, colon, value = line.partition(":")
        if line and not colon:
            return "a header line has no colon"
        if name != name.rstrip(" \t"):
            return "there is white space before a header's colon"
        if line and re.fullmatch(f"{TOKEN}+", name) is None:
            return "the name of a header field is not valid"
        if re.fullmatch(f"{VALUE}*", value) is None:
            return "a header field holds a control character"
    return "a header line is not valid"


def content_length(value: str, fault: Fault, code: str) -> Length:
    """One number in its only spelling. A list of equal ones is refused too: not everybody reads it as one."""
    if _LENGTH.fullmatch(value) is None:
        raise fault(code, "the Content-Length is not one plain number")
    return Length(int(value))


def options(value: str, fault: Fault, code: str) -> tuple[str, ...]:
    """The members of a Connection field, in lower case; raises where one names what belongs to the other end."""
    members = tuple(part.strip(" \t").lower() for part in value.split(","))
    for member in members:
        if member in _END_TO_END or member.startswith(_END_TO_END_PREFIXES):
            raise fault(code, "the Connection field names a field that is meant for the other end")
        if member and re.fullmatch(f"{TOKEN}+", member) is None:
            raise fault(code, "the Connection field is not a list of names")
    return tuple(member for member in members if member)


def end_to_end(fields: Fields) -> Fields:
    """The fields that are meant for the other end.

    Raises ClientProtocolError where Connection names one of those.
    """
    gone = set(HOP_BY_HOP)
    for value in fields.all("Connection"):
        gone.update(options(value, ClientProtocolError, "400"))
    return fields.without(gone)


def without_nominated(fields: list[Field], members: tuple[str, ...]) -> list[Field]:
    """Without the fields that Connection names and no specification knows: nobody behind this hop will see them."""
    gone = set(members) - _OPTIONS
    return [field for field in fields if field[0].lower() not in gone] if gone else fields


class Body:
    """Cuts one body out of the bytes as they come; `read` takes from the front of the buffer it is given."""

    __slots__ = ("_code", "_extensions", "_fault", "_framing", "_left", "_looked", "_state", "over")

    def __init__(self, framing: Framing, fault: Fault, code: str) -> None:
        self._framing = framing
        self._fault = fault
        self._code = code
        self._left = framing.size if isinstance(framing, Length) else 0
        self._state = "size"  # of a chunked body: size, data, end (of a chunk), trailers
        self._extensions = 0
        self._looked = 0  # bytes of an incomplete trailer section in which no end was found
        self.over = False

    @property
    def until_close(self) -> bool:
        return isinstance(self._framing, UntilClose)

    def read(self, buffer: bytearray) -> BodyData | EndOfMessage | None:
        match self._framing:
            case NoBody():
                return self._end()
            case Length():
                return self._data(buffer) if self._left else self._end()
            case UntilClose():
                self._left = len(buffer)
                return self._data(buffer)
            case Chunked():
                return self._chunked(buffer)

    def close(self) -> None:
        """The connection has ended: for a body that ends with it the last of it, for every other one a cut."""
        if not self.until_close:
            raise self._fault(self._code, "the message was cut")
        self._framing = NoBody()

    def _end(self, trailers: Fields | None = None) -> EndOfMessage:
        self.over = True
        return EndOfMessage() if trailers is None else EndOfMessage(trailers)

    def _data(self, buffer: bytearray) -> BodyData | None:
        if not buffer:
            return None
        # By way of a view the bytes are copied once; released at once, it does not lock the buffer's size.
        with memoryview(buffer) as view:
            data = bytes(view[: self._left])
        del buffer[: len(data)]
        self._left -= len(data)
        return BodyData(data)

    def _chunked(self, buffer: bytearray) -> BodyData | EndOfMessage | None:
        while True:
            if self._state == "data":
                data = self._data(buffer)
                if not self._left:
                    self._state = "end"
                return data
            if self._state == "end":
                if not b"\r\n".startswith(buffer[:2]):
                    raise self._fault(self._code, "a chunk does not end where it says")
                if len(buffer) < 2:
                    return None
                del buffer[:2]
                self._state = "size"
            if self._state == "size" and not self._size(buffer):
                return None
            if self._state == "trailers":
                return self._trailers(buffer)

    def _size(self, buffer: bytearray) -> bool:
        """The line before a chunk, if it is complete."""
        end = buffer.find(b"\r\n", 0, _MAX_CHUNK_LINE + 2)
        if end < 0:
            if len(buffer) > _MAX_CHUNK_LINE + 1 or broken(buffer[: _MAX_CHUNK_LINE + 2]):
                raise self._fault(self._code, "a chunk's size is not valid")
            return False
        line = _CHUNK.fullmatch(buffer, 0, end)
        if line is None:
            raise self._fault(self._code, "a chunk's size is not valid")
        self._extensions += len(line[2])
        if len(line[2]) > MAX_EXTENSION or self._extensions > MAX_EXTENSIONS:
            raise self._fault(self._code, "the chunk extensions are too long")
        self._left = int(line[1], 16)
        self._state = "data" if self._left else "trailers"
        del buffer[: end + 2]
        return True

    def _trailers(self, buffer: bytearray) -> EndOfMessage | None:
        if buffer.startswith(b"\r\n"):
            del buffer[:2]
            return self._end()
        end = buffer.find(b"\r\n\r\n", max(self._looked - 3, 0), MAX_TRAILERS)
        if end < 0:
            if len(buffer) >= MAX_TRAILERS:
                raise self._fault(self._code, "the trailer section is too long")
            if broken(buffer, self._looked):
                raise self._fault(self._code, "the trailer section is not valid")
            self._looked = len(buffer)
            return None
        fields = read_fields(buffer[: end + 2].decode("latin-1"), self._fault, self._code)
        del buffer[: end + 4]
        for name, _ in fields:
            lower = name.lower().replace("_", "-")
            if lower in _NO_TRAILER or lower.startswith(_END_TO_END_PREFIXES):
                raise self._fault(self._code, "a field in the trailer section must not be there")
        return self._end(Fields(tuple(fields)))
