"""The Model Context Protocol over HTTP: the calls that a POST carries, their refusals, and lists of tools filtered.

Streamable HTTP of the revisions 2025-03-26 (which has batches), 2025-06-18 and 2025-11-25, over JSON-RPC 2.0. Each
request and notification is an action of its own. What a client answers to a question of the server's is none: the HTTP
request that carries it is decided. What is not one of these shapes is opaque.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from pep.core.denial import explain
from pep.core.model import Action, Deny, Statement
from pep.http import documents
from pep.http.bodies import Json, Unclassifiable, shown
from pep.http.coding import CannotMask
from pep.http.documents import Number, Value
from pep.http.media import Kind, media_type
from pep.http.messages import Fields

if TYPE_CHECKING:
    from pep.http.classify import ClassifySettings

# Of the range that JSON-RPC leaves to servers; -32001 is what SDKs call a time-out, after which a client tries again.
REFUSED: Final = -32003
MOST_CALLS: Final = 100

_REQUEST: Final = frozenset({"jsonrpc", "id", "method", "params"})
_RESPONSES: Final = (frozenset({"jsonrpc", "id", "result"}), frozenset({"jsonrpc", "id", "error"}))
_READ: Final = frozenset({"name", "arguments", "uri", "_meta"})
_ROUTING: Final = frozenset({"mcp-method", "mcp-name"})
_ARGUMENT: Final = "mcp-param-"
_WITH_URI: Final = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
# Line ends of an event stream; the blank line ends an event (the HTML standard, section 9.2.5).
_LINE: Final = re.compile(r"\r\n|\r|\n")
_TEXT_LIMIT: Final = 200
_WRAPPED: Final = re.compile(r"=\?base64\?(.*)\?=")


@dataclass(frozen=True, slots=True)
class Call:
    """One JSON-RPC request, or notification where `id` is None; `batched` where it came in an array."""

    method: str
    action: Action
    id: str | int | None = None
    tool: str = ""
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """What a POST carries. `opaque` is why it is not known, "" where it is."""

    calls: tuple[Call, ...] = ()
    opaque: str = ""


def carried(body: Json, server: str) -> Carried:
    """The calls in a body that was read strictly. Raises Unclassifiable for what servers may read differently."""
    batched = isinstance(body.value, list)
    messages = body.value if batched else [body.value]
    if not messages:
        return Carried(opaque="the batch of JSON-RPC messages is empty")
    if len(messages) > MOST_CALLS:
        raise Unclassifiable(f"it carries more than {MOST_CALLS} JSON-RPC messages")
    calls: list[Call] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return Carried(opaque="the body is no JSON-RPC 2.0 message")
        if message.keys() in _RESPONSES:
            continue
        call = _call(message, server, batched=batched)
        if call is None:
            return Carried(opaque="the JSON-RPC message is not of a known shape")
        calls.append(call)
    return Carried(tuple(calls))


def misrouted(fields: Fields, calls: Sequence[Call]) -> str:
    """Why the request's fields say something else than its body, "" where they do not.

    Revision 2026-07-28 repeats the method, the name and some arguments of what is called in fields, for whoever routes
    by them. What is decided is the body, so a target, or what stands before it, must not find another call in the head.
    Which argument a field repeats is in the tool's schema, which is not known here: it has to be one of them.
    """
    said: dict[str, str] = {}
    for name, value in fields:
        # Servers of the CGI kind take an underscore for a hyphen.
        folded = name.lower().replace("_", "-")
        if folded not in _ROUTING and not folded.startswith(_ARGUMENT):
            continue
        if folded in said:
            return "a field of MCP stands in its head twice"
        said[folded] = value
    if not said:
        return ""
    if len(calls) != 1:
        return "Mcp-Method and Mcp-Name name one call, and its body is another matter"
    (call,) = calls
    if said.pop("mcp-method", call.method) != call.method:
        return "Mcp-Method is not the method of its body"
    if "mcp-name" in said and _field_text(said.pop("mcp-name")) not in _names(call):
        return "Mcp-Name is not the name in its body"
    arguments = set(_field_values(call.action.properties.get("arguments", {}))) if call.tool else set()
    if any(_field_text(value) not in arguments for value in said.values()):
        return "a field of MCP repeats what is no argument in its body"
    return ""


def _field_values(value: Any) -> Iterable[str]:
    """What a field may say of the arguments: each string, integer and boolean, however deep."""
    match value:
        case bool():
            yield "true" if value else "false"
        case str() | int():
            yield str(value)
        case dict():
            for member in value.values():
                yield from _field_values(member)
        case list():
            for member in value:
                yield from _field_values(member)
        case _:
            pass


def _names(call: Call) -> set[str]:
    """What the name in a field may be: a tool's, a resource's, or, for another method, one of the parameters."""
    said = call.action.properties
    if call.tool:
        return {call.tool}
    if call.method in _WITH_URI:
        return {str(said.get("uri", ""))}
    arguments = said.get("arguments", {})
    if call.method == "prompts/get":
        return {str(arguments.get("name", ""))}
    return {value for value in arguments.values() if isinstance(value, str)}


def _field_text(value: str) -> str | None:
    """A field's value, which is wrapped in base64 where a field cannot hold it as it is; None for a bad wrapping."""
    wrapped = _WRAPPED.fullmatch(value)
    if wrapped is None:
        return value
    try:
        return base64.b64decode(wrapped[1], validate=True).decode()
    except ValueError:
        return None


