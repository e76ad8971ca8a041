"""A whole head as text, read strictly: RFC 9112, sections 2 to 6, for requests and for responses.

A field name of a request is made of letters, digits and hyphens: CGI and its descendants turn every other character
into the same underscore, which makes `Content_Length` or `X.Role` another spelling of a field that was decided on.
What Connection nominates is not in a head's fields: nobody behind this hop will see it, so no policy should.
"""

from __future__ import annotations

import re
from typing import Final

from pep.core.errors import ClientProtocolError, UpstreamProtocolError
from pep.http.framing import TOKEN, VALUE, Fault, content_length, options, read_fields, without_nominated
from pep.http.messages import (
    Chunked,
    Field,
    Fields,
    Framing,
    Length,
    NoBody,
    RequestHead,
    ResponseHead,
    UntilClose,
)

_KIB: Final = 1024
MAX_TARGET: Final = 8 * _KIB
MAX_LINE: Final = 16 * _KIB
MAX_FIELDS: Final = 128
_MAX_RESPONSE_FIELDS: Final = 512
UPSTREAM: Final = "502"

_REQUEST_LINE: Final = re.compile(rf"({TOKEN}+) ([\x21-\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE: Final = re.compile(rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ({VALUE}*))?\r\n")
_METHOD: Final = re.compile(r"[A-Z](?:[A-Z-]{0,30}[A-Z])?")
_REQUEST_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?]*)(/[^?]*)?(\?.*)?")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")

# Fields of a request of which there must not be two: their readers take the first, the last, or both.
_SINGLE: Final = frozenset(
    {
        "host", "content-length", "transfer-encoding", "content-type", "content-encoding", "content-range",
        "authorization", "proxy-authorization", "cookie", "expect", "range", "if-range", "if-modified-since",
        "if-unmodified-since", "origin", "referer", "user-agent", "date", "from", "max-forwards", "last-event-id",
        "mcp-session-id", "mcp-protocol-version", "sec-websocket-key", "sec-websocket-version", "x-http-method",
        "x-http-method-override", "x-method-override", "http2-settings",
    }
)  # fmt: skip
_LISTS: Final = frozenset({"connection", "upgrade"})
_READ: Final = _SINGLE | _LISTS
_SINGLE_RESPONSE: Final = frozenset(
    {"content-length", "transfer-encoding", "content-type", "content-range", "location", "etag"}
)
_READ_RESPONSE: Final = _SINGLE_RESPONSE | {"connection"}
_REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})


def bad(message: str) -> ClientProtocolError:
    return ClientProtocolError("400", message)


