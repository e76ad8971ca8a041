"""Which operation of the target's OpenAPI document a request is, and its parameters with the types declared there.

Read once, from YAML or JSON; versions 3.0, 3.1 and 3.2. Of two templates that fit, the one that is more concrete from
the left counts; where none is, or the path has no such method, there is no operation. Bodies are not checked against
their schemas: the target does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import re2
import yaml

from pep.core.errors import ConfigError
from pep.http.bodies import EXACT, Unclassifiable, exact_json

MINTS_ACCESS: Final = "x-checkrein-mints-access"
METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"})
MOST_REFERENCES: Final = 20

_VERSION: Final = re.compile(r"3\.[0-2](?:\.\d+)?")
_PLACE: Final = re.compile(r"\{([^{}/]+)\}")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_SEPARATORS: Final = {"form": ",", "spaceDelimited": " ", "pipeDelimited": "|"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """`type` is the JSON type, "" for what stays text; `items` that of an array's members.

    `separator` divides the members of an array that is one text; "" where it is repeated instead.
    """

    name: str
    place: str
    type: str = ""
    items: str = ""
    separator: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    route: str
    method: str
    parameters: tuple[Parameter, ...] = ()
    mints_access: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The operation of a request. `opaque` is why its parameters are not known, "" where they are."""

    operation: Operation
    parameters: Mapping[str, Any]
    opaque: str = ""


@dataclass(frozen=True, slots=True)
class _Segment:
    """Of RE2, which takes linear time: names side by side in one segment make other engines try all splits.

    `loose` takes letters of either case for one.
    """

    exact: Any
    loose: Any
    empty: bool


@dataclass(frozen=True, slots=True)
class _Template:
    """`rank` orders templates: 0 for a segment without a name in braces, 1 for one with more than that, 2 for one."""

    segments: tuple[_Segment, ...]
    rank: tuple[int, ...]
    names: tuple[str, ...]
    operations: Mapping[str, Operation]


class OpenApi:
    """A document, ready to be asked."""

    def __init__(self, templates: Sequence[_Template]) -> None:
        self._templates: dict[int, list[_Template]] = {}
        for template in templates:
            self._templates.setdefault(len(template.segments), []).append(template)

    def find(self, method: str, segments: Sequence[str], query: Mapping[str, Sequence[str]]) -> Found | None:
        """The operation of a request with these segments of its path, decoded."""
        own = _own(segments)
        fitting = [
            template
            for template in self._templates.get(len(own), ())
            if all(part.exact.fullmatch(segment) for part, segment in zip(template.segments, own, strict=True))
        ]
        best = min((template.rank for template in fitting), default=())
        chosen = [template for template in fitting if template.rank == best]
        operation = chosen[0].operations.get(method) if len(chosen) == 1 else None
        if operation is None:
            return None
        return _typed(operation, _places(chosen[0], own), query)

    def mints_access(self, method: str, segments: Sequence[str]) -> tuple[str, ...]:
        """Operations marked as handing out credentials, for the most lenient of readings."""
        own = [segment.casefold() for segment in segments if segment]
        return tuple(
            dict.fromkeys(
                operation.id or f"{operation.method} {operation.route}"
                for template in self._all()
                for operation in template.operations.values()
                if operation.mints_access and operation.method == method.upper() and _fits_loosely(template, own)
            )
        )

    def _all(self) -> Iterator[_Template]:
        for templates in self._templates.values():
            yield from templates


def load(path: Path, base_path: str = "") -> OpenApi:
    """The document in a file. `base_path` comes before each path on the way to the target. Raises ConfigError."""
    try:
        document = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path.name}: cannot be read as an OpenAPI document: {error}") from error
    try:
        return parse(document, base_path)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def parse(document: Any, base_path: str = "") -> OpenApi:
    """The document, as YAML or JSON has it. Raises ConfigError."""
    if not isinstance(document, dict) or _VERSION.fullmatch(str(document.get("openapi"))) is None:
        raise ConfigError("is no OpenAPI document of version 3")
    return OpenApi([template for template in _Reader(document, base_path).templates() if template.operations])


