"""Calls and types: what a function's or type's name can mean here, and what calling it does beyond its result.

Any visible candidate outside pg_catalog makes the call opaque: which one runs depends on argument types, and what it
does is not known. What the server's own functions do is `functions.effect`; the ones that take a setting or a sequence
by name are looked into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

from pep.postgres import owned, settings
from pep.postgres.catalog import FIRST_USER_OID, Function, Relation
from pep.postgres.classification import Change
from pep.postgres.findings import Findings
from pep.postgres.functions import OUTSIDE, Effect, effect

Node = Mapping[str, Any]

_WRITES_SEQUENCE: Final = frozenset({"nextval", "setval"})


def call(found: Findings, names: Sequence[str], arguments: Sequence[Node], *, row_field: bool = False) -> None:
    """`names(arguments)`. `row_field`: if there is no such function, it reads a field of a row, as the server would."""
    name = names[-1]
    builtin, own = _candidates(found, names)
    if own:
        _own(found, own, name)
    if not builtin:
        if not own and not row_field:
            if len(arguments) == 1 and _type(found, names) is not None:
                type_name(found, names)  # int4(x) is a cast
            else:
                found.not_understood(f"unknown function: {'.'.join(names)}")
        return
    if names[0] == "information_schema":
        found.functions.add(f"information_schema.{name}")
        return
    found.functions.add(f"pg_catalog.{name}")
    _builtin(found, name, arguments)


def attribute(found: Findings, name: str, *, certain: bool) -> None:
    """`x.name` where name is not known as a column of x: a call with x as its argument, or a cast to that type.

    `certain`: it cannot be a field that the catalog knows nothing of.
    """
    builtin, own = _candidates(found, [name])
    if own:
        _own(found, own, name)
    elif builtin and any(_takes_one(function) for function in found.catalog.functions("pg_catalog", name)):
        found.functions.add(f"pg_catalog.{name}")
        _builtin(found, name, ())
    elif _type(found, [name]) is not None:
        type_name(found, [name])
    elif certain:
        found.not_understood(f"unknown column: {name}")


def _takes_one(function: Function) -> bool:
    count = len(function.argument_types)
    return count - function.defaults <= 1 <= count or (function.variadic != 0 and count <= 2)


def _candidates(found: Findings, names: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the server has a function of that name, and the schemas of the database's own ones."""
    name = names[-1]
    catalog = found.catalog
    if len(names) == 1:
        found.resolves = True
        builtin = any(function.is_builtin for function in catalog.functions("pg_catalog", name))
        own = [f for f in catalog.user_functions_named(name, found.path) if not builtin or _hides(found, f)]
        return builtin, sorted({function.schema for function in own})
    schema = names[-2]
    if len(names) > 3 or (len(names) == 3 and names[0] != found.session.database):
        found.not_understood(f"unknown function: {'.'.join(names)}")
        return False, []
    candidates = catalog.functions(schema, name)
    if schema == "information_schema" and candidates and all(c.oid < FIRST_USER_OID for c in candidates):
        return True, []  # what its views are made of: pure functions of their arguments and the catalog
    if schema != "pg_catalog":
        found.resolves = True
        return False, [schema] if candidates else []
    return any(c.is_builtin for c in candidates), [schema] if any(not c.is_builtin for c in candidates) else []


def _hides(found: Findings, function: Function) -> bool:
    """Whether it may run in place of the server's own function of that name.

    One for a type of its own runs only where a value of that type is; of those, only C is sure to be an extension's.
    """
    types = owned.types_of(found.catalog, function.argument_types)
    if not types:
        return True
    if function.language == "c":
        return False
    if function.kind == "a":  # an aggregate: its language says nothing
        found.doubt(types, f"function {function.schema}.{function.name} is not one of the server's own")
        return False
    return True


def operator(found: Findings, symbol: str) -> None:
    """The same of operators: one for an extension's own type, in C, is that type's arithmetic."""
    for candidate in found.catalog.user_operators_named(symbol, found.path):
        function = found.catalog.function(candidate.function)
        in_c = function is not None and function.language == "c"
        if not (in_c and owned.types_of(found.catalog, (candidate.left, candidate.right))):
            found.not_understood(f"operator {candidate.schema}.{symbol} is one of the database's own")


def _own(found: Findings, schemas: Sequence[str], name: str) -> None:
    found.changes.add(Change.UNKNOWN)
    for schema in schemas:
        found.functions.add(f"{schema}.{name}")
        for function in found.catalog.functions(schema, name):
            if function.definition and not function.is_builtin:
                found.definitions.add(function.definition)
    found.not_understood(f"function {schemas[0]}.{name} is not one of the server's own")


def _builtin(found: Findings, name: str, arguments: Sequence[Node]) -> None:
    """The server's own function of that name; one that takes what it changes by name is looked into."""
    if "populate_record" in name:
        found.builds_records = True  # of the type of its first argument, which need not be named
    match effect(name):
        case Effect.HARMLESS:
            pass
        case Effect.COLLECTING:
            found.collecting = found.collecting or not _is_one_percentile(name, arguments)
        case Effect.READS_SETTINGS:
            shown = constant(arguments[0]) if arguments else None
            if shown:
                found.settings.add(settings.canonical(shown))
        case Effect.SETS:
            _set_config(found, arguments)
        case Effect.SEQUENCE:
            if name in _WRITES_SEQUENCE:
                _sequence(found, name, arguments)
        case Effect.ADVISORY:
            if "unlock" not in name:
                found.reaches.add("advisory lock")
        case Effect.OUTSIDE | Effect.BEYOND:
            found.reaches.add(f"function {name}")
            found.changes |= {Change.UNKNOWN} if name not in OUTSIDE else set()
        case never:
            assert_never(never)


