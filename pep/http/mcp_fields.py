"""What the fields of a request say of the MCP call in its body, and whether that is the call in its body.

Revision 2026-07-28, "Request Metadata": the method, the name, the version and some arguments are repeated in fields,
for whoever routes by them. What is decided is the body, so a target, or what stands before it, must not find another
call in the head. Which argument an `Mcp-Param-` field repeats is in the tool's schema, which the target's own list of
tools tells (`mcp_sessions` remembers it): where it is not known, the call is refused as the specification has it for
fields that do not fit, upon which a client lists the tools and tries again. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from pep.http.documents import Number, Value
from pep.http.mcp import WITH_URI, Call
from pep.http.messages import Fields

# From the name in a field, folded, to the names of the members that lead to the argument.
Mirrored = Mapping[str, tuple[str, ...]]

_ROUTING: Final = frozenset({"mcp-method", "mcp-name"})
_ARGUMENT: Final = "mcp-param-"
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_ANNOTATION: Final = "x-mcp-header"
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_WRAPPED: Final = re.compile(r"=\?base64\?(.*)\?=")
_NUMBER: Final = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")


def misrouted(fields: Fields, calls: Sequence[Call]) -> str:
    """Why the request's fields name another call than its body, "" where they do not; arguments are for `differs`."""
    said: dict[str, str] = {}
    for name, value in fields:
        # Servers of the CGI kind take an underscore for a hyphen.
        folded = name.lower().replace("_", "-")
        if folded not in _ROUTING and not folded.startswith(_ARGUMENT):
            continue
        if folded in said:
            return "a field of MCP stands in its head twice"
        said[folded] = value
    versions = fields.all("Mcp-Protocol-Version")
    if any(each not in versions for each in _versions(calls) if versions):
        return "MCP-Protocol-Version is not the version of its body"
    if not said:
        return ""
    if len(calls) != 1:
        return "Mcp-Method and Mcp-Name name one call, and its body is another matter"
    (call,) = calls
    if said.pop("mcp-method", call.method) != call.method:
        return "Mcp-Method is not the method of its body"
    if "mcp-name" in said and _text(said.pop("mcp-name")) not in _names(call):
        return "Mcp-Name is not the name in its body"
    if said and not call.tool:
        return "a field of MCP repeats an argument, and its body calls no tool"
    return ""


def repeats_arguments(fields: Fields) -> bool:
    return any(name.startswith(_ARGUMENT) for name in fields.names)


def differs(fields: Fields, call: Call, mirrored: Mirrored | None) -> str:
    """Why a field does not repeat the argument that it has to, "" where each does. `mirrored` None: it is not known."""
    if mirrored is None:
        return "which argument a field Mcp-Param- repeats is not known here before this session has listed the tool"
    parameters = call.action.statement.parameters
    arguments = parameters[0].get("arguments", {}) if parameters and isinstance(parameters[0], dict) else {}
    for name, value in fields:
        if not name.lower().startswith(_ARGUMENT):
            continue
        place = mirrored.get(name.lower().removeprefix(_ARGUMENT))
        if place is None:
            return "a field Mcp-Param- repeats none of the arguments that the tool's schema says are repeated"
        if not _says(_text(value), _at(arguments, place)):
            return "a field Mcp-Param- is not the argument in the body that it has to repeat"
    return ""


def mirrored(tool: Mapping[str, Value]) -> Mirrored:
    """Which arguments a tool's schema wants repeated, and in which fields; of a name that stands twice, neither."""
    found: dict[str, tuple[str, ...]] = {}
    twice: set[str] = set()
    for name, place in _annotated(tool.get("inputSchema"), ()):
        folded = name.lower()
        if found.setdefault(folded, place) != place:
            twice.add(folded)
    return {name: place for name, place in found.items() if name not in twice}


def _annotated(schema: Value, place: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Only what a chain of `properties` leads to: through anything else, no place is an argument's only one."""
    if not isinstance(schema, dict):
        return
    name = schema.get(_ANNOTATION)
    if place and isinstance(name, str) and not isinstance(name, Number) and _NAME.fullmatch(name):
        yield name, place
    properties = schema.get("properties")
    for member, below in properties.items() if isinstance(properties, dict) else ():
        yield from _annotated(below, (*place, member))


def _at(arguments: Any, place: Sequence[str]) -> Any:
    for name in place:
        arguments = arguments.get(name) if isinstance(arguments, dict) else None
    return arguments


def _says(text: str | None, value: Any) -> bool:
    """Whether a field's text is this value of the body, as it is shown to policy (see `bodies.shown`)."""
    match value:
        case _ if text is None:
            return False
        case bool():
            return text == ("true" if value else "false")
        case str():
            return text == value
        case int() | float():
            return _equal(text, repr(value))
        case {"$int": str(digits)}:
            return _equal(text, digits)
        case _:
            return False


def _equal(text: str, number: str) -> bool:
    """Integers may be written with a fraction of zeros; a field has no exponents."""
    return _NUMBER.fullmatch(text) is not None and Decimal(text) == Decimal(number)


def _versions(calls: Sequence[Call]) -> Iterator[str]:
    for call in calls:
        for parameters in call.action.statement.parameters:
            meta = parameters.get("_meta") if isinstance(parameters, dict) else None
            if isinstance(meta, dict) and isinstance(version := meta.get(_VERSION), str):
                yield version


def _names(call: Call) -> set[str]:
    """What the name in a field may be: a tool's, a resource's, or, for another method, one of the parameters."""
    said = call.action.properties
    if call.tool:
        return {call.tool}
    if call.method in WITH_URI:
        return {str(said.get("uri", ""))}
    arguments = said.get("arguments", {})
    if call.method == "prompts/get":
        return {str(arguments.get("name", ""))}
    return {value for value in arguments.values() if isinstance(value, str)}


def _text(value: str) -> str | None:
    """A field's value, which is wrapped in base64 where a field cannot hold it as it is; None for a bad wrapping."""
    wrapped = _WRAPPED.fullmatch(value)
    if wrapped is None:
        return value
    try:
        return base64.b64decode(wrapped[1], validate=True).decode()
    except ValueError:
        return None
