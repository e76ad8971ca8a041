"""The path and the query of a request target in the one reading that is decided and forwarded.

Implements the syntax of RFC 3986, sections 2 and 3, and of application/x-www-form-urlencoded for queries. A spelling is
made canonical only where every server reads both alike: escapes of letters, digits, "-", "_" and "~" are undone, all
others written in capitals, characters that must be escaped are. What servers read in different ways (dot segments,
empty segments, parameters behind ";", escaped slashes, escapes of escapes, what Windows takes off names) is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)+/?|/")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNESCAPED: Final = re.compile(r"[^A-Za-z0-9._~!$&'()*+,=:@%/-]")
_UNESCAPED_QUERY: Final = re.compile(r"[^A-Za-z0-9._~!$&'()*,=:@%/?\[\]-]")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# Each of these is a separator, or begins an escape, for somebody who decodes earlier or once more.
_SPECIAL: Final = frozenset("/\\%;?")
# PHP reads these in a name as an underscore.
_AS_ONE: Final = re.compile(r"[. ]")
_LINE_ENDS: Final = frozenset("\t\r\n")


class Ambiguous(Exception):
    """Two servers could read this differently. The reason is fit to be shown and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Path:
    """`text` is what is decided and forwarded; `segments` are its parts, decoded, the last one "" behind a final slash.

    The root has no segments, and neither has "*", the target of OPTIONS for a whole server.
    """

    text: str
    segments: tuple[str, ...]


def normalise(path: str) -> Path:
    """The canonical reading of a path as it was sent. Raises Ambiguous."""
    if path in {"/", "*"}:
        return Path(path, ())
    if _PLAIN.fullmatch(path) is not None:
        return Path(path, tuple(path[1:].split("/")))
    if not path.startswith("/"):
        raise Ambiguous("it does not begin with a slash")
    if _VISIBLE.fullmatch(path) is None:
        raise Ambiguous("it holds white space, a control character or one outside ASCII")
    if _BAD_ESCAPE.search(path) is not None:
        raise Ambiguous("it holds a percent sign that begins no escape")
    for character, name in (("\\", "a backslash"), (";", "a semicolon"), ("?", "a query"), ("#", "a fragment")):
        if character in path:
            raise Ambiguous(f"it holds {name}")
    raw = path[1:].split("/")
    segments = tuple(_segment(part, last=number == len(raw)) for number, part in enumerate(raw, 1))
    text = _ESCAPE.sub(_canonical, path)
    return Path(_UNESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text), segments)


def _segment(raw: str, *, last: bool) -> str:
    if not raw:
        if last:
            return raw
        raise Ambiguous("it holds an empty segment")
    try:
        segment = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Ambiguous("an escaped part of it is not UTF-8") from None
    if not _SPECIAL.isdisjoint(segment):
        raise Ambiguous("it holds an escaped separator or an escaped percent sign")
    if any(unicodedata.category(character) == "Cc" for character in segment):
        raise Ambiguous("it holds an escaped control character")
    composed = segment if segment.isascii() else unicodedata.normalize("NFKC", segment)
    if not _SPECIAL.isdisjoint(composed):
        raise Ambiguous("it holds a look-alike of a separator")
    if composed[-1:] in {".", " "} or segment[-1:] in {".", " "}:
        raise Ambiguous("a segment of it is made of dots or ends in a dot or a space")
    return segment


def _canonical(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def canonical_query(query: str) -> str:
    """The query as it is forwarded: in the one reading that `query_pairs` has of it. For a query that this accepts.

    A plus is a blank to whoever reads forms and a plus to the others; what has to be escaped is read by some only.
    """
    text = _ESCAPE.sub(_canonical, query.replace("+", "%20"))
    return _UNESCAPED_QUERY.sub(lambda found: f"%{ord(found[0]):02X}", text)


def query_pairs(query: str | None) -> tuple[tuple[str, str], ...]:
    """The names and values of a query, decoded, in order. Raises Ambiguous.

    An empty part between two separators is nothing to everybody, and nothing here.
    """
    if not query:
        return ()
    if ";" in query:
        raise Ambiguous("the query holds a semicolon, which separates for some")
    if "#" in query or _VISIBLE.fullmatch(query) is None:
        raise Ambiguous("the query holds a character that must be escaped")
    if _BAD_ESCAPE.search(query) is not None:
        raise Ambiguous("the query holds a percent sign that begins no escape")
    pairs = tuple(_pair(part) for part in query.split("&") if part)
    if not differ([name for name, _ in pairs]):
        raise Ambiguous("the query holds two names that are one to some servers")
    return pairs


def differ(names: Iterable[str]) -> bool:
    """Whether no two of them are one to some servers: by case, as PHP writes them, as a list and as a value."""
    spelled: dict[str, tuple[str, bool]] = {}
    for name in names:
        base, bracket, _ = name.partition("[")
        kind = (base, bool(bracket))
        if spelled.setdefault(_AS_ONE.sub("_", base).casefold(), kind) != kind:
            return False
    return True


def _pair(part: str) -> tuple[str, str]:
    raw_name, _, raw_value = part.partition("=")
    name, value = _decoded(raw_name), _decoded(raw_value)
    if not name or name != name.strip():
        raise Ambiguous("the query holds a name that is empty or begins or ends with white space")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Ambiguous("the query holds a control character in a name")
    if any(unicodedata.category(character) == "Cc" and character not in _LINE_ENDS for character in value):
        raise Ambiguous("the query holds a control character")
    return name, value


def _decoded(raw: str) -> str:
    try:
        return unquote_to_bytes(raw.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise Ambiguous("an escaped part of the query is not UTF-8") from None