def _is_one_percentile(name: str, arguments: Sequence[Node]) -> bool:
    """One fraction gives one value; an array of them, which any other expression may be, as many as it has."""
    fraction = arguments[0].get("A_Const", {}) if arguments else {}
    return name.startswith("percentile_") and ("fval" in fraction or "ival" in fraction)


# --- settings ---


def constant(node: Node) -> str | None:
    """The text of a constant, also under a cast; None for anything else."""
    if "TypeCast" in node:
        return constant(node["TypeCast"]["arg"])
    value = node.get("A_Const")
    if value is None:
        return None
    for kind, key in (("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if kind in value:
            return str(value[kind].get(key, ""))
    if "ival" in value:
        return str(value["ival"].get("ival", 0))
    if "boolval" in value:
        return "true" if value["boolval"].get("boolval") else "false"
    return ""


def change_setting(found: Findings, name: str, value: str | None, *, given: bool) -> None:
    """SET and set_config. `value` None: the statement does not show it. `given`: it is the client's own word."""
    name = settings.canonical(name)
    found.settings.add(name)
    found.refused = found.refused or settings.refusal(name, value)
    if name in settings.ROLE_SETTINGS:
        found.changes.add(Change.ROLE)
    if name == "search_path":
        found.changes.add(Change.SEARCH_PATH)
    if not settings.harmless(name):
        found.setting_class = "admin"
    elif found.setting_class is None:
        found.setting_class = "setting"
    if not given:
        # Who can read the setting reads what was computed into it.
        found.reaches.add(f"computed setting {name}")


def _set_config(found: Findings, arguments: Sequence[Node]) -> None:
    name = constant(arguments[0]) if len(arguments) == 3 else None
    if not name:
        found.not_understood("set_config without a constant name")
        return
    value = arguments[1]
    text = constant(value)
    given = text is not None or "ParamRef" in value or "ParamRef" in value.get("TypeCast", {}).get("arg", {})
    change_setting(found, name, text, given=given)


# --- sequences ---


def _sequence(found: Findings, name: str, arguments: Sequence[Node]) -> None:
    text = constant(arguments[0]) if arguments else None
    relation = named_relation(found, text) if text else None
    if relation is None:
        found.not_understood(f"{name} of a sequence that is not a constant")
    else:
        found.write(relation, "update")


def named_relation(found: Findings, text: str) -> Relation | None:
    """The relation that a text such as 'public."Orders"' names, read as regclass input reads it."""
    parts = identifiers(text)
    match parts:
        case [name]:
            found.resolves = True
            return found.catalog.resolve(name, found.path)
        case [schema, name] | [_, schema, name]:
            if schema == "pg_temp":
                schema = found.session.temp_schema or schema
            return found.catalog.relation(schema, name)
        case _:
            return None


def identifiers(text: str) -> list[str]:
    """Split a dotted name: quotes kept apart, unquoted parts in lower case; empty if it is not one."""
    parts: list[str] = []
    rest = text.strip()
    while rest:
        if rest[0] == '"':
            name, rest = _quoted(rest)
        else:
            cut = rest.find(".")
            name, rest = (rest, "") if cut < 0 else (rest[:cut], rest[cut:])
            name = "" if '"' in name else name.strip().lower()
        if not name or not (rest == "" or rest[0] == "."):
            return []
        parts.append(name)
        if rest == ".":
            return []
        rest = rest[1:].lstrip()
    return parts


def _quoted(text: str) -> tuple[str, str]:
    name, position = "", 1
    while (end := text.find('"', position)) >= 0:
        name += text[position:end]
        if text[end + 1 : end + 2] != '"':
            return name, text[end + 1 :].lstrip()
        name += '"'
        position = end + 2
    return "", text


# --- types ---


def _type(found: Findings, names: Sequence[str]) -> Any:
    if len(names) == 1:
        return found.catalog.resolve_type(names[0], found.path)
    schema = (found.session.temp_schema or names[-2]) if names[-2] == "pg_temp" else names[-2]
    return found.catalog.types_by_name.get((schema, names[-1]))


def type_name(found: Findings, names: Sequence[str], *, literal: bool = False) -> None:
    """A type in a cast or a definition: its domain's checks, and the database's own casts to it, are code.

    `literal`: what is cast is a quoted constant, which the type's input function reads: no cast runs.
    """
    catalog = found.catalog
    if len(names) == 1:
        found.resolves = True
    type_ = _type(found, names)
    if type_ is None:
        found.not_understood(f"unknown type: {'.'.join(names)}")
        return
    if not type_.is_builtin:
        found.resolves = True
        found.types.add(type_.oid)
        for oid in owned.type_calls(catalog, type_):
            found.runs_when_parsed = True  # it may be an array of them that is meant
            function = catalog.function(oid)
            named = f"{function.schema}.{function.name}" if function else str(oid)
            found.not_understood(f"type {'.'.join(names)} calls function {named}")
    casts = catalog.casts_between(0, type_.oid) if catalog.casts and not literal else ()
    if any(owned.runs_code(catalog, cast.function) for cast in casts):
        found.not_understood(f"a cast to {'.'.join(names)} may call a function of the database's own")
