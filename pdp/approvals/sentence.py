"""What an action does, in one sentence that an approver reads first: from the classification, never from the text.

Pure and total: whatever a proxy says of an action gives a sentence, and what this module has no words for is said to be
so. Words of others appear with every character that directs others, or that a receiver could take for markup, as its
code point. `values=False` is for what leaves the service: then nothing in it is a value of the client's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from pdp.shown import shown
from pdp.v1 import access_pb2

_LONGEST: Final = 2000
_TAIL: Final = 600
_WORD: Final = 60
_LISTED: Final = 5
# What receivers of messages take for markup: of terminals, HTML, Markdown, chat programs.
_MARKUP: Final = re.compile(r"[<>&\[\]`*~|\\{}]")

# What the target itself has by that name; all else that is reached may be named by the client.
_OBJECTS: Final = ("trigger ", "rule ", "function ", "foreign table ")

# Verb and preposition, by the statement's own word; "{}" is where the relations stand.
_VERBS: Final[Mapping[str, str]] = {
    "select": "reads {}",
    "table": "reads {}",
    "values": "reads {}",
    "insert": "inserts rows into {}",
    "merge": "merges rows into {}",
    "truncate": "removes every row of {} (TRUNCATE)",
    "create": "creates {}",
    "alter": "alters {}",
    "drop": "drops {}",
    "comment": "comments on {}",
    "refresh": "refreshes {}",
    "reindex": "rebuilds indexes of {}",
    "vacuum": "vacuums or analyzes {}",
    "cluster": "rewrites {} in another order",
    "grant": "grants or revokes rights on {}",
    "label": "labels {} for security",
    "import": "imports a foreign schema into {}",
    "load": "loads a library into the server",
    "checkpoint": "makes the server write a checkpoint",
    "lock": "locks {}",
    "explain": "has the server plan, without executing it, what would touch {}",
    "set": "changes the session's settings",
    "reset": "puts back the session's settings",
    "show": "shows settings",
    "do": "runs a block of code",
    "call": "calls a procedure",
    "fetch": "fetches rows of {} from a cursor",
    "move": "moves a cursor over {}",
    "declare": "declares a cursor over {}",
    "close": "closes a cursor",
    "prepare": "prepares a statement on {}",
    "prepare_transaction": "prepares the transaction for a commit in two phases",
    "commit_prepared": "commits a transaction that was prepared",
    "rollback_prepared": "rolls back a transaction that was prepared",
    "rollback_to": "rolls back to a savepoint",
    "set_role": "takes on another role",
    "set_session_authorization": "takes on another identity",
    "execute": "executes a prepared statement on {}",
    "deallocate": "forgets prepared statements",
    "discard": "discards the session's state",
    "listen": "listens to notifications",
    "unlisten": "stops listening to notifications",
    "notify": "sends a notification",
    "begin": "begins a transaction",
    "commit": "commits the transaction",
    "rollback": "rolls the transaction back",
    "savepoint": "sets a savepoint",
    "release": "releases a savepoint",
    "empty": "does nothing",
}
_ROWS: Final[Mapping[str, str]] = {"update": "updates", "delete": "deletes"}
_ACCESS: Final[Mapping[str, str]] = {
    "insert": "inserts into",
    "update": "updates",
    "delete": "deletes from",
    "truncate": "empties",
    "schema": "changes the definition of",
    "lock": "locks",
    "read": "reads",
}


def sentence(
    action: access_pb2.Action,
    *,
    owners: Mapping[str, Sequence[str]] | None = None,
    estimate: Mapping[str, Any] | None = None,
    values: bool = True,
) -> str:
    """Such as: deletes every row (no WHERE) of public.orders; about 12,400 rows (an estimate); owner order-team."""
    known = _object(action.properties_json)
    match action.protocol:
        case _ if known is None:
            parts = [f"{safe(action.name)}: the proxy's description of it cannot be read"]
        case "postgres":
            parts = [_statement(known), *_further(known, str(known.get("kind", "")))]
        case "http":
            parts = [*_request(known, values=values)]
        case "mcp":
            parts = [_message(known, values=values)]
        case other:
            said = f"{safe(action.name)} by {safe(other)}" if other else safe(action.name)
            parts = [f"{said}: this version has no words for what it does"]
    parts += _warnings(known or {}, values=values)
    parts += _estimated(estimate)
    if belongs := _owners(known or {}, owners or {}):
        parts.append(belongs)
    text = "; ".join(parts)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - _TAIL]} … (cut in the middle) … {text[-_TAIL:]}"


def decided_sentence(name: str, action: Mapping[str, Any] | None, *, values: bool) -> str:
    """The same of an action as it stands in an input document; None for one that is erased."""
    if action is None:
        return f"{safe(name)}: no longer kept"
    properties = action.get("properties")
    for protocol, known in properties.items() if isinstance(properties, dict) else ():
        if protocol != "statement":
            said = access_pb2.Action(name=name, protocol=protocol, properties_json=orjson.dumps(known))
            return sentence(said, values=values)
    return safe(name)


# --- SQL ---


def _statement(known: Mapping[str, Any]) -> str:
    kind = str(known.get("kind", ""))
    direct = [each for each in _objects(known, "relations") if not each.get("via")]
    written = [each for each in direct if each.get("access") != "read"]
    mine = [each for each in written if each.get("access") == kind] or written or direct
    names = _names(mine) or "something that is named in its text alone"
    if kind in _ROWS:
        return f"{_ROWS[kind]} {_which(known, names)}"
    if kind == "copy":
        return f"copies rows into {names}" if known.get("class") == "write" else f"copies rows out of {names}"
    verb = _VERBS.get(kind)
    if verb is None:
        said = f"runs {safe(kind)}" if kind else "runs a statement that does not say what it is"
        return f"{said}, for which this version has no words, on {names}"
    if not mine and "{}" in verb and kind in ("select", "fetch", "move", "declare", "explain", "prepare", "execute"):
        names = "no table"
    said = verb.replace("{}", names)
    if settings := _strings(known, "settings"):
        said += f" ({_listed(settings)})"
    return said


def _which(known: Mapping[str, Any], names: str) -> str:
    where = known.get("has_where")
    if where is False:
        return f"every row (no WHERE) of {names}"
    fields = [str(each.get("field", "?")) for each in _objects(known, "pins")]
    if not fields:
        return f"rows of {names}" + (" that fit its condition" if where is True else "")
    count = f" ({len(fields)} conditions)" if len(fields) > 1 else ""
    return f"rows of {names} where {' and '.join(f'{safe(field)} = …' for field in fields[:_LISTED])}{count}"


def _further(known: Mapping[str, Any], kind: str) -> list[str]:
    """What else it writes, and through what."""
    relations = _objects(known, "relations")
    parts = []
    direct = {
        str(each.get("access"))
        for each in relations
        if not each.get("via") and each.get("access") not in ("read", kind, None)
    }
    if any(not each.get("via") and each.get("access") == kind for each in relations):
        for access in sorted(direct):
            names = _names([each for each in relations if not each.get("via") and each.get("access") == access])
            parts.append(f"also {_ACCESS.get(access, safe(access))} {names}")
    for access in sorted({str(each.get("access")) for each in relations if each.get("via")} - {"read"}):
        through = [each for each in relations if each.get("via") and each.get("access") == access]
        by = _listed(list(dict.fromkeys(str(each["via"]) for each in through)))
        parts.append(f"also {_ACCESS.get(access, safe(access))} {_names(through)} (by way of {by})")
    return parts


# --- HTTP and MCP ---


def _request(known: Mapping[str, Any], *, values: bool) -> list[str]:
    method, host = safe(known.get("method", "a request")), safe(known.get("host", ""))
    route = known.get("route")
    if values:
        where = safe(known.get("path", "?"))
    elif isinstance(route, str):
        where = safe(route)
    else:
        segments = known.get("segments")
        where = f"a path of {len(segments)} parts" if isinstance(segments, list) else "a path"
    on = f" of {host}" if host else ""
    named = f", operation {safe(known['operation'])}" if known.get("operation") else ""
    parts = [f"{method} {where}{on}{named} ({_body(known.get('body'))})"]
    body = known.get("body")
    graphql = body.get("graphql") if isinstance(body, dict) else None
    if isinstance(graphql, dict):
        fields = _strings(graphql, "fields")
        parts.append(f"GraphQL {safe(graphql.get('operation', '?'))} of {_listed(fields) or 'nothing named'}")
    if overrides := _strings(known, "overrides"):
        parts.append(f"the target may take it for another method ({_listed(overrides)})")
    return parts


def _body(body: object) -> str:
    kind = body.get("kind") if isinstance(body, dict) else None
    match kind:
        case "none":
            return "no body"
        case "unread" | None:
            return "its body was not read"
        case "json" if isinstance(body, dict) and "json" in body:
            return f"JSON body read, {len(orjson.dumps(body['json'])):,} bytes without white space"
        case other:
            return f"body read, {safe(other)}"


def _message(known: Mapping[str, Any], *, values: bool) -> str:
    server = f" of MCP server {safe(known.get('server', '?'))}"
    if "tool" not in known:
        uri = f" of {safe(known['uri'])}" if values and known.get("uri") else ""
        return f"sends {safe(known.get('method', '?'))}{uri}, a message of the protocol,{server.replace(' of', ' to')}"
    arguments = known.get("arguments")
    if not isinstance(arguments, dict):
        return f"asks for tool {safe(known['tool'])}{server}"
    if not values or not arguments:
        given = f" with {len(arguments)} argument{'s' * (len(arguments) > 1)}" if arguments else " without arguments"
    else:
        pairs = [f"{safe(name)} {safe(_json(value))}" for name, value in list(arguments.items())[:_LISTED]]
        given = f" with {', '.join(pairs)}" + (
            f" and {len(arguments) - _LISTED} more" if len(arguments) > _LISTED else ""
        )
    return f"calls tool {safe(known['tool'])}{given}{server}"


# --- what holds for all ---


def _warnings(known: Mapping[str, Any], *, values: bool) -> list[str]:
    parts = []
    if known and known.get("opaque") is not False:
        why = f" ({safe(known.get('opaque', 'not said'))})" if values else ""
        parts.append(f"NOT UNDERSTOOD in full, so it may do anything{why}")
    if minted := _strings(known, "mints_access"):
        parts.append(f"gives a way around the proxy ({_listed(minted)})")
    if beyond := _strings(known, "reaches_beyond"):
        said = beyond if values else list(dict.fromkeys(map(_without_value, beyond)))
        parts.append(f"runs or reaches {_listed(said)}")
    return parts


def _without_value(beyond: str) -> str:
    """Names of the target's own objects stay; of a file, a program or another session only what kind of thing it is."""
    return beyond if beyond.startswith(_OBJECTS) else beyond.split(" ", 1)[0]