def request_line(line: str) -> tuple[str, str, int]:
    """Method, target as it was sent, minor version."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        if len(line) > MAX_TARGET + 64:
            raise ClientProtocolError("414", "the request target is too long")
        raise bad("the request line is not valid")
    method, target, major, minor = found.groups()
    if major != "1" or minor not in {"0", "1"}:
        raise ClientProtocolError("505", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if len(target) > MAX_TARGET:
        raise ClientProtocolError("414", "the request target is too long")
    if method in _REFUSED_METHODS:
        raise ClientProtocolError("405", "this method is not served")
    if _METHOD.fullmatch(method) is None or method == "PRI":
        raise ClientProtocolError("501", "this method is not known")
    return method, target, int(minor)


def read_request(text: str) -> RequestHead:
    """A head, read strictly; `text` ends with the empty line."""
    start = text.index("\r\n") + 2
    method, target, minor = request_line(text[:start])
    items = read_fields(text[start:-2], ClientProtocolError, "400")
    if len(items) > MAX_FIELDS or (len(text) > MAX_LINE and any(len(n) + len(v) > MAX_LINE for n, v in items)):
        raise ClientProtocolError("431", "there are too many header fields, or one is too long")
    known = _known(items, _READ, ClientProtocolError, "400")
    for name, _ in items:
        if _REQUEST_NAME.fullmatch(name) is None:
            raise bad("the name of a header field can be taken for another one")
    host = _host(known.get("host"))
    target = _origin_form(method, target, host)
    path, mark, query = target.partition("?")
    framing = _request_framing(known, minor)
    members = options(known["connection"], ClientProtocolError, "400") if "connection" in known else ()
    upgrade = _upgrade(known, members, minor)
    if upgrade and framing not in (NoBody(), Length(0)):
        raise bad("a request for another protocol has a body")
    return RequestHead(
        method,
        target,
        path,
        query if mark else None,
        host,
        minor,
        Fields(tuple(without_nominated(items, members))),
        framing,
        _keeps(members, minor),
        _expects(known, minor),
        upgrade,
    )


def _known(items: list[Field], read: frozenset[str], fault: Fault, code: str) -> dict[str, str]:
    """The fields that are read here, by their names in lower case; raises where one is there twice that must not be."""
    known: dict[str, str] = {}
    for name, value in items:
        lower = name.lower()
        if lower not in read:
            continue
        if lower not in known:
            known[lower] = value
        elif lower in _LISTS:
            known[lower] += "," + value
        else:
            raise fault(code, "a header field is there twice that may be there once")
    return known


def _host(value: str | None) -> str:
    found = None if value is None else _HOST.fullmatch(value)
    if value is None or found is None or int(found[1] or 0) > 65535:
        raise bad("there is no valid Host")
    return value.lower()


def _origin_form(method: str, target: str, host: str) -> str:
    if target.startswith("/"):
        return target
    if target == "*" and method == "OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise bad("the request target is in no form that is served here")
    authority, path, query = found.groups()
    if authority.lower() != host:
        raise bad("the request target names another host than the Host field")
    if path is None and query is None and method == "OPTIONS":
        return "*"
    return (path or "/") + (query or "")


def _request_framing(known: dict[str, str], minor: int) -> Framing:
    length = known.get("content-length")
    coding = known.get("transfer-encoding")
    if coding is None:
        return NoBody() if length is None else content_length(length, ClientProtocolError, "400")
    if length is not None:
        raise bad("there are a Content-Length and a Transfer-Encoding")
    if minor == 0:
        raise bad("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != "chunked":
        raise bad("the Transfer-Encoding is not chunked and nothing else")
    return Chunked()


def _upgrade(known: dict[str, str], members: tuple[str, ...], minor: int) -> str:
    """The one protocol asked for. A choice of several, and HTTP/2, are not taken up: the request is served as it is."""
    wanted = known.get("upgrade", "").lower()
    if minor == 0 or "upgrade" not in members or wanted == "h2c":
        return ""
    return wanted if re.fullmatch(f"{TOKEN}+(?:/{TOKEN}+)?", wanted) is not None else ""


def _expects(known: dict[str, str], minor: int) -> bool:
    expectation = known.get("expect")
    if expectation is None or minor == 0:
        return False
    if expectation.lower() != "100-continue":
        raise ClientProtocolError("417", "no expectation is met but 100-continue")
    return True


def _keeps(members: tuple[str, ...], minor: int) -> bool:
    return "close" not in members and (minor == 1 or "keep-alive" in members)


def broke(message: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(UPSTREAM, message)


def read_response(text: str, method: str) -> ResponseHead:
    start = text.index("\r\n") + 2
    found = _STATUS_LINE.fullmatch(text, 0, start)
    if found is None:
        raise broke("the status line is not valid")
    minor, status, reason = int(found[1]), int(found[2]), found[3] or ""
    items = read_fields(text[start:-2], UpstreamProtocolError, UPSTREAM)
    if len(items) > _MAX_RESPONSE_FIELDS:
        raise broke("there are too many header fields")
    known = _known(items, _READ_RESPONSE, UpstreamProtocolError, UPSTREAM)
    framing = _response_framing(known, status, method, minor)
    connection = known.get("connection")
    members = options(connection, UpstreamProtocolError, UPSTREAM) if connection is not None else ()
    keeps = _keeps(members, minor) and not isinstance(framing, UntilClose)
    return ResponseHead(status, reason, minor, Fields(tuple(items)), framing, keeps)


def _response_framing(known: dict[str, str], status: int, method: str, minor: int) -> Framing:
    value, coding = known.get("content-length"), known.get("transfer-encoding")
    length = None if value is None else content_length(value, UpstreamProtocolError, UPSTREAM)
    if coding is not None and length is not None:
        raise broke("there are a Content-Length and a Transfer-Encoding")
    if coding is not None and (minor == 0 or coding.lower() != "chunked"):
        raise broke("the Transfer-Encoding is not chunked and nothing else")
    if status < 200 or status == 204:
        # Whatever says that a body follows is read by some and not by others.
        if coding is not None or length not in (None, Length(0)):
            raise broke("a response that has no body says that one follows")
        return NoBody()
    if status == 304 or method == "HEAD":
        return NoBody()
    if coding is not None:
        return Chunked()
    return UntilClose() if length is None else length