def tool_action(name: str, settings: ClassifySettings) -> Action:
    """The question whether a tool may be shown: a call without arguments."""
    properties = {"opaque": False, "mints_access": [], "server": settings.server, "method": "tools/call", "tool": name}
    return Action("tool", "mcp", properties, Statement(_line("tools/call", name)))


def denied(call: Call, deny: Deny) -> dict[str, Any] | None:
    """The JSON-RPC answer to a call that is denied; None for a notification, which has none.

    A tool's refusal is a result, because models see results and not errors.
    """
    if call.id is None:
        return None
    said = explain(deny, f"the tool {call.tool}" if call.tool else f"the request {call.method}")
    details = orjson.loads(said.detail)
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": call.id}
    if call.method == "tools/call":
        content = [{"type": "text", "text": f"{said.first_line} {said.hint}"}]
        # The revision 2026-07-28 requires a result to say that it is one; those before it let it pass.
        result = {"resultType": "complete", "content": content, "isError": True, "_meta": details}
        return answer | {"result": result}
    return answer | {"error": {"code": REFUSED, "message": said.first_line, "data": {"hint": said.hint, **details}}}


def refused(calls: Sequence[Call], deny: Deny) -> bytes | None:
    """The body of the response where what a POST carries is denied; None where nothing of it has an answer."""
    answers = [answer for call in calls if (answer := denied(call, deny)) is not None]
    if not answers:
        return None
    return orjson.dumps(answers if calls[0].batched else answers[0])


def _call(message: dict[str, Any], server: str, *, batched: bool) -> Call | None:
    method, params, number = message.get("method"), message.get("params", {}), message.get("id")
    # An id that is there and null is a request to one server and a notification to another.
    known_id = type(number) in (str, int) or "id" not in message
    if not isinstance(method, str) or not method or not message.keys() <= _REQUEST or not known_id:
        return None
    if not isinstance(params, dict):
        return None
    if any(name not in _READ and name.casefold() in _READ for name in params):
        raise Unclassifiable("a parameter of its JSON-RPC request differs by case from one that is expected")
    said = shown(params)
    properties: dict[str, Any] = {"opaque": False, "mints_access": [], "server": server, "method": method}
    tool = ""
    if method == "tools/call":
        name, arguments = params.get("name"), said.get("arguments", {})
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            properties["opaque"] = "the call does not name its tool, or its arguments are no object"
        else:
            tool = name
            properties |= {"tool": name, "arguments": arguments}
    elif params:
        properties["arguments"] = said
        uri = params.get("uri")
        if isinstance(uri, str) and uri:
            properties["uri"] = uri
    if method in _WITH_URI and "uri" not in properties:
        properties["opaque"] = "the request does not name its resource"
    # An approval is bound to the parameters: to all of them, also those that no policy reads.
    statement = Statement(_line(method, tool or str(properties.get("uri", ""))), (said,) if params else ())
    action = Action("tool" if tool else "message", "mcp", properties, statement)
    return Call(method, action, number, tool, batched)


