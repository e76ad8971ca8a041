"""Statements that define, change or remove something, and administration: DDL, GRANT, roles, TRUNCATE, VACUUM.

One closed table says class and kind of each; one generic scan finds the relations, queries, functions, operators, types
and settings inside. Column references in definitions are not resolved: every column of the table counts as read.
Reference: PostgreSQL documentation, "SQL Commands"; node types of parsenodes.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pep.postgres import calls, settings
from pep.postgres.catalog import TEMPORARY, Relation
from pep.postgres.classification import Change, Class, Classification, Names, words
from pep.postgres.expressions import Node
from pep.postgres.findings import Findings
from pep.postgres.queries import Queries
from pep.postgres.scopes import Rows, Scope, Source
from pep.postgres.tables import columns_of

Inner = Callable[[Node], Classification]

_SCHEMA: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        words("""
        CompositeTypeStmt CreateAmStmt CreateCastStmt CreateConversionStmt CreateDomainStmt CreateEnumStmt
        CreateForeignTableStmt CreateFunctionStmt CreateOpClassStmt CreateOpFamilyStmt CreatePLangStmt CreatePolicyStmt
        CreateRangeStmt CreateSchemaStmt CreateSeqStmt CreateStatsStmt CreateStmt CreateTableAsStmt CreateTransformStmt
        CreateTrigStmt DefineStmt IndexStmt RuleStmt ViewStmt
        """),
        "create",
    ),
    **dict.fromkeys(
        words("""
        AlterCollationStmt AlterDomainStmt AlterEnumStmt AlterFunctionStmt AlterObjectDependsStmt
        AlterObjectSchemaStmt AlterOpFamilyStmt AlterOperatorStmt AlterPolicyStmt AlterSeqStmt AlterStatsStmt
        AlterTSConfigurationStmt AlterTSDictionaryStmt AlterTableStmt AlterTypeStmt RenameStmt
        """),
        "alter",
    ),
    "CommentStmt": "comment",
    "DropStmt": "drop",
    "RefreshMatViewStmt": "refresh",
}
# Kind, what it mints, what it reaches beyond.
_ADMIN: Final[Mapping[str, tuple[str, str, str]]] = {
    "AlterDatabaseRefreshCollStmt": ("alter", "", ""),
    "AlterDatabaseSetStmt": ("alter", "database settings", ""),
    "AlterDatabaseStmt": ("alter", "", "other databases"),
    "AlterDefaultPrivilegesStmt": ("grant", "default privileges", ""),
    "AlterEventTrigStmt": ("alter", "", "event trigger"),
    "AlterExtensionContentsStmt": ("alter", "", "extension"),
    "AlterExtensionStmt": ("alter", "", "extension"),
    "AlterFdwStmt": ("alter", "", "foreign data"),
    "AlterForeignServerStmt": ("alter", "foreign server", "foreign data"),
    "AlterOwnerStmt": ("alter", "owner", ""),
    "AlterPublicationStmt": ("alter", "", "publication"),
    "AlterRoleSetStmt": ("alter", "role settings", ""),
    "AlterRoleStmt": ("alter", "role attributes", ""),
    "AlterSubscriptionStmt": ("alter", "subscription", "subscription"),
    "AlterSystemStmt": ("alter", "", "server configuration"),
    "AlterTableMoveAllStmt": ("alter", "", ""),
    "AlterTableSpaceOptionsStmt": ("alter", "", "tablespace"),
    "AlterUserMappingStmt": ("alter", "user mapping", "foreign data"),
    "CheckPointStmt": ("checkpoint", "", ""),
    "ClusterStmt": ("cluster", "", ""),
    "CreateEventTrigStmt": ("create", "", "event trigger"),
    "CreateExtensionStmt": ("create", "", "extension"),
    "CreateFdwStmt": ("create", "", "foreign data"),
    "CreateForeignServerStmt": ("create", "foreign server", "foreign data"),
    "CreatePublicationStmt": ("create", "", "publication"),
    "CreateRoleStmt": ("create", "role", ""),
    "CreateSubscriptionStmt": ("create", "subscription", "subscription"),
    "CreateTableSpaceStmt": ("create", "", "tablespace"),
    "CreateUserMappingStmt": ("create", "user mapping", "foreign data"),
    "CreatedbStmt": ("create", "", "other databases"),
    "DropOwnedStmt": ("drop", "", "everything owned"),
    "DropRoleStmt": ("drop", "", ""),
    "DropSubscriptionStmt": ("drop", "", "subscription"),
    "DropTableSpaceStmt": ("drop", "", "tablespace"),
    "DropUserMappingStmt": ("drop", "", ""),
    "DropdbStmt": ("drop", "", "other databases"),
    "GrantRoleStmt": ("grant", "role membership", ""),
    "GrantStmt": ("grant", "grant", ""),
    "ImportForeignSchemaStmt": ("import", "", "foreign data"),
    "LoadStmt": ("load", "", "library"),
    "ReassignOwnedStmt": ("alter", "owner", "everything owned"),
    "ReindexStmt": ("reindex", "", ""),
    "SecLabelStmt": ("label", "security label", ""),
    "VacuumStmt": ("vacuum", "", ""),
}
# Nothing of the table's columns is read, or only into statistics that the server keeps.
_READS_NOTHING: Final = words(
    """
    AlterOwnerStmt ClusterStmt CommentStmt DropStmt GrantStmt ReindexStmt SecLabelStmt VacuumStmt
    AlterDefaultPrivilegesStmt AlterPublicationStmt CreatePublicationStmt
    """
)
# What they name need not exist, and nothing of it runs.
_NAMES_ONLY: Final = frozenset({"DropStmt", "CommentStmt", "SecLabelStmt", "AlterOwnerStmt"})
_CODE: Final[Mapping[str, str]] = {
    "CreateFunctionStmt": "code in a function",
    "CreateTrigStmt": "trigger",
    "RuleStmt": "rule",
    "CreateCastStmt": "cast",
    "CreateTransformStmt": "transform",
    "CreatePLangStmt": "language",
    "CreateAmStmt": "access method",
    "CreateConversionStmt": "conversion",
    "CreateForeignTableStmt": "foreign table",
}
_QUERIES: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_NAMED_RELATIONS: Final = frozenset(
    f"OBJECT_{kind}" for kind in ("TABLE", "VIEW", "MATVIEW", "SEQUENCE", "FOREIGN_TABLE", "INDEX")
)
_PARTS_OF_RELATIONS: Final = frozenset(
    f"OBJECT_{kind}" for kind in ("COLUMN", "TRIGGER", "RULE", "POLICY", "TABCONSTRAINT")
)
_GRANTS: Final = frozenset({"GrantStmt", "GrantRoleStmt", "AlterDefaultPrivilegesStmt"})
_NEW: Final[Mapping[str, str]] = {"CreateStmt": "relation", "ViewStmt": "view", "CreateSeqStmt": "sequence"}


class Definitions:
    """One statement that defines or administers. `inner` classifies a query inside it."""

    __slots__ = ("_columns_count", "_inner", "_level", "_queries", "_skip", "found")

    def __init__(self, found: Findings, names: Names, inner: Inner) -> None:
        self.found = found
        self._inner = inner
        self._queries = Queries(self.found, names)
        self._columns_count = True
        self._level: Scope | None = None
        self._skip: object = None  # the name of what is being created: it exists nowhere yet

    def classify(self, kind: str, node: Node) -> Classification | None:
        """None: this kind is not one of these."""
        if kind == "TruncateStmt":
            return self._truncate(node)
        class_: Class
        if (word := _SCHEMA.get(kind)) is not None:
            class_ = "schema"
        elif (admin := _ADMIN.get(kind)) is not None:
            class_, word = "admin", admin[0]
            self._administration(kind, node, admin[1], admin[2])
        else:
            return None
        found = self.found
        found.writes = found.resolves = True
        found.changes.add(Change.SCHEMA)
        self._columns_count = kind not in _READS_NOTHING
        if kind in _CODE:
            found.changes.add(Change.UNKNOWN)
            found.reaches.add(_CODE[kind])
        self._created(kind, node)
        self._special(kind, node)
        if kind == "CreateFunctionStmt":
            self._scan(node.get("options", []))
        elif kind not in _NAMES_ONLY:
            self._scan(node)
        if node.get("behavior") == "DROP_CASCADE":
            found.reaches.add("cascade")
        if class_ == "schema" or kind == "GrantStmt":
            found.reaches.update(f"event trigger {name}" for name in found.catalog.event_triggers)
        if any("owner" in minted for minted in found.mints):
            class_ = "admin"
        if word == "grant" and not node.get("action", node).get("is_grant"):
            word = "revoke"
        found.not_output()
        return found.finish(class_, word)

    def _administration(self, kind: str, node: Node, mints: str, reaches: str) -> None:
        grant: Node = node["action"] if kind == "AlterDefaultPrivilegesStmt" else node
        takes_away = kind in _GRANTS and not grant.get("is_grant")
        if mints and not takes_away:
            self.found.mints.add(mints)
        if reaches:
            self.found.reaches.add(reaches)
        if kind in ("AlterRoleStmt", "CreateRoleStmt"):
            named = {option["DefElem"]["defname"] for option in node.get("options", ())}
            if "password" in named:
                self.found.mints.add("role password")

    def _special(self, kind: str, node: Node) -> None:
        match kind:
            case "CreateSchemaStmt":
                if "schemaElts" in node:
                    self.found.not_understood("CREATE SCHEMA with elements is not understood")
                self.found.changes.add(Change.SEARCH_PATH)
            case "DropStmt":
                self._objects(node["removeType"], node["objects"])
                # Without the schema, names resolve further along the path.
                self.found.changes.add(Change.SEARCH_PATH)
            case "CommentStmt" | "SecLabelStmt":
                self._objects(node["objtype"], [node["object"]])
            case "RefreshMatViewStmt":
                relation = self._queries.tables.resolve(node["relation"])
                if relation is not None:
                    self.found.read(relation)
            case "CreatePolicyStmt" | "AlterPolicyStmt":
                self._level = self._columns_of(node["table"], ())
            case "RuleStmt":
                self._level = self._columns_of(node["relation"], ("old", "new"))
            case "AlterObjectSchemaStmt" | "RenameStmt":
                self.found.changes.add(Change.SEARCH_PATH)
            case _:
                pass

    def _columns_of(self, table: Node, rows: Sequence[str]) -> Scope | None:
        """What a query inside a policy or a rule can name besides its own tables."""
        relation = self._queries.tables.resolve(table)
        if relation is None:
            return None
        columns = Rows(columns_of(relation))
        names = rows or (relation.name,)
        return Scope(None, [Source(name, columns, relation, plain=not rows) for name in names])

    # --- what the statement names ---

    def _truncate(self, node: Node) -> Classification:
        found = self.found
        for item in node["relations"]:
            relation = self._queries.tables.resolve(item["RangeVar"])
            if relation is None:
                found.not_understood(f"unknown relation: {item['RangeVar']['relname']}")
            else:
                found.write(relation, "truncate")
        if node.get("behavior") == "DROP_CASCADE":
            # It empties every table with a key to these, whatever the key's own action.
            found.reaches.add("cascade")
        return found.finish("write", "truncate")

    def _created(self, kind: str, node: Node) -> None:
        """The relation that the statement makes, or replaces."""
        content = node
        if kind == "CreateForeignTableStmt":
            content, kind = node["base"], "CreateStmt"
        target: Node | None = node["into"]["rel"] if kind == "CreateTableAsStmt" else content.get(_NEW.get(kind, ""))
        if kind == "CompositeTypeStmt":
            self._skip = node["typevar"]
        if target is not None:
            self._skip = target
            self.create(target)

    def create(self, target: Node) -> None:
        found = self.found
        schema = target.get("schemaname")
        temporary = target.get("relpersistence") == "t" or schema == TEMPORARY
        if temporary:
            found.changes.add(Change.TEMP)
            schema = found.session.temp_schema or TEMPORARY
        elif schema is None:
            schema = next((name for name in found.path if not name.startswith("pg_")), "public")
        existing = found.catalog.relation(schema, target["relname"])
        if existing is not None:
            self._relation(existing)
        else:
            found.touch_new(schema, target["relname"], "schema", temporary=temporary)

    def _objects(self, kind: str, objects: Sequence[Node]) -> None:
        for item in objects:
            parts = [part["String"]["sval"] for part in item.get("List", {}).get("items", ()) if "String" in part]
            if kind in _PARTS_OF_RELATIONS:
                parts = parts[:-1]
            elif kind not in _NAMED_RELATIONS:
                continue
            if parts:
                name = {"relname": parts[-1]}
                if len(parts) > 1:
                    name["schemaname"] = parts[-2]
                self._range(name)

    def _range(self, node: Node) -> None:
        relation = self._queries.tables.resolve(node)
        if relation is not None:
            self._relation(relation)
            return
        # Most of these may say IF EXISTS; without it the server says what is missing.
        schema = node.get("schemaname") or next((n for n in self.found.path if not n.startswith("pg_")), "public")
        self.found.touch_new(schema, node["relname"], "schema", temporary=schema == TEMPORARY)

    def _relation(self, relation: Relation) -> None:
        found = self.found
        found.touch(relation, "schema")
        if relation.is_temporary:
            found.changes.add(Change.TEMP)
        table = found.catalog.by_oid(relation.index_of) if relation.index_of else None
        if table is not None:
            found.touch(table, "schema")
        for oid in (*found.catalog.ancestors(relation.oid), *found.catalog.descendants(relation.oid)):
            if (other := found.catalog.by_oid(oid)) is not None:
                found.touch(other, "schema", found.name_of(relation))
        if self._columns_count:
            found.every_column(relation, "other")

    # --- what is inside ---

    def _scan(self, value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                self._scan(item)
        elif isinstance(value, dict) and value is not self._skip:
            if "relname" in value:
                self._range(value)
                return
            for key, content in value.items():
                if key == "ExecuteStmt":
                    self.found.absorb(self._inner({key: content}))
                elif key in _QUERIES:
                    self._queries.record(self._queries.query({key: content}, self._level), "other")
                else:
                    self._inside(key, content)
                    self._scan(content)

    def _inside(self, key: str, content: Any) -> None:
        match key:
            case "FuncCall":
                names = [name["String"]["sval"] for name in content["funcname"]]
                calls.call(self.found, names, content.get("args", ()))
            case "TypeCast":
                self._queries.expressions.type_name(content["typeName"])
            case "A_Expr":
                self._queries.expressions.operator(content["name"])
            case "VariableSetStmt" | "setstmt":
                self._setting(content)
            case "AlterTableCmd":
                if content.get("subtype") == "AT_ChangeOwner":
                    self.found.mints.add("owner")
                if content.get("behavior") == "DROP_CASCADE":
                    self.found.reaches.add("cascade")
            case _:
                pass

    def _setting(self, node: Node) -> None:
        """ALTER ROLE, DATABASE, FUNCTION or SYSTEM ... SET: later sessions and calls start with it."""
        name = settings.canonical(node.get("name", ""))
        if not name:
            return
        self.found.settings.add(name)
        values = [calls.constant(value) for value in node.get("args", ())]
        if values:
            value = ", ".join(value or "" for value in values)
            self.found.refused = self.found.refused or settings.refusal(name, value)
