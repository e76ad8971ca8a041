"""Code that is not the server's own and runs without being called: behind types, casts, defaults and views.

Who may write it decides: functions in C need a superuser, so one for a type of its own is an extension's arithmetic
(citext's comparison, a vector's distance); anything else may have been written by whoever may define functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pep.postgres.catalog import Catalog, Function, Type

_DEEPEST: Final = 8
# Of the extension uuid-ossp: what half of the tables with a UUID key have as its default.
_UUIDS: Final = frozenset({"uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"})


def types_of(catalog: Catalog, types: Iterable[int]) -> frozenset[int]:
    """Those that are not the server's own."""
    return frozenset(oid for oid in types if oid and ((t := catalog.type_by_oid(oid)) is None or not t.is_builtin))


def is_arithmetic(catalog: Catalog, function: Function) -> bool:
    """Whether it can do nothing but compute, as far as its language and arguments tell."""
    if function.language != "c":
        return False
    return function.name in _UUIDS or bool(types_of(catalog, function.argument_types))


def runs_code(catalog: Catalog, oid: int) -> bool:
    """Whether the function of a cast or an operator (0: there is none) may be anything but an extension's or ours."""
    if oid == 0:
        return False
    function = catalog.function(oid)
    return function is None or not (function.is_builtin or function.language == "c")


def type_calls(catalog: Catalog, type_: Type | None, depth: int = 0) -> Iterable[int]:
    """The functions that making a value of this type runs.

    Only a domain's checks: the input function of a base type is C code that a superuser installed.
    """
    if type_ is None or type_.is_builtin or depth > _DEEPEST:
        return
    if type_.kind == "d":
        for oid in type_.calls:
            function = catalog.function(oid)
            if function is None or not is_arithmetic(catalog, function):
                yield oid
    for inner in (type_.base, type_.element):
        if inner:
            yield from type_calls(catalog, catalog.type_by_oid(inner), depth + 1)
    if type_.kind == "c" and (relation := catalog.by_oid(type_.relation)) is not None:
        for column in relation.columns:
            yield from type_calls(catalog, catalog.type_by_oid(column.type_oid), depth + 1)


def runs_when_parsed(catalog: Catalog, type_: Type | None) -> bool:
    """Whether a constant of this type runs such a function before the statement does.

    The server reads constants while it parses. A domain's own checks come when the statement runs, but those of domains
    inside an array or a row belong to reading it.
    """
    while type_ is not None and type_.kind == "d":
        type_ = catalog.type_by_oid(type_.base)
    return next(iter(type_calls(catalog, type_)), None) is not None


def occurring(catalog: Catalog, relations: Iterable[int], named: Iterable[int]) -> set[int]:
    """The types of which a statement over these relations, naming these types, can have a value."""
    found: set[int] = set()
    reached = (catalog.by_oid(oid) for oid in relations)
    waiting = [column.type_oid for relation in reached if relation for column in relation.columns]
    waiting.extend(named)
    while waiting:
        oid = waiting.pop()
        type_ = catalog.type_by_oid(oid)
        if oid in found or type_ is None:
            continue
        found.add(oid)
        waiting.extend((type_.base, type_.element))
        if type_.kind == "c" and (relation := catalog.by_oid(type_.relation)) is not None:
            waiting.extend(column.type_oid for column in relation.columns)
    return found
