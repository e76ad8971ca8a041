"""Names inside one query: which table, subquery or join a column reference means, level by level.

Pure resolution over what the walk has put into the scopes; it records nothing. A scope is one query level: what FROM
brings, and the level around it. Follows the server's parse_relation.c (colNameToVar, refnameNamespaceItem).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pep.postgres.catalog import Column, Relation

# A base column that an expression is, unchanged; several where a join merges them, none for anything computed.
Ref = tuple[Relation, Column]
Lineage = tuple[Ref, ...]

SYSTEM_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


@dataclass(slots=True)
class Rows:
    """The columns that a query or a table has, in order. Incomplete: there may be more than the catalog told us."""

    columns: list[tuple[str, Lineage]]
    complete: bool = True
    _by_name: dict[str, Lineage] | None = None

    def refs(self) -> Iterable[Ref]:
        return (ref for _, lineage in self.columns for ref in lineage)

    @property
    def by_name(self) -> dict[str, Lineage]:
        """The lineage of each name; read once the columns are all there."""
        if self._by_name is None:
            by_name: dict[str, Lineage] = {}
            for name, lineage in self.columns:
                by_name[name] = union(by_name[name], lineage) if name in by_name else lineage
            self._by_name = by_name
        return self._by_name


def union(*lineages: Lineage) -> Lineage:
    """Each column once: names may be repeated without end."""
    return tuple({(ref[0].oid, ref[1].attnum): ref for lineage in lineages for ref in lineage}.values())


@dataclass(slots=True)
class Source:
    """One name that column references can use, after AS or its own.

    `qualified` is (schema, table) for a table without alias. `plain` is false for what is not the row itself but an
    older or newer one (RETURNING old.x): it is found by its qualified name alone, and its columns are not output as
    themselves.
    """

    name: str | None
    rows: Rows
    relation: Relation | None = None
    qualified: tuple[str, str] | None = None
    plain: bool = True

    @property
    def by_name(self) -> dict[str, Lineage]:
        return self.rows.by_name

    @property
    def has_system_columns(self) -> bool:
        """A view has none: there such a name is looked for further out."""
        return self.relation is not None and self.relation.kind != "v"


@dataclass(slots=True)
class Scope:
    """One level. `ctes` are the WITH queries defined here, each with its columns."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    ctes: dict[str, Rows] = field(default_factory=dict)

    def cte(self, name: str) -> Rows | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.parent
        return None

    def everything(self) -> Iterable[Source]:
        scope: Scope | None = self
        while scope is not None:
            yield from scope.sources
            scope = scope.parent


@dataclass(frozen=True, slots=True)
class IsColumn:
    """`plain`: the value itself, so that it may count as output."""

    lineage: Lineage
    plain: bool = True


@dataclass(frozen=True, slots=True)
class IsRow:
    """The whole row of a source; `rest` is what follows its name: a function in attribute notation, or a field."""

    source: Source
    rest: str | None = None


@dataclass(frozen=True, slots=True)
class IsUnknown:
    """No such column as far as the catalog says."""


Meaning = IsColumn | IsRow | IsUnknown
_NOWHERE: Final = IsColumn(())


def unqualified(scope: Scope, name: str) -> Meaning:
    """`name` alone: a column of the innermost level that has one, else the whole row of a table of that name."""
    perhaps = False
    level: Scope | None = scope
    while level is not None:
        hits = [source for source in level.sources if source.plain and name in source.by_name]
        if len(hits) == 1:
            return IsColumn(hits[0].by_name[name])
        if hits:
            # Merged by a join; if it is not, the server says that it is ambiguous.
            return IsColumn(union(*(source.by_name[name] for source in hits)))
        if name in SYSTEM_COLUMNS and any(source.has_system_columns for source in level.sources):
            return _NOWHERE
        perhaps = perhaps or any(not source.rows.complete for source in level.sources)
        level = level.parent
    if (source := _source(scope, name)) is not None:
        return IsRow(source)
    return _NOWHERE if perhaps else IsUnknown()


def qualified(scope: Scope, table: str, name: str, schema: str | None = None) -> Meaning:
    """`table.name` or `schema.table.name`."""
    source = _source(scope, table) if schema is None else _qualified_source(scope, schema, table)
    if source is None:
        return IsUnknown()
    lineage = source.by_name.get(name)
    if lineage is not None:
        return IsColumn(lineage, source.plain)
    if source.has_system_columns and name in SYSTEM_COLUMNS:
        return _NOWHERE
    return IsRow(source, name)


def whole(scope: Scope, table: str, schema: str | None = None) -> Source | None:
    """The source of `table.*`."""
    return _source(scope, table) if schema is None else _qualified_source(scope, schema, table)


def _source(scope: Scope, name: str) -> Source | None:
    return next((source for source in scope.everything() if source.name == name), None)


def _qualified_source(scope: Scope, schema: str, table: str) -> Source | None:
    return next((source for source in scope.everything() if source.qualified == (schema, table)), None)


def renamed(rows: Rows, names: list[str]) -> Rows:
    """AS x(a, b): the first columns under other names."""
    if not names:
        return rows
    if not rows.complete:
        # Which column gets which name is not known: each may be any.
        anything = union(*(lineage for _, lineage in rows.columns))
        return Rows([*((name, anything) for name in names), *rows.columns], complete=False)
    kept = rows.columns[len(names) :]
    first = [(name, rows.columns[i][1] if i < len(rows.columns) else ()) for i, name in enumerate(names)]
    return Rows([*first, *kept])
