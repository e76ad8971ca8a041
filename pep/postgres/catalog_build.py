"""Turns the rows of `catalog_sql` into the objects of `catalog`. Pure; it does not run the statements.

A snapshot of a database with thousands of tables is built again after every change, and sessions with objects of their
own build one too: a relation whose facts are those of the previous snapshot is taken over from it, and equal columns
are one object.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from pep.postgres.catalog import (
    WHOLE_ROW,
    Builtins,
    Cascade,
    Cast,
    Catalog,
    Column,
    Function,
    Operator,
    Read,
    Relation,
    Rule,
    Trigger,
    Type,
)

_RULE_EVENTS = {"1": "select", "2": "update", "3": "insert", "4": "delete"}  # pg_rewrite.ev_type, as CmdType
_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "partitioned index",
    "c": "composite type",
}
_FUNCTION_KINDS = {"f": "function", "p": "procedure", "a": "aggregate", "w": "window function"}
_CASCADING = {"c": "cascade", "n": "set null", "d": "set default"}  # pg_constraint.confdeltype, confupdtype
_FOREIGN_KEY = "f"
_OF_FUNCTIONS = frozenset({"funcid", "aggfnoid", "winfnoid", "opfuncid"})

# pg_trigger.tgtype (TRIGGER_TYPE_* in pg_trigger.h)
_BEFORE, _INSTEAD = 2, 64
_TRIGGER_EVENTS = ((4, "insert"), (8, "delete"), (16, "update"), (32, "truncate"))

_Named = TypeVar("_Named", Relation, Type)


class _Sections:
    """The documents by section, each read as rows. A section that is missing is an error: nothing is guessed."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self.text = dict(rows)

    def __call__(self, name: str) -> Iterable[tuple[Any, ...]]:
        lists = orjson.loads(self.text[name])
        return () if lists[0] is None else zip(*lists, strict=True)

    def grouped(self, name: str) -> dict[int, list[tuple[Any, ...]]]:
        """By the first column, which the rows then lack; in an order of their own, so that equal facts are equal."""
        groups: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for key, *facts in self(name):
            groups[key].append(tuple(facts))
        for group in groups.values():
            group.sort()
        return groups


def build_builtins(rows: Iterable[tuple[str, str]]) -> Builtins:
    sections = _Sections(rows)
    columns = sections.grouped("columns")
    relations = {
        oid: Relation(
            oid,
            schema,
            name,
            kind,
            persistence,
            columns=tuple(sorted((Column(n, number, type_) for number, n, type_ in columns.get(oid, ())), key=_attnum)),
            row_security=row_security,
            row_type=row_type,
            definition=f"{_KINDS.get(kind, kind)} {schema}.{name} of the server",
        )
        for oid, schema, name, kind, persistence, row_security, row_type, _ in sections("relations")
    }
    types = _types(sections, {})
    functions = _functions(sections, types)
    return Builtins(
        relations,
        functions,
        types,
        frozenset(schema for (schema,) in sections("schemas")) & {"pg_catalog", "information_schema"},
        _by_name(relations),
        _group_by_name(functions),
        _by_name(types),
    )


def build_catalog(rows: Iterable[tuple[str, str]], builtins: Builtins, previous: Catalog | None = None) -> Catalog:
    sections = _Sections(rows)
    type_calls = _numbers(sections("type_calls"))
    types = _types(sections, type_calls)
    all_types = {**builtins.types, **types}
    functions = _functions(sections, all_types)
    # A cast to a domain runs its checks. Input functions of base types are C code that a superuser installed.
    domains = {oid: type_.calls for oid, type_ in types.items() if type_.kind == "d"}
    relations = _Relations(sections, domains, previous).build()
    return Catalog(
        version=sections.text["version"],
        relations={**builtins.relations, **relations},
        all_functions={**builtins.functions, **functions},
        types=all_types,
        operators=tuple(Operator(*facts) for facts in sections("operators")),
        casts=tuple(Cast(*facts) for facts in sections("casts")),
        schemas=builtins.schemas | {schema for (schema,) in sections("schemas")},
        event_triggers=tuple(sorted(name for (name,) in sections("event_triggers"))),
        relations_by_name={**builtins.relations_by_name, **_by_name(relations)},
        functions_by_name=_merged(builtins.functions_by_name, _group_by_name(functions)),
        types_by_name={**builtins.types_by_name, **_by_name(types)},
    )


@dataclass(frozen=True, slots=True)
class _StoredQuery:
    """What pg_depend and the stored tree of a rule together say."""

    reads: tuple[Read, ...]
    calls: tuple[int, ...]


