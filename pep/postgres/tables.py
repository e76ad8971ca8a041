"""What FROM brings into a query level: tables, subqueries, functions, joins, and the table that a statement writes.

Each item becomes sources (names that column references can use) and rows (what `*` means, in order). A name that the
catalog does not have makes the statement opaque.

References: PostgreSQL documentation, "Table Expressions"; the server's parse_clause.c (transformFromClauseItem).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pep.postgres.catalog import Relation
from pep.postgres.expressions import Expressions, Node
from pep.postgres.findings import Access, Findings
from pep.postgres.scopes import Lineage, Rows, Scope, Source, renamed, union

Query = Callable[[Node, Scope | None], Rows]
Brought = tuple[list[Source], Rows]

_SAMPLING: Final = frozenset({"system", "bernoulli"})


class Tables:
    """The walk over FROM items."""

    __slots__ = ("_expressions", "_items", "_known", "_query", "found")

    def __init__(self, found: Findings, expressions: Expressions, query: Query) -> None:
        self.found = found
        self._expressions = expressions
        self._query = query
        self._known: dict[int, Rows] = {}
        self._items: Mapping[str, Callable[[Node, Scope], Brought]] = {
            "RangeVar": self._table,
            "RangeSubselect": self._subselect,
            "RangeFunction": self._function,
            "RangeTableFunc": self._xml_table,
            "JsonTable": self._json_table,
            "RangeTableSample": self._sample,
            "JoinExpr": self._join,
        }

    def add(self, item: Node, level: Scope) -> None:
        """One item of FROM; those to its left are in the level already, for LATERAL."""
        sources, rows = self._item(item, level)
        level.sources.extend(sources)
        level.rows.append(rows)

    def _item(self, item: Node, level: Scope) -> Brought:
        ((kind, content),) = item.items()
        self.found.spend(1 + len(level.sources) // 16)
        walk = self._items.get(kind)
        if walk is None:
            self.found.not_understood(f"{kind} in FROM is not understood")
            return _unknown(None)
        return walk(content, level)

    # --- relations ---

    def resolve(self, node: Node) -> Relation | None:
        """The relation that a RangeVar names; None where the catalog has none."""
        found = self.found
        found.resolves = True
        schema, name = node.get("schemaname"), node["relname"]
        if "catalogname" in node and node["catalogname"] != found.session.database:
            return None
        if schema is None:
            if node.get("relpersistence") == "t" and found.session.temp_schema is None:
                return None
            return found.catalog.resolve(name, found.path)
        return found.catalog.relation(self._expressions.schema(schema), name)

    def target(self, node: Node, access: Access) -> Source:
        """The table that INSERT, UPDATE, DELETE or MERGE writes: never a WITH query."""
        relation = self.resolve(node)
        if relation is None:
            return self._unknown_relation(node)
        self.found.write(relation, access)
        self.found.origins.add(relation.oid)
        return self._source(node, relation, self._rows(relation))

    def _unknown_relation(self, node: Node) -> Source:
        name = ".".join(node[part] for part in ("catalogname", "schemaname", "relname") if part in node)
        self.found.not_understood(f"unknown relation: {name}")
        return Source(node.get("alias", {}).get("aliasname", node["relname"]), Rows([], complete=False))

    def _table(self, node: Node, level: Scope) -> Brought:
        if "schemaname" not in node and (rows := level.cte(node["relname"])) is not None:
            return _aliased(node, rows, node["relname"])
        relation = self.resolve(node)
        if relation is None:
            source = self._unknown_relation(node)
            return [source], source.rows
        self.found.read(relation)
        source = self._source(node, relation, self._rows(relation))
        return [source], source.rows

    def _rows(self, relation: Relation) -> Rows:
        """One object per relation: a statement may name it thousands of times."""
        rows = self._known.get(relation.oid)
        if rows is None:
            rows = self._known[relation.oid] = Rows(columns_of(relation))
        return rows

    def _source(self, node: Node, relation: Relation, rows: Rows) -> Source:
        alias = node.get("alias")
        if alias is None:
            return Source(relation.name, rows, relation, (relation.schema, relation.name))
        names = alias_names(alias)
        if names:
            self.found.spend(len(rows.columns) // 4)
        return Source(alias["aliasname"], renamed(rows, names), relation)

    # --- everything else ---

    def _subselect(self, node: Node, level: Scope) -> Brought:
        rows = self._query(node["subquery"], level if node.get("lateral") else level.parent)
        return _aliased(node, rows, None)

    def _sample(self, node: Node, level: Scope) -> Brought:
        method = [name["String"]["sval"] for name in node["method"]]
        if method[-1] not in _SAMPLING or self.found.catalog.user_functions_named(method[-1], self.found.path):
            self.found.not_understood(f"sampling method {'.'.join(method)} is not one of the server's own")
        self._expressions.each(node.get("args", ()), level)
        if "repeatable" in node:
            self._expressions.walk(node["repeatable"], level)
        return self._item(node["relation"], level)

    def _function(self, node: Node, level: Scope) -> Brought:
        """A function in FROM sees what is to its left. What it returns is known from a column list alone."""
        columns: list[tuple[str, Lineage]] = []
        name = None
        for function in node["functions"]:
            call, *definitions = function["List"]["items"]
            self._expressions.walk(call, level)
            if name is None and "FuncCall" in call:
                name = call["FuncCall"]["funcname"][-1]["String"]["sval"]
            for definition in definitions:
                columns.extend(self._definitions(definition.get("List", {}).get("items", ())))
        columns.extend(self._definitions(node.get("coldeflist", ())))
        return _aliased(node, Rows(columns, complete=False), name)

    def _definitions(self, definitions: Sequence[Node]) -> list[tuple[str, Lineage]]:
        for definition in definitions:
            self._expressions.type_name(definition["ColumnDef"]["typeName"])
        return [(definition["ColumnDef"]["colname"], ()) for definition in definitions]

    def _xml_table(self, node: Node, level: Scope) -> Brought:
        walk = self._expressions.walk
        for expression in ("docexpr", "rowexpr"):
            if expression in node:
                walk(node[expression], level)
        self._expressions.each(node.get("namespaces", ()), level)
        columns: list[tuple[str, Lineage]] = []
        for item in node["columns"]:
            content = item["RangeTableFuncCol"]
            columns.append((content["colname"], ()))
            if "typeName" in content:
                self._expressions.type_name(content["typeName"])
            for expression in ("colexpr", "coldefexpr"):
                if expression in content:
                    walk(content[expression], level)
        return _aliased(node, Rows(columns), "xmltable")

    def _json_table(self, node: Node, level: Scope) -> Brought:
        if self.found.session.server_version < 170000:
            self.found.not_understood("JSON_TABLE means something else to this server")
        struct = self._expressions.struct
        struct("JsonValueExpr", node["context_item"], level)
        if "pathspec" in node:
            struct("JsonTablePathSpec", node["pathspec"], level)
        self._expressions.each(node.get("passing", ()), level)
        if "on_error" in node:
            struct("JsonBehavior", node["on_error"], level)
        return _aliased(node, Rows(self._json_columns(node.get("columns", ()), level)), "json_table")

    def _json_columns(self, items: Sequence[Node], level: Scope) -> list[tuple[str, Lineage]]:
        columns: list[tuple[str, Lineage]] = []
        for item in items:
            content: Mapping[str, Any] = item["JsonTableColumn"]
            if "name" in content:
                columns.append((content["name"], ()))
            if "typeName" in content:
                self._expressions.type_name(content["typeName"])
            if "pathspec" in content:
                self._expressions.struct("JsonTablePathSpec", content["pathspec"], level)
            for behaviour in ("on_empty", "on_error"):
                if behaviour in content:
                    self._expressions.struct("JsonBehavior", content[behaviour], level)
            columns.extend(self._json_columns(content.get("columns", ()), level))
        return columns

    # --- joins ---

    def _join(self, node: Node, level: Scope) -> Brought:
        left_sources, left = self._item(node["larg"], level)
        right_level = Scope(level.parent, [*level.sources, *left_sources], ctes=level.ctes)
        right_sources, right = self._item(node["rarg"], right_level)
        sources = [*left_sources, *right_sources]
        names = [name["String"]["sval"] for name in node.get("usingClause", ())]
        if node.get("isNatural"):
            names = self._natural(left, right)
        rows = self._merged(left, right, names)
        if "join_using_alias" in node:
            merged = Rows([column for column in rows.columns if column[0] in names])
            sources.append(Source(node["join_using_alias"]["aliasname"], merged))
        if "quals" in node:
            self._expressions.walk(node["quals"], Scope(level.parent, sources))
        if "alias" in node:
            return _aliased(node, rows, None)
        return sources, rows

    def _natural(self, left: Rows, right: Rows) -> list[str]:
        if not (left.complete and right.complete):
            for relation, column in (*left.refs(), *right.refs()):
                self.found.column(relation, column, "other")
        names = {name for name, _ in right.columns}
        return [name for name, _ in left.columns if name in names]

    def _merged(self, left: Rows, right: Rows, names: Sequence[str]) -> Rows:
        """USING and NATURAL: the columns that are compared come first, once; they are read on both sides."""
        self.found.spend(len(left.columns) + len(right.columns))
        if not names:
            return Rows([*left.columns, *right.columns], left.complete and right.complete)
        self._expressions.operator("=")
        both = [*left.columns, *right.columns]
        first = [(name, union(left.by_name.get(name, ()), right.by_name.get(name, ()))) for name in names]
        taken = set(names)
        for _, lineage in first:
            self.found.spend(2 + len(lineage))
            self._expressions.lineage(lineage, "other")
        rest = [column for column in both if column[0] not in taken]
        return Rows([*first, *rest], left.complete and right.complete)


def columns_of(relation: Relation) -> list[tuple[str, Lineage]]:
    """What `*` means for a table."""
    return [(column.name, ((relation, column),)) for column in relation.columns]


def alias_names(alias: Node) -> list[str]:
    return [name["String"]["sval"] for name in alias.get("colnames", ())]


def _aliased(node: Node, rows: Rows, name: str | None) -> Brought:
    alias = node.get("alias")
    if alias is not None:
        name = alias["aliasname"]
        rows = renamed(rows, alias_names(alias))
    return [Source(name, rows)], rows


def _unknown(name: str | None) -> Brought:
    rows = Rows([], complete=False)
    return [Source(name, rows)], rows
