"""Bytes in, messages out, and the way back: HTTP/1.0 and HTTP/1.1 (RFC 9112), strictly. No socket, no clock.

Heads are read by expressions that describe the whole of a valid head, so that nothing passes because no one looked.
llhttp does not read them: as httptools sets it up it takes a good part of what is refused here (two spaces in a request
line, any Host, "gzip, chunked", zeros in front of a length, names that gateways take for others), and it pushes where
this pulls: a pipelined request must not be read before the one in front of it was decided. It is a second reader of
what is written here, in the tests.
"""

from __future__ import annotations

import re
from typing import Final

from pep.core.errors import ClientProtocolError, ProtocolError, UpstreamProtocolError
from pep.http.framing import TOKEN, VALUE, Body, broken, end_to_end
from pep.http.heads import MAX_TARGET, UPSTREAM, bad, broke, read_request, read_response, request_line
from pep.http.messages import (
    BodyData,
    Chunked,
    EndOfMessage,
    Fields,
    Framing,
    Length,
    NoBody,
    RequestHead,
    RequestPart,
    ResponseHead,
    ResponsePart,
    UntilClose,
)

__all__ = [
    "LAST_CHUNK",
    "RequestCodec",
    "ResponseCodec",
    "chunk",
    "encode_request",
    "encode_response",
    "end_to_end",
    "last_chunk",
]

_KIB: Final = 1024
_MAX_INTERIM: Final = 32
# The longest head that is kept to be compared with the next.
_REMEMBERED: Final = 4 * _KIB
_LONGEST_LINE: Final = MAX_TARGET + 64

_NAME: Final = re.compile(f"{TOKEN}+")
_VALUE: Final = re.compile(f"{VALUE}*")
_TARGET: Final = re.compile(r"[\x21-\x22\x24-\x7e]+")
_FRAMING_FIELDS: Final = frozenset({"content-length", "transfer-encoding"})


class _Codec:
    """What both directions share: the buffer, where the head ends, and an error that stays."""

    __slots__ = ("_body", "_buffer", "_error", "_looked", "_max_head")

    def __init__(self, max_head: int) -> None:
        self._max_head = max_head
        self._buffer = bytearray()
        self._looked = 0  # bytes of an incomplete head in which no end was found
        self._body: Body | None = None
        self._error: ProtocolError | None = None

    @property
    def waiting(self) -> int:
        """Bytes that were received and not handed out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def rest(self) -> bytes:
        """The bytes that were not parsed, once: what follows is no longer read here."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _body_part(self, body: Body) -> BodyData | EndOfMessage | None:
        part = body.read(self._buffer)
        if body.over:
            self._body = None
        return part

    def _cut_head(self) -> str | None:
        """The bytes of a head with its last empty line, if they are all there."""
        end = self._buffer.find(b"\r\n\r\n", max(self._looked - 3, 0), self._max_head)
        if end < 0:
            return None
        head = self._buffer[: end + 4].decode("latin-1")
        del self._buffer[: end + 4]
        self._looked = 0
        return head


class RequestCodec(_Codec):
    """Cuts what a client sends. `next` hands out one part at a time; None: more bytes are needed.

    After a head with `upgrade` the parts go on as ever; `rest` takes what follows the head, if the upgrade happens.
    """

    __slots__ = ("_blank", "_read", "_text")

    def __init__(self, *, max_head: int = 64 * _KIB) -> None:
        super().__init__(max_head)
        self._blank = False  # an empty line before this head was skipped
        self._text = ""
        self._read: RequestHead | None = None  # of that text

    def next(self) -> RequestPart | None:
        """Raises ClientProtocolError, and from then on always the same."""
        if self._error is not None:
            raise self._error
        try:
            return self._head() if self._body is None else self._body_part(self._body)
        except ClientProtocolError as error:
            self._error = error
            raise

    def _head(self) -> RequestHead | None:
        buffer = self._buffer
        if not buffer:
            return None
        if not self._blank and buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._blank, self._looked = True, 0
        text = self._cut_head()
        if text is None:
            self._incomplete()
            return None
        if text != self._text:
            # A client says the same again and again; reading is a function of the text.
            self._text, self._read = text if len(text) <= _REMEMBERED else "", read_request(text)
        head = self._read
        assert head is not None
        self._blank = False
        self._body = Body(head.framing, ClientProtocolError, "400")
        return head

    def _incomplete(self) -> None:
        """Refuses what no further byte can mend; a client that waits for an answer gets it."""
        buffer = self._buffer
        if broken(buffer, self._looked):
            raise bad("the head holds a bare line end or a control character")
        if not self._looked and buffer and re.match(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]|\r\Z", buffer) is None:
            raise bad("this is not an HTTP request")
        line = buffer.find(b"\r\n", 0, _LONGEST_LINE)
        if line >= 0 and line + 2 > self._looked:
            request_line(buffer[: line + 2].decode("latin-1"))
        elif line < 0 and len(buffer) >= _LONGEST_LINE:
            raise ClientProtocolError("414", "the request target is too long")
        if len(buffer) >= self._max_head:
            raise ClientProtocolError("431", "the request's head is too long")
        self._looked = len(buffer)


