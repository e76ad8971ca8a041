"""The walk over INSERT, UPDATE, DELETE and MERGE: what they change, and what they read to do so.

A written column is not read; what decides about the write, and what comes back (RETURNING), is. Part of `queries`.
Reference: PostgreSQL documentation, "Data Manipulation", "MERGE", "INSERT".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pep.postgres.classification import FetchCursor, Names, words
from pep.postgres.expressions import Node
from pep.postgres.findings import Access
from pep.postgres.scopes import Rows, Scope, Source

if TYPE_CHECKING:
    from pep.postgres.queries import Queries

_FIELDS: Final = words(
    """
    relation cols selectStmt onConflictClause returningClause withClause override targetList fromClause whereClause
    usingClause sourceRelation joinCondition mergeWhenClauses
    """
)
_MERGE: Final[Mapping[str, Access]] = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}
_NOTHING: Final = Rows([])


class Writes:
    """The walk; `queries` has everything that it shares with SELECT."""

    __slots__ = ("_found", "_names", "_queries")

    def __init__(self, queries: Queries, names: Names) -> None:
        self._queries = queries
        self._found = queries.found
        self._names = names

    def _target(self, node: Node, kind: str, access: Access, outer: Scope | None) -> tuple[Scope, Source]:
        """The table that a statement writes, as the first source of its level."""
        self._queries.known(kind, node, _FIELDS)
        self._found.kinds.add(access if kind != "MergeStmt" else "merge")
        self._found.modifications += 1
        if kind != "MergeStmt":
            self._found.wheres.append("whereClause" in node)
        level = Scope(self._queries.with_queries(node, outer))
        source = self._queries.tables.target(node["relation"], access)
        level.sources.append(source)
        level.rows.append(source.rows)
        return level, source

    def insert(self, node: Node, outer: Scope | None) -> Rows:
        self._queries.known("InsertStmt", node, _FIELDS)
        self._found.kinds.add("insert")
        self._found.modifications += 1
        scope = self._queries.with_queries(node, outer)
        if "selectStmt" in node:
            self._queries.record(self._queries.query(node["selectStmt"], scope), "other")
        source = self._queries.tables.target(node["relation"], "insert")
        level = Scope(scope, [source], [source.rows])
        # INSERT INTO t (a[(SELECT ...)]): the columns named may hold expressions of their own.
        self._assignments(node.get("cols", ()), level, source)
        if "onConflictClause" in node:
            self._on_conflict(node["onConflictClause"], level, source)
        return self._returning(node, level, source)

    def _on_conflict(self, clause: Node, level: Scope, source: Source) -> None:
        """It answers whether a row with these values exists: the columns that decide it are read."""
        if clause.get("action") == "ONCONFLICT_UPDATE" and source.relation is not None:
            self._found.write(source.relation, "update")
        infer = clause.get("infer", {})
        for element in infer.get("indexElems", ()):
            content = element["IndexElem"]
            if "name" in content:
                self._queries.expressions.lineage(source.by_name.get(content["name"], ()), "other")
            else:
                self._queries.expressions.walk(content.get("expr", {}), level)
        if "indexElems" not in infer:
            self._queries.expressions.source(source, "other")
        if "whereClause" in infer:
            self._queries.expressions.walk(infer["whereClause"], level)
        # excluded is the row that the statement itself proposes.
        proposed = Source("excluded", Rows([(name, ()) for name, _ in source.rows.columns], source.rows.complete))
        inner = Scope(level.parent, [source, proposed])
        self._assignments(clause.get("targetList", ()), inner, source)
        if "whereClause" in clause:
            self._queries.expressions.walk(clause["whereClause"], inner)

    def _assignments(self, targets: Iterable[Node], level: Scope, target: Source) -> None:
        for item in targets:
            content = item["ResTarget"]
            if "indirection" in content:
                # SET a[1] = ...: the rest of the old value is read.
                self._queries.expressions.lineage(target.by_name.get(content["name"], ()), "other")
                for step in content["indirection"]:
                    if "A_Indices" in step:
                        self._queries.expressions.walk(step, level)
            if "val" in content:
                self._queries.expressions.walk(content["val"], level)

    def update(self, node: Node, outer: Scope | None) -> Rows:
        level, source = self._target(node, "UpdateStmt", "update", outer)
        for item in node.get("fromClause", ()):
            self._queries.tables.add(item, level)
        self._assignments(node.get("targetList", ()), level, source)
        self._where(node, level)
        return self._returning(node, level, source)

    def delete(self, node: Node, outer: Scope | None) -> Rows:
        level, source = self._target(node, "DeleteStmt", "delete", outer)
        for item in node.get("usingClause", ()):
            self._queries.tables.add(item, level)
        self._where(node, level)
        return self._returning(node, level, source)

    def _where(self, node: Node, level: Scope) -> None:
        where = node.get("whereClause")
        if where is None:
            return
        self._queries.expressions.walk(where, level)
        cursor = where.get("CurrentOfExpr", {}).get("cursor_name")
        if "CurrentOfExpr" in where:
            inner = self._names.cursor(cursor) if cursor else None
            self._found.uses = FetchCursor(cursor or "", move=False)
            if inner is None:
                self._found.not_understood(f"unknown cursor: {cursor}")
            else:
                self._found.absorb(inner)

    def merge(self, node: Node, outer: Scope | None) -> Rows:
        actions = [clause["MergeWhenClause"] for clause in node["mergeWhenClauses"]]
        commands = {action.get("commandType", "") for action in actions}
        for command in sorted(commands - _MERGE.keys() - {"CMD_NOTHING"}):
            self._found.not_understood(f"MERGE with {command} is not understood")
        accesses = [access for command, access in _MERGE.items() if command in commands] or ["update"]
        level, source = self._target(node, "MergeStmt", accesses[0], outer)
        for access in accesses[1:]:
            if source.relation is not None:
                self._found.write(source.relation, access)
        self._queries.tables.add(node["sourceRelation"], level)
        self._queries.expressions.walk(node["joinCondition"], level)
        for action in actions:
            if "condition" in action:
                self._queries.expressions.walk(action["condition"], level)
            self._assignments(action.get("targetList", ()), level, source)
            self._queries.expressions.each(action.get("values", ()), level)
        return self._returning(node, level, source)

    def _returning(self, node: Node, level: Scope, target: Source) -> Rows:
        clause: Any = node.get("returningClause")
        if clause is None:
            return _NOTHING
        if isinstance(clause, list) or not clause.keys() <= {"options", "exprs"}:
            self._found.not_understood("RETURNING is not understood")
            return _NOTHING
        if self._found.session.server_version >= 180000:
            names = {"old": "old", "new": "new"}
            for option in clause.get("options", ()):
                content = option["ReturningOption"]
                names["old" if content["option"] == "RETURNING_OPTION_OLD" else "new"] = content["value"]
            taken = {source.name for source in level.sources}
            for name in names.values():
                if name not in taken:
                    level.sources.append(Source(name, Rows(target.rows.columns, target.rows.complete), plain=False))
        elif "options" in clause:
            self._found.not_understood("RETURNING WITH means nothing to this server")
        return self._queries.targets(clause["exprs"], level)
