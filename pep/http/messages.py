"""HTTP messages as values: heads, parts of bodies, ends. Direction is in the type.

A head holds what was read strictly (see `codec`): whatever two parsers could read differently never becomes one.
Implements the vocabulary of RFC 9110 and RFC 9112; bodies are parts of `BodyData` and end with `EndOfMessage`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pep.core.values import value

# Name and value as they stood on the wire, without the white space around the value; decoded as Latin-1.
Field = tuple[str, str]


@value
class NoBody:
    """The message ends with its head."""


@value
class Length:
    """Content-Length: so many bytes follow."""

    size: int


@value
class Chunked:
    """Transfer-Encoding: chunked, and no other coding."""


@value
class UntilClose:
    """A response that ends with its connection."""


Framing = NoBody | Length | Chunked | UntilClose


@value
class Fields:
    """A header section, in order. Names compare without case."""

    items: tuple[Field, ...] = ()
    _lower: tuple[str, ...] | None = field(default=None, init=False, repr=False, compare=False)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in lower case, in the order of the fields. They are asked for many times."""
        if self._lower is None:
            object.__setattr__(self, "_lower", tuple([name.lower() for name, _ in self.items]))
        assert self._lower is not None
        return self._lower

    def all(self, name: str) -> tuple[str, ...]:
        wanted, names = name.lower(), self.names
        if wanted not in names:
            return ()
        return tuple([item[1] for item, own in zip(self.items, names, strict=True) if own == wanted])

    def first(self, name: str) -> str | None:
        """The first value of that name, None where there is none."""
        wanted, names = name.lower(), self.names
        return self.items[names.index(wanted)][1] if wanted in names else None

    def tokens(self, name: str) -> tuple[str, ...]:
        """The members of a comma-separated field, in lower case, over all its lines."""
        values = self.all(name)
        if not values:
            return ()
        parts = (part.strip().lower() for value in values for part in value.split(","))
        return tuple(part for part in parts if part)

    def without(self, names: Iterable[str]) -> Fields:
        gone, own = _folded(frozenset(names)), self.names
        if gone.isdisjoint(own):
            return self
        return Fields(tuple([item for item, name in zip(self.items, own, strict=True) if name not in gone]))

    def replaced(self, name: str, value: str) -> Fields:
        """With that value under that name, and no other one."""
        return Fields((*self.without((name,)).items, (name, value)))


@functools.lru_cache(maxsize=256)
def _folded(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`target` is in origin-form (or "*" for OPTIONS) as it was sent; `host` is the authority in lower case.

    `path` and `query` are the parts of the target as they were sent, not decoded; `query` is None without a "?".
    `upgrade` is the protocol asked for, in lower case, "" where none is.
    """

    method: str
    target: str
    path: str
    query: str | None
    host: str
    minor: int
    fields: Fields
    framing: Framing
    keep_alive: bool
    expects_continue: bool = False
    upgrade: str = ""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    status: int
    reason: str
    minor: int
    fields: Fields
    framing: Framing
    keep_alive: bool

    @property
    def interim(self) -> bool:
        """1xx: another head follows. 101 is final: what follows is another protocol."""
        return 100 <= self.status < 200 and self.status != 101


@value
class BodyData:
    """A part of a body, without its framing."""

    data: bytes


@value
class EndOfMessage:
    """The body is complete. Trailer fields are read strictly; those of a request are never forwarded."""

    trailers: Fields = Fields()


RequestPart = RequestHead | BodyData | EndOfMessage
ResponsePart = ResponseHead | BodyData | EndOfMessage