class _Reader:
    """Turns a document into templates, following references inside it."""

    def __init__(self, document: Mapping[str, Any], base_path: str) -> None:
        self._document = document
        self._base_path = base_path

    def templates(self) -> Iterator[_Template]:
        for route, item in _mapping(self._document.get("paths", {}), "paths").items():
            if str(route).startswith("x-"):
                continue
            item = self._resolved(item, f"paths: {route}")
            operations = {
                method.upper(): self._operation(method, str(route), item, self._resolved(item[method], str(route)))
                for method in METHODS & item.keys()
            }
            prefixes = {self._prefix(server) for server in item.get("servers") or self._servers()}
            for prefix in sorted(prefixes):
                yield _template(prefix, str(route), operations)

    def _servers(self) -> list[Any]:
        servers: list[Any] = self._document.get("servers") or [{"url": "/"}]
        return servers

    def _prefix(self, server: Any) -> str:
        """What a client of the proxy writes before a template; of the server's path, what `base_path` does not add."""
        server = _mapping(server, "servers")
        variables = _mapping(server.get("variables", {}), "servers: variables")
        url = _PLACE.sub(
            lambda place: str(_mapping(variables.get(place[1], {}), "servers").get("default", "")),
            str(server.get("url", "/")),
        )
        path = urlsplit(url).path.rstrip("/")
        base = self._base_path.rstrip("/")
        return path.removeprefix(base) if f"{path}/".startswith(f"{base}/") else path

    def _operation(self, method: str, route: str, item: Mapping[str, Any], own: Mapping[str, Any]) -> Operation:
        parameters: dict[tuple[str, str], Parameter] = {}
        for each in [*item.get("parameters", ()), *own.get("parameters", ())]:
            parameter = self._parameter(self._resolved(each, route))
            if parameter.place in ("path", "query"):
                parameters[parameter.place, parameter.name] = parameter
        return Operation(
            str(own.get("operationId") or ""),
            route,
            method.upper(),
            tuple(parameters.values()),
            own.get(MINTS_ACCESS) is True,
        )

    def _parameter(self, parameter: Mapping[str, Any]) -> Parameter:
        name, place = str(parameter.get("name", "")), str(parameter.get("in", ""))
        schema = self._resolved(parameter.get("schema", {}), name)
        kind = _type(schema)
        if kind != "array":
            return Parameter(name, place, kind)
        style = str(parameter.get("style", "form" if place == "query" else "simple"))
        separator = ","
        if place == "query":
            separator = "" if parameter.get("explode", style == "form") else _SEPARATORS.get(style, ",")
        return Parameter(name, place, kind, _type(self._resolved(schema.get("items", {}), name)), separator)

    def _resolved(self, part: Any, where: str) -> Mapping[str, Any]:
        for _ in range(MOST_REFERENCES):
            if isinstance(part, bool):  # a schema of 3.1
                return {}
            found = _mapping(part, where)
            reference = found.get("$ref")
            if reference is None:
                return found
            part = self._at(str(reference), where)
        raise ConfigError(f"{where}: references go in a circle")

    def _at(self, reference: str, where: str) -> Any:
        if not reference.startswith("#/"):
            raise ConfigError(f"{where}: the reference {reference} leads out of the document, which is not followed")
        part: Any = self._document
        for step in reference[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(part, dict) or step not in part:
                raise ConfigError(f"{where}: the reference {reference} leads nowhere")
            part = part[step]
        return part


def _mapping(part: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(part, dict):
        raise ConfigError(f"{where}: must be a mapping")
    return part


def _type(schema: Mapping[str, Any]) -> str:
    declared = schema.get("type", "")
    if isinstance(declared, list):
        others = [each for each in declared if each != "null"]
        declared = others[0] if len(others) == 1 else ""
    return declared if declared in ("integer", "number", "boolean", "array") else ""


def _template(prefix: str, route: str, operations: Mapping[str, Operation]) -> _Template:
    if not route.startswith("/"):
        raise ConfigError(f"paths: {route} must begin with a slash")
    segments, rank, names = [], [], []
    for part in _own((prefix + route)[1:].split("/")):
        places = _PLACE.findall(part)
        names += places
        pattern = "(.+)".join(re2.escape(literal) for literal in _PLACE.split(part)[::2])
        segments.append(_Segment(re2.compile(f"(?s){pattern}"), re2.compile(f"(?si){pattern}"), not part))
        rank.append(0 if not places else 2 if _PLACE.fullmatch(part) else 1)
    if len(set(names)) != len(names):
        raise ConfigError(f"paths: {route} has one name twice")
    return _Template(tuple(segments), tuple(rank), tuple(names), operations)


def _own(segments: Sequence[str]) -> tuple[str, ...]:
    """The path of the root has no segment."""
    return () if tuple(segments) == ("",) else tuple(segments)


def _places(template: _Template, segments: Sequence[str]) -> dict[str, str]:
    values: list[str] = []
    for part, segment in zip(template.segments, segments, strict=True):
        found = part.exact.fullmatch(segment)
        assert found is not None, "the template was chosen because it fits"
        values += found.groups()
    return dict(zip(template.names, values, strict=True))


def _fits_loosely(template: _Template, folded: Sequence[str]) -> bool:
    parts = [part for part in template.segments if not part.empty]
    return len(parts) == len(folded) and all(
        part.loose.fullmatch(segment) for part, segment in zip(parts, folded, strict=True)
    )


# --- parameters -------------------------------------------------------------------------------------------------------


def _typed(operation: Operation, places: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Found:
    declared = {parameter.name: parameter for parameter in operation.parameters if parameter.place == "path"}
    found: dict[str, Any] = {}
    try:
        for parameter in operation.parameters:
            # A name that stands in both is the path's; the query's is in the query all the same.
            if parameter.place == "query" and parameter.name not in places and parameter.name in query:
                found[parameter.name] = _value(parameter, query[parameter.name])
        for name, text in places.items():
            found[name] = _value(declared.get(name, Parameter(name, "path")), (text,))
    except Unclassifiable as error:
        return Found(operation, {}, str(error))
    return Found(operation, found)


def _value(parameter: Parameter, texts: Sequence[str]) -> Any:
    if parameter.type == "array":
        if parameter.separator:
            texts = _one(parameter, texts).split(parameter.separator)
        return [_scalar(parameter.name, parameter.items, text) for text in texts]
    return _scalar(parameter.name, parameter.type, _one(parameter, texts))


def _one(parameter: Parameter, texts: Sequence[str]) -> str:
    if len(texts) != 1:
        raise Unclassifiable(f"the parameter {parameter.name} stands in the query more than once")
    return texts[0]


def _scalar(name: str, type: str, text: str) -> Any:
    match type:
        case "integer" if _INTEGER.fullmatch(text):
            value = int(text)
            return value if -EXACT <= value <= EXACT else {"$int": str(value)}
        case "number":
            value = exact_json(text)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value if -EXACT <= value <= EXACT or isinstance(value, float) else {"$int": str(value)}
        case "boolean" if text in ("true", "false"):
            return text == "true"
        case "":
            return text
        case _:
            pass
    raise Unclassifiable(f"the parameter {name} is not of the type {type} that the OpenAPI document declares")
