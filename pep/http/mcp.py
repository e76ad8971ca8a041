"""The Model Context Protocol over HTTP: the calls that a POST carries, and their refusals.

Streamable HTTP of the revisions 2025-03-26 (which has batches), 2025-06-18, 2025-11-25 and 2026-07-28, over JSON-RPC
2.0. Each request and notification is an action of its own. What a client answers to a question of the server's is
none: the HTTP request that carries it is decided. What is not one of these shapes is opaque.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from pep.core.denial import explain
from pep.core.model import Action, Deny, Statement
from pep.http import secrets
from pep.http.bodies import Json, Unclassifiable, shown

if TYPE_CHECKING:
    from pep.http.classify import ClassifySettings

# Of the range that JSON-RPC leaves to servers; -32001 is what SDKs call a time-out, after which a client tries again.
REFUSED: Final = -32003
# What the specification says of fields that do not fit the body; a client then lists the tools and tries again.
MISMATCHED: Final = -32020
MOST_CALLS: Final = 100

_REQUEST: Final = frozenset({"jsonrpc", "id", "method", "params"})
_RESPONSES: Final = (frozenset({"jsonrpc", "id", "result"}), frozenset({"jsonrpc", "id", "error"}))
_READ: Final = frozenset({"name", "arguments", "uri", "_meta"})
WITH_URI: Final = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
_TEXT_LIMIT: Final = 200


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
    may_hold_secrets = secrets.suspicious(body.forward)
    # What an approval is bound to beside what it shows: of a batch once, for it takes its time.
    secret = functools.cache(lambda: secrets.bound(orjson.dumps([_params(message) for message in messages])))
    calls: list[Call] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return Carried(opaque="the body is no JSON-RPC 2.0 message")
        if message.keys() in _RESPONSES:
            continue
        call = _call(message, server, batched=batched, may_hold_secrets=may_hold_secrets, secret=secret)
        if call is None:
            return Carried(opaque="the JSON-RPC message is not of a known shape")
        calls.append(call)
    return Carried(tuple(calls))


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


def mismatched(call: Call, deny: Deny) -> bytes | None:
    """The body of the response where fields do not repeat what the call says; None for a notification."""
    if call.id is None:
        return None
    said = explain(deny, f"the tool {call.tool}")
    data = {"hint": said.hint, **orjson.loads(said.detail)}
    error = {"code": MISMATCHED, "message": f"Header mismatch: {deny.reasons[0].message}", "data": data}
    return orjson.dumps({"jsonrpc": "2.0", "id": call.id, "error": error})


def _params(message: Any) -> Any:
    return message.get("params") if isinstance(message, dict) else None


def _call(
    message: dict[str, Any],
    server: str,
    *,
    batched: bool,
    may_hold_secrets: bool,
    secret: Callable[[], tuple[Any, ...]],
) -> Call | None:
    method, params, number = message.get("method"), message.get("params", {}), message.get("id")
    # An id that is there and null is a request to one server and a notification to another.
    known_id = type(number) in (str, int) or "id" not in message
    if not isinstance(method, str) or not method or not message.keys() <= _REQUEST or not known_id:
        return None
    if not isinstance(params, dict):
        return None
    if any(name not in _READ and name.casefold() in _READ for name in params):
        raise Unclassifiable("a parameter of its JSON-RPC request differs by case from one that is expected")
    whole = shown(params)
    said = secrets.hidden(whole) if may_hold_secrets else whole
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
        uri = said.get("uri")
        if isinstance(uri, str) and uri:
            properties["uri"] = uri
    if method in WITH_URI and "uri" not in properties:
        properties["opaque"] = "the request does not name its resource"
    # An approval is bound to the parameters: to all of them, also those that no policy reads.
    bound = () if said is whole else secret()
    statement = Statement(_line(method, tool or str(properties.get("uri", ""))), (said, *bound) if params else ())
    action = Action("tool" if tool else "message", "mcp", properties, statement)
    return Call(method, action, number, tool, batched)


def _line(method: str, what: str) -> str:
    return f"{method} {what}".strip()[:_TEXT_LIMIT]
