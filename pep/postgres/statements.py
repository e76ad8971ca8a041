"""Statements about the session itself: transactions, settings, names, cursors, COPY, EXPLAIN, LISTEN, LOCK.

Whatever runs or names another statement takes all of it over. What defines something is in `definitions`.
Reference: PostgreSQL documentation, "SQL Commands".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from pep.postgres import calls, settings
from pep.postgres.classification import (
    RESERVED_PREFIX,
    Change,
    Class,
    Classification,
    CloseCursor,
    DeallocateName,
    DeclareCursor,
    Discard,
    ExecuteName,
    FetchCursor,
    Names,
    PrepareName,
    Refusal,
    TransactionStep,
    TransactionVerb,
    opaque,
)
from pep.postgres.expressions import Node
from pep.postgres.findings import Findings
from pep.postgres.parser import ParsedStatement
from pep.postgres.queries import Queries
from pep.postgres.scopes import Scope
from pep.postgres.tables import columns_of

Inner = Callable[[Node], Classification]

_VERBS: Final[Mapping[str, TransactionVerb]] = {
    "TRANS_STMT_BEGIN": TransactionVerb.BEGIN,
    "TRANS_STMT_START": TransactionVerb.BEGIN,
    "TRANS_STMT_COMMIT": TransactionVerb.COMMIT,
    "TRANS_STMT_ROLLBACK": TransactionVerb.ROLLBACK,
    "TRANS_STMT_SAVEPOINT": TransactionVerb.SAVEPOINT,
    "TRANS_STMT_RELEASE": TransactionVerb.RELEASE,
    "TRANS_STMT_ROLLBACK_TO": TransactionVerb.ROLLBACK_TO,
    "TRANS_STMT_PREPARE": TransactionVerb.PREPARE_TRANSACTION,
    "TRANS_STMT_COMMIT_PREPARED": TransactionVerb.COMMIT_PREPARED,
    "TRANS_STMT_ROLLBACK_PREPARED": TransactionVerb.ROLLBACK_PREPARED,
}
_NO_END: Final = frozenset({TransactionVerb.BEGIN, TransactionVerb.SAVEPOINT, TransactionVerb.RELEASE})
_DISCARDS: Final[Mapping[str, Literal["all", "plans", "temp", "sequences"]]] = {
    "DISCARD_ALL": "all",
    "DISCARD_PLANS": "plans",
    "DISCARD_TEMP": "temp",
    "DISCARD_SEQUENCES": "sequences",
}
_SCROLL: Final = 0x0002  # CURSOR_OPT_SCROLL
_HOLD: Final = 0x0020  # CURSOR_OPT_HOLD
_FALSE: Final = frozenset({"false", "off", "0"})


class Statements:
    """One statement that is about the session.

    `inner` classifies another statement by its node, `inner_apart` one whose parameters are its own.
    """

    __slots__ = ("_inner", "_inner_apart", "_kinds", "_names", "_statement", "found")

    def __init__(
        self, statement: ParsedStatement, found: Findings, names: Names, inner: Inner, inner_apart: Inner
    ) -> None:
        self.found = found
        self._statement = statement
        self._names = names
        self._inner = inner
        self._inner_apart = inner_apart
        self._kinds: Mapping[str, Callable[[Node], Classification]] = {
            "TransactionStmt": self._transaction,
            "VariableSetStmt": self._set,
            "VariableShowStmt": self._show,
            "DiscardStmt": self._discard,
            "ConstraintsSetStmt": self._constraints,
            "PrepareStmt": self._prepare,
            "ExecuteStmt": self._execute,
            "DeallocateStmt": self._deallocate,
            "DeclareCursorStmt": self._declare,
            "FetchStmt": self._fetch,
            "ClosePortalStmt": self._close,
            "ExplainStmt": self._explain,
            "CopyStmt": self._copy,
            "ListenStmt": lambda _: self._quiet("setting", "listen"),
            "UnlistenStmt": lambda _: self._quiet("setting", "unlisten"),
            "NotifyStmt": self._notify,
            "LockStmt": self._lock,
            "DoStmt": lambda _: opaque("code in DO", "do"),
            "CallStmt": self._call,
        }

    def classify(self, kind: str, node: Node) -> Classification | None:
        """None: this kind is not one of these."""
        classify = self._kinds.get(kind)
        return None if classify is None else classify(node)

    def _quiet(self, class_: Class, kind: str) -> Classification:
        """It reads no table, so it takes no snapshot."""
        return replace(self.found.finish(class_, kind), takes_snapshot=False)

    # --- transactions and settings ---

    def _transaction(self, node: Node) -> Classification:
        verb = _VERBS.get(node["kind"])
        if verb is None:
            return opaque(f"{node['kind']} is not understood", "transaction")
        found = self.found
        for option in node.get("options", ()):
            found.settings.add(option["DefElem"]["defname"])
        if verb not in _NO_END:
            found.changes.add(Change.END)
        gid = node.get("gid", "")
        if gid:
            found.reaches.add(f"gid {gid}")
        if verb is TransactionVerb.COMMIT_PREPARED:
            found.changes.add(Change.UNKNOWN)
        step = TransactionStep(verb, node.get("savepoint_name", gid), bool(node.get("chain")))
        return replace(self._quiet("transaction", verb.value), transaction=step)

    def _set(self, node: Node) -> Classification:
        found = self.found
        kind, name = node["kind"], settings.canonical(node.get("name", ""))
        if kind == "VAR_RESET_ALL":
            found.changes.update((Change.SEARCH_PATH, Change.ROLE))
            return self._quiet("setting", "reset")
        if kind == "VAR_SET_MULTI":
            return self._set_transaction(name, node.get("args", ()))
        if kind in ("VAR_RESET", "VAR_SET_DEFAULT", "VAR_SET_VALUE"):
            values = [calls.constant(value) for value in node.get("args", ())]
            self._set_one(name, ", ".join(value or "" for value in values) if values else None)
        else:
            found.not_understood(f"SET of {name} is not understood")
        class_: Class = found.setting_class or "admin"
        if name in settings.ROLE_SETTINGS:
            return self._quiet("admin", f"set_{name}")
        return self._quiet(class_, "reset" if kind == "VAR_RESET" else "set")

    def _set_one(self, name: str, value: str | None) -> None:
        """`value` None: the session's own start value, which the proxy has seen already."""
        calls.change_setting(self.found, name, value, given=True)
        if value is None:
            self.found.refused = None

    def _set_transaction(self, name: str, options: Sequence[Node]) -> Classification:
        """SET TRANSACTION, SET SESSION CHARACTERISTICS, SET TRANSACTION SNAPSHOT."""
        if name == "transaction snapshot":
            self.found.reaches.add("snapshot of another session")
        else:
            self.found.settings.update(option["DefElem"]["defname"] for option in options)
        return self._quiet("setting", "set")

    def _show(self, node: Node) -> Classification:
        self.found.settings.add(settings.canonical(node["name"]))
        return replace(self._quiet("catalog", "show"), returns_rows=True)

    def _discard(self, node: Node) -> Classification:
        what = _DISCARDS.get(node["target"])
        if what is None:
            return opaque(f"{node['target']} is not understood", "discard")
        if what in ("all", "temp"):
            self.found.changes.add(Change.TEMP)
        if what == "all":
            self.found.changes.update((Change.SEARCH_PATH, Change.ROLE))
        self.found.name_change = Discard(what)
        return self._quiet("setting", "discard")

    def _constraints(self, _: Node) -> Classification:
        self.found.resolves = True
        return self.found.finish("setting", "set")

    # --- prepared statements and cursors ---

    def _refuse_reserved(self, name: str | None) -> None:
        if name is not None and name.startswith(RESERVED_PREFIX):
            self.found.refused = Refusal("42939", f'names that begin with "{RESERVED_PREFIX}" are reserved')

    def _prepare(self, node: Node) -> Classification:
        found, name = self.found, node["name"]
        self._refuse_reserved(name)
        for argument in node.get("argtypes", ()):
            calls.type_name(found, [part["String"]["sval"] for part in argument["TypeName"]["names"]])
        inner = self._inner_apart(node["query"])
        found.absorb(inner)
        found.resolves = True
        found.name_change = PrepareName(name, self._part(node["query"]), inner)
        return found.finish(inner.class_, "prepare", **_limits(inner))

    def _execute(self, node: Node) -> Classification:
        found, name = self.found, node["name"]
        self._refuse_reserved(name)
        inner = self._names.prepared(name)
        found.resolves = True
        found.uses = ExecuteName(name, "params" in node)
        if inner is None:
            found.not_understood(f"unknown prepared statement: {name}")
            return found.finish("opaque", "execute", returns_rows=True)
        queries = Queries(found, self._names)
        queries.expressions.each(node.get("params", ()), Scope())
        found.absorb(inner)
        if _is_about_the_session(inner):
            found.refused = Refusal("0A000", "EXECUTE of a statement that is no query is refused: send it by itself")
        return found.finish(inner.class_, inner.kind, returns_rows=inner.returns_rows, **_limits(inner))

    def _deallocate(self, node: Node) -> Classification:
        name = None if node.get("isall") else node.get("name")
        self._refuse_reserved(name)
        self.found.name_change = DeallocateName(name)
        return self._quiet("setting", "deallocate")

    def _declare(self, node: Node) -> Classification:
        found, name, options = self.found, node["portalname"], node.get("options", 0)
        self._refuse_reserved(name)
        inner = self._absorbed(node["query"])
        found.resolves = True
        part = self._part(node["query"])
        found.name_change = DeclareCursor(name, part, inner, bool(options & _HOLD), bool(options & _SCROLL))
        return found.finish(inner.class_, "declare", **_limits(inner))

    def _fetch(self, node: Node) -> Classification:
        found, name, move = self.found, node["portalname"], bool(node.get("ismove"))
        self._refuse_reserved(name)
        kind = "move" if move else "fetch"
        inner = self._names.cursor(name)
        found.resolves = True
        found.uses = FetchCursor(name, move)
        if inner is None:
            found.not_understood(f"unknown cursor: {name}")
            return found.finish("opaque", kind, returns_rows=not move)
        found.absorb(inner)
        return found.finish(inner.class_, kind, returns_rows=not move)

    def _close(self, node: Node) -> Classification:
        name = node.get("portalname")
        self._refuse_reserved(name)
        self.found.name_change = CloseCursor(name)
        return self._quiet("setting", "close")

    def _absorbed(self, node: Node) -> Classification:
        inner = self._inner(node)
        self.found.absorb(inner)
        return inner

    def _part(self, node: Node) -> ParsedStatement:
        """A statement inside this one, as a statement of its own."""
        return replace(self._statement, node=dict(node))

    # --- EXPLAIN, COPY, the rest ---

    def _explain(self, node: Node) -> Classification:
        inner = self._absorbed(node["query"])
        found = self.found
        found.uses = inner.uses
        found.not_output()
        runs = any(_is_on(option["DefElem"]) for option in node.get("options", ()) if _named(option, "analyze"))
        if runs:
            found.name_change = inner.name_change
            return found.finish(inner.class_, inner.kind, returns_rows=True, **_limits(inner))
        found.only_plan()
        class_: Class = "read" if inner.class_ in ("write", "schema", "catalog") else inner.class_
        return found.finish(class_, "explain", returns_rows=True)

    def _copy(self, node: Node) -> Classification:
        found = self.found
        incoming = bool(node.get("is_from"))
        class_: Class = "write" if incoming else "read"
        kind = "copy"
        if "query" in node:
            inner = self._absorbed(node["query"])
            found.not_output()
            class_ = inner.class_
            kind = inner.kind if inner.writes else kind
        else:
            self._copy_table(node, incoming=incoming)
        if node.get("is_program"):
            found.reaches.add("program")
            class_ = "admin"
        elif "filename" in node:
            found.reaches.add(f"file {node['filename']}")
            class_ = "admin"
        beyond = class_ == "admin"
        if class_ == "catalog" or (class_ == "read" and not incoming and found.only_system):
            class_ = "catalog"
        done = found.finish(class_, kind)
        return done if beyond else replace(done, copy="in" if incoming else "out")

    def _copy_table(self, node: Node, *, incoming: bool) -> None:
        found = self.found
        queries = Queries(found, self._names)
        relation = queries.tables.resolve(node["relation"])
        if relation is None:
            found.not_understood(f"unknown relation: {relation_name(node['relation'])}")
            return
        rows = columns_of(relation)
        if incoming:
            found.write(relation, "insert")
            if "whereClause" in node:
                source = queries.tables.target(node["relation"], "insert")
                queries.expressions.walk(node["whereClause"], Scope(None, [source]))
            return
        found.read(relation)
        wanted = {name["String"]["sval"] for name in node.get("attlist", ())}
        for name, lineage in rows:
            if not wanted or name in wanted:
                queries.expressions.lineage(lineage, "other")
        for name in sorted(wanted - {name for name, _ in rows}):
            found.not_understood(f"unknown column: {name}")

    def _notify(self, node: Node) -> Classification:
        self.found.reaches.add(f"notify channel {node['conditionname']}")
        return self._quiet("write", "notify")

    def _lock(self, node: Node) -> Classification:
        found = self.found
        tables = Queries(found, self._names).tables
        for item in node["relations"]:
            relation = tables.resolve(item["RangeVar"])
            if relation is None:
                found.not_understood(f"unknown relation: {relation_name(item['RangeVar'])}")
                continue
            found.read(relation)
        found.only_lock()
        return replace(found.finish("write", "lock"), takes_snapshot=False)

    def _call(self, node: Node) -> Classification:
        name = ".".join(part["String"]["sval"] for part in node["funccall"]["funcname"])
        return opaque(f"code in procedure {name}", "call")


