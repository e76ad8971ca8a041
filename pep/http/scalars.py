"""Masks single JSON values. Values come as `documents` reads them: text, `Number`, true, false, null.

The methods are those of `pep.core.model.MaskMethod`. One rule decides every doubt: a method that does not fit the value
gives null. So does any method for an object or an array: a mask on a whole one hides all of it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Final, assert_never

from pep.core import masks
from pep.core.model import ConstantMask, GeneralizeMask, HashMask, MaskMethod, NullMask, PartialEmailMask, PartialMask
from pep.http.documents import NUMBER, Number, Value

Scalar = Callable[[Value], Value]

_ISO: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?P<time>[ Tt]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?P<zone>[Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_UNITS: Final = ("year", "month", "day", "hour")


def scalar_mask(method: MaskMethod, keys: Mapping[str, bytes]) -> Scalar:
    """The method made ready. null stays null; `keys` are the hash keys by their names."""
    match method:
        case NullMask():
            return _null
        case ConstantMask(value):
            return lambda found: _constant(value, found)
        case PartialMask(prefix, pad, suffix):
            if prefix < 0 or suffix < 0:
                return _null
            return lambda found: masks.partial(prefix, pad, suffix, found) if type(found) is str else None
        case PartialEmailMask():
            return lambda found: masks.partial_email(found) if type(found) is str else None
        case HashMask(name):
            key = keys.get(name)
            # An HMAC under an empty key is a plain hash: anyone could compute it for a list of guesses.
            return (lambda found: _hash(key, found)) if key else _null
        case GeneralizeMask(step):
            return lambda found: _generalize(step, found)
        case never:
            assert_never(never)


def _null(_found: Value) -> None:
    return None


def _constant(constant: str, found: Value) -> Value:
    if isinstance(found, Number):
        return Number(constant) if NUMBER.fullmatch(constant) else None
    if isinstance(found, str):
        return constant
    if isinstance(found, bool) and constant in ("true", "false"):
        return constant == "true"
    return None


def _hash(key: bytes, found: Value) -> str | None:
    """Of a number it is the hash of its text: two texts for one number have two hashes."""
    if not isinstance(found, str):
        return None
    try:
        return masks.keyed_hash(key, found)
    except UnicodeEncodeError:
        return None


def _generalize(step: str, found: Value) -> Value:
    if isinstance(found, Number):
        return _floor(step, found)
    if isinstance(found, str) and step in _UNITS:
        return _begin(step, found)
    return None


def _floor(step: str, found: Number) -> Number | None:
    exact, number = masks.parse(step), masks.parse(found)
    if exact is None or number is None or exact.coefficient <= 0:
        return None
    whole = masks.integral(exact)
    if masks.integral(number) is not None and (whole is None or whole == 1):
        # A step of 1 leaves an integer as it is, and a fraction of one may.
        return None
    return Number(masks.plain(masks.floor(number, exact)))


def _begin(unit: str, found: str) -> str | None:
    """The begin of the unit of time; a moment with an offset in UTC, which does not tell summer from winter."""
    parts = _ISO.fullmatch(found)
    if parts is None or (parts["time"] is None and unit in ("day", "hour")):
        return None
    try:
        moment = datetime.datetime.fromisoformat(found.upper())
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None
    month = 1 if unit == "year" else moment.month
    day = 1 if unit in ("year", "month") else moment.day
    date = f"{moment.year:04}-{month:02}-{day:02}"
    if parts["time"] is None:
        return date
    return f"{date}T{moment.hour if unit == 'hour' else 0:02}:00:00{'Z' if parts['zone'] else ''}"
