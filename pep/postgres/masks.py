"""Masks single values and the cells of DataRow messages, correctly for their type in text and in binary.

The methods are those of `pep.core.model.MaskMethod`, named after PostgreSQL Anonymizer's functions. One rule decides
every doubt: a method that does not fit the type, the format or the value gives NULL. Which columns carry which method
is not known here; dates are in `dates`, numbers in `numbers`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from typing import Final, assert_never

from pep.core.errors import UpstreamProtocolError
from pep.core.masks import keyed_hash, partial, partial_email
from pep.core.model import ConstantMask, GeneralizeMask, HashMask, MaskMethod, NullMask, PartialEmailMask, PartialMask
from pep.postgres import dates, numbers
from pep.postgres.frames import PROTOCOL_VIOLATION
from pep.postgres.type_oids import BOOL, BPCHAR, DATE_TYPES, FORMATS, NUMBER_TYPES, TEXT, TEXT_TYPES

# What a mask does to one value that is not NULL.
Cell = Callable[[bytes], bytes | None]

_COUNT: Final = struct.Struct(">H")
_LENGTH: Final = struct.Struct(">i")
_HEADER: Final = struct.Struct(">BI")
_NULL: Final = _LENGTH.pack(-1)


def apply(
    method: MaskMethod, type_oid: int, format: int, value: bytes | None, keys: Mapping[str, bytes] | None = None
) -> bytes | None:
    """The masked form of one value as it travels. NULL stays NULL; `keys` are the hash keys by their names."""
    return None if value is None else cell_mask(method, type_oid, format, keys or {})(value)


def cell_mask(method: MaskMethod, type_oid: int, format: int, keys: Mapping[str, bytes]) -> Cell:
    """The method made ready for one column; build it once for a result, not once for a row."""
    if format not in FORMATS:
        return _null
    match method:
        case NullMask():
            return _null
        case ConstantMask(value):
            return _constant(value, type_oid, format)
        case PartialMask(prefix, pad, suffix):
            if prefix < 0 or suffix < 0:
                return _null
            return _on_text(functools.partial(partial, prefix, pad, suffix), type_oid)
        case PartialEmailMask():
            return _on_text(partial_email, type_oid)
        case HashMask(name):
            key = keys.get(name)
            # An HMAC under an empty key is a plain hash: anyone could compute it for a list of guesses.
            return _on_text(functools.partial(keyed_hash, key), type_oid) if key else _null
        case GeneralizeMask(step):
            return _generalize(step, type_oid, format)
        case never:
            assert_never(never)


def _null(_value: bytes) -> None:
    return None


def _on_text(mask: Callable[[str], str], type_oid: int) -> Cell:
    """These types have one representation, the characters, in text and in binary."""
    if type_oid not in TEXT_TYPES:
        return _null
    padded = type_oid == BPCHAR

    def masked(value: bytes) -> bytes | None:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return None
        # The padding of a character(n) is no part of its value; counted as length, it would let a prefix show all.
        return mask(text.rstrip(" ") if padded else text).encode()

    return masked


def _constant(constant: str, type_oid: int, format: int) -> Cell:
    encoded = _encode_constant(constant, type_oid, format)
    return lambda _value: encoded


def _encode_constant(constant: str, type_oid: int, format: int) -> bytes | None:
    if type_oid in TEXT_TYPES:
        # PostgreSQL's text has no NUL, and no surrogates.
        return None if "\0" in constant or not _encodable(constant) else constant.encode()
    if type_oid in NUMBER_TYPES:
        return numbers.constant(constant, type_oid, format)
    if type_oid in DATE_TYPES:
        return dates.constant(constant, type_oid, format)
    if type_oid == BOOL and constant in ("true", "false"):
        truth = constant == "true"
        return (b"t" if truth else b"f") if format == TEXT else bytes((truth,))
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _generalize(step: str, type_oid: int, format: int) -> Cell:
    if type_oid in NUMBER_TYPES:
        return numbers.floor_to(step, type_oid, format) or _null
    if type_oid in DATE_TYPES:
        return dates.floor_to(step, type_oid, format) or _null
    return _null


class MaskedRow:
    """Rewrites the rows of one result.

    `width` is the number of columns that its RowDescription promised, `masks` the masked ones by index. A row that
    does not keep the promise raises UpstreamProtocolError: its columns cannot be told apart.
    """

    __slots__ = ("_cells", "_until", "_width")

    def __init__(self, width: int, masks: Mapping[int, Cell]) -> None:
        if any(not 0 <= index < width for index in masks):
            raise ValueError("a mask names a column that the result does not have")
        self._width = width
        self._cells = dict(masks)
        self._until = max(masks, default=-1) + 1

    def rewrite(self, payload: bytes) -> bytes:
        """The payload of a DataRow with its masked cells replaced; all other bytes stay as they came."""
        try:
            return self._rewrite(payload)
        except struct.error as cause:
            raise _malformed() from cause

    def rewrite_run(self, raw: bytes) -> bytes:
        """The same for whole DataRow frames, one after the other (`Run.raw`)."""
        pieces, position, end_of_run = [], 0, len(raw)
        pack, unpack = _HEADER.pack, _HEADER.unpack_from
        try:
            while position < end_of_run:
                tag, length = unpack(raw, position)
                end = position + 1 + length
                payload = self._rewrite(raw[position + 5 : end])
                pieces.append(pack(tag, len(payload) + 4))
                pieces.append(payload)
                position = end
        except struct.error as cause:
            raise _malformed() from cause
        return b"".join(pieces)

    def _rewrite(self, payload: bytes) -> bytes:
        unpack, cells, size = _LENGTH.unpack_from, self._cells, len(payload)
        (width,) = _COUNT.unpack_from(payload)
        if width != self._width:
            raise _malformed()
        # Bytes from `kept` on are unchanged so far and are copied in one piece before the next masked cell.
        pieces, kept, position = [], 0, 2
        for index in range(self._until):
            (length,) = unpack(payload, position)
            start = position + 4
            if length < -1 or start + length > size:
                raise _malformed()
            end = start if length == -1 else start + length
            cell = cells.get(index)
            if cell is not None and length != -1:
                pieces.append(payload[kept:position])
                masked = cell(payload[start:end])
                pieces.append(_NULL if masked is None else _LENGTH.pack(len(masked)) + masked)
                kept = end
            position = end
        pieces.append(payload[kept:])
        return b"".join(pieces)


def _malformed() -> UpstreamProtocolError:
    return UpstreamProtocolError(PROTOCOL_VIOLATION, "malformed DataRow message: not the columns that were described")
