"""What the classifier says about one SQL statement: result types and their union, values only.

`properties` is the document that policies read (`rego/schemas/input.json#/$defs/postgres`); everything else is for
the session: barriers, transaction steps, names of prepared statements and cursors, where output may come from.
Nothing here parses, resolves or decides.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from pep.postgres.parser import ParsedStatement

Class = Literal["read", "write", "schema", "transaction", "setting", "catalog", "admin", "opaque"]

# From the mildest to the strictest: a name that may denote statements of several classes is of the strictest.
_STRICTNESS: Final[tuple[Class, ...]] = (
    "transaction",
    "setting",
    "catalog",
    "read",
    "write",
    "schema",
    "admin",
    "opaque",
)

_MILDER_KINDS: Final = ("insert", "update", "merge", "delete", "truncate")

UNCOUNTED: Final = "the server does not say how many rows it changes"

RESERVED_PREFIX: Final = "checkrein_"
"""Prepared statements and cursors of the proxy itself; a client cannot make or use one of such a name."""


def words(text: str) -> frozenset[str]:
    """A table of names, written as a paragraph."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What resolution depends on in this session. `search_path` is in effect, as `current_schemas(true)` says it."""

    search_path: tuple[str, ...]
    user: str
    session_user: str
    temp_schema: str | None
    database: str
    server_version: int
    in_transaction: bool


class Change(enum.Enum):
    """Why nothing may be resolved behind this statement before the server has answered it."""

    SEARCH_PATH = "search_path"
    ROLE = "role"
    TEMP = "temp"
    SCHEMA = "schema"
    UNKNOWN = "unknown"  # code that may do anything: DO, CALL, a function that is not known to be harmless
    END = "end"  # a transaction or savepoint ends: a barrier if something changed in it


class TransactionVerb(enum.Enum):
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    PREPARE_TRANSACTION = "prepare_transaction"
    COMMIT_PREPARED = "commit_prepared"
    ROLLBACK_PREPARED = "rollback_prepared"


@dataclass(frozen=True, slots=True)
class TransactionStep:
    """`name` is the savepoint's or the prepared transaction's; `chain` is AND CHAIN: the next block begins at once."""

    verb: TransactionVerb
    name: str = ""
    chain: bool = False


@dataclass(frozen=True, slots=True)
class PrepareName:
    """PREPARE: once the server has completed it, `name` denotes `statement`."""

    name: str
    statement: ParsedStatement
    inner: Classification


