"""An immutable snapshot of what a PostgreSQL database defines: relations, columns, functions, types, operators, casts.

It answers the questions that classification asks ("which relation is `orders` on this search path", "which base
columns can this view read") the way the server answers them. It holds no rows, no privileges and no statistics, and it
never reads anything: `catalog_sql` has the statements, the caller runs them, and `Catalog.build` takes the rows.

Objects are told apart by OID; an attribute number of 0 means the whole row, as in pg_depend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_USER_OID = 16384
"""FirstNormalObjectId: the server gives smaller ones only to what initdb creates."""

WHOLE_ROW = 0
TEMPORARY = "pg_temp"
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Column:
    """`generated_from` has the attribute numbers that a generated column is computed from; empty for any other."""

    name: str
    attnum: int
    type_oid: int
    generated_from: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """What a stored query reads of one relation: attribute numbers, WHOLE_ROW for all, none for `count(*)`."""

    relation: int
    columns: frozenset[int]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that somebody wrote; the internal ones behind foreign keys are `Cascade`s of the other table.

    `timing` is before, after or instead of; `events` is a part of insert, update, delete, truncate.
    """

    name: str
    timing: str
    events: tuple[str, ...]
    function: int
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewrite rule other than a view's own SELECT. `event` is update, insert or delete (or select)."""

    name: str
    event: str
    instead: bool
    reads: tuple[Read, ...] = ()
    calls: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cascade:
    """A foreign key that changes rows of `child` when the referenced row goes (`delete`) or moves (`update`)."""

    child: int
    on: str
    action: str  # cascade, set null, set default


