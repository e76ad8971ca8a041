"""Request bodies as values: JSON, urlencoded and multipart forms, read so strictly that every server reads the same.

Each kind is told by the Content-Type alone. What was read is written again in one plain form, and that is what the
target gets: it cannot find in the body what the decision did not see. What servers read differently is refused: names
that stand twice or differ by case only, numbers that a reader would round, other charsets than UTF-8, encoded bodies.
RFC 8259, RFC 7578, the URL standard's application/x-www-form-urlencoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any, Final
from urllib.parse import quote_plus

import orjson

from pep.http.messages import Fields
from pep.http.paths import differ

MOST_NESTED: Final = 64
EXACT: Final = 2**53
_WRITABLE: Final = range(-(2**63), 2**64)  # the integers that orjson writes
_LONGEST_INTEGER: Final = 20
_LONGEST_DECIMAL: Final = 400

# The policy input says by these what JSON has no form for, so a client's own member of that name would be ambiguous.
_RESERVED: Final = frozenset({"$int", "$bytes"})
# Forms in which servers find the name of a charset for the others.
_CHARSET_FIELD: Final = "_charset_"

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}"
_TYPE: Final = re.compile(rf"({_TOKEN})/({_TOKEN})[ \t]*")
_PARAMETER: Final = re.compile(rf";[ \t]*({_TOKEN})=(?:({_TOKEN})|\"([^\"\\\x00-\x1f\x7f-\xff]*)\")[ \t]*")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_UTF8: Final = frozenset({"utf-8", "utf8"})
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_DISPOSITION: Final = re.compile(
    r'form-data((?:[ \t]*;[ \t]*(?:name|filename)="[^"\\\x00-\x1f\x7f]*")+)', re.IGNORECASE
)
_DISPOSITION_PARAMETER: Final = re.compile(r';[ \t]*(name|filename)="([^"]*)"', re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PART_FIELDS: Final = frozenset({"content-disposition", "content-type", "content-length", "content-transfer-encoding"})
_PLAIN_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary"})


class Unclassifiable(Exception):
    """What the request does cannot be told; it is denied and nobody is asked. The text is fit for the client."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type that was understood; parameter names in lower case."""

    essence: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        return dict(self.parameters).get(name)

    @property
    def json(self) -> bool:
        return self.essence == "application/json" or (
            self.essence.startswith("application/") and self.essence.endswith("+json")
        )


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no body."""


@dataclass(frozen=True, slots=True)
class Json:
    """`value` is exact; `shown` is how the policy input says it: an integer beyond 2^53 is {"$int": text}."""

    value: Any
    shown: Any
    forward: bytes


@dataclass(frozen=True, slots=True)
class Form:
    pairs: tuple[tuple[str, str], ...]
    forward: bytes


@dataclass(frozen=True, slots=True)
class Multipart:
    """Names of the parts, in order. What the parts hold is not looked at."""

    names: tuple[str, ...]
    forward: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """Text without a structure that is known."""

    text: str
    essence: str


@dataclass(frozen=True, slots=True)
class Opaque:
    reason: str


Body = Nothing | Json | Form | Multipart | Text | Opaque


def media_type(fields: Fields) -> MediaType | None:
    """The one type that the request says; None where it says none or what is not understood.

    Raises Unclassifiable for two of them: servers take either.
    """
    values = fields.all("Content-Type")
    if len(values) > 1:
        raise Unclassifiable("it says the type of its body twice")
    found = _TYPE.match(values[0]) if values else None
    if found is None:
        return None
    parameters: dict[str, str] = {}
    at = found.end()
    while at < len(values[0]):
        parameter = _PARAMETER.match(values[0], at)
        if parameter is None or parameter[1].lower() in parameters:
            return None
        parameters[parameter[1].lower()] = parameter[2] if parameter[2] is not None else parameter[3]
        at = parameter.end()
    return MediaType(f"{found[1]}/{found[2]}".lower(), tuple(parameters.items()))


def read(fields: Fields, data: bytes) -> Body:
    """The body of a request with these fields. Raises Unclassifiable where it is not what it says to be."""
    if not data:
        return Nothing()
    if any(coding != "identity" for coding in fields.tokens("Content-Encoding")):
        raise Unclassifiable("its body is encoded, and would have to be decoded before it could be decided")
    media = media_type(fields)
    if media is None:
        return Opaque("the body does not say its type, or says one that is not understood")
    charset = media.parameter("charset")
    if charset is not None and charset.lower() not in _UTF8:
        return Opaque("the body is in another charset than UTF-8")
    if media.json:
        return read_json(data)
    if media.essence == "application/x-www-form-urlencoded":
        return read_form(data)
    if media.essence == "multipart/form-data":
        return read_multipart(data, media.parameter("boundary") or "")
    if media.essence.startswith("text/") or media.essence == "application/graphql":
        return Text(_text(data), media.essence)
    return Opaque("the body is of a type that is not looked into")


# --- JSON -------------------------------------------------------------------------------------------------------------


def read_json(data: bytes) -> Json:
    """One JSON document without loss. Raises Unclassifiable."""
    value = exact_json(_text(data))
    try:
        return Json(value, shown(value), orjson.dumps(value))
    except (orjson.JSONEncodeError, UnicodeError):
        raise Unclassifiable("its JSON holds what cannot be written again, such as half a surrogate pair") from None


def exact_json(text: str) -> Any:
    """The document in `text`, of a depth, and with names and numbers, that every reader takes alike."""
    try:
        value = json.loads(
            text, object_pairs_hook=_members, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
        )
    except RecursionError:
        raise Unclassifiable("its JSON is nested too deep") from None
    except ValueError:
        raise Unclassifiable("its body is not JSON, though it says so") from None
    _within_depth(value)
    return value


def shown(value: Any) -> Any:
    """The value as the policy input says it."""
    match value:
        case dict():
            return {name: shown(member) for name, member in value.items()}
        case list():
            return [shown(member) for member in value]
        case bool():
            return value
        case int() if not -EXACT <= value <= EXACT:
            return {"$int": str(value)}
        case _:
            return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name.casefold() for name, _ in pairs}) != len(pairs):
        raise Unclassifiable("an object of its JSON has the same name twice, or two that differ by case only")
    members = dict(pairs)
    if not _RESERVED.isdisjoint(members):
        raise Unclassifiable("an object of its JSON has a member $int or $bytes, which policies read as something else")
    return members


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or (value := int(text)) not in _WRITABLE:
        raise Unclassifiable("its JSON has an integer beyond 64 bits")
    return value


def _decimal(text: str) -> float:
    value = float(text)
    try:
        # Longer ones, and what is too big, are rounded by one reader and not by another.
        if len(text) <= _LONGEST_DECIMAL and Decimal(text) == Decimal(repr(value)):
            return value
    except DecimalException:
        pass
    raise Unclassifiable("its JSON has a number that does not survive being read and written")


def _constant(_text: str) -> Any:
    raise Unclassifiable("its JSON has NaN or infinity, which JSON does not have")


def _within_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_NESTED):
        level = [
            member
            for each in level
            if isinstance(each, dict | list)
            for member in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise Unclassifiable("its JSON is nested too deep")


def _text(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise Unclassifiable("its body begins with a byte order mark")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unclassifiable("its body is not UTF-8") from None


# --- forms ------------------------------------------------------------------------------------------------------------


def read_form(data: bytes) -> Form:
    """The fields of a urlencoded form, in order. Raises Unclassifiable."""
    if b";" in data:
        raise Unclassifiable("its form has a semicolon, which separates fields for some servers")
    pairs = tuple(_pair(piece) for piece in data.split(b"&"))
    _field_names([name for name, _ in pairs])
    return Form(pairs, "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode())


def _pair(piece: bytes) -> tuple[str, str]:
    name, equals, value = piece.partition(b"=")
    if not name or not equals:
        raise Unclassifiable("its form has a field without a name or without a value")
    return _decoded(name), _decoded(value)


def _decoded(text: bytes) -> str:
    if any(byte <= 0x20 or byte >= 0x7F for byte in text):
        raise Unclassifiable("its form has characters that must be percent-encoded")
    if any(escape[1] is None for escape in _ESCAPE.finditer(text)):
        raise Unclassifiable("its form has a percent sign that begins no escape")
    try:
        found = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise Unclassifiable("its form is not UTF-8") from None
    if "\0" in found:
        raise Unclassifiable("its form has a NUL")
    return found


def _field_names(names: Sequence[str]) -> None:
    """As strict as with the names of a query. Raises Unclassifiable."""
    if not differ(names):
        raise Unclassifiable("its form has two names that are one to some servers")
    if any(name != name.strip() or _CONTROL.search(name) for name in names):
        raise Unclassifiable(
            "the name of a field of its form begins or ends with white space, or holds a control character"
        )
    if any(name.casefold() == _CHARSET_FIELD for name in names):
        raise Unclassifiable("its form names a charset of its own")


def read_multipart(data: bytes, boundary: str) -> Multipart:
    """The names of a form's parts. The boundary stands nowhere but where parts meet. Raises Unclassifiable."""
    if _BOUNDARY.fullmatch(boundary) is None:
        raise Unclassifiable("its multipart form has no boundary, or one that cannot be")
    delimiter = b"--" + boundary.encode()
    before, *pieces = data.split(delimiter)
    if before or not pieces or pieces.pop() not in (b"--", b"--\r\n") or not pieces:
        raise Unclassifiable("its multipart form does not begin and end with its boundary")
    names, written = [], bytearray()
    for piece in pieces:
        if not piece.startswith(b"\r\n") or not piece.endswith(b"\r\n"):
            raise Unclassifiable("its multipart form has its boundary inside a part")
        head, gap, content = piece[2:].partition(b"\r\n\r\n")
        if not gap:
            raise Unclassifiable("a part of its multipart form has no end of its head")
        name, lines = _part_head(head)
        names.append(name)
        written += delimiter + b"\r\n" + lines + b"\r\n" + content
    _field_names(names)
    return Multipart(tuple(names), bytes(written + delimiter + b"--\r\n"))


def _part_head(head: bytes) -> tuple[str, bytes]:
    """The part's name, and its head written again."""
    name: str | None = None
    seen: dict[str, str] = {}
    for line in _text(head).split("\r\n"):
        key, colon, value = line.partition(":")
        value = value.strip(" \t")
        folded = key.lower()
        if not colon or folded not in _PART_FIELDS or folded in seen or _CONTROL.search(value):
            raise Unclassifiable("a part of its multipart form has a head that is not understood")
        seen[folded] = value
    if seen.pop("content-transfer-encoding", "binary").lower() not in _PLAIN_ENCODINGS:
        raise Unclassifiable("a part of its multipart form is encoded")
    seen.pop("content-length", None)
    disposition = _DISPOSITION.fullmatch(seen.get("content-disposition", ""))
    if disposition is not None:
        found = [(key.lower(), value) for key, value in _DISPOSITION_PARAMETER.findall(disposition[1])]
        if len(dict(found)) == len(found):
            name = dict(found).get("name")
    if not name:
        raise Unclassifiable("a part of its multipart form has no name, or one that is not understood")
    return name, "".join(f"{key.title()}: {value}\r\n" for key, value in seen.items()).encode()
