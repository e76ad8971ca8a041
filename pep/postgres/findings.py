"""What the walk over one statement has found so far, and the relations that each finding drags along.

One mutable `Findings` per statement, owned by the classifier: it turns "reads this view" into the relations and columns
under it, "deletes from this table" into triggers, rules and cascading keys, and at the end all of it into a
`Classification`. It looks at no tree and resolves no name of a statement.

References: PostgreSQL documentation, "The Rule System", "Overview of Trigger Behavior", "Inheritance".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pep.postgres import owned
from pep.postgres.catalog import TEMPORARY, WHOLE_ROW, Catalog, Column, Relation
from pep.postgres.classification import (
    UNCOUNTED,
    Change,
    Class,
    Classification,
    NameChange,
    NameUse,
    Refusal,
    SessionFacts,
)
from pep.postgres.classification import document as blank
from pep.postgres.functions import Effect, effect

Usage = Literal["output", "other"]
Access = Literal["read", "insert", "update", "delete", "truncate", "schema", "lock"]

_EVENTS: Final = frozenset({"insert", "update", "delete", "truncate"})
# What a view may call: it stays inside the query.
_INSIDE: Final = frozenset({Effect.HARMLESS, Effect.COLLECTING, Effect.READS_SETTINGS})
_QUIET: Final = frozenset({"currval", "lastval"})
_TABLES: Final = frozenset("rpf")
# The most frequent values of columns, and some between them, of whichever table.
_STATISTICS: Final = frozenset(
    {"pg_statistic", "pg_statistic_ext_data", "pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"}
)


_BUDGET: Final = 400_000  # steps; about a tenth of a second


class TooMuch(Exception):
    """The statement takes more steps to resolve than a statement that somebody wrote."""


@dataclass(frozen=True, slots=True)
class _Relative:
    relation: Relation
    name: str
    columns: frozenset[str]


class Findings:
    """See the module. The attributes without a method are for the walk to set."""

    __slots__ = (
        "_budget",
        "_columns",
        "_doubts",
        "_families",
        "_noted",
        "_reads",
        "_relations",
        "_touched",
        "_whole",
        "_writes",
        "builds_records",
        "catalog",
        "changes",
        "collecting",
        "definitions",
        "followers",
        "functions",
        "has_parameter",
        "kinds",
        "locking",
        "mints",
        "modifications",
        "name_change",
        "object_names",
        "origins",
        "parameters",
        "path",
        "reached",
        "reaches",
        "reason",
        "refused",
        "resolves",
        "runs_when_parsed",
        "session",
        "setting_class",
        "settings",
        "types",
        "uses",
        "wheres",
        "writes",
    )

    def __init__(self, catalog: Catalog, session: SessionFacts, parameters: Sequence[int] | None = None) -> None:
        self.catalog = catalog
        self.session = session
        self.path = session.search_path
        self.reason: str | None = None
        self.refused: Refusal | None = None
        self.resolves = False
        self.collecting = False
        self.locking = False
        self.writes = False
        self.changes: set[Change] = set()
        self.functions: set[str] = set()
        self.settings: set[str] = set()
        self.setting_class: Class | None = None
        self.reaches: set[str] = set()
        self.mints: set[str] = set()
        self.origins: set[int] = set()
        self.reached: set[int] = set()
        self.definitions: set[str] = set()
        self.object_names: set[str] = set()
        self.kinds: set[str] = set()
        self.wheres: list[bool] = []
        # INSERT, UPDATE, DELETE and MERGE, also inside WITH; and the tables whose rows follow by cascading keys.
        self.modifications = 0
        self.followers: set[str] = set()
        self.name_change: NameChange | None = None
        self.uses: NameUse | None = None
        self.has_parameter = False
        self.builds_records = False
        self.runs_when_parsed = False
        self.parameters = parameters
        self.types: set[int] = set()
        self._budget = _BUDGET
        self._doubts: list[tuple[frozenset[int], str]] = []
        self._families: dict[int, list[_Relative]] = {}
        self._whole: set[tuple[int, Usage]] = set()
        self._noted: set[tuple[int, int, Usage]] = set()
        self._columns: dict[tuple[str, str], set[Usage]] = {}
        self._relations: set[tuple[str, str, str, Access, str, bool]] = set()
        self._touched: set[int] = set()
        self._reads: set[int] = set()
        self._writes: set[tuple[int, Access]] = set()
        for oid in parameters or ():
            if oid:
                self._declared(oid)

    def _declared(self, oid: int) -> None:
        """A parameter that the client says is of this type: reading its value can run a domain's checks."""
        type_ = self.catalog.type_by_oid(oid)
        if type_ is None:
            self.not_understood("a parameter is of an unknown type")
        elif not type_.is_builtin:
            self.resolves = True
            self.types.add(oid)
            for function in owned.type_calls(self.catalog, type_):
                self.not_understood(f"a parameter's type calls function {self._function(function)}")

    def not_understood(self, reason: str) -> None:
        """The first reason stands."""
        if self.reason is None:
            self.reason = reason

    def doubt(self, types: frozenset[int], reason: str) -> None:
        """Not understood if a value of one of these types can occur in the statement."""
        self._doubts.append((types, reason))

    def spend(self, steps: int) -> None:
        self._budget -= steps
        if self._budget < 0:
            raise TooMuch

    # --- relations ---

    def name_of(self, relation: Relation) -> str:
        return self.catalog.dataset(relation)

    def touch(self, relation: Relation, access: Access, via: str = "") -> None:
        """List the relation with this access, and remember what an approval binds of it."""
        schema = TEMPORARY if relation.is_temporary else relation.schema
        self._relations.add(
            (self.name_of(relation), schema, relation.name, access, via, relation.is_temporary),
        )
        if access == "read" and relation.is_system and relation.name in _STATISTICS:
            self.reaches.add("values in the statistics of all tables")
        if relation.oid in self._touched:
            return
        self._touched.add(relation.oid)
        self.reached.add(relation.oid)
        if not relation.is_system:
            if relation.definition:
                self.definitions.add(relation.definition)
            self.object_names.update(relation.object_names, (relation.schema, relation.name))
            self.object_names.update(column.name for column in relation.columns)

    def touch_new(self, schema: str, name: str, access: Access, *, temporary: bool) -> None:
        """List a relation that does not exist yet."""
        planned = Relation(0, schema, name, "r", "t" if temporary else "p")
        self._relations.add(
            (self.name_of(planned), TEMPORARY if temporary else schema, name, access, "", temporary),
        )
        self.object_names.update((schema, name))

    def read(self, relation: Relation) -> None:
        """The relation is read by name: with what its view reads, its partitions, and its parents for their labels."""
        self.touch(relation, "read")
        if relation.kind in _TABLES:
            self.origins.add(relation.oid)
        self._read_under(relation)

    def _read_under(self, relation: Relation) -> None:
        if relation.is_system or relation.oid in self._reads:
            return
        self._reads.add(relation.oid)
        name = self.name_of(relation)
        self._read_alone(relation, name)
        for other in self._family(relation):
            self.touch(other.relation, "read", name)
            self._read_alone(other.relation, other.name)
        if relation.is_view:
            self._read_view(relation, name)

    def _read_alone(self, relation: Relation, name: str) -> None:
        if relation.kind == "f":
            self.reaches.add(f"foreign table {name}")
        elif relation.kind not in "rpvmS":
            self.not_understood(f"{name} is not a table or view")
        if relation.row_security or any(column.generated_from for column in relation.columns):
            self._hidden_calls(relation)
        self._read_for_policies(relation, name)
        if any(rule.event == "select" for rule in relation.rules) and not relation.is_view:
            self.reaches.add(f"rule on {name}")

    def _read_for_policies(self, relation: Relation, name: str) -> None:
        """Which rows there are to be seen or written depends on what row security looks up elsewhere."""
        if relation.row_security:
            for read in relation.policy_reads:
                self._read_behind(read.relation, read.columns, name)

    def _read_view(self, view: Relation, name: str) -> None:
        closure = self.catalog.closure(view.oid)
        for oid, numbers in closure.columns.items():
            if oid != view.oid:
                self._read_behind(oid, numbers, name)
        for oid in closure.functions:
            self._called_by_view(oid, name)

    def _read_behind(self, oid: int, numbers: frozenset[int], name: str) -> None:
        """What a view or a policy on `name` reads of another relation."""
        under = self.catalog.by_oid(oid)
        if under is None:
            self.not_understood(f"{name} reads an unknown relation")
            return
        self.touch(under, "read", name)
        self._read_under(under)
        if WHOLE_ROW in numbers:
            self.every_column(under, "other")
        for number in numbers - {WHOLE_ROW}:
            if (column := under.column_at(number)) is not None:
                self.column(under, column, "other")

    def _called_by_view(self, oid: int, view: str) -> None:
        function = self.catalog.function(oid)
        if function is not None and owned.is_arithmetic(self.catalog, function):
            return
        if function is None or not function.is_builtin:
            self._define(oid)
            self.not_understood(f"view {view} calls function {self._function(oid)}")
        elif function.name not in _QUIET and effect(function.name) not in _INSIDE:
            self.reaches.add(f"function {function.name} behind {view}")

    def _family(self, relation: Relation) -> Sequence[_Relative]:
        """Partitions and parents, each with its name and those of its columns; there may be hundreds."""
        if not relation.children and not relation.parents:
            return ()
        family = self._families.get(relation.oid)
        if family is None:
            oids = (*self.catalog.descendants(relation.oid), *self.catalog.ancestors(relation.oid))
            others = (other for oid in oids if (other := self.catalog.by_oid(oid)) is not None)
            family = [
                _Relative(other, self.name_of(other), frozenset(column.name for column in other.columns))
                for other in others
            ]
            self._families[relation.oid] = family
        return family

    # --- columns ---

    def column(self, relation: Relation, column: Column, usage: Usage) -> None:
        """The value may be read. A label on the column of that name of a parent or partition counts as well."""
        key = (relation.oid, column.attnum, usage)
        if relation.is_system or key in self._noted:
            return
        self._noted.add(key)
        self.spend(1)
        self._columns.setdefault((self.name_of(relation), column.name), set()).add(usage)
        if usage != "output":
            self._read_beside_constants(relation, column)
        for other in self._family(relation):
            if column.name in other.columns:
                self._columns.setdefault((other.name, column.name), set()).add(usage)
        for number in column.generated_from:
            source = relation.column_at(number)
            if number == WHOLE_ROW or source is None:
                self.every_column(relation, "other")
            elif source is not column:
                self.column(relation, source, "other")

    def _read_beside_constants(self, relation: Relation, column: Column) -> None:
        """A constant that meets the column is of its type, and the server reads it while it parses."""
        type_ = self.catalog.type_by_oid(column.type_oid)
        if type_ is not None and not type_.is_builtin and owned.runs_when_parsed(self.catalog, type_):
            self.runs_when_parsed = True
            for oid in owned.type_calls(self.catalog, type_):
                self._hide(oid, self.name_of(relation))

    def every_column(self, relation: Relation, usage: Usage) -> None:
        if (relation.oid, usage) in self._whole:
            return
        self._whole.add((relation.oid, usage))
        for column in relation.columns:
            self.column(relation, column, usage)

    # --- writing ---

    def write(self, relation: Relation, access: Access, via: str = "") -> None:
        """Rows change: of the relation, its partitions, the tables under a view, the children of cascading keys."""
        self.writes = True
        self.touch(relation, access, via)
        if (relation.oid, access) in self._writes:
            return
        self._writes.add((relation.oid, access))
        name = self.name_of(relation)
        if relation.is_system:
            # Rules there do more than they say: an UPDATE of pg_settings sets what it names.
            self.not_understood(f"writes to the system catalog {name}")
            return
        # An UPDATE moves rows from one partition to another: there it is a DELETE, here an INSERT.
        events: tuple[Access, ...] = (
            (access, "insert", "delete") if access == "update" and relation.kind == "p" else (access,)
        )
        for event in events:
            self._hidden_work(relation, event)
        for other in self._family(relation):
            self.touch(other.relation, access, name)
            for event in events:
                self._hidden_work(other.relation, event)
            self._cascade(other.relation, access)
        if relation.is_view:
            # Which of its tables an updatable view changes is not in the catalog's dependencies: all of them.
            self._read_under(relation)
            for oid in self.catalog.closure(relation.oid).columns:
                under = self.catalog.by_oid(oid)
                if under is not None and oid != relation.oid and not under.is_system:
                    self.write(under, access, name)
        self._cascade(relation, access)

    def _cascade(self, relation: Relation, access: Access) -> None:
        for cascade in relation.cascades:
            child = self.catalog.by_oid(cascade.child)
            if cascade.on != access:
                continue
            if child is None:
                self.not_understood(f"a key of an unknown table follows {self.name_of(relation)}")
                continue
            follows: Access = "delete" if access == "delete" and cascade.action == "cascade" else "update"
            self.followers.add(self.name_of(child))
            self.write(child, follows, self.name_of(relation))

    def _hidden_work(self, relation: Relation, access: Access) -> None:
        name = self.name_of(relation)
        if relation.kind == "f":
            self.reaches.add(f"foreign table {name}")
        for trigger in relation.triggers:
            if trigger.enabled and access in trigger.events:
                self.reaches.add(f"trigger {trigger.name} on {name}")
                self.changes.add(Change.UNKNOWN)
                self._define(trigger.function)
        for rule in relation.rules:
            if rule.event == access:
                self.reaches.add(f"rule {rule.name} on {name}")
                self.changes.add(Change.UNKNOWN)
                for oid in rule.calls:
                    self._define(oid)
        if access in _EVENTS - {"truncate"}:
            self._hidden_calls(relation)
            self._read_for_policies(relation, name)
            for column in relation.columns:
                type_ = self.catalog.type_by_oid(column.type_oid)
                self.runs_when_parsed |= owned.runs_when_parsed(self.catalog, type_)
                for oid in owned.type_calls(self.catalog, type_):
                    self._hide(oid, name)

    def _hidden_calls(self, relation: Relation) -> None:
        for oid in relation.hidden_calls:
            self._hide(oid, self.name_of(relation))

    def _hide(self, oid: int, behind: str) -> None:
        function = self.catalog.function(oid)
        if function is not None and owned.is_arithmetic(self.catalog, function):
            return
        self.reaches.add(f"function {self._function(oid)} behind {behind}")
        self.changes.add(Change.UNKNOWN)
        self._define(oid)

    def _define(self, oid: int) -> None:
        if (function := self.catalog.function(oid)) is not None and function.definition:
            self.definitions.add(function.definition)

    def _function(self, oid: int) -> str:
        function = self.catalog.function(oid)
        return f"{function.schema}.{function.name}" if function else str(oid)

    # --- the result ---

    @property
    def accesses(self) -> set[str]:
        return {relation[3] for relation in self._relations}

    @property
    def only_system(self) -> bool:
        """At least one relation, and none that somebody made."""
        return bool(self._touched) and all(
            (relation := self.catalog.by_oid(oid)) is not None and relation.is_system for oid in self._touched
        )

    def only_lock(self) -> None:
        """LOCK: what would be read is locked."""
        self._relations = {(*relation[:3], "lock", *relation[4:]) for relation in self._relations}
        self.writes = True

    def only_plan(self) -> None:
        """The statement is planned, not run: what would be written is read for its statistics at most."""
        self._relations = {(*relation[:3], "read", *relation[4:]) for relation in self._relations}
        self.writes = self.locking = False
        self.wheres.clear()

    def not_output(self) -> None:
        """No column reaches the client as itself."""
        self._columns = {key: {"other"} for key in self._columns}

    def absorb(self, inner: Classification) -> None:
        """Add all that another statement does, which this one runs or names."""
        known = inner.properties
        if known["opaque"]:
            self.not_understood(known["opaque"])
        self.refused = self.refused or inner.refused
        self.collecting |= inner.collecting
        self.writes |= inner.writes
        self.resolves |= inner.resolves
        self.runs_when_parsed |= inner.runs_when_parsed
        self.changes |= inner.changes
        self.uses = self.uses or inner.uses
        self.functions.update(known["functions"])
        self.settings.update(known["settings"])
        self.reaches.update(known["reaches_beyond"])
        self.mints.update(known["mints_access"])
        self.origins |= inner.origins
        self.reached |= inner.reached
        self._touched |= inner.reached
        self.definitions.update(inner.definitions)
        self.object_names |= inner.object_names
        for r in known["relations"]:
            self._relations.add(
                (r["dataset"], r["schema"], r["name"], r["access"], r.get("via", ""), r.get("temporary", False)),
            )
        for c in known["columns"]:
            self._columns.setdefault((c["dataset"], c["field"]), set()).update(c["usage"])

    def finish(
        self,
        class_: Class,
        kind: str,
        *,
        returns_rows: bool = False,
        uncounted: str = UNCOUNTED,
        **known: Any,
    ) -> Classification:
        """The classification; `known` are further fields of the document."""
        self._reads_of_targets()
        if self.locking:
            self.writes = True
            self._relations |= {
                (*relation[:3], "lock", *relation[4:]) for relation in self._relations if relation[3] == "read"
            }
        self._settle_doubts()
        if self.reason is not None:
            class_ = "opaque"
            self.changes.add(Change.UNKNOWN)
        elif class_ == "read" and (self.writes or self.locking):
            class_ = "write"
        properties = blank(class_, kind, **known)
        properties["opaque"] = self.reason or False
        properties["mints_access"] = sorted(self.mints)
        properties["reaches_beyond"] = sorted(self.reaches)
        properties["functions"] = sorted(self.functions)
        properties["settings"] = sorted(self.settings)
        properties["relations"] = [_relation(*relation) for relation in sorted(self._relations)]
        properties["columns"] = [
            {"dataset": dataset, "field": field, "usage": sorted(usage)}
            for (dataset, field), usage in sorted(self._columns.items())
        ]
        return Classification(
            properties,
            kind,
            class_,
            changes=frozenset(self.changes),
            resolves=self.resolves or bool(self._relations),
            name_change=self.name_change,
            uses=self.uses,
            origins=frozenset(self.origins),
            reached=frozenset(self.reached),
            returns_rows=returns_rows,
            writes=self.writes or class_ == "opaque",
            collecting=self.collecting,
            refused=self.refused,
            definitions=tuple(sorted(self.definitions)),
            object_names=frozenset(self.object_names),
            uncounted=uncounted,
            runs_when_parsed=self.runs_when_parsed,
        )

    def _reads_of_targets(self) -> None:
        """A table that is written is read as well where one of its columns is: WHERE, RETURNING, SET a = b."""
        read = {dataset for dataset, _ in self._columns}
        self._relations |= {
            (*relation[:3], "read", *relation[4:])
            for relation in self._relations
            if relation[3] in _EVENTS and relation[0] in read
        }

    def _settle_doubts(self) -> None:
        """A cast that somebody wrote and that needs no words in the statement runs wherever its types meet."""
        for cast in self.catalog.casts:
            if (
                cast.context == "e"
                or (cast.context == "a" and not self.writes)
                or not owned.runs_code(self.catalog, cast.function)
            ):
                continue
            reason = f"a cast calls function {self._function(cast.function)}"
            own = owned.types_of(self.catalog, (cast.source, cast.target))
            if own:
                self.doubt(own, reason)
            else:
                self.not_understood(reason)
        if self.builds_records:
            for oid in owned.occurring(self.catalog, self.reached, self.types):
                for function in owned.type_calls(self.catalog, self.catalog.type_by_oid(oid)):
                    self.not_understood(f"a record's column calls function {self._function(function)}")
        if self._doubts:
            occurring = owned.occurring(self.catalog, self.reached, self.types)
            for types, reason in self._doubts:
                if self.has_parameter or types & occurring:
                    self.not_understood(reason)


def _relation(dataset: str, schema: str, name: str, access: str, via: str, temporary: bool) -> dict[str, Any]:
    listed: dict[str, Any] = {"dataset": dataset, "schema": schema, "name": name, "access": access}
    if via:
        listed["via"] = via
    if temporary:
        listed["temporary"] = True
    return listed
