"""Parameters of a Bind as policies and people see them: JSON, never lossy.

A value whose type is known becomes a number, a boolean or a text; any other binary value is `{"$bytes": base64}`, an
integer beyond 2^53 is `{"$int": "..."}` (JSON readers would round it).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from pep.postgres import type_oids
from pep.postgres.frontend import Bind

_EXACT: Final = 1 << 53
_INTEGERS: Final = {type_oids.INT2: 2, type_oids.INT4: 4, type_oids.INT8: 8}


def readable(bind: Bind, oids: Sequence[int]) -> tuple[Any, ...]:
    """One JSON value per parameter; `oids` are the declared types, 0 or absent where the client left it open."""
    return tuple(
        None if value is None else readable_value(value, oids[index] if index < len(oids) else 0, _format(bind, index))
        for index, value in enumerate(bind.parameters)
    )


def unknown(count: int) -> tuple[Any, ...]:
    """The parameters of a statement that is only prepared: they are not known yet, and that is said."""
    return tuple({"parameter": index + 1} for index in range(count))


def _format(bind: Bind, index: int) -> int:
    match bind.parameter_formats:
        case ():
            return type_oids.TEXT
        case (one,):
            return one
        case many:
            return many[index] if index < len(many) else type_oids.BINARY


def readable_value(value: bytes, oid: int, format: int) -> Any:
    """One value as JSON. Text-format values of other types stay text."""
    if format == type_oids.TEXT:
        return _of_text(value, oid)
    if _INTEGERS.get(oid) == len(value):
        return _integer(int.from_bytes(value, signed=True))
    if oid == type_oids.BOOL and len(value) == 1:
        return value != b"\0"
    if oid in type_oids.TEXT_TYPES:
        return _of_text(value, oid)
    return _bytes(value)


def _of_text(value: bytes, oid: int) -> Any:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _bytes(value)
    if oid in _INTEGERS and text.strip().lstrip("+-").isdigit() and text.isascii() and len(text) < 24:
        return _integer(int(text))
    return text


def _integer(value: int) -> Any:
    return value if -_EXACT <= value <= _EXACT else {"$int": str(value)}


def _bytes(value: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}
