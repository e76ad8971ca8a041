"""The walk over SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES, one scope per query level.

Every column that is read is recorded; `output` only where it reaches the client unchanged, as a plain column of the
outermost target list or of a subquery that does nothing else with it. Everything else is `other`. FROM is in `tables`.

References: PostgreSQL documentation, "SELECT"; the server's parse_clause.c for GROUP BY and ORDER BY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pep.postgres.classification import FetchCursor, Names, words
from pep.postgres.expressions import Expressions, Node
from pep.postgres.findings import Access, Findings, TooMuch, Usage
from pep.postgres.scopes import IsColumn, Lineage, Rows, Scope, Source, renamed, whole
from pep.postgres.tables import Tables

_SELECT_FIELDS: Final = words(
    """
    distinctClause intoClause targetList fromClause whereClause groupClause groupDistinct havingClause windowClause
    valuesLists sortClause limitOffset limitCount limitOption lockingClause withClause op all larg rarg
    """
)
_DML_FIELDS: Final = words(
    """
    relation cols selectStmt onConflictClause returningClause withClause override targetList fromClause whereClause
    usingClause sourceRelation joinCondition mergeWhenClauses
    """
)
_MERGE: Final[Mapping[str, Access]] = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}
_MAX_COLUMNS: Final = 1664  # MaxTupleAttributeNumber: the server refuses more
_NOTHING: Final = Rows([])


class Queries:
    """The walk. `select_into` is set by a SELECT ... INTO: the relation that it creates."""

    __slots__ = ("_names", "_statements", "expressions", "found", "select_into", "tables")

    def __init__(self, found: Findings, names: Names) -> None:
        self.found = found
        self._names = names
        self.expressions = Expressions(found, self._subquery)
        self.tables = Tables(found, self.expressions, self.query)
        self.select_into: Node | None = None
        self._statements: Mapping[str, Callable[[Node, Scope | None], Rows]] = {
            "SelectStmt": self.select,
            "InsertStmt": self._insert,
            "UpdateStmt": self._update,
            "DeleteStmt": self._delete,
            "MergeStmt": self._merge,
        }

    def top(self, node: Node, usage: Usage = "output") -> Rows:
        """The statement itself: what its columns are goes to the client, or with `other` wherever the caller says."""
        rows = self.query(node, None)
        self._record(rows, usage)
        return rows

    def query(self, node: Node, outer: Scope | None) -> Rows:
        """Any query; its output columns are returned, not recorded."""
        ((kind, content),) = node.items()
        walk = self._statements.get(kind)
        if walk is None:
            self.found.not_understood(f"{kind} inside a query is not understood")
            return Rows([], complete=False)
        return walk(content, outer)

    def _subquery(self, node: Node, scope: Scope) -> Lineage:
        return tuple(self.query(node, scope).refs())

    def _record(self, rows: Rows, usage: Usage) -> None:
        for _, lineage in rows.columns:
            self.expressions.lineage(lineage, usage)

    def _known(self, kind: str, node: Node, fields: frozenset[str]) -> None:
        if not node.keys() <= fields:
            unknown = min(node.keys() - fields)
            self.found.not_understood(f"{kind}.{unknown} is not understood")

    # --- SELECT ---

    def select(self, node: Node, outer: Scope | None) -> Rows:
        self._known("SelectStmt", node, _SELECT_FIELDS)
        scope = self._with(node, outer)
        if "intoClause" in node:
            self.select_into = node["intoClause"]["rel"]
        if node.get("op", "SETOP_NONE") != "SETOP_NONE":
            return self._set_operation(node, scope)
        if "valuesLists" in node:
            return self._values(node, scope)
        level = Scope(scope)
        for item in node.get("fromClause", ()):
            self.tables.add(item, level)
        rows = self.targets(node.get("targetList", ()), level)
        self._clauses(node, level, rows)
        return rows

    def _clauses(self, node: Node, level: Scope, rows: Rows) -> None:
        walk = self.expressions.walk
        for clause in ("whereClause", "havingClause", "limitOffset", "limitCount"):
            if clause in node:
                walk(node[clause], level)
        for item in node.get("groupClause", ()):
            self._group(item, level, rows)
        for item in node.get("windowClause", ()):
            walk(item, level)
        for item in node.get("sortClause", ()):
            self._sort(item, level, rows)
        distinct = node.get("distinctClause", ())
        if any(distinct):
            for item in distinct:
                self._sort_key(item, level, rows)
        elif distinct:
            self._record(rows, "other")
        self._locking(node)

    def _locking(self, node: Node) -> None:
        if "lockingClause" in node:
            # It reaches into subqueries and views: every relation of the statement counts as locked.
            self.found.locking = True

    def targets(self, targets: Sequence[Node], level: Scope) -> Rows:
        """A select list or RETURNING: plain columns are returned, everything else is recorded as read."""
        rows = Rows([])
        for target in targets:
            content = target["ResTarget"]
            value = content.get("val", {})
            reference = value.get("ColumnRef")
            if reference is not None and "A_Star" in reference["fields"][-1]:
                self._expand(reference["fields"], level, rows)
                continue
            lineage: Lineage = ()
            if reference is not None:
                lineage = self._plain(reference["fields"], level)
            else:
                self.expressions.walk(value, level)
            name = content.get("name") or output_name(value)
            if name is None:
                rows.complete = False
            rows.columns.append((name or "?column?", lineage))
        return rows

    def _plain(self, fields: Sequence[Node], level: Scope) -> Lineage:
        match self.expressions.meaning(fields, level):
            case IsColumn(lineage=lineage, plain=True):
                return lineage
            case IsColumn(lineage=lineage):
                self.expressions.lineage(lineage, "other")
                return ()
            case _:
                return ()

    def _expand(self, fields: Sequence[Node], level: Scope, rows: Rows) -> None:
        """`*`, `t.*`, `schema.t.*`."""
        if len(fields) == 1:
            brought = level.rows
        else:
            names = [field["String"]["sval"] for field in fields[:-1]]
            schema = self.expressions.schema(names[-2]) if len(names) > 1 else None
            source = whole(level, names[-1], schema)
            if source is None:
                self.found.not_understood(f"unknown table: {'.'.join(names)}")
                brought = []
            elif source.plain:
                brought = [source.rows]
            else:
                self.expressions.source(source, "other")
                brought = [Rows([(name, ()) for name, _ in source.rows.columns], source.rows.complete)]
        for part in brought:
            if len(rows.columns) + len(part.columns) > _MAX_COLUMNS:
                raise TooMuch
            rows.columns.extend(part.columns)
            self.found.spend(1 + len(part.columns) // 8)
            rows.complete = rows.complete and part.complete

    # --- GROUP BY, ORDER BY, DISTINCT ON: ordinals and output names ---

    def _group(self, item: Node, level: Scope, rows: Rows) -> None:
        """A name in GROUP BY is a column of FROM first, then an output name."""
        if "GroupingSet" in item:
            for inner in item["GroupingSet"].get("content", ()):
                self._group(inner, level, rows)
            return
        name = _bare_name(item)
        if name is not None and not any(name in source.by_name for source in level.sources):
            self._sort_key(item, level, rows)
        elif not self._ordinal(item, rows):
            self.expressions.walk(item, level)

    def _sort(self, item: Node, level: Scope, rows: Rows) -> None:
        content = item["SortBy"]
        if "useOp" in content:
            self.expressions.operator(content["useOp"])
        self._sort_key(content["node"], level, rows)

    def _sort_key(self, key: Node, level: Scope, rows: Rows) -> None:
        """ORDER BY and DISTINCT ON: an ordinal, an output name, else an expression."""
        if self._ordinal(key, rows):
            return
        name = _bare_name(key)
        if name is not None:
            hits = [lineage for column, lineage in rows.columns if column == name]
            for lineage in hits:
                self.expressions.lineage(lineage, "other")
            if hits and rows.complete:
                return
        self.expressions.walk(key, level)

    def _ordinal(self, key: Node, rows: Rows) -> bool:
        value = key.get("A_Const")
        if value is None:
            return False
        position = value.get("ival", {}).get("ival", 0)
        if rows.complete and 0 < position <= len(rows.columns):
            self.expressions.lineage(rows.columns[position - 1][1], "other")
        else:
            self._record(rows, "other")
        return True

    # --- set operations, VALUES, WITH ---

    def _set_operation(self, node: Node, scope: Scope | None) -> Rows:
        left = self.select(node["larg"], scope)
        right = self.select(node["rarg"], scope)
        self._record(left, "other")
        self._record(right, "other")
        rows = Rows([(name, ()) for name, _ in left.columns], left.complete and right.complete)
        level = Scope(scope, [Source(None, rows)], [rows])
        for clause in ("limitOffset", "limitCount"):
            if clause in node:
                self.expressions.walk(node[clause], level)
        for item in node.get("sortClause", ()):
            self._sort(item, level, rows)
        self._locking(node)
        return rows

    def _values(self, node: Node, scope: Scope | None) -> Rows:
        level = Scope(scope)
        width = 0
        for row in node["valuesLists"]:
            items = row["List"]["items"]
            width = max(width, len(items))
            self.expressions.each(items, level)
        rows = Rows([(f"column{i + 1}", ()) for i in range(width)])
        self._clauses(node, level, rows)
        return rows

    def _with(self, node: Node, outer: Scope | None) -> Scope | None:
        clause = node.get("withClause")
        if clause is None:
            return outer
        scope = Scope(outer)
        queries = [cte["CommonTableExpr"] for cte in clause["ctes"]]
        if clause.get("recursive"):
            # A query may name itself and those after it: what they bring is not known yet, and not traced.
            for cte in queries:
                names = [name["String"]["sval"] for name in cte.get("aliascolnames", ())]
                scope.ctes[cte["ctename"]] = Rows([(name, ()) for name in names], complete=False)
        for cte in queries:
            rows = self.query(cte["ctequery"], scope)
            if clause.get("recursive") or "SelectStmt" not in cte["ctequery"]:
                self._record(rows, "other")
                rows = Rows([(name, ()) for name, _ in rows.columns], rows.complete)
            rows = renamed(rows, [name["String"]["sval"] for name in cte.get("aliascolnames", ())])
            scope.ctes[cte["ctename"]] = self._searched(cte, rows)
        return scope

    @staticmethod
    def _searched(cte: Node, rows: Rows) -> Rows:
        """SEARCH and CYCLE add columns of their own."""
        added = [
            cte.get(clause, {}).get(field)
            for clause, field in (
                ("search_clause", "search_seq_column"),
                ("cycle_clause", "cycle_mark_column"),
                ("cycle_clause", "cycle_path_column"),
            )
        ]
        return Rows([*rows.columns, *((name, ()) for name in added if name)], rows.complete)

    # --- INSERT, UPDATE, DELETE, MERGE ---

    def _target(self, node: Node, kind: str, access: Access, outer: Scope | None) -> tuple[Scope, Source]:
        """The table that a statement writes, as the first source of its level."""
        self._known(kind, node, _DML_FIELDS)
        self.found.kinds.add(access if kind != "MergeStmt" else "merge")
        if kind != "MergeStmt":
            self.found.wheres.append("whereClause" in node)
        level = Scope(self._with(node, outer))
        source = self.tables.target(node["relation"], access)
        level.sources.append(source)
        level.rows.append(source.rows)
        return level, source

    def _insert(self, node: Node, outer: Scope | None) -> Rows:
        self._known("InsertStmt", node, _DML_FIELDS)
        self.found.kinds.add("insert")
        scope = self._with(node, outer)
        if "selectStmt" in node:
            self._record(self.query(node["selectStmt"], scope), "other")
        source = self.tables.target(node["relation"], "insert")
        level = Scope(scope, [source], [source.rows])
        if "onConflictClause" in node:
            self._on_conflict(node["onConflictClause"], level, source)
        return self._returning(node, level, source)

    def _on_conflict(self, clause: Node, level: Scope, source: Source) -> None:
        """It answers whether a row with these values exists: the columns that decide it are read."""
        if clause.get("action") == "ONCONFLICT_UPDATE":
            if source.relation is not None:
                self.found.write(source.relation, "update")
        infer = clause.get("infer", {})
        for element in infer.get("indexElems", ()):
            content = element["IndexElem"]
            if "name" in content:
                self.expressions.lineage(source.by_name.get(content["name"], ()), "other")
            else:
                self.expressions.walk(content.get("expr", {}), level)
        if "indexElems" not in infer:
            self.expressions.source(source, "other")
        if "whereClause" in infer:
            self.expressions.walk(infer["whereClause"], level)
        # excluded is the row that the statement itself proposes.
        proposed = Source("excluded", Rows([(name, ()) for name, _ in source.rows.columns], source.rows.complete))
        inner = Scope(level.parent, [source, proposed])
        self._assignments(clause.get("targetList", ()), inner, source)
        if "whereClause" in clause:
            self.expressions.walk(clause["whereClause"], inner)

    def _assignments(self, targets: Iterable[Node], level: Scope, target: Source) -> None:
        for item in targets:
            content = item["ResTarget"]
            if "indirection" in content:
                # SET a[1] = ...: the rest of the old value is read.
                self.expressions.lineage(target.by_name.get(content["name"], ()), "other")
                for step in content["indirection"]:
                    if "A_Indices" in step:
                        self.expressions.walk(step, level)
            if "val" in content:
                self.expressions.walk(content["val"], level)

    def _update(self, node: Node, outer: Scope | None) -> Rows:
        level, source = self._target(node, "UpdateStmt", "update", outer)
        for item in node.get("fromClause", ()):
            self.tables.add(item, level)
        self._assignments(node.get("targetList", ()), level, source)
        self._where(node, level)
        return self._returning(node, level, source)

    def _delete(self, node: Node, outer: Scope | None) -> Rows:
        level, source = self._target(node, "DeleteStmt", "delete", outer)
        for item in node.get("usingClause", ()):
            self.tables.add(item, level)
        self._where(node, level)
        return self._returning(node, level, source)

    def _where(self, node: Node, level: Scope) -> None:
        where = node.get("whereClause")
        if where is None:
            return
        self.expressions.walk(where, level)
        cursor = where.get("CurrentOfExpr", {}).get("cursor_name")
        if "CurrentOfExpr" in where:
            inner = self._names.cursor(cursor) if cursor else None
            if inner is None:
                self.found.not_understood(f"unknown cursor: {cursor}")
            else:
                self.found.uses = FetchCursor(cursor, move=False)
                self.found.absorb(inner)

    def _merge(self, node: Node, outer: Scope | None) -> Rows:
        actions = [clause["MergeWhenClause"] for clause in node["mergeWhenClauses"]]
        commands = {action.get("commandType", "") for action in actions}
        for command in sorted(commands - _MERGE.keys() - {"CMD_NOTHING"}):
            self.found.not_understood(f"MERGE with {command} is not understood")
        accesses = [access for command, access in _MERGE.items() if command in commands] or ["update"]
        level, source = self._target(node, "MergeStmt", accesses[0], outer)
        for access in accesses[1:]:
            if source.relation is not None:
                self.found.write(source.relation, access)
        self.tables.add(node["sourceRelation"], level)
        self.expressions.walk(node["joinCondition"], level)
        for action in actions:
            if "condition" in action:
                self.expressions.walk(action["condition"], level)
            self._assignments(action.get("targetList", ()), level, source)
            self.expressions.each(action.get("values", ()), level)
        return self._returning(node, level, source)

    def _returning(self, node: Node, level: Scope, target: Source) -> Rows:
        clause: Any = node.get("returningClause")
        if clause is None:
            return _NOTHING
        if isinstance(clause, list) or not clause.keys() <= {"options", "exprs"}:
            self.found.not_understood("RETURNING is not understood")
            return _NOTHING
        if self.found.session.server_version >= 180000:
            names = {"old": "old", "new": "new"}
            for option in clause.get("options", ()):
                content = option["ReturningOption"]
                names["old" if content["option"] == "RETURNING_OPTION_OLD" else "new"] = content["value"]
            taken = {source.name for source in level.sources}
            for name in names.values():
                if name not in taken:
                    level.sources.append(Source(name, Rows(target.rows.columns, target.rows.complete), plain=False))
        elif "options" in clause:
            self.found.not_understood("RETURNING WITH means nothing to this server")
        return self.targets(clause["exprs"], level)


def _bare_name(node: Node) -> str | None:
    fields = node.get("ColumnRef", {}).get("fields", ())
    name: str | None = fields[0].get("String", {}).get("sval") if len(fields) == 1 else None
    return name


def output_name(node: Node) -> str | None:
    """The name that the server gives an output column without AS (FigureColname); None where it is not said here."""
    ((kind, content),) = node.items() if node else (("", {}),)
    match kind:
        case "ColumnRef":
            name: str | None = content["fields"][-1].get("String", {}).get("sval")
            return name
        case "FuncCall":
            return str(content["funcname"][-1]["String"]["sval"])
        case "TypeCast":
            inner = output_name(content["arg"])
            return str(content["typeName"]["names"][-1]["String"]["sval"]) if inner == "?column?" else inner
        case "CollateClause":
            return output_name(content["arg"])
        case "A_Expr":
            return "nullif" if content["kind"] == "AEXPR_NULLIF" else "?column?"
        case "A_Const" | "BoolExpr" | "NullTest" | "ParamRef" | "BooleanTest":
            return "?column?"
        case "CoalesceExpr":
            return "coalesce"
        case _:
            return None
