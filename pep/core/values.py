"""Values of the hot path: frozen and slotted dataclasses to the type checker, only slotted ones at run time.

A dataclass that is frozen at run time sets each of its fields by way of `object.__setattr__`, which takes six times as
long. A request makes some fifty values, most of which live for microseconds; that they are not changed is held by mypy,
as everything about them is. What decides about rights (`model`) stays frozen at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """As `dataclass(frozen=True, slots=True)`: compared and hashed by its fields, which nobody sets again."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
