"""The header fields of a response that reach a client under a mask, and the values that they may have.

A target can copy a masked value into any field. So a field is shown if it is known here, and only with a value of the
shape that its specification gives it: words of a protocol, dates, numbers. Two carry what the target or the client
chose, and have no closer shape than that: the session of MCP, and the origin that a browser has to be told.
Everything else is left out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_WORDS: Final = r"[A-Za-z]+(?:-[A-Za-z]+)*(?: *[,;] *[A-Za-z]+(?:-[A-Za-z]+)*)*"
_DATE: Final = r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"
_SETTING: Final = r"[A-Za-z]+(?:-[A-Za-z]+)*(?:=[0-9]{1,12})?"
_SETTINGS: Final = rf"{_SETTING}(?: *[,;] *{_SETTING})*"
_MEASURE: Final = rf"(?:\"[A-Za-z]{{1,20}}\"|[0-9]{{1,15}}(?:\.[0-9]{{1,6}})?|{_SETTING})"
_MEASURES: Final = rf"{_MEASURE}(?: *[,;] *{_MEASURE})*"
_ORIGIN: Final = r"\*|null|https?://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?"

_SHAPES: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(shape, re.ASCII)
    for name, shape in {
        "access-control-allow-credentials": r"true",
        "access-control-allow-headers": rf"\*|{_WORDS}",
        "access-control-allow-methods": rf"\*|{_WORDS}",
        "access-control-allow-origin": _ORIGIN,
        "access-control-expose-headers": rf"\*|{_WORDS}",
        "access-control-max-age": r"[0-9]{1,10}",
        "allow": rf"{_WORDS}|",
        "cache-control": _SETTINGS,
        "content-language": r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,4}){0,2}",
        "cross-origin-embedder-policy": _WORDS,
        "cross-origin-opener-policy": _WORDS,
        "cross-origin-resource-policy": _WORDS,
        "date": _DATE,
        "deprecation": rf"@[0-9]{{1,12}}|true|{_DATE}",
        "mcp-protocol-version": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "mcp-session-id": r"[\x21-\x7e]{1,512}",
        "pragma": r"no-cache",
        "referrer-policy": _WORDS,
        "retry-after": rf"[0-9]{{1,9}}|{_DATE}",
        "server": r"[A-Za-z-]{1,30}(?:/[0-9]{1,4}(?:\.[0-9]{1,4}){0,3})?",
        "strict-transport-security": _SETTINGS,
        "sunset": _DATE,
        "vary": rf"\*|{_WORDS}",
        "www-authenticate": r"(?:Basic|Bearer|Digest|Negotiate)(?: realm=\"[A-Za-z ]{0,40}\")?",
        "x-content-type-options": _WORDS,
        "x-frame-options": _WORDS,
    }.items()
}
# How much may still be asked: counts, times, and the names of the windows that they are for.
_LIMITS: Final = re.compile(r"(?:x-)?ratelimit(?:-(?:limit|policy|remaining|reset|used))?(?:-[a-z]{1,12})?")
_LIMIT: Final = re.compile(rf"{_MEASURES}|{_DATE}")


def is_shown(name: str, value: str) -> bool:
    """Whether this field reaches the client of a masked response. Content-Type is not told here: see `media`."""
    folded = name.lower()
    shape = _LIMIT if _LIMITS.fullmatch(folded) else _SHAPES.get(folded)
    return shape is not None and shape.fullmatch(value) is not None
