"""The fields of a stream as a head of HTTP/1.1, and back. Pure; RFC 9113, sections 8.1 to 8.3 and 8.5, strictly.

What comes out of a request is read again by `pep.http.codec`, with every rule that holds for HTTP/1.1. What is refused
here is what has no place in HTTP/2, and what could become something else on that way: a space, a line end, a second
authority. What HTTP/2 allows and the codec refuses is answered by the codec's own refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pep.http.codec import last_chunk
from pep.http.framing import TOKEN, VALUE
from pep.http.messages import Fields, ResponseHead

RawField = tuple[bytes, bytes]

# Fields of one connection in HTTP/1.1; a message of HTTP/2 that has one is malformed (section 8.2.2).
_OF_A_CONNECTION: Final = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings"}
)
_PSEUDO: Final = frozenset({":method", ":scheme", ":authority", ":path"})
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rf"(?:(?![\t ]){VALUE}(?:{VALUE}*(?<![\t ]))?)?")
_METHOD: Final = re.compile(f"{TOKEN}+")
_AUTHORITY: Final = re.compile(r"[\x21-\x7e]+")
_PATH: Final = re.compile(r"/[\x21-\x22\x24-\x7e]*")
_LENGTH: Final = re.compile(r"(?:0|[1-9][0-9]{0,17})")
# Whose requests have a body as a rule: that they have none is said, as RFC 9110, section 8.6, wants it.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class Malformed(Exception):
    """The message is malformed (section 8.1.1): its stream is reset, and nothing of it goes anywhere."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """`text` is the head in HTTP/1.1; the body behind it is `chunked`, or `length` bytes long."""

    method: str
    text: bytes
    chunked: bool
    length: int


def request_head(fields: Iterable[RawField], *, ended: bool) -> StreamHead:
    """The head of a request; `ended`: no body follows. Raises Malformed."""
    pseudo, regular = _parted(fields)
    method = pseudo.get(":method", "")
    if _METHOD.fullmatch(method) is None:
        raise Malformed("there is no valid method")
    authority, regular = _authority(pseudo, regular)
    target = _target(method, pseudo, authority)
    length = _length(regular)
    if ended and length:
        raise Malformed("a message without a body has a content-length")
    chunked = not ended and length is None
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    if authority is not None:
        lines.append(f"Host: {authority}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in _without_crumbs(regular)]
    if chunked:
        lines.append("Transfer-Encoding: chunked\r\n")
    elif length is not None or method in _WITH_BODY:
        lines.append(f"Content-Length: {length or 0}\r\n")
    # To the machine the stream is a connection that ends with this request.
    lines.append("Connection: close\r\n\r\n")
    return StreamHead(method, "".join(lines).encode("latin-1"), chunked, length or 0)


def trailer_section(fields: Iterable[RawField]) -> bytes:
    """The last chunk of a body with that trailer section. Raises Malformed."""
    regular = _regular(fields)
    if any(name == "content-length" for name, _ in regular):
        raise Malformed("a length comes behind the body")
    return last_chunk(Fields(tuple(regular)))


def response_fields(head: ResponseHead) -> list[RawField]:
    """The field section of a response, interim ones as well."""
    return [(b":status", str(head.status).encode()), *_lowered(head.fields)]


def trailer_fields(trailers: Fields) -> list[RawField]:
    return _lowered(trailers)


def _lowered(fields: Fields) -> list[RawField]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in fields
        if name.lower() not in _OF_A_CONNECTION
    ]


def _parted(fields: Iterable[RawField]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The pseudo-header fields, and the others behind them."""
    pseudo: dict[str, str] = {}
    rest: list[RawField] = []
    for field in fields:
        if not field[0].startswith(b":"):
            rest.append(field)
            continue
        name, value = field[0].decode("latin-1"), field[1].decode("latin-1")
        if rest:
            raise Malformed("a pseudo-header field comes after a regular one")
        if name not in _PSEUDO:
            raise Malformed("there is a pseudo-header field that is not known")
        if name in pseudo:
            raise Malformed("a pseudo-header field is there twice")
        pseudo[name] = value
    return pseudo, _regular(rest)


def _regular(fields: Iterable[RawField]) -> list[tuple[str, str]]:
    found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
    for name, value in found:
        if _NAME.fullmatch(name) is None:
            raise Malformed("the name of a field is not valid")
        if _VALUE.fullmatch(value) is None:
            raise Malformed("the value of a field is not valid")
        if name in _OF_A_CONNECTION:
            raise Malformed("there is a field of HTTP/1.1's connections")
        if name == "te" and value != "trailers":
            raise Malformed("the field te says something else than trailers")
    return found


def _authority(pseudo: dict[str, str], regular: list[tuple[str, str]]) -> tuple[str | None, list[tuple[str, str]]]:
    """The one authority, and the fields without `host`. None where none is named: the codec refuses that."""
    hosts = [value for name, value in regular if name == "host"]
    authority = pseudo.get(":authority")
    if authority is not None and _AUTHORITY.fullmatch(authority) is None:
        raise Malformed("the authority is not valid")
    if len(hosts) > 1 or (hosts and authority is not None and hosts[0] != authority):
        raise Malformed("the fields name more than one authority")
    if authority is None and hosts:
        authority = hosts[0]
    return authority, [field for field in regular if field[0] != "host"]


def _target(method: str, pseudo: dict[str, str], authority: str | None) -> str:
    if method == "CONNECT":
        # Refused by the codec, and before that as strictly as everything (section 8.5).
        if ":scheme" in pseudo or ":path" in pseudo or ":authority" not in pseudo or authority is None:
            raise Malformed("a CONNECT request names an authority and nothing else")
        return authority
    if pseudo.get(":scheme") not in {"http", "https"}:
        raise Malformed("there is no valid scheme")
    path = pseudo.get(":path", "")
    if path == "*" and method == "OPTIONS":
        return path
    if _PATH.fullmatch(path) is None:
        raise Malformed("there is no valid path")
    return path


def _length(regular: Sequence[tuple[str, str]]) -> int | None:
    lengths = [value for name, value in regular if name == "content-length"]
    if not lengths:
        return None
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise Malformed("the content-length is not one plain number")
    return int(lengths[0])


def _without_crumbs(regular: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """One cookie field of all of them (section 8.2.3); without the length, which is written as framing."""
    crumbs = [value for name, value in regular if name == "cookie"]
    fields = [field for field in regular if field[0] not in {"cookie", "content-length"}]
    return [*fields, ("cookie", "; ".join(crumbs))] if crumbs else fields
