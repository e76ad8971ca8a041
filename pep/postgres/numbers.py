"""Numbers as PostgreSQL sends them, rounded down to a step or replaced: int2, int4, int8, float4, float8, numeric.

All arithmetic is on decimal numbers held exactly, as an integer and a power of ten, so that text and binary agree.
What is not a finite number, or is longer than is worth the work, is None, which a mask turns into NULL.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

from pep.core.masks import MOST_DIGITS, Exact, floor, integral, parse, plain
from pep.postgres.type_oids import FLOAT4, FLOAT8, INT2, INT4, INT8, INTEGER_TYPES, NUMERIC, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

_INTEGERS: Final = {INT2: struct.Struct(">h"), INT4: struct.Struct(">i"), INT8: struct.Struct(">q")}
_FLOATS: Final = {FLOAT4: struct.Struct(">f"), FLOAT8: struct.Struct(">d")}

# numeric in binary: number of digits, weight of the first, sign, digits shown after the point; then the digits, of
# base 10,000.
_NUMERIC: Final = struct.Struct(">HhHH")
_NUMERIC_POSITIVE: Final = 0x0000
_NUMERIC_NEGATIVE: Final = 0x4000
_BASE: Final = 10_000
_BASE_DIGITS: Final = 4

# The fewest significant digits from which every float4 can be told apart are between these two.
_FLOAT4_DIGITS: Final = range(6, 10)


def floor_to(step: str, type_oid: int, format: int) -> Callable[[bytes], bytes | None] | None:
    """Rounds a value of the type down to a multiple of `step`; None if that cannot hide anything or cannot be done."""
    exact_step = parse(step)
    if exact_step is None or exact_step.coefficient <= 0:
        return None
    if type_oid in INTEGER_TYPES and (integral(exact_step) or 1) == 1:
        # A step of 1 leaves an integer as it is, and a fraction of one has no multiples among them.
        return None
    usable = exact_step

    def floored(value: bytes) -> bytes | None:
        number = decode(value, type_oid, format)
        return None if number is None else encode(floor(number, usable), type_oid, format)

    return floored


def constant(text: str, type_oid: int, format: int) -> bytes | None:
    """The number in `text` as a value of the type, or None if it is not one."""
    number = parse(text)
    return None if number is None else encode(number, type_oid, format)


def decode(value: bytes, type_oid: int, format: int) -> Exact | None:
    """A value of a number type as it travels; None if it is no finite number."""
    if format == TEXT:
        return parse(value.decode("ascii", "replace"))
    try:
        if type_oid in INTEGER_TYPES:
            return Exact(_INTEGERS[type_oid].unpack(value)[0], 0)
        if type_oid == NUMERIC:
            return _decode_numeric(value)
        number = _FLOATS[type_oid].unpack(value)[0]
    except struct.error:
        return None
    return parse(_shortest(number, type_oid)) if math.isfinite(number) else None


def encode(number: Exact, type_oid: int, format: int) -> bytes | None:
    """The number as a value of the type, or None if the type cannot hold it."""
    if type_oid in INTEGER_TYPES:
        return _encode_integer(number, type_oid, format)
    if type_oid == NUMERIC:
        return plain(number).encode() if format == TEXT else _encode_numeric(number)
    pack = _FLOATS[type_oid].pack
    try:
        packed = pack(float(plain(number)))
    except OverflowError:
        return None
    value = _FLOATS[type_oid].unpack(packed)[0]
    if not math.isfinite(value):
        return None
    return _shortest(value, type_oid).encode() if format == TEXT else packed


def _encode_integer(number: Exact, type_oid: int, format: int) -> bytes | None:
    value = integral(number)
    if value is None:
        return None
    try:
        packed = _INTEGERS[type_oid].pack(value)
    except struct.error:
        return None
    return str(value).encode() if format == TEXT else packed


def _shortest(number: float, type_oid: int) -> str:
    """The shortest decimal that denotes this number and no other of its type, as the server prints it."""
    if type_oid == FLOAT8:
        return repr(number).removesuffix(".0")
    pack = _FLOATS[FLOAT4].pack
    packed = pack(number)
    candidates = (f"{number:.{digits}g}" for digits in _FLOAT4_DIGITS)
    return next((text for text in candidates if _packs_to(text, packed)), repr(number))


def _packs_to(text: str, packed: bytes) -> bool:
    try:
        return _FLOATS[FLOAT4].pack(float(text)) == packed
    except OverflowError:
        return False


def _decode_numeric(value: bytes) -> Exact | None:
    count, weight, sign, scale = _NUMERIC.unpack_from(value)
    digits = struct.unpack_from(f">{count}H", value, _NUMERIC.size)
    if sign not in (_NUMERIC_POSITIVE, _NUMERIC_NEGATIVE) or len(value) != _NUMERIC.size + 2 * count:
        return None  # not a number, or infinite, or damaged
    if max(abs(weight) + 1, count) * _BASE_DIGITS > MOST_DIGITS or scale > MOST_DIGITS:
        return None
    if any(digit >= _BASE for digit in digits):
        return None
    coefficient = 0
    for digit in digits:
        coefficient = coefficient * _BASE + digit
    # The last digit stands for 10,000 to the power of `weight - count + 1`.
    shift = (weight - count + 1) * _BASE_DIGITS + scale
    coefficient = coefficient * 10**shift if shift >= 0 else coefficient // 10**-shift
    return Exact(-coefficient if sign == _NUMERIC_NEGATIVE else coefficient, scale)


def _encode_numeric(number: Exact) -> bytes:
    magnitude = abs(number.coefficient)
    # Aligned so that a digit of base 10,000 never straddles the point.
    after = -(-number.scale // _BASE_DIGITS)
    magnitude *= 10 ** (after * _BASE_DIGITS - number.scale)
    digits: list[int] = []
    while magnitude:
        magnitude, digit = divmod(magnitude, _BASE)
        digits.append(digit)
    weight = len(digits) - after - 1 if digits else 0
    digits.reverse()
    while digits and digits[-1] == 0:
        digits.pop()
    sign = _NUMERIC_NEGATIVE if number.coefficient < 0 else _NUMERIC_POSITIVE
    return _NUMERIC.pack(len(digits), weight, sign, number.scale) + struct.pack(f">{len(digits)}H", *digits)