def _line(method: str, what: str) -> str:
    return f"{method} {what}".strip()[:_TEXT_LIMIT]


# --- lists of tools ---------------------------------------------------------------------------------------------------


def tools(result: Value) -> list[str] | None:
    """The names in the result of tools/list, or in none; None where they are not understood."""
    if not isinstance(result, dict) or "tools" not in result:
        return []
    listed = result["tools"]
    if not isinstance(listed, list):
        return None
    names: list[str] = []
    for tool in listed:
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or isinstance(name, Number) or not name:
            return None
        names.append(name)
    return names


def filtered(result: Value, allowed: Collection[str]) -> Value:
    """The result with the tools that are allowed, and everything else that it holds."""
    if not isinstance(result, dict) or not isinstance(listed := result.get("tools"), list):
        return result
    kept: list[Value] = [tool for tool in listed if isinstance(tool, dict) and tool.get("name") in allowed]
    return result | {"tools": kept}


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer to tools/list: JSON, or an event stream whose messages may be others too."""

    tools: tuple[str, ...]
    _messages: tuple[Value, ...]
    # The lines of each event but those of its data, and the position of the data among the messages.
    _events: tuple[tuple[tuple[str, ...], int | None], ...] | None = field(default=None)

    @classmethod
    def read(cls, body: bytes, content_type: str) -> Listing | None:
        """None where it is not understood. Raises CannotMask for JSON that can be read in two ways."""
        kind = media_type(Fields((("Content-Type", content_type),))).kind
        events = None
        match kind:
            case Kind.JSON:
                found: list[Value] = [documents.read(body)]
            case Kind.EVENTS:
                found, events = _events(body)
            case _:
                return None
        names: dict[str, None] = {}
        for message in _each(found):
            some = tools(message.get("result")) if isinstance(message, dict) else None
            if some is None:
                return None
            names |= dict.fromkeys(some)
        return cls(tuple(names), tuple(found), events)

    def write(self, allowed: Collection[str]) -> bytes:
        """The answer with no other tools than these."""
        written = [_written(_kept(message, allowed)) for message in self._messages]
        if self._events is None:
            return documents.encoded(written[0])
        lines: list[str] = []
        for other, at in self._events:
            lines += [*other, *(() if at is None else (f"data: {written[at]}",)), ""]
        return documents.encoded("".join(f"{line}\n" for line in lines))


def _events(body: bytes) -> tuple[list[Value], tuple[tuple[tuple[str, ...], int | None], ...]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CannotMask("an event stream that is not UTF-8 cannot be filtered") from None
    found: list[Value] = []
    events: list[tuple[tuple[str, ...], int | None]] = []
    other: list[str] = []
    data: list[str] = []
    for line in _LINE.split(text):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif line:
            other.append(line)
        elif other or data:
            whole = "\n".join(data)
            events.append((tuple(other), len(found) if whole else None))
            if whole:
                found.append(documents.read_text(whole))
            elif data:
                # An event without content still carries an id from which the stream can be resumed.
                events[-1] = ((*other, "data:"), None)
            other, data = [], []
    # What follows the last blank line is no event: a client does not see it, and it is left out.
    return found, tuple(events)


def _each(found: Iterable[Value]) -> Iterable[Value]:
    for message in found:
        if isinstance(message, list):
            yield from message
        else:
            yield message


def _kept(message: Value, allowed: Collection[str]) -> Value:
    if isinstance(message, list):
        return [_kept(each, allowed) for each in message]
    if isinstance(message, dict) and "result" in message:
        return message | {"result": filtered(message["result"], allowed)}
    return message


def _written(value: Value) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{documents.string(name)}:{_written(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case Number():
            return str(value)
        case str():
            return documents.string(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
