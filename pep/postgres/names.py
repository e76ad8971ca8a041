"""One registry of prepared statements, portals and cursors, for the protocol's messages and for SQL alike.

An entry changes only when the upstream confirms it (ParseComplete, BindComplete, CloseComplete, CommandComplete). Until
then the change is pending, with the Sync group it belongs to: within one group the server either carries out all
messages up to a point or skips the rest, so a later message of the same group may count on a pending change; a message
of another group must wait for it (`UNCONFIRMED`). Nothing here resolves or decides.
"""

from __future__ import annotations

import enum
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pep.core.model import Grant
from pep.postgres.backend import Column, RowDescription
from pep.postgres.classification import Classification, merge
from pep.postgres.parser import ParsedStatement
from pep.postgres.results import Cursor, Execution


class _Marker(enum.Enum):
    UNCONFIRMED = enum.auto()


UNCONFIRMED: Final = _Marker.UNCONFIRMED

_SIGNIFICANT: Final = 63


def key(name: str) -> bytes:
    """What the server tells names apart by: its tables of statements and portals read no further (NAMEDATALEN)."""
    return name.encode()[:_SIGNIFICANT]


@dataclass(slots=True, eq=False)
class Prepared:
    """A prepared statement: what its text was ever resolved to. `key` is the newest epoch among these.

    The server may go on using an older plan, so what is said of the name is the union, which only grows.
    `grant` is the grant of its preparation; None for SQL PREPARE. `parsed` is None for an empty statement. `declared`
    are the parameter types that its Parse named, `parameter_oids` those that the server said.
    """

    name: str
    _parsed: ParsedStatement | None
    declared: tuple[int, ...]
    grant: Grant | None
    union: Classification
    key: tuple[int, str]
    parameter_oids: tuple[int, ...] = ()
    described: tuple[Column, ...] = ()
    _packed: bytes = b""

    @property
    def size(self) -> int:
        """Characters of its text; its tree takes some hundred times as many bytes, and packed about as many."""
        return 0 if self._parsed is None else len(self._parsed.text)

    @property
    def parsed(self) -> ParsedStatement | None:
        if self._parsed is None or not self._packed:
            return self._parsed
        return replace(self._parsed, node=json.loads(zlib.decompress(self._packed)))

    @property
    def hidden_parameters(self) -> tuple[int, ...]:
        return () if self._parsed is None else self._parsed.hidden_parameters

    def pack(self) -> None:
        """Keep the tree in little room; from now on it is unpacked whenever it is asked for."""
        if self._parsed is not None and not self._packed:
            self._packed = zlib.compress(json.dumps(self._parsed.node).encode(), level=1)
            self._parsed = replace(self._parsed, node={})

    def resolved(self, classification: Classification, key: tuple[int, str]) -> None:
        """What it is resolved to at this epoch."""
        self.union = merge([self.union, classification])
        self.key = key


@dataclass(slots=True, eq=False)
class Portal:
    """A portal or a cursor: the two share one name space at the server.

    `grant` releases its first Execute while `group` is the group of its Bind; later it has to be asked for again.
    """

    name: str
    classification: Classification
    grant: Grant | None
    group: int
    parameters: tuple[object, ...] = ()
    text: str = ""
    prepared: Prepared | None = None
    epoch: tuple[int, str] = (0, "")
    holdable: bool = False
    described: RowDescription | Literal["nothing"] | None = None
    execution: Execution | None = None
    result_formats: tuple[int, ...] = ()
    fetched: Cursor = field(default_factory=Cursor)

    def columns(self) -> tuple[Column, ...]:
        """What is known of the rows to come, for the record; empty where the client asked for no description."""
        if isinstance(self.described, RowDescription):
            return self.described.columns
        columns = self.prepared.described if self.prepared is not None else ()
        formats = self.result_formats or (0,)
        if len(formats) not in (1, len(columns)):
            return ()
        spread = formats * len(columns) if len(formats) == 1 else formats
        return tuple(replace(column, format=code) for column, code in zip(columns, spread, strict=True))


Kind = Literal["statement", "portal"]

# Drivers keep one or a few hundred statements, and those that an ORM writes have thousands of characters each.
MOST_NAMES: Final = 5000
MOST_CHARACTERS: Final = 1024 * 1024
# The trees of the newest statements of so many characters stay as they are; the others are packed.
_UNPACKED_CHARACTERS: Final = 128 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A pending change: `entry` None removes; `name` None means every entry of the kind."""

    group: int
    kind: Kind
    name: str | None
    entry: Prepared | Portal | None


class Names:
    """The registry of one session."""

    def __init__(self) -> None:
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self._pending: list[Change] = []

    def statement(self, name: str, group: int) -> Prepared | Literal[_Marker.UNCONFIRMED] | None:
        found = self._look("statement", self._statements, name, group)
        assert found is None or found is UNCONFIRMED or isinstance(found, Prepared)
        return found

    def portal(self, name: str, group: int) -> Portal | Literal[_Marker.UNCONFIRMED] | None:
        found = self._look("portal", self._portals, name, group)
        assert found is None or found is UNCONFIRMED or isinstance(found, Portal)
        return found

    def _look(
        self, kind: Kind, entries: Mapping[bytes, Prepared | Portal], name: str, group: int
    ) -> Prepared | Portal | Literal[_Marker.UNCONFIRMED] | None:
        wanted = key(name)
        found = entries.get(wanted)
        for change in self._pending:
            if change.kind != kind or (change.name is not None and key(change.name) != wanted):
                continue
            if change.group != group:
                return UNCONFIRMED
            found = None if change.name is None else change.entry
        return found

    @property
    def full(self) -> bool:
        """Whether no further name may be made: a client must not be able to fill the memory with them."""
        named = [entry for name, entry in self._statements.items() if name]
        named += [c.entry for c in self._pending if isinstance(c.entry, Prepared) and c.name]
        count = len(named) + len(self._portals)
        return count >= MOST_NAMES or sum(entry.size for entry in named) >= MOST_CHARACTERS

    def pend(self, change: Change) -> Change:
        """A change that was sent upstream and is not answered yet."""
        self._pending.append(change)
        return change

    def named_change_before(self, group: int) -> bool:
        """Whether an earlier group holds an unanswered change of a name other than the unnamed one."""
        return any(change.group != group and change.name != "" for change in self._pending)

    def confirm(self, change: Change) -> None:
        """The upstream carried it out."""
        self.drop(change)
        entries: dict[bytes, Prepared] | dict[bytes, Portal]
        entries = self._statements if change.kind == "statement" else self._portals
        if change.name is None:
            entries.clear()
        elif change.entry is None:
            entries.pop(key(change.name), None)
        else:
            entries[key(change.name)] = change.entry  # type: ignore[assignment]
            self._pack()

    def _pack(self) -> None:
        characters = 0
        for entry in reversed(self._statements.values()):
            characters += entry.size
            if characters > _UNPACKED_CHARACTERS:
                entry.pack()

    def drop(self, change: Change) -> None:
        """The upstream refused or skipped it."""
        if change in self._pending:
            self._pending.remove(change)

    def forget_unnamed(self) -> None:
        """A simple Query ends the unnamed statement and portal at the server, whatever becomes of it."""
        self._statements.pop(b"", None)
        self._portals.pop(b"", None)

    def end_transaction(self) -> None:
        """Portals end with their transaction, unless they are WITH HOLD."""
        self._portals = {name: portal for name, portal in self._portals.items() if portal.holdable}
