"""JSON read strictly and written back: order, numbers as they stood, nothing that two readers could read differently.

Refused are duplicate names in one object, NaN and the infinities, a byte order mark, everything but UTF-8, nesting
beyond a limit. Written is the shortest form. RFC 8259.
"""

from __future__ import annotations

import html
import json
import re
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn, TypeAlias, cast

from pep.http.coding import CannotMask

MOST_NESTED: Final = 128

NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\{1,8}u00([0-7][0-9A-Fa-f])")
_PERCENT: Final = re.compile(r"%(?:25){0,4}([2-7][0-9A-Fa-f])")
_AMPERSAND: Final = re.compile(r"&(?:amp;){1,4}")
_OPENING: Final = frozenset('{["')
_SPACES: Final = frozenset(" \t\r\n")
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class Number(str):
    """A number by the characters that it was written with: a reader's own arithmetic decides what it is."""

    __slots__ = ()


Value: TypeAlias = "dict[str, Value] | list[Value] | str | Number | bool | None"


def read(data: bytes) -> Value:
    """The one document in `data`. Raises CannotMask."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise CannotMask("a JSON body with a byte order mark is not looked at")
    try:
        return read_text(data.decode())
    except UnicodeDecodeError:
        raise CannotMask("a JSON body that is not in UTF-8 cannot be masked") from None


def read_text(text: str) -> Value:
    try:
        return cast(Value, _STRICT.decode(text))
    except ValueError:
        raise CannotMask("the body is not JSON, though it says so, and cannot be masked") from None
    except RecursionError:
        raise too_deep() from None


def embedded(text: str) -> tuple[list[Value], str]:
    """The JSON objects, arrays and strings that a string begins with, one after the other, and what follows them.

    What is no strict JSON but could be taken for it (duplicates, NaN) raises CannotMask.
    """
    found: list[Value] = []
    at = _after_space(text, 0)
    while text[at : at + 1] in _OPENING:
        try:
            value, at = _LENIENT.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        except RecursionError:
            raise too_deep() from None
        found.append(cast(Value, value))
        at = _after_space(text, at)
    return found, text[at:]


def begins_like_json(text: str) -> bool:
    first = text[:1]
    return first in _OPENING or (first in _SPACES and text[_after_space(text, 0) :][:1] in _OPENING)


def unescaped(text: str) -> str:
    """The text without the escapes of JSON, of addresses and of HTML, where what they stand for is ASCII."""
    if "\\u00" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    if "%" in text:
        text = _PERCENT.sub(lambda found: chr(int(found[1], 16)), text)
    return html.unescape(_AMPERSAND.sub("&", text)) if "&" in text else text


def too_deep() -> CannotMask:
    return CannotMask("the JSON of the body is nested too deep to be masked")


# The text as a JSON string. Lone surrogates stay in it as they are: see `encoded`.
string: Final = encode_basestring


def encoded(text: str) -> bytes:
    """JSON text in UTF-8. A lone half of a surrogate pair, which only an escape can say, is one again."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CannotMask("a JSON object with the same name twice cannot be masked: readers differ about it")
    return members


def _no_number(_word: str) -> NoReturn:
    raise CannotMask("JSON has neither NaN nor infinity; a body with one cannot be masked")


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=Number, parse_float=Number, parse_constant=_no_number
)
# Inside a string control characters are let pass, as many a reader does.
_LENIENT: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=Number, parse_float=Number, parse_constant=_no_number, strict=False
)