def _estimated(estimate: Mapping[str, Any] | None) -> list[str]:
    rows = (estimate or {}).get("rows")
    return [f"about {rows:,.0f} rows (an estimate)"] if isinstance(rows, int | float) and rows >= 0 else []


def _owners(known: Mapping[str, Any], owners: Mapping[str, Sequence[str]]) -> str:
    found: dict[str, None] = {}
    for relation in _objects(known, "relations"):
        if relation.get("access") != "read":
            found.update(dict.fromkeys(owners.get(str(relation.get("dataset")), ())))
    names = [name.removeprefix("group:") for name in found]
    return f"{'owner' if len(names) == 1 else 'owners'} {_listed(names)}" if names else ""


def _names(relations: Sequence[Mapping[str, Any]]) -> str:
    return _listed(list(dict.fromkeys(str(each.get("dataset", "?")) for each in relations)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(safe, names[:_LISTED])) + more


def safe(said: object) -> str:
    """Foreign words: one line, not long, nothing in them that anything could take for more than letters."""
    text = shown(said if isinstance(said, str) else _json(said), limit=_WORD)
    return _MARKUP.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return "?"


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        document = orjson.loads(raw)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _objects(known: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    values = known.get(key)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _strings(known: Mapping[str, Any], key: str) -> list[str]:
    values = known.get(key)
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []
