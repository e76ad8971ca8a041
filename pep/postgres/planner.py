"""From a statement's text to the actions that are asked about.

Pure: parses what is short enough, classifies each statement in order, and builds the action as policies and people see
it. Inside one text a statement behind a barrier cannot be resolved, so it is opaque.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pep.core.model import Action, Binding, Statement
from pep.postgres.catalog import Catalog
from pep.postgres.classification import (
    Classification,
    DeallocateName,
    DeclareCursor,
    Names,
    PrepareName,
    SessionFacts,
)
from pep.postgres.classify import classify
from pep.postgres.parser import ParsedStatement, ParseTree

AFTER_A_BARRIER: Final = "after a barrier: names may mean something else by then; send it in a message of its own"

EMPTY: Final = Classification(
    {
        "opaque": False,
        "mints_access": [],
        "class": "catalog",
        "kind": "empty",
        "reaches_beyond": [],
        "relations": [],
        "columns": [],
        "pins": [],
        "functions": [],
        "settings": [],
    },
    "empty",
    "catalog",
    takes_snapshot=False,
    empty=True,
)


@dataclass(frozen=True, slots=True)
class Planned:
    """Statements that were classified, each with the text that goes on record."""

    statements: tuple[Classification, ...]
    texts: tuple[str, ...]
    parsed: tuple[ParsedStatement | None, ...]
    path: tuple[str, ...]

    def actions(self, name: str, parameters: tuple[Any, ...] = ()) -> tuple[Action, ...]:
        """One action per statement, in order."""
        return tuple(
            Action(
                name=name,
                protocol="postgres",
                properties=statement.properties,
                statement=Statement(text, parameters),
                binding=Binding(self.path, statement.definitions),
            )
            for statement, text in zip(self.statements, self.texts, strict=True)
        )


def node_type(statement: ParsedStatement) -> str:
    """The name of a statement's tree, for example "SelectStmt"."""
    return next(iter(statement.node), "")


def plan(
    tree: ParseTree,
    catalog: Catalog,
    facts: SessionFacts,
    names: Names,
    *,
    parameters: Sequence[int] = (),
    unresolvable: str | None = None,
) -> Planned:
    """Every statement of the text.

    `parameters` are the declared types of a prepared statement, 0 for one that the server infers. `unresolvable`
    says why nothing in it can be resolved now.
    """
    if not tree.statements:
        return Planned((EMPTY,), ("",), (None,), facts.search_path)
    within = _Within(names)
    statements: list[Classification] = []
    behind_barrier = unresolvable
    for parsed in tree.statements:
        classified = classify(parsed, catalog, facts, within, parameters)
        if behind_barrier is not None and classified.resolves:
            classified = _hidden(classified, behind_barrier)
        elif classified.changes:
            behind_barrier = AFTER_A_BARRIER
        within.apply(classified)
        statements.append(classified)
    texts = tuple(parsed.redacted for parsed in tree.statements)
    return Planned(tuple(statements), texts, tree.statements, facts.search_path)


def _hidden(classified: Classification, reason: str) -> Classification:
    """What was resolved cannot be trusted: it stays as a hint for people, and counts as not understood."""
    properties = dict(classified.properties) | {"opaque": classified.opaque or reason, "class": "opaque"}
    return replace(classified, properties=properties, class_="opaque")


class _Within:
    """The names as an earlier statement of the same text leaves them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._prepared: dict[str, Classification | None] = {}
        self._cursors: dict[str, Classification | None] = {}
        self._all_deallocated = False

    def apply(self, statement: Classification) -> None:
        match statement.name_change:
            case PrepareName(name=name, inner=inner):
                self._prepared[name] = inner
            case DeallocateName(name=None):
                self._prepared.clear()
                self._all_deallocated = True
            case DeallocateName(name=str(name)):
                self._prepared[name] = None
            case DeclareCursor(name=name, inner=inner):
                self._cursors[name] = inner
            case _:
                pass

    def prepared(self, name: str) -> Classification | None:
        if name in self._prepared:
            return self._prepared[name]
        return None if self._all_deallocated else self._names.prepared(name)

    def cursor(self, name: str) -> Classification | None:
        return self._cursors[name] if name in self._cursors else self._names.cursor(name)