@dataclass(frozen=True, slots=True)
class Relation:
    """Anything with a name in pg_class: kind r, p (partitioned), v, m (materialized view), f (foreign), S, i, I, c.

    `parents` and `children` are the direct ones, inheritance and partitions alike. `reads` and `calls` are what a
    view's or a materialized view's own query depends on directly; `hidden_calls` are user functions that run when a
    row is written or read although no statement names them (defaults, checks, generated columns, index expressions,
    policies). `policy_reads` is what row security policies read of other relations, in subqueries. `index_of` is the
    table of an index, else 0. `object_names` are the names of constraints, indexes and triggers that the server may put
    into an error about this relation. `definition` is one line that changes whenever the definition does, and does not
    when rows or statistics change.
    """

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str = "p"
    columns: tuple[Column, ...] = ()
    parents: tuple[int, ...] = ()
    children: tuple[int, ...] = ()
    reads: tuple[Read, ...] = ()
    calls: tuple[int, ...] = ()
    rules: tuple[Rule, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    cascades: tuple[Cascade, ...] = ()
    hidden_calls: tuple[int, ...] = ()
    object_names: frozenset[str] = frozenset()
    row_security: bool = False
    policy_reads: tuple[Read, ...] = ()
    row_type: int = 0
    index_of: int = 0
    definition: str = ""

    @property
    def is_view(self) -> bool:
        """Whether reading it reads what its query reads, now (v) or at the last refresh (m)."""
        return self.kind in ("v", "m")

    @property
    def is_temporary(self) -> bool:
        return self.persistence == "t"

    @property
    def is_system(self) -> bool:
        """Made by initdb, in pg_catalog or information_schema."""
        return self.oid < FIRST_USER_OID

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def column_at(self, attnum: int) -> Column | None:
        return next((column for column in self.columns if column.attnum == attnum), None)


@dataclass(frozen=True, slots=True)
class Function:
    """kind: f function, p procedure, a aggregate, w window. `variadic` is the type OID of the variadic element, or 0.

    `argument_types` are the input arguments; `defaults` says how many of the last ones may be left out.
    """

    oid: int
    schema: str
    name: str
    kind: str
    argument_types: tuple[int, ...] = ()
    variadic: int = 0
    defaults: int = 0
    volatility: str = "v"  # i, s, v
    strict: bool = False
    language: str = ""
    security_definer: bool = False
    definition: str = ""

    @property
    def is_builtin(self) -> bool:
        return self.schema == "pg_catalog" and self.oid < FIRST_USER_OID


@dataclass(frozen=True, slots=True)
class Type:
    """kind: b base, c composite, d domain, e enum, p pseudo, r range, m multirange.

    `base` is a domain's, `element` an array's, `relation` a row type's, each 0 where there is none; `calls` are user
    functions that a domain's checks, or a user base type's input and output, run.
    """

    oid: int
    schema: str
    name: str
    kind: str
    base: int = 0
    element: int = 0
    relation: int = 0
    calls: tuple[int, ...] = ()

    @property
    def is_builtin(self) -> bool:
        return self.schema == "pg_catalog" and self.oid < FIRST_USER_OID


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that somebody created; `left` is 0 for a prefix operator."""

    oid: int
    schema: str
    name: str
    left: int
    right: int
    function: int


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast that somebody created; `function` is 0 where none is called. context: e, a, i as in pg_cast."""

    source: int
    target: int
    function: int
    context: str


@dataclass(frozen=True, slots=True)
class Closure:
    """All that reading one relation can reach.

    `columns` has every relation reached, itself included, and the attribute numbers read of it: the numbers that the
    views between record, or {WHOLE_ROW} where all may be read. `functions` are the user functions called on the way.
    """

    columns: Mapping[int, frozenset[int]]
    functions: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Builtins:
    """What initdb created: the same for the life of a server, loaded once and shared by every snapshot.

    pg_depend has no rows about these objects, so a system view is itself only: `closure` does not go under it.
    """

    relations: Mapping[int, Relation]
    functions: Mapping[int, Function]
    types: Mapping[int, Type]
    schemas: frozenset[str]
    relations_by_name: Mapping[tuple[str, str], Relation]
    functions_by_name: Mapping[tuple[str, str], tuple[Function, ...]]
    types_by_name: Mapping[tuple[str, str], Type]

    @classmethod
    def build(cls, rows: Iterable[tuple[str, str]]) -> Builtins:
        """From the rows of BUILTIN_QUERY."""
        from pep.postgres.catalog_build import build_builtins

        return build_builtins(rows)


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session's own connection says about name resolution (SESSION_QUERY).

    `path` is current_schemas(true): the effective path, pg_catalog and the temporary schema in their places. A session
    can have objects that the shared snapshot lacks only while `temp_schema` or `transaction` (its transaction's id,
    given at the first write) is not empty.
    """

    path: tuple[str, ...]
    user: str
    session_user: str
    temp_schema: str
    settings: Mapping[str, str]
    transaction: str

    @classmethod
    def parse(cls, text: str) -> SessionState:
        found = json.loads(text)
        return cls(
            tuple(found["path"]),
            found["user"],
            found["session_user"],
            found["temp_schema"],
            found["settings"],
            found["transaction"],
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """One snapshot. `version` is the fingerprint of all that was loaded: equal versions, equal answers."""

    version: str
    relations: Mapping[int, Relation]
    all_functions: Mapping[int, Function]
    types: Mapping[int, Type]
    operators: tuple[Operator, ...] = ()
    casts: tuple[Cast, ...] = ()
    schemas: frozenset[str] = frozenset()
    event_triggers: tuple[str, ...] = ()
    relations_by_name: Mapping[tuple[str, str], Relation] = field(default_factory=dict)
    functions_by_name: Mapping[tuple[str, str], tuple[Function, ...]] = field(default_factory=dict)
    types_by_name: Mapping[tuple[str, str], Type] = field(default_factory=dict)

    @classmethod
    def build(cls, rows: Iterable[tuple[str, str]], builtins: Builtins, previous: Catalog | None = None) -> Catalog:
        """From the rows of USER_QUERY; relations that did not change are taken over from `previous`."""
        from pep.postgres.catalog_build import build_catalog

        return build_catalog(rows, builtins, previous)

    # --- relations ---

    def relation(self, schema: str, name: str) -> Relation | None:
        return self.relations_by_name.get((schema, name))

    def by_oid(self, oid: int) -> Relation | None:
        return self.relations.get(oid)

    def resolve(self, name: str, path: Sequence[str]) -> Relation | None:
        """The first of that name on the effective path (`SessionState.path`), as the server finds a bare name."""
        return next((found for schema in path if (found := self.relation(schema, name)) is not None), None)

    def descendants(self, oid: int) -> tuple[int, ...]:
        """All inheritance children and partitions, transitively, without itself."""
        return self._reach(oid, lambda relation: relation.children)

    def ancestors(self, oid: int) -> tuple[int, ...]:
        """All parents, transitively, without itself."""
        return self._reach(oid, lambda relation: relation.parents)

    def _reach(self, oid: int, step: Callable[[Relation], tuple[int, ...]]) -> tuple[int, ...]:
        found: dict[int, None] = {}
        waiting = [oid]
        while waiting:
            relation = self.relations.get(waiting.pop())
            for each in step(relation) if relation else ():
                if each not in found and each != oid:
                    found[each] = None
                    waiting.append(each)
        return tuple(found)

    def closure(self, oid: int) -> Closure:
        """What reading the whole relation reads: itself, and through views the relations and columns under them.

        Children and partitions are not added: `descendants` has them. A relation that the snapshot does not know stays
        in the answer as an OID, so that the caller can refuse it.
        """
        columns: dict[int, set[int]] = {oid: {WHOLE_ROW}}
        calls: set[int] = set()
        seen: set[int] = set()
        waiting = [oid]
        while waiting:
            current = waiting.pop()
            relation = self.relations.get(current)
            if relation is None or current in seen:
                continue
            seen.add(current)
            calls.update(relation.calls)
            for read in relation.reads:
                columns.setdefault(read.relation, set()).update(read.columns)
                waiting.append(read.relation)
        whole = frozenset({WHOLE_ROW})
        return Closure(
            {each: whole if WHOLE_ROW in numbers else frozenset(numbers) for each, numbers in columns.items()},
            frozenset(calls),
        )

    def dataset(self, relation: Relation) -> str:
        """`schema.name`, quoted where a plain dot would be ambiguous; `pg_temp.name` for a temporary relation."""
        schema = TEMPORARY if relation.is_temporary else relation.schema
        return f"{_quoted(schema)}.{_quoted(relation.name)}"

    # --- functions, operators, casts ---

    def function(self, oid: int) -> Function | None:
        return self.all_functions.get(oid)

    def functions(self, schema: str, name: str) -> tuple[Function, ...]:
        return self.functions_by_name.get((schema, name), ())

    def functions_in_path(self, name: str, path: Sequence[str]) -> tuple[Function, ...]:
        """Every candidate for an unqualified call. The temporary schema is never searched for functions."""
        return tuple(
            function for schema in path if not _is_temporary(schema) for function in self.functions(schema, name)
        )

    def user_functions_named(self, name: str, path: Sequence[str]) -> tuple[Function, ...]:
        """The candidates that are not the server's own."""
        return tuple(function for function in self.functions_in_path(name, path) if not function.is_builtin)

    def user_operators_named(self, symbol: str, path: Sequence[str]) -> tuple[Operator, ...]:
        """Like functions, operators are never looked for in the temporary schema."""
        return tuple(
            operator
            for operator in self.operators
            if operator.name == symbol and operator.schema in path and not _is_temporary(operator.schema)
        )

    def casts_between(self, source: int, target: int) -> tuple[Cast, ...]:
        """User casts from `source` to `target`; 0 stands for any. A cast has no name: the path does not matter."""
        return tuple(cast for cast in self.casts if source in (0, cast.source) and target in (0, cast.target))

    # --- types ---

    def type_by_oid(self, oid: int) -> Type | None:
        return self.types.get(oid)

    def resolve_type(self, name: str, path: Sequence[str]) -> Type | None:
        return next((found for schema in path if (found := self.types_by_name.get((schema, name))) is not None), None)


def _is_temporary(schema: str) -> bool:
    return schema == TEMPORARY or schema.startswith(f"{TEMPORARY}_")


def _quoted(name: str) -> str:
    """As the server prints an identifier, except that reserved words need no quotes here."""
    return name if _PLAIN.fullmatch(name) else '"{}"'.format(name.replace('"', '""'))
