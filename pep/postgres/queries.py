"""The walk over queries, one scope per query level: SELECT, VALUES, set operations, WITH.

Every column that is read is recorded; `output` only where it reaches the client unchanged, as a plain column of the
outermost target list or of a subquery that does nothing else with it. Everything else is `other`. FROM is in
`tables`; INSERT, UPDATE, DELETE and MERGE are in `writes`.

References: PostgreSQL documentation, "SELECT"; the server's parse_clause.c for GROUP BY and ORDER BY.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pep.postgres.classification import Names, words
from pep.postgres.expressions import Expressions, Node
from pep.postgres.findings import Findings, TooMuch, Usage
from pep.postgres.scopes import IsColumn, Lineage, Rows, Scope, Source, renamed, whole
from pep.postgres.tables import Tables
from pep.postgres.writes import Writes

_SELECT_FIELDS: Final = words(
    """
    distinctClause intoClause targetList fromClause whereClause groupClause groupDistinct havingClause windowClause
    valuesLists sortClause limitOffset limitCount limitOption lockingClause withClause op all larg rarg
    """
)
_MAX_COLUMNS: Final = 1664  # MaxTupleAttributeNumber: the server refuses more


class Queries:
    """The walk. `select_into` is set by a SELECT ... INTO: the relation that it creates."""

    __slots__ = ("_statements", "expressions", "found", "select_into", "tables")

    def __init__(self, found: Findings, names: Names) -> None:
        self.found = found
        self.expressions = Expressions(found, self._subquery)
        self.tables = Tables(found, self.expressions, self.query)
        self.select_into: Node | None = None
        writes = Writes(self, names)
        self._statements: Mapping[str, Callable[[Node, Scope | None], Rows]] = {
            "SelectStmt": self.select,
            "InsertStmt": writes.insert,
            "UpdateStmt": writes.update,
            "DeleteStmt": writes.delete,
            "MergeStmt": writes.merge,
        }

    def top(self, node: Node, usage: Usage = "output") -> Rows:
        """The statement itself: what its columns are goes to the client, or with `other` wherever the caller says."""
        rows = self.query(node, None)
        self.record(rows, usage)
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

    def record(self, rows: Rows, usage: Usage) -> None:
        for _, lineage in rows.columns:
            self.expressions.lineage(lineage, usage)

    def known(self, kind: str, node: Node, fields: frozenset[str]) -> None:
        if not node.keys() <= fields:
            unknown = min(node.keys() - fields)
            self.found.not_understood(f"{kind}.{unknown} is not understood")

    # --- SELECT ---

    def select(self, node: Node, outer: Scope | None) -> Rows:
        self.known("SelectStmt", node, _SELECT_FIELDS)
        scope = self.with_queries(node, outer)
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
            self.record(rows, "other")
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
            self.record(rows, "other")
        return True

    # --- set operations, VALUES, WITH ---

    def _set_operation(self, node: Node, scope: Scope | None) -> Rows:
        left = self.select(node["larg"], scope)
        right = self.select(node["rarg"], scope)
        self.record(left, "other")
        self.record(right, "other")
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

    def with_queries(self, node: Node, outer: Scope | None) -> Scope | None:
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
                self.record(rows, "other")
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
