"""What the mask methods make of characters and of decimal numbers, for every protocol alike.

The methods are those of `pep.core.model.MaskMethod`. Which values carry which method, and how a value travels, is each
protocol's own matter. What is not a finite number, or is longer than is worth the work, is no `Exact`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

# What stands for the hidden part of an e-mail address. Its length says nothing about the length of what it hides.
_EMAIL_PAD: Final = "****"
_EMAIL_PREFIX: Final = 2
_LONGEST_TOP_LEVEL_DOMAIN: Final = 10

_DECIMAL: Final = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?", re.ASCII)

# Digits before or after the point beyond which nothing is made of a number: the arithmetic on very many takes longer
# than linear time; a double needs 308 and 324.
MOST_DIGITS: Final = 1000


def partial(prefix: int, pad: str, suffix: int, text: str) -> str:
    """The two ends of the text with the pad between; the pad alone where they would be all of it."""
    if prefix + suffix >= len(text):
        return pad
    return text[:prefix] + pad + text[len(text) - suffix :]


def partial_email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        return _EMAIL_PAD
    name, dot, top = domain.rpartition(".")
    if not (dot and top.isascii() and top.isalpha() and len(top) <= _LONGEST_TOP_LEVEL_DOMAIN):
        # Not a domain name, so nothing says that its end is harmless.
        name, dot, top = domain, "", ""
    shown = (partial(_EMAIL_PREFIX, _EMAIL_PAD, 0, part) for part in (local, name))
    return "@".join(shown) + dot + top


def keyed_hash(key: bytes, text: str) -> str:
    """HMAC-SHA-256 of the text's UTF-8, in hexadecimal. The key must not be empty: anyone could compute it then."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Exact:
    """`coefficient / 10**scale`; the scale is what is shown after the point."""

    coefficient: int
    scale: int


def parse(text: str) -> Exact | None:
    """A finite decimal number as text."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    scale = len(fraction) - exponent
    if len(whole) + max(exponent, 0) > MOST_DIGITS or scale > MOST_DIGITS:
        return None
    coefficient = int(whole + fraction)
    if scale < 0:
        coefficient, scale = coefficient * 10**-scale, 0
    return Exact(-coefficient if sign == "-" else coefficient, scale)


def floor(number: Exact, step: Exact) -> Exact:
    """The greatest multiple of `step` that is not above. It has the step's scale: the value's own would tell of it."""
    scale = max(number.scale, step.scale)
    unit = step.coefficient * 10 ** (scale - step.scale)
    return Exact(number.coefficient * 10 ** (scale - number.scale) // unit * step.coefficient, step.scale)


def integral(number: Exact) -> int | None:
    whole, rest = divmod(number.coefficient, 10**number.scale)
    return None if rest else whole


def plain(number: Exact) -> str:
    """The number's digits, without an exponent."""
    digits = str(abs(number.coefficient)).rjust(number.scale + 1, "0")
    sign = "-" if number.coefficient < 0 else ""
    if number.scale == 0:
        return sign + digits
    return f"{sign}{digits[: -number.scale]}.{digits[-number.scale :]}"
