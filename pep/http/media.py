"""Which structure the body of a response has, by its Content-Type alone: nothing is guessed from the bytes.

RFC 9110 section 8.3, RFC 6839 for "+json".
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from pep.http.coding import CannotMask
from pep.http.messages import Fields

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}"
_TYPE: Final = re.compile(rf"({_TOKEN})/({_TOKEN})[ \t]*")
_PARAMETER: Final = re.compile(
    rf";[ \t]*(?:({_TOKEN})=({_TOKEN}|\"(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*\")[ \t]*)?"
)

_LINES: Final = frozenset(
    {
        "application/json-lines",
        "application/jsonl",
        "application/jsonlines",
        "application/ndjson",
        "application/stream+json",
        "application/x-json-stream",
        "application/x-jsonl",
        "application/x-jsonlines",
        "application/x-ndjson",
    }
)
_TEXT: Final = frozenset({"application/javascript", "application/xml", "application/yaml", "application/x-yaml"})
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class Kind(enum.Enum):
    JSON = "one JSON document"
    LINES = "a JSON document on each line"
    SEQUENCE = "JSON documents behind separators"
    EVENTS = "an event stream"
    TEXT = "text"
    OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class MediaType:
    """`essence` is type/subtype in lower case; `shown` is what is said of the rewritten body."""

    essence: str
    kind: Kind
    shown: str

    @property
    def graphql(self) -> bool:
        return self.essence == "application/graphql-response+json"


def media_type(fields: Fields) -> MediaType:
    """The type of a body. Raises CannotMask where it cannot be told, or its characters are not UTF-8."""
    values = fields.all("content-type")
    if len(values) != 1:
        raise CannotMask("a response that does not say its one type cannot be masked")
    found = _TYPE.match(values[0])
    if found is None:
        raise CannotMask("a response of a type that is not understood cannot be masked")
    charsets = _charsets(values[0], found.end())
    if any(charset not in _UTF8 for charset in charsets):
        raise CannotMask("a response in another charset than UTF-8 cannot be masked")
    main, sub = found[1].lower(), found[2].lower()
    essence = f"{main}/{sub}"
    return MediaType(essence, _kind(main, sub), essence + ("; charset=utf-8" if charsets else ""))


def _charsets(value: str, at: int) -> set[str]:
    charsets: set[str] = set()
    while at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None:
            raise CannotMask("a response of a type that is not understood cannot be masked")
        at = found.end()
        if found[1] and found[1].lower().startswith("charset"):
            charsets.add(re.sub(r"\\(.)", r"\1", found[2].strip('"')).lower())
    return charsets


def _kind(main: str, sub: str) -> Kind:
    essence = f"{main}/{sub}"
    if essence in _LINES:
        return Kind.LINES
    if essence == "application/json-seq" or sub.endswith("+json-seq"):
        return Kind.SEQUENCE
    if essence == "text/event-stream":
        return Kind.EVENTS
    if main == "multipart":
        return Kind.OTHER
    if essence in ("application/json", "text/json") or sub.endswith("+json"):
        return Kind.JSON
    if main == "text" or essence in _TEXT or sub.endswith("+xml"):
        return Kind.TEXT
    return Kind.OTHER