class ResponseCodec(_Codec):
    """Cuts what an upstream sends. Every response must be expected, by the method of its request.

    After a head of status 101 nothing is handed out: what follows is another protocol's and comes from `rest`.
    """

    __slots__ = ("_interim", "_method", "_raw", "last")

    def __init__(self, *, max_head: int = 256 * _KIB, last: ResponseCodec | None = None) -> None:
        """`last` is one whose responses these are like; nothing else of it counts."""
        super().__init__(max_head)
        # The last head that was short, by its text and its method: the next may be the same.
        self.last: tuple[str, str, ResponseHead] | None = None if last is None else last.last
        self._method: str | None = None
        self._interim = 0
        self._raw = False

    def expect(self, method: str) -> None:
        assert self._method is None, "one response after the other"
        self._method = method
        self._interim = 0

    def next(self) -> ResponsePart | None:
        """Raises UpstreamProtocolError, and from then on always the same."""
        if self._error is not None:
            raise self._error
        try:
            return self._next()
        except UpstreamProtocolError as error:
            self._error = error
            raise

    def eof(self) -> None:
        """The upstream has closed. Raises where that cuts a message; else `next` hands out the end of the last one."""
        if self._raw:
            return
        try:
            if self._body is not None:
                self._body.close()
            elif self._method is not None:
                raise broke("it closed the connection before it answered")
        except UpstreamProtocolError as error:
            self._error = error
            raise

    def _next(self) -> ResponsePart | None:
        if self._body is not None:
            part = self._body_part(self._body)
            if isinstance(part, EndOfMessage):
                self._method = None
            return part
        if self._raw:
            return None
        if self._method is None:
            if self._buffer:
                raise broke("it sent what nobody asked for")
            return None
        if not self._buffer:
            return None
        text = self._cut_head()
        if text is None:
            self._incomplete()
            return None
        head = self._read(text, self._method)
        if head.interim:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise broke("it sends no final response")
        elif head.status == 101:
            self._raw = True
        else:
            self._body = Body(head.framing, UpstreamProtocolError, UPSTREAM)
        return head

    def _read(self, text: str, method: str) -> ResponseHead:
        last = self.last
        if last is not None and last[0] == text and last[1] == method:
            return last[2]
        head = read_response(text, method)
        if len(text) <= _REMEMBERED:
            self.last = text, method, head
        return head

    def _incomplete(self) -> None:
        buffer = self._buffer
        if broken(buffer, self._looked):
            raise broke("the head holds a bare line end or a control character")
        if not b"HTTP/1.".startswith(buffer[:7]):
            raise broke("this is not an HTTP/1 response")
        if len(buffer) >= self._max_head:
            raise broke("the response's head is too long")
        self._looked = len(buffer)


# --- writing ----------------------------------------------------------------------------------------------------------

LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Not for no data: an empty chunk is the last one, and is `LAST_CHUNK`."""
    if not data:
        raise ValueError("an empty chunk would end the body")
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body, with its trailer section."""
    if not trailers.items:
        return LAST_CHUNK
    return _encoded("0\r\n", trailers, NoBody())


def encode_request(method: str, target: str, fields: Fields, framing: Framing) -> bytes:
    if isinstance(framing, UntilClose):
        raise ValueError("a request does not end with its connection")  # noqa: TRY004
    if _NAME.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise ValueError("the method or the target is not valid")
    return _encoded(f"{method} {target} HTTP/1.1\r\n", fields, framing)


def encode_response(status: int, reason: str, fields: Fields, framing: Framing) -> bytes:
    if not 100 <= status <= 999 or _VALUE.fullmatch(reason) is None:
        raise ValueError("the status line is not valid")
    return _encoded(f"HTTP/1.1 {status} {reason}\r\n", fields, framing)


def _encoded(line: str, fields: Fields, framing: Framing) -> bytes:
    """The framing is written as given, whatever the fields say of it."""
    lines = [line]
    for name, value in fields:
        if name.lower() in _FRAMING_FIELDS:
            continue
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError("a header field is not valid")
        lines.append(f"{name}: {value}\r\n")
    match framing:
        case Length(size):
            lines.append(f"Content-Length: {size}\r\n")
        case Chunked():
            lines.append("Transfer-Encoding: chunked\r\n")
        case NoBody() | UntilClose():
            pass
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")
