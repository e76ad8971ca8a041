"""Expressions of a statement: which columns they read, which functions, operators and types they use.

The table of node types is closed: a node or a field that is not in it makes the statement opaque, by name. What an
expression reads is recorded as usage `other`; only the walk over a query knows what is plain output. Names of functions
follow parse_func.c: a column reference may be a call, a call may be a column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pep.postgres import calls
from pep.postgres.findings import Findings, Usage
from pep.postgres.scopes import (
    IsColumn,
    IsRow,
    IsUnknown,
    Lineage,
    Meaning,
    Scope,
    Source,
    qualified,
    unqualified,
    whole,
)

Node = Mapping[str, Any]
Query = Callable[[Node, Scope], Lineage]
"""Walks a query that is part of an expression; returns what its output columns are."""

# A child is a node or a list of nodes ("*"), or a structure of that type without its wrapper.
_CHILD: Final = "*"
_JSON: Final = {"output": "JsonOutput"}
_CHILDREN: Final[Mapping[str, Mapping[str, str]]] = {
    "A_ArrayExpr": {"elements": _CHILD},
    "A_Const": {},
    "A_Indices": {"lidx": _CHILD, "uidx": _CHILD},
    "BoolExpr": {"args": _CHILD},
    "BooleanTest": {"arg": _CHILD},
    "CaseWhen": {"expr": _CHILD, "result": _CHILD},
    "CoalesceExpr": {"args": _CHILD},
    "CollateClause": {"arg": _CHILD},
    "GroupingFunc": {"args": _CHILD},
    "GroupingSet": {"content": _CHILD},
    "JsonAggConstructor": {"agg_filter": _CHILD, "agg_order": _CHILD, "over": "WindowDef", **_JSON},
    "JsonArgument": {"val": "JsonValueExpr"},
    "JsonArrayConstructor": {"exprs": _CHILD, **_JSON},
    "JsonBehavior": {"expr": _CHILD},
    "JsonFuncExpr": {
        "context_item": "JsonValueExpr",
        "pathspec": _CHILD,
        "passing": _CHILD,
        "on_empty": "JsonBehavior",
        "on_error": "JsonBehavior",
        **_JSON,
    },
    "JsonIsPredicate": {"expr": _CHILD},
    "JsonKeyValue": {"key": _CHILD, "value": "JsonValueExpr"},
    "JsonObjectConstructor": {"exprs": _CHILD, **_JSON},
    "JsonOutput": {"typeName": "TypeName"},
    "JsonParseExpr": {"expr": "JsonValueExpr", **_JSON},
    "JsonScalarExpr": {"expr": _CHILD, **_JSON},
    "JsonSerializeExpr": {"expr": "JsonValueExpr", **_JSON},
    "JsonTablePathSpec": {"string": _CHILD},
    "JsonValueExpr": {"raw_expr": _CHILD, "formatted_expr": _CHILD},
    "List": {"items": _CHILD},
    "MergeSupportFunc": {},
    "MinMaxExpr": {"args": _CHILD},
    "NamedArgExpr": {"arg": _CHILD},
    "NullTest": {"arg": _CHILD},
    "ResTarget": {"val": _CHILD},
    "RowExpr": {"args": _CHILD},
    "SQLValueFunction": {},
    "SetToDefault": {},
    "WindowDef": {
        "partitionClause": _CHILD,
        "orderClause": _CHILD,
        "startOffset": _CHILD,
        "endOffset": _CHILD,
    },
    "XmlExpr": {"named_args": _CHILD, "args": _CHILD},
    "XmlSerialize": {"expr": _CHILD, "typeName": "TypeName"},
}
# Words, positions and flags: nothing in them is resolved.
_PLAIN: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset((fields + " location").split())
    for name, fields in {
        "A_ArrayExpr": "list_start list_end",
        "A_Const": "isnull ival fval boolval sval bsval",
        "A_Indices": "is_slice",
        "BoolExpr": "boolop",
        "BooleanTest": "booltesttype",
        "CollateClause": "collname",
        "GroupingSet": "kind",
        "JsonArgument": "name",
        "JsonArrayConstructor": "absent_on_null",
        "JsonBehavior": "btype coerce",
        "JsonFuncExpr": "op column_name wrapper quotes",
        "JsonIsPredicate": "format item_type unique_keys",
        "JsonObjectConstructor": "absent_on_null unique",
        "JsonOutput": "returning",
        "JsonParseExpr": "unique_keys",
        "JsonTablePathSpec": "name name_location",
        "JsonValueExpr": "format",
        "MergeSupportFunc": "msftype msfcollid",
        "MinMaxExpr": "op",
        "NamedArgExpr": "name argnumber",
        "NullTest": "nulltesttype argisrow",
        "ResTarget": "name",
        "RowExpr": "row_format colnames",
        "SQLValueFunction": "op typmod",
        "WindowDef": "name refname frameOptions",
        "XmlExpr": "op name xmloption indent",
        "XmlSerialize": "xmloption indent",
    }.items()
}
_NONE: Final = frozenset({"location"})
# The parser reads these as syntax since the version; an older server reads a call of whatever has that name.
_SINCE: Final = {
    "JsonObjectConstructor": 160000,
    "JsonArrayConstructor": 160000,
    "JsonArrayQueryConstructor": 160000,
    "JsonObjectAgg": 160000,
    "JsonArrayAgg": 160000,
    "JsonIsPredicate": 160000,
    "JsonFuncExpr": 170000,
    "JsonParseExpr": 170000,
    "JsonScalarExpr": 170000,
    "JsonSerializeExpr": 170000,
    "MergeSupportFunc": 170000,
}
_BETWEEN: Final = ("<=", ">=", "<", ">")


class Expressions:
    """The walk over expressions. `query` comes from the walk over queries, which owns this one."""

    __slots__ = ("_query", "_special", "found")

    def __init__(self, found: Findings, query: Query) -> None:
        self.found = found
        self._query = query
        self._special: Mapping[str, Callable[[Node, Scope], None]] = {
            "ColumnRef": self._column_ref,
            "A_Expr": self._operation,
            "TypeCast": self._cast,
            "FuncCall": self._call,
            "SubLink": self._sublink,
            "A_Indirection": self._indirection,
            "CaseExpr": self._case,
            "SortBy": self._sort,
            "MultiAssignRef": self._multi_assign,
            "TypeName": lambda node, _: self.type_name(node),
            "JsonArrayQueryConstructor": self._json_query,
            "JsonArrayAgg": self._json_aggregate,
            "JsonObjectAgg": self._json_aggregate,
            "ParamRef": self._parameter,
            "CurrentOfExpr": lambda _n, _s: None,  # the walk over the statement looks the cursor up
        }

    # --- the walk ---

    def walk(self, node: Node, scope: Scope) -> None:
        """A node in its wrapper, `{"A_Const": {...}}`; the empty one stands for nothing."""
        for kind, content in node.items():
            self.struct(kind, content, scope)

    def each(self, nodes: Iterable[Node], scope: Scope) -> None:
        for node in nodes:
            self.walk(node, scope)

    def struct(self, kind: str, content: Node, scope: Scope) -> None:
        special = self._special.get(kind)
        if special is not None:
            special(content, scope)
            return
        children = _CHILDREN.get(kind)
        if children is None:
            self.found.not_understood(f"{kind} is not understood")
            return
        since = _SINCE.get(kind)
        if since is not None:
            self._newer(since, kind)
        self._fields(kind, content, children, scope)

    def _fields(self, kind: str, content: Node, children: Mapping[str, str], scope: Scope) -> None:
        plain = _PLAIN.get(kind, _NONE)
        for name, value in content.items():
            if name in plain:
                continue
            child = children.get(name)
            if child is None:
                if name not in _NONE:
                    self.found.not_understood(f"{kind}.{name} is not understood")
            elif child is not _CHILD:
                self.struct(child, value, scope)
            elif isinstance(value, list):
                self.each(value, scope)
            else:
                self.walk(value, scope)

    def _newer(self, since: int, what: str) -> None:
        if self.found.session.server_version < since:
            self.found.not_understood(f"{what} means something else to this server")

    # --- columns ---

    def lineage(self, lineage: Lineage, usage: Usage) -> None:
        for relation, column in lineage:
            self.found.column(relation, column, usage)

    def source(self, source: Source, usage: Usage) -> None:
        """The whole row."""
        self.found.spend(1 + len(source.rows.columns) // 8)
        if source.relation is not None:
            self.found.every_column(source.relation, usage)
            return
        for relation, column in source.rows.refs():
            self.found.column(relation, column, usage)

    def _column_ref(self, node: Node, scope: Scope) -> None:
        fields = node["fields"]
        if "A_Star" in fields[-1]:
            self._star(fields, scope)
            return
        match self.meaning(fields, scope):
            case IsColumn(lineage=lineage):
                self.lineage(lineage, "other")
            case _:
                pass

    def _star(self, fields: Sequence[Node], scope: Scope) -> None:
        """`t.*` as a value: the row, whole."""
        if len(fields) == 1:
            for source in scope.everything():
                self.source(source, "other")
            return
        names = [field["String"]["sval"] for field in fields[:-1]]
        named = whole(scope, names[-1], self.schema(names[-2]) if len(names) > 1 else None)
        if named is None:
            self.found.not_understood(f"unknown table: {'.'.join(names)}")
        else:
            self.source(named, "other")

    def meaning(self, fields: Sequence[Node], scope: Scope) -> Meaning:
        """What a column reference means. Whatever is not a column is recorded here: rows, calls, the unknown."""
        self.found.spend(1 + len(scope.sources) // 4)
        names = [field["String"]["sval"] for field in fields]
        match names:
            case [name]:
                meaning = unqualified(scope, name)
            case [table, name]:
                meaning = qualified(scope, table, name)
            case [schema, table, name] | [_, schema, table, name]:
                meaning = qualified(scope, table, name, self.schema(schema))
            case _:
                meaning = IsUnknown()
        match meaning:
            case IsRow(source=source, rest=rest):
                self.source(source, "other")
                if rest is not None:
                    # u.row_to_json: no such column, so the server tries the call row_to_json(u).
                    calls.attribute(self.found, rest, certain=source.rows.complete)
            case IsUnknown():
                self._unknown_column(names, scope)
            case _:
                pass
        return meaning

    def _unknown_column(self, names: Sequence[str], scope: Scope) -> None:
        self.found.spend(sum(1 for _ in scope.everything()))
        if self.found.reason is None:
            for source in scope.everything():
                self.source(source, "other")
        self.found.not_understood(f"unknown column: {'.'.join(names)}")

    def schema(self, name: str) -> str:
        """pg_temp is another name for the session's own temporary schema."""
        return (self.found.session.temp_schema or name) if name == "pg_temp" else name

    def _indirection(self, node: Node, scope: Scope) -> None:
        """`(u).ssn`, `(f(x)).y`, `a[1]`, `(x).*`."""
        argument, steps = node["arg"], node["indirection"]
        fields = argument.get("ColumnRef", {}).get("fields", ())
        first = steps[0].get("String", {}).get("sval")
        done = 0
        if first is not None and len(fields) == 1 and "String" in fields[0]:
            meaning = unqualified(scope, fields[0]["String"]["sval"])
            if isinstance(meaning, IsRow) and first in meaning.source.by_name:
                self.lineage(meaning.source.by_name[first], "other")
                done = 1
        if not done:
            self.walk(argument, scope)
        for step in steps[done:]:
            for kind, content in step.items():
                if kind == "String":
                    # A field of a composite value, or the call of a function of that name.
                    calls.attribute(self.found, content["sval"], certain=False)
                elif kind != "A_Star":
                    self.struct(kind, content, scope)

    # --- operators, casts ---

    def operator(self, names: Sequence[Node] | str) -> None:
        """A visible operator of that name outside pg_catalog may be the one that runs."""
        parts = [names] if isinstance(names, str) else [name["String"]["sval"] for name in names]
        symbol = parts[-1]
        if len(parts) == 1:
            self.found.resolves = True
            if self.found.catalog.operators:
                calls.operator(self.found, symbol)
        elif parts != ["pg_catalog", symbol]:
            self.found.not_understood(f"operator {'.'.join(parts)} is one of the database's own")

    def _operation(self, node: Node, scope: Scope) -> None:
        kind, names = node["kind"], node["name"]
        if "BETWEEN" in kind:
            for symbol in _BETWEEN:
                self.operator(symbol)
        elif kind == "AEXPR_SIMILAR":
            self.operator(names)
            self.operator("~")
        else:
            self.operator(names)
        if "rexpr" in node:
            self.walk(node["rexpr"], scope)
        left = node.get("lexpr")
        # a || b || c nests to the left: a loop, so that a long chain is not deep.
        while left is not None and left.get("A_Expr", {}).get("kind") == "AEXPR_OP":
            inner = left["A_Expr"]
            self.operator(inner["name"])
            if "rexpr" in inner:
                self.walk(inner["rexpr"], scope)
            left = inner.get("lexpr")
        if left is not None:
            self.walk(left, scope)

    def _case(self, node: Node, scope: Scope) -> None:
        if "arg" in node:
            self.operator("=")
            self.walk(node["arg"], scope)
        self.each(node["args"], scope)
        if "defresult" in node:
            self.walk(node["defresult"], scope)

    def _sort(self, node: Node, scope: Scope) -> None:
        if "useOp" in node:
            self.operator(node["useOp"])
        self.walk(node["node"], scope)

    def _parameter(self, _node: Node, _scope: Scope) -> None:
        if self.found.parameters is None:
            self.found.has_parameter = True

    def _cast(self, node: Node, scope: Scope) -> None:
        argument = node["arg"]
        self.type_name(node["typeName"], literal=self._is_literal(argument))
        self.walk(argument, scope)

    def _is_literal(self, node: Node) -> bool:
        """A quoted constant, or a parameter without a type of its own: the type's input reads it, no cast runs."""
        if "ParamRef" in node:
            declared, number = self.found.parameters, node["ParamRef"].get("number", 0)
            return declared is not None and (number > len(declared) or declared[number - 1] == 0)
        constant = node.get("A_Const", {})
        return "sval" in constant or "isnull" in constant

    def type_name(self, node: Node, *, literal: bool = False) -> None:
        calls.type_name(self.found, [name["String"]["sval"] for name in node["names"]], literal=literal)
        if node.get("pct_type"):
            self.found.not_understood("%TYPE is not understood")

    # --- calls ---

    def _call(self, node: Node, scope: Scope) -> None:
        names = [name["String"]["sval"] for name in node["funcname"]]
        arguments: Sequence[Node] = node.get("args", ())
        if names == ["pg_catalog", "json_object"] and self.found.session.server_version < 160000:
            names = ["json_object"]  # syntax since 16; before, a call like any other
        if names == ["pg_catalog", "system_user"] and node.get("funcformat") == "COERCE_SQL_SYNTAX":
            self._newer(160000, "system_user")
        calls.call(self.found, names, arguments, row_field=self._row_field(names, arguments, scope))
        self.each(arguments, scope)
        self.each(node.get("agg_order", ()), scope)
        if "agg_filter" in node:
            self.walk(node["agg_filter"], scope)
        if "over" in node:
            self.struct("WindowDef", node["over"], scope)

    @staticmethod
    def _row_field(names: Sequence[str], arguments: Sequence[Node], scope: Scope) -> bool:
        """Whether `ssn(u)` reads the column ssn of u; its argument, the whole row, is recorded in any case."""
        if len(names) != 1 or len(arguments) != 1:
            return False
        fields = arguments[0].get("ColumnRef", {}).get("fields", ())
        if len(fields) != 1 or "String" not in fields[0]:
            return False
        meaning = unqualified(scope, fields[0]["String"]["sval"])
        return isinstance(meaning, IsRow) and names[0] in meaning.source.by_name

    # --- subqueries ---

    def _sublink(self, node: Node, scope: Scope) -> None:
        if "testexpr" in node:
            self.walk(node["testexpr"], scope)
        if node["subLinkType"] in ("ANY_SUBLINK", "ALL_SUBLINK", "ROWCOMPARE_SUBLINK"):
            self.operator(node.get("operName", "="))
        if node["subLinkType"] == "ARRAY_SUBLINK":
            self.found.collecting = True
        self.lineage(self._query(node["subselect"], scope), "other")

    def _multi_assign(self, node: Node, scope: Scope) -> None:
        if node.get("colno", 1) == 1:  # each column of SET (a, b) = ... holds the same source
            self.walk(node["source"], scope)

    def _json_query(self, node: Node, scope: Scope) -> None:
        self._newer(_SINCE["JsonArrayQueryConstructor"], "JSON_ARRAY")
        self.found.collecting = True
        if "output" in node:
            self.struct("JsonOutput", node["output"], scope)
        self.lineage(self._query(node["query"], scope), "other")

    def _json_aggregate(self, node: Node, scope: Scope) -> None:
        self._newer(_SINCE["JsonArrayAgg"], "JSON_ARRAYAGG")
        self.found.collecting = True
        kind = "JsonKeyValue" if "key" in node["arg"] else "JsonValueExpr"
        self.struct(kind, node["arg"], scope)
        self.struct("JsonAggConstructor", node["constructor"], scope)