def relation_name(node: Node) -> str:
    """A RangeVar as the client wrote it."""
    return ".".join(node[part] for part in ("catalogname", "schemaname", "relname") if part in node)


def _is_about_the_session(prepared: Classification) -> bool:
    """What Parse can prepare and PREPARE cannot.

    The server runs it by EXECUTE all the same, where its effects on names, transactions and COPY would go unnoticed.
    """
    changes = prepared.name_change is not None or prepared.transaction is not None or prepared.copy is not None
    return changes or isinstance(prepared.uses, ExecuteName) or prepared.kind in ("fetch", "move")


def _limits(inner: Classification) -> dict[str, Any]:
    return {key: inner.properties[key] for key in ("has_where", "limit") if key in inner.properties}


def _named(option: Node, name: str) -> bool:
    return str(option["DefElem"]["defname"]).lower() == name


def _is_on(option: Node) -> bool:
    """A boolean option of EXPLAIN; whatever is not clearly off is on (defGetBoolean)."""
    argument = option.get("arg")
    if argument is None:
        return True
    ((kind, content),) = argument.items()
    match kind:
        case "String":
            return str(content.get("sval", "")).lower() not in _FALSE
        case "Integer":
            return bool(content.get("ival", 0))
        case "Boolean":
            return bool(content.get("boolval", False))
        case _:
            return True
