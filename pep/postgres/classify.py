"""What one SQL statement does, resolved against a snapshot of the target's catalog.

Pure: the same statement, catalog, session facts and names give the same answer. It never guesses: what is not
understood makes the statement opaque, with the reason. The parts: `queries`, `tables` and `expressions` walk a query
over `scopes`; `statements` and `definitions` have everything else; `findings` collects; `calls` knows functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pep.postgres.affected import uncounted
from pep.postgres.catalog import Catalog
from pep.postgres.classification import Change, Class, Classification, Names, SessionFacts, opaque
from pep.postgres.definitions import Definitions
from pep.postgres.expressions import Node
from pep.postgres.findings import Findings, TooMuch
from pep.postgres.parser import ParsedStatement
from pep.postgres.queries import Queries
from pep.postgres.statements import Statements

_QUERY_KINDS: Final = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
# A query that changes rows in WITH is as strict as the strictest of them.
_STRICTEST_FIRST: Final = ("delete", "merge", "update", "insert")


def classify(
    statement: ParsedStatement,
    catalog: Catalog,
    session: SessionFacts,
    names: Names,
    parameters: Sequence[int] | None = None,
) -> Classification:
    """What the statement does. Nesting deeper than the walk can follow is opaque, never an error.

    `parameters` are the type OIDs of Parse, 0 for one that the server infers; None: whatever the client may say there.
    """
    try:
        return _Classifier(statement, catalog, session, names, parameters).classify(statement.node)
    except RecursionError:
        return opaque("nested too deeply")
    except TooMuch:
        return opaque("too much to resolve")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # A tree of a shape that this code does not expect: what it means is not known.
        return opaque(f"unexpected {type(error).__name__} in {next(iter(statement.node))}")


class _Classifier:
    """One statement with everything that its classification depends on."""

    __slots__ = ("_catalog", "_names", "_parameters", "_session", "_statement")

    def __init__(
        self,
        statement: ParsedStatement,
        catalog: Catalog,
        session: SessionFacts,
        names: Names,
        parameters: Sequence[int] | None,
    ) -> None:
        self._statement = statement
        self._parameters = parameters
        self._catalog = catalog
        self._session = session
        self._names = names

    def classify(self, node: Node) -> Classification:
        """`node` in its wrapper; called again for the statements inside this one."""
        ((kind, content),) = node.items()
        if kind in _QUERY_KINDS:
            return self._query(kind, content)
        statements = Statements(self._statement, self._findings(), self._names, self.classify, self._apart)
        if (answer := statements.classify(kind, content)) is not None:
            return answer
        definitions = Definitions(self._findings(), self._names, self.classify)
        if (answer := definitions.classify(kind, content)) is not None:
            return answer
        return opaque(f"{kind} is not understood")

    def _findings(self) -> Findings:
        return Findings(self._catalog, self._session, self._parameters)

    def _apart(self, node: Node) -> Classification:
        return _Classifier(self._statement, self._catalog, self._session, self._names, None).classify(node)

    def _query(self, kind: str, node: Node) -> Classification:
        found = self._findings()
        queries = Queries(found, self._names)
        queries.top({kind: node})
        if queries.select_into is not None:
            return self._select_into(queries)
        known: dict[str, Any] = {}
        if found.wheres:
            known["has_where"] = all(found.wheres)
        elif kind == "SelectStmt":
            known["has_where"] = _has_where(node)
        limit = _limit(node)
        if limit is not None:
            known["limit"] = limit
        word = next((word for word in _STRICTEST_FIRST if word in found.kinds), _QUERY_KINDS[kind])
        returns_rows = kind == "SelectStmt" or "returningClause" in node
        why = uncounted(found, query=kind == "SelectStmt")
        return found.finish(_class_of(kind, found), word, returns_rows=returns_rows, uncounted=why, **known)

    def _select_into(self, queries: Queries) -> Classification:
        definitions = Definitions(self._findings(), self._names, self.classify)
        assert queries.select_into is not None
        found = definitions.found
        definitions.create(queries.select_into)
        found.absorb(queries.found.finish("read", "select"))
        found.writes = True
        found.changes.add(Change.SCHEMA)
        found.reaches.update(f"event trigger {name}" for name in self._catalog.event_triggers)
        found.not_output()
        return found.finish("schema", "create")


def _class_of(kind: str, found: Findings) -> Class:
    if found.setting_class == "admin":
        return "admin"
    if kind != "SelectStmt" or found.kinds or found.writes or found.locking:
        return "write"
    if found.setting_class == "setting" and not found.accesses:
        return "setting"
    if found.only_system:
        return "catalog"
    return "read"


def _has_where(node: Node) -> bool:
    """Every SELECT of a set operation has to have one."""
    if "larg" in node:
        return _has_where(node["larg"]) and _has_where(node["rarg"])
    return "whereClause" in node


def _limit(node: Node) -> int | None:
    """LIMIT with a constant; WITH TIES returns more."""
    if node.get("limitOption") != "LIMIT_OPTION_COUNT":
        return None
    value = node.get("limitCount", {}).get("A_Const", {})
    return int(value["ival"].get("ival", 0)) if "ival" in value else None