@dataclass(frozen=True, slots=True)
class DeallocateName:
    """DEALLOCATE; `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class DeclareCursor:
    name: str
    statement: ParsedStatement
    inner: Classification
    holdable: bool
    scroll: bool


@dataclass(frozen=True, slots=True)
class CloseCursor:
    """CLOSE; `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Discard:
    what: Literal["all", "plans", "temp", "sequences"]


NameChange = PrepareName | DeallocateName | DeclareCursor | CloseCursor | Discard


@dataclass(frozen=True, slots=True)
class ExecuteName:
    """EXECUTE, also inside EXPLAIN and CREATE TABLE AS."""

    name: str
    has_args: bool


@dataclass(frozen=True, slots=True)
class FetchCursor:
    """FETCH and MOVE; also the cursor of WHERE CURRENT OF."""

    name: str
    move: bool


NameUse = ExecuteName | FetchCursor


@dataclass(frozen=True, slots=True)
class Refusal:
    """What this version refuses whatever the policy says."""

    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class Classification:
    """One statement, resolved.

    `origins`: oids of the tables that the statement names directly and whose columns the server may name as the origin
    of an output column. `reached`: oids of every relation of the closure: views, what they read, parents, children.
    `uncounted`: why the server's count does not say every row that the statement changes; "" where it does.
    `runs_when_parsed`: whether its constants can run functions of the database's own as soon as the server parses it.
    """

    properties: Mapping[str, Any]
    kind: str
    class_: Class
    changes: frozenset[Change] = frozenset()
    resolves: bool = False
    takes_snapshot: bool = True
    transaction: TransactionStep | None = None
    name_change: NameChange | None = None
    uses: NameUse | None = None
    copy: Literal["in", "out"] | None = None
    origins: frozenset[int] = frozenset()
    reached: frozenset[int] = frozenset()
    returns_rows: bool = False
    writes: bool = False
    collecting: bool = False
    refused: Refusal | None = None
    definitions: tuple[str, ...] = ()
    object_names: frozenset[str] = frozenset()
    empty: bool = False
    uncounted: str = UNCOUNTED
    runs_when_parsed: bool = False

    @property
    def opaque(self) -> str | None:
        """Why the statement was not understood in full; None if it was."""
        return self.properties["opaque"] or None


class Names(Protocol):
    """What the names of prepared statements and cursors may denote: the union, or None for an unknown name."""

    def prepared(self, name: str) -> Classification | None: ...

    def cursor(self, name: str) -> Classification | None: ...


def document(class_: Class, kind: str, **known: Any) -> dict[str, Any]:
    """The policies' document with every required field; `known` replaces the empty ones."""
    return {
        "opaque": False,
        "mints_access": [],
        "class": class_,
        "kind": kind,
        "reaches_beyond": [],
        "relations": [],
        "columns": [],
        "pins": [],
        "functions": [],
        "settings": [],
    } | known


def opaque(reason: str, kind: str = "unknown") -> Classification:
    """A statement of which nothing is known but why. It may do anything, so it is a barrier."""
    return Classification(
        document("opaque", kind, opaque=reason),
        kind,
        "opaque",
        changes=frozenset({Change.UNKNOWN}),
        resolves=True,
        returns_rows=True,
        writes=True,
        collecting=True,
    )


def merge(classifications: Sequence[Classification]) -> Classification:
    """The union: what may be said of a name that denotes one of these statements. Strictest wins; at least one."""
    first, *others = classifications
    for other in others:
        first = _merge(first, other)
    return first


def _merge(one: Classification, two: Classification) -> Classification:
    if one == two:
        return one
    strict = max(one, two, key=_strictness)
    return replace(
        strict,
        properties=_merge_documents(one.properties, two.properties, strict.properties),
        changes=one.changes | two.changes,
        resolves=one.resolves or two.resolves,
        takes_snapshot=one.takes_snapshot or two.takes_snapshot,
        copy=one.copy or two.copy,
        origins=one.origins | two.origins,
        reached=one.reached | two.reached,
        returns_rows=one.returns_rows or two.returns_rows,
        writes=one.writes or two.writes,
        collecting=one.collecting or two.collecting,
        refused=one.refused or two.refused,
        definitions=tuple(sorted({*one.definitions, *two.definitions})),
        object_names=one.object_names | two.object_names,
        empty=one.empty and two.empty,
        uncounted=max(one.uncounted, two.uncounted),
        runs_when_parsed=one.runs_when_parsed or two.runs_when_parsed,
    )


def _strictness(classification: Classification) -> tuple[int, int, str]:
    kind = classification.kind
    rank = _MILDER_KINDS.index(kind) if kind in _MILDER_KINDS else -1
    return _STRICTNESS.index(classification.class_), rank, kind


def _merge_documents(one: Mapping[str, Any], two: Mapping[str, Any], strict: Mapping[str, Any]) -> dict[str, Any]:
    merged = document(
        strict["class"],
        strict["kind"],
        opaque=strict["opaque"] or one["opaque"] or two["opaque"],
        relations=sort_relations([*one["relations"], *two["relations"]]),
        columns=merge_columns([*one["columns"], *two["columns"]]),
    )
    for key in ("mints_access", "reaches_beyond", "functions", "settings"):
        merged[key] = sorted({*one[key], *two[key]})
    wheres = [d["has_where"] for d in (one, two) if "has_where" in d]
    if wheres:
        merged["has_where"] = all(wheres)
    if "limit" in one and "limit" in two:
        merged["limit"] = max(one["limit"], two["limit"])
    return merged


def sort_relations(relations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each once, in a fixed order: digests are taken over it."""
    unique = {tuple(sorted(relation.items())): dict(relation) for relation in relations}
    return [unique[key] for key in sorted(unique, key=repr)]


def merge_columns(columns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each once with every usage, in a fixed order."""
    usages: dict[tuple[str, str], set[str]] = {}
    for column in columns:
        usages.setdefault((column["dataset"], column["field"]), set()).update(column["usage"])
    return [
        {"dataset": dataset, "field": field, "usage": sorted(usage)}
        for (dataset, field), usage in sorted(usages.items())
    ]
