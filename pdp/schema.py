"""JSON Schema compiled to functions: what the two schemas of `rego/schemas` use of draft 7, and nothing else.

A general validator walks the schema for every document and takes longer than the policy engine does to decide; these
functions are made once. A keyword that is not known here is an error when the schema is compiled, never one that is
silently not checked. The tests hold the answers against those of a general validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

# A check answers where and why the document does not fit, or None.
Check = Callable[[Any], "Mismatch | None"]


class Mismatch:
    """Where a document leaves its schema, from the inside out, and why. Never holds a value of the document."""

    __slots__ = ("path", "why")

    def __init__(self, why: str) -> None:
        self.why = why
        self.path: list[str] = []

    def at(self, step: str | int) -> Mismatch:
        self.path.append(str(step))
        return self

    def __str__(self) -> str:
        where = ".".join(reversed(self.path))
        return f"{where}: {self.why}" if where else self.why


def compile_schema(root: Mapping[str, Any], pointer: str = "#") -> Check:
    """A check for the part of the schema that the pointer names, `#/definitions/decision` for one.

    Raises ValueError for a keyword or a reference that is not known.
    """
    compiler = _Compiler(root)
    return compiler.reference(pointer)


_ANNOTATIONS: Final = frozenset({"$schema", "$comment", "$defs", "definitions", "title", "description"})
_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON: unlike in Python, true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._references: dict[str, Check] = {}

    def reference(self, pointer: str) -> Check:
        if pointer not in self._references:
            schema: Any = self._root
            for step in pointer.removeprefix("#").strip("/").split("/") if pointer != "#" else []:
                if not isinstance(schema, Mapping) or step not in schema:
                    raise ValueError(f"the schema has no {pointer}")
                schema = schema[step]
            self._references[pointer] = self.check(schema)
        return self._references[pointer]

    def check(self, schema: Any) -> Check:
        if schema is True or schema == {}:
            return lambda _: None
        if schema is False:
            return lambda _: Mismatch("must not be there")
        checks = [self._keyword(name, schema) for name in schema if name not in _ANNOTATIONS]
        checks = [check for check in checks if check is not _nothing]
        if len(checks) == 1:
            return checks[0]

        def every(value: Any) -> Mismatch | None:
            for check in checks:
                if (wrong := check(value)) is not None:
                    return wrong
            return None

        return every

    def _keyword(self, name: str, schema: Mapping[str, Any]) -> Check:
        argument = schema[name]
        match name:
            case "$ref":
                return self.reference(argument)
            case "type":
                return _type([argument] if isinstance(argument, str) else argument)
            case "enum" | "const":
                return _one_of(argument if name == "enum" else [argument])
            case "properties" | "required" | "additionalProperties":
                # The three look at one another; the first of them that the schema holds stands for all.
                held = next(key for key in schema if key in {"properties", "required", "additionalProperties"})
                return self._object(schema) if name == held else _nothing
            case "items":
                return _items(self.check(argument))
            case "anyOf":
                return _any_of([self.check(each) for each in argument])
            case "allOf":
                return self._all_of(argument)
            case "not":
                return _not(self.check(argument))
            case "if":
                return _conditional(
                    self.check(argument), self.check(schema.get("then", {})), self.check(schema.get("else", {}))
                )
            case "then" | "else":
                return _nothing
            case _ if name in _LIMITS:
                return _LIMITS[name](argument)
            case _:
                raise ValueError(f"the schema keyword {name} is not known here")

    def _all_of(self, schemas: Sequence[Any]) -> Check:
        checks = [self.check(each) for each in schemas]
        return lambda value: next((wrong for check in checks if (wrong := check(value)) is not None), None)

    def _object(self, schema: Mapping[str, Any]) -> Check:
        known = {key: self.check(each) for key, each in schema.get("properties", {}).items()}
        required = tuple(schema.get("required", ()))
        closed = schema.get("additionalProperties") is False
        other = self.check(schema.get("additionalProperties", {}))

        def check(value: Any) -> Mismatch | None:
            if not isinstance(value, dict):
                return None
            for key in required:
                if key not in value:
                    return Mismatch(f"{key} is missing")
            for key, item in value.items():
                inner = known.get(key)
                if inner is None and closed:
                    return Mismatch("the key is not known").at(key)
                if (wrong := (inner or other)(item)) is not None:
                    return wrong.at(key)
            return None

        return check


def _nothing(_: Any) -> None:
    return None


def _type(names: Sequence[str]) -> Check:
    tests = [_TYPES[name] for name in names]
    wrong = f"must be of type {' or '.join(names)}"
    if len(tests) == 1:
        test = tests[0]
        return lambda value: None if test(value) else Mismatch(wrong)
    return lambda value: None if any(test(value) for test in tests) else Mismatch(wrong)


def _one_of(values: Sequence[Any]) -> Check:
    wrong = f"must be one of {', '.join(str(value) for value in values)}"
    if all(isinstance(value, str) for value in values):
        words = frozenset(values)
        return lambda value: None if isinstance(value, str) and value in words else Mismatch(wrong)
    return lambda value: None if any(_same(value, each) for each in values) else Mismatch(wrong)


def _items(check: Check) -> Check:
    def every(value: Any) -> Mismatch | None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                if (wrong := check(item)) is not None:
                    return wrong.at(index)
        return None

    return every


def _any_of(checks: Sequence[Check]) -> Check:
    def some(value: Any) -> Mismatch | None:
        return None if any(check(value) is None for check in checks) else Mismatch("fits none of the forms")

    return some


def _not(check: Check) -> Check:
    return lambda value: Mismatch("has a form that is excluded") if check(value) is None else None


def _conditional(condition: Check, then: Check, otherwise: Check) -> Check:
    return lambda value: then(value) if condition(value) is None else otherwise(value)


def _limit(applies: Callable[[Any], bool], fits: Callable[[Any, Any], bool], wrong: str) -> Callable[[Any], Check]:
    def make(limit: Any) -> Check:
        return lambda value: Mismatch(f"{wrong} {limit}") if applies(value) and not fits(value, limit) else None

    return make


def _pattern(pattern: str) -> Check:
    # `$` alone also fits before a last line feed, which ECMA 262, the dialect of JSON Schema, does not mean.
    search = re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern).search
    return lambda value: Mismatch(f"must match {pattern}") if isinstance(value, str) and search(value) is None else None


_LIMITS: Final[Mapping[str, Callable[[Any], Check]]] = {
    "minLength": _limit(_TYPES["string"], lambda value, limit: len(value) >= limit, "must be at least as long as"),
    "maxLength": _limit(_TYPES["string"], lambda value, limit: len(value) <= limit, "must be no longer than"),
    "minItems": _limit(_TYPES["array"], lambda value, limit: len(value) >= limit, "must hold at least"),
    "maxItems": _limit(_TYPES["array"], lambda value, limit: len(value) <= limit, "must hold at most"),
    "minProperties": _limit(_TYPES["object"], lambda value, limit: len(value) >= limit, "must hold at least"),
    "maxProperties": _limit(_TYPES["object"], lambda value, limit: len(value) <= limit, "must hold at most"),
    "minimum": _limit(_TYPES["number"], lambda value, limit: bool(value >= limit), "must be at least"),
    "maximum": _limit(_TYPES["number"], lambda value, limit: bool(value <= limit), "must be at most"),
    "exclusiveMinimum": _limit(_TYPES["number"], lambda value, limit: bool(value > limit), "must be more than"),
    "pattern": _pattern,
}