class _Relations:
    """The relations of one snapshot. Every fact that goes into a Relation goes into its digest first."""

    def __init__(self, sections: _Sections, domains: Mapping[int, tuple[int, ...]], previous: Catalog | None) -> None:
        self._heads = {head[0]: head for head in sections("relations")}
        self._columns = sections.grouped("columns")
        self._generated = sections.grouped("generated")
        self._triggers = sections.grouped("triggers")
        self._constraints = sections.grouped("constraints")
        self._indexes: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        self._index_of: dict[int, int] = {}
        for index, table, *facts in sections("indexes"):
            self._indexes[table].append((index, *facts))
            self._index_of[index] = table
        self._parents = _numbers((child, parent) for child, parent, _ in sorted(sections("inherits"), key=_sequence))
        self._children = _numbers((parent, child) for child, parent, _ in sections("inherits"))
        self._hidden_calls = _numbers(sections("hidden_calls"))
        self._stamps = [sections.grouped(name) for name in ("defaults", "policies", "foreign")]
        self._references: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for child, constraints in self._constraints.items():
            for name, kind, parent, on_delete, on_update, _ in constraints:
                if kind == _FOREIGN_KEY:
                    self._references[parent].append((child, name, on_delete, on_update))
        self._policies = _policies(sections)
        self._rules, self._queries = _rules(sections, domains)
        self._known: Mapping[int, Relation] = previous.relations if previous else {}
        self._shared_columns: dict[tuple[Any, ...], Column] = {}

    def build(self) -> dict[int, Relation]:
        return {oid: self._relation(oid) for oid in self._heads}

    def _relation(self, oid: int) -> Relation:
        _, schema, name, kind, persistence, row_security, row_type, _ = self._heads[oid]
        definition = f"{_KINDS.get(kind, kind)} {schema}.{name} {oid} {self._digest(oid)}"
        known = self._known.get(oid)
        if known is not None and known.definition == definition:
            return known
        query = self._queries.get(oid, _StoredQuery((), ()))
        return Relation(
            oid,
            schema,
            name,
            kind,
            persistence,
            columns=self._columns_of(oid),
            parents=self._parents.get(oid, ()),
            children=self._children.get(oid, ()),
            reads=query.reads,
            calls=query.calls,
            rules=tuple(rule for rule, _ in self._rules.get(oid, ()) if rule.event != "select" or kind not in "vm"),
            triggers=tuple(_trigger(*facts) for facts in self._triggers.get(oid, ())),
            cascades=self._cascades_of(oid),
            hidden_calls=self._hidden_calls.get(oid, ()),
            object_names=self._object_names(oid),
            row_security=row_security,
            policy_reads=self._policies.get(oid, ()),
            row_type=row_type,
            index_of=self._index_of.get(oid, 0),
            definition=definition,
        )

    def _digest(self, oid: int) -> str:
        facts = (
            self._heads[oid],
            self._columns.get(oid),
            self._generated.get(oid),
            self._triggers.get(oid),
            self._constraints.get(oid),
            sorted(self._indexes.get(oid, ())),
            self._parents.get(oid),
            self._children.get(oid),
            self._hidden_calls.get(oid),
            self._policies.get(oid),
            [stamps.get(oid) for stamps in self._stamps],
            sorted(self._references.get(oid, ())),
            self._queries.get(oid),
            self._rules.get(oid),
            self._index_of.get(oid),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def _columns_of(self, oid: int) -> tuple[Column, ...]:
        sources = _numbers(self._generated.get(oid, ()))
        columns = []
        for number, name, type_oid in self._columns.get(oid, ()):
            key = (name, number, type_oid, sources.get(number, ()))
            column = self._shared_columns.get(key)
            if column is None:
                column = self._shared_columns[key] = Column(*key)
            columns.append(column)
        return tuple(sorted(columns, key=_attnum))

    def _cascades_of(self, oid: int) -> tuple[Cascade, ...]:
        cascades = {
            Cascade(child, event, _CASCADING[action])
            for child, _, on_delete, on_update in self._references.get(oid, ())
            for event, action in (("delete", on_delete), ("update", on_update))
            if action in _CASCADING
        }
        return tuple(sorted(cascades, key=lambda cascade: (cascade.child, cascade.on, cascade.action)))

    def _object_names(self, oid: int) -> frozenset[str]:
        return frozenset(
            {facts[0] for facts in self._constraints.get(oid, ())}
            | {facts[1] for facts in self._indexes.get(oid, ())}
            | {facts[0] for facts in self._triggers.get(oid, ())}
            | {facts[1] for facts in self._references.get(oid, ())}
        )


def _rules(
    sections: _Sections, domains: Mapping[int, tuple[int, ...]]
) -> tuple[dict[int, list[tuple[Rule, str]]], dict[int, _StoredQuery]]:
    """The rules of each relation with the digest of their text, and the queries of views, by the relation's OID."""
    dependencies: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for rule, relation, attnum in sections("rule_reads"):
        dependencies[rule][relation].add(attnum)
    calls: dict[int, set[int]] = defaultdict(set)
    for rule, function in sections("rule_calls"):
        calls[rule].add(function)
    for rule, type_ in sections("rule_types"):
        calls[rule].update(domains.get(type_, ()))
    named: dict[int, set[int]] = defaultdict(set)
    for rule, what, oid in sections("rule_names"):
        (calls if what in _OF_FUNCTIONS else named)[rule].add(int(oid))

    rules: dict[int, list[tuple[Rule, str]]] = defaultdict(list)
    queries: dict[int, _StoredQuery] = {}
    for oid, relation, name, event, instead, whole_rows, digest, enabled in sections("rules"):
        # An OID of 0 stands for a range that is no relation; a rule names its own relation as old and new.
        names = named[oid] - {0, relation}
        query = _StoredQuery(_reads(dependencies[oid], names, whole_rows), tuple(sorted(calls[oid] - {0})))
        if _RULE_EVENTS[event] == "select" and instead:
            queries[relation] = query
        rule = Rule(name, _RULE_EVENTS[event], instead, query.reads, query.calls)
        rules[relation].append((rule, digest + enabled))
    for group in rules.values():
        group.sort(key=lambda pair: pair[0].name)
    return rules, queries


def _policies(sections: _Sections) -> dict[int, tuple[Read, ...]]:
    """What the row security policies of each relation read of others, in subqueries."""
    dependencies: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for relation, other, attnum in sections("policy_reads"):
        dependencies[relation][other].add(attnum)
    named: dict[int, set[int]] = defaultdict(set)
    whole_rows: set[int] = set()
    for relation, other, whole_row in sections("policy_names"):
        named[relation].add(int(other))
        if whole_row:
            whole_rows.add(relation)
    return {
        relation: _reads(dependencies[relation], named[relation] - {0, relation}, relation in whole_rows)
        for relation in {*dependencies, *named}
    }


def _reads(dependencies: Mapping[int, set[int]], named: Iterable[int], whole_rows: bool) -> tuple[Read, ...]:
    """pg_depend has the columns. It has no row for what initdb pinned, and loses a whole-row reference beside a column:
    where the stored tree has a relation that pg_depend lacks, or any whole-row reference, all columns may be read."""
    reads = []
    for relation in sorted({*dependencies, *named}):
        columns = dependencies.get(relation)
        everything = whole_rows or columns is None
        reads.append(Read(relation, frozenset({WHOLE_ROW}) if everything else frozenset(columns or ()) - {0}))
    return tuple(reads)


def _trigger(name: str, bits: int, function: int, enabled: str, _stamp: str) -> Trigger:
    timing = "instead of" if bits & _INSTEAD else "before" if bits & _BEFORE else "after"
    events = tuple(event for bit, event in _TRIGGER_EVENTS if bits & bit)
    return Trigger(name, timing, events, function, enabled != "D")


def _types(sections: _Sections, calls: Mapping[int, tuple[int, ...]]) -> dict[int, Type]:
    return {
        oid: Type(oid, schema, name, kind, base, element, relation, calls.get(oid, ()))
        for oid, schema, name, kind, base, element, relation in sections("types")
    }


def _functions(sections: _Sections, types: Mapping[int, Type]) -> dict[int, Function]:
    functions = {}
    for oid, schema, name, kind, arguments, variadic, defaults, *facts, digest in sections("functions"):
        volatility, strict, language, definer = facts
        argument_types = tuple(map(int, arguments.split()))
        signature = f"{schema}.{name}({', '.join(types[a].name if a in types else str(a) for a in argument_types)})"
        text = f"{_FUNCTION_KINDS.get(kind, kind)} {signature} {oid} {digest[:32]}" if digest else ""
        functions[oid] = Function(
            oid, schema, name, kind, argument_types, variadic, defaults, volatility, strict, language, definer, text
        )
    return functions


def _attnum(column: Column) -> int:
    return column.attnum


def _sequence(inheritance: tuple[Any, ...]) -> tuple[int, int]:
    return inheritance[0], inheritance[2]


def _numbers(pairs: Iterable[Sequence[Any]]) -> dict[int, tuple[int, ...]]:
    """Key to the values that it occurs with, each once, in the order of their coming."""
    groups: dict[int, dict[int, None]] = defaultdict(dict)
    for key, value in pairs:
        groups[key][value] = None
    return {key: tuple(group) for key, group in groups.items()}


def _by_name(objects: Mapping[int, _Named]) -> dict[tuple[str, str], _Named]:
    return {(each.schema, each.name): each for each in objects.values()}


def _group_by_name(functions: Mapping[int, Function]) -> dict[tuple[str, str], tuple[Function, ...]]:
    groups: dict[tuple[str, str], list[Function]] = defaultdict(list)
    for function in functions.values():
        groups[function.schema, function.name].append(function)
    return {key: tuple(group) for key, group in groups.items()}


def _merged(
    builtin: Mapping[tuple[str, str], tuple[Function, ...]], user: Mapping[tuple[str, str], tuple[Function, ...]]
) -> dict[tuple[str, str], tuple[Function, ...]]:
    """A function that somebody put into pg_catalog stands beside the server's own of that name."""
    merged = dict(builtin)
    for key, functions in user.items():
        merged[key] = (*merged.get(key, ()), *functions)
    return merged
