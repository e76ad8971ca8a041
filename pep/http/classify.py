"""From a request to its actions: what policy is asked about, and the body as it is forwarded.

Pure. `classify` takes a head that was read strictly, its path in canonical form, and the body where one was read. What
cannot be told raises Unclassifiable or Ambiguous; what is understood in part says so in `opaque`. The properties are
valid against `input.json#/$defs/http` and `#/$defs/mcp`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never
from urllib.parse import quote, unquote_plus

import orjson

from pep.core.model import Action, Statement
from pep.core.translate import reads
from pep.http import bodies, graphql, mcp, mcp_fields, secrets
from pep.http.bodies import Form, Json, Multipart, Nothing, Opaque, Text, Unclassifiable
from pep.http.mcp import Call
from pep.http.messages import Fields, Length, NoBody, RequestHead
from pep.http.openapi import OpenApi
from pep.http.paths import Path, normalise, query_pairs

if TYPE_CHECKING:
    from pep.http.config import Route

__all__ = ["STRIPPED_UPSTREAM", "ClassifySettings", "Request", "Unclassifiable", "classify", "is_mcp", "needs_body"]

BODY_PATH: Final = "action.properties.http.body"

_METHOD_FIELDS: Final = frozenset(
    {
        "x-forwarded-method",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-method",
        "x-rewrite-method",
    }
)
_TARGET_FIELDS: Final = frozenset(
    {
        "forwarded",
        "x-envoy-original-path",
        "x-forwarded-host",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-forwarded-uri",
        "x-host",
        "x-http-host-override",
        "x-original-host",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
        "x-script-name",
    }
)
_PROXY_FIELDS: Final = frozenset(
    {"x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-scheme", "x-real-ip"}
)


def _spellings(names: Iterable[str]) -> frozenset[str]:
    """With each hyphen also as an underscore: servers of the CGI kind take both for one name."""
    return frozenset(
        "".join(letters)
        for name in names
        for letters in itertools.product(*(("-", "_") if letter == "-" else (letter,) for letter in name))
    )


# Header fields, in lower case, that are never forwarded: on a proxy's word, where a request came from and goes to.
STRIPPED_UPSTREAM: Final = _spellings(_TARGET_FIELDS | _PROXY_FIELDS)

# Names of form fields that servers take for the method; PHP reads a dot, a blank and a bracket as an underscore.
_METHOD_NAME: Final = re.compile(
    r" *(?:[_.\[ ]method|(?:x[-_]http[-_]method(?:[-_]override)?|x[-_]method[-_]override))(?:\[.*)?"
)
_METHOD_ANYWHERE: Final = re.compile(r"[_.\[ ]method|method[-_]override|x[-_]http[-_]method", re.IGNORECASE)
_FORM_TYPES: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

# What names a document to a GraphQL server, folded; the last ones name one that is kept there.
_GRAPHQL_NAMES: Final = frozenset(name.casefold() for name in graphql.MEMBERS) | {
    "doc_id",
    "documentid",
    "hash",
    "id",
    "persistedquery",
    "queryid",
}

# For people, also names that policies have to see the values of.
_SECRET_NAME: Final = re.compile(r"credential|signature|token|^key$|^code$|session|^auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ClassifySettings:
    """What of the proxy's configuration decides how a request is read. `server` is the resource's name."""

    scheme: str
    headers_in_input: frozenset[str] = frozenset()
    body_limit: int = 1 << 20
    mcp_paths: tuple[str, ...] = ()
    graphql_paths: tuple[str, ...] = ()
    openapi: OpenApi | None = None
    server: str = ""
    mints_access: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """`actions`: the request's own, then one for each of `calls`. `forward` is the body as this proxy writes it.

    `forward` is None where the body goes on as it came, read or not.
    """

    actions: tuple[Action, ...]
    forward: bytes | None = None
    calls: tuple[Call, ...] = ()
    graphql: graphql.Document | None = None
    mcp: bool = False  # it is sent to an endpoint of MCP


@dataclass(frozen=True, slots=True)
class Content:
    """What the body says. `bound` is what an approval is bound to that the properties do not say."""

    properties: dict[str, Any]
    forward: bytes | None = None
    opaque: str = ""
    names: tuple[str, ...] = ()
    bound: tuple[Any, ...] = ()
    calls: tuple[mcp.Call, ...] = ()
    graphql: graphql.Document | None = None


def needs_body(head: RequestHead, settings: ClassifySettings, paths: frozenset[str]) -> bool:
    """Whether the body has to be read before anything is decided; `paths` are those that policies read.

    Besides what policies read, endpoints of MCP and GraphQL, this is what a form may say about the method of a POST.
    """
    if not _has_body(head):
        return False
    if reads(paths, BODY_PATH) or _is_form_post(head):
        return True
    segments = normalise(head.path).segments
    return _is_endpoint(segments, settings.mcp_paths) or _is_endpoint(segments, settings.graphql_paths)


def classify(
    head: RequestHead, path: Path, body: bytes | None, settings: ClassifySettings, content: Content | None = None
) -> Request:
    """The request's actions; `body` None where it was not read. Raises Unclassifiable, Ambiguous.

    `content` is `content_of` the same request, where it is known already.
    """
    pairs = () if head.query is None else query_pairs(head.query)
    if content is None:
        content = content_of(head, path, body, settings)
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    found = settings.openapi.find(head.method, path.segments, query) if settings.openapi else None
    headers = {name: list(values) for name in sorted(settings.headers_in_input) if (values := head.fields.all(name))}
    said = {"query": query, "headers": headers, "parameters": dict(found.parameters) if found else {}}
    shown = secrets.hidden(said)
    bound = (
        content.bound
        if shown is said
        else (*content.bound, *secrets.bound(orjson.dumps({"query": query, "headers": headers})))
    )
    properties: dict[str, Any] = {
        "opaque": content.opaque or (found.opaque if found else "") or False,
        "mints_access": _mints_access(head, path, settings),
        "method": head.method,
        "scheme": settings.scheme,
        "host": head.host,
        "path": path.text,
        "segments": list(path.segments),
        "query": shown["query"],
        "headers": shown["headers"],
        "overrides": _overrides(head.fields, [*(name for name, _ in pairs), *content.names]),
        "body": content.properties,
    }
    if found:
        properties |= {"route": found.operation.route, "parameters": shown["parameters"]}
        if found.operation.id:
            properties["operation"] = found.operation.id
    name = "upgrade" if head.upgrade else "request"
    action = Action(name, "http", properties, Statement(_line(head.method, path, pairs), bound))
    actions = (action, *(call.action for call in content.calls))
    return Request(actions, content.forward, content.calls, content.graphql, is_mcp(path, settings))


# --- the body ---------------------------------------------------------------------------------------------------------


def content_of(head: RequestHead, path: Path, data: bytes | None, settings: ClassifySettings) -> Content:
    """What the body says: the part of the work that grows with it. Raises Unclassifiable, Ambiguous."""
    asks_graphql = is_graphql(path, settings)
    if data is None and _has_body(head):
        # Whatever a mask is due on later, what the query asked for is not known.
        return Content({"kind": "unread"}, graphql=graphql.unknown("its body was not read") if asks_graphql else None)
    if data is not None and len(data) > settings.body_limit:
        raise Unclassifiable(f"its body is longer than {settings.body_limit} bytes")
    body = bodies.read(head.fields, data or b"")
    if asks_graphql:
        pairs = () if head.query is None else query_pairs(head.query)
        return _graphql(body, dict(_asked_by_query(pairs)), data or b"")
    content = _plain(body, data or b"")
    if _is_endpoint(path.segments, settings.mcp_paths):
        if isinstance(body, Nothing):
            if why := mcp_fields.misrouted(head.fields, ()):
                raise Unclassifiable(why)
            return content
        if not isinstance(body, Json):
            return _opaque(content, "a message of MCP must be JSON")
        carried = mcp.carried(body, settings.server)
        if carried.opaque:
            return _opaque(content, carried.opaque)
        if why := mcp_fields.misrouted(head.fields, carried.calls):
            raise Unclassifiable(why)
        return Content(content.properties, content.forward, bound=content.bound, calls=carried.calls)
    if isinstance(body, Opaque) and _is_form_post(head) and _METHOD_ANYWHERE.search(unquote_plus(_loose(data))):
        # Without a type, or in a charset of its own, it may be a form for the target.
        return _opaque(content, content.opaque, names=("_method",))
    return content


def _plain(body: bodies.Body, data: bytes) -> Content:
    """What a body of no protocol of its own says."""
    match body:
        case Nothing():
            return Content({"kind": "none"})
        case Json(value, shown, forward):
            names = tuple(value) if isinstance(value, dict) else ()
            said, bound = _without_secrets(shown, forward)
            return Content({"kind": "json", "json": said}, forward, names=names, bound=bound)
        case Form(pairs, forward):
            values: dict[str, list[str]] = {}
            for name, value in pairs:
                values.setdefault(name, []).append(value)
            said = secrets.hidden(values)
            bound = () if said is values else secrets.bound(forward)
            return Content({"kind": "form", "form": said}, forward, names=tuple(values), bound=bound)
        case Multipart(names, forward):
            parts = list(map(secrets.text, names))
            return Content({"kind": "multipart", "parts": parts}, forward, names=names, bound=_digest(forward))
        case Text():
            # What a target makes of text is not known: some read JSON, whatever its type.
            return Content({"kind": "text"}, opaque="the body is text, which is not looked into", bound=_digest(data))
        case Opaque(reason):
            return Content({"kind": "opaque"}, opaque=reason, bound=_digest(data))
        case never:
            assert_never(never)


def _graphql(body: bodies.Body, asked: Mapping[str, str], data: bytes) -> Content:
    """`asked` are GraphQL's parameters in the query, by their names."""
    said: dict[str, Any] = {}
    forward = None
    bound: tuple[Any, ...] = ()
    match body:
        case Nothing() if not asked:
            return Content({"kind": "none"}, graphql=graphql.unknown("the request holds no document"))
        case Nothing():
            members: dict[str, Any] = dict(asked)
            for name in ("variables", "extensions"):
                if name in members:
                    members[name] = bodies.exact_json(members[name])
            document = graphql.read(members)
        case _ if asked.keys() - {"operationName", "variables"} or (asked and not isinstance(body, Text)):
            raise Unclassifiable("its GraphQL document is in the query and in the body")
        case Text(text, "application/graphql"):
            document, forward = graphql.document(text, asked.get("operationName")), text.encode()
        case Json(value, shown, written):
            kept, bound = _without_secrets(shown, written)
            document, forward, said = graphql.read(value), written, {"json": kept}
        case Form() | Multipart() | Text() | Opaque():
            plain = _plain(body, data)
            reason = "a GraphQL request that is no JSON is not looked into"
            return Content(
                plain.properties, plain.forward, reason, plain.names, plain.bound, graphql=graphql.unknown(reason)
            )
        case never:
            assert_never(never)
    if document.opaque:
        kind = {"kind": "json" if said else "none"}
        return Content(kind | said, forward, document.opaque, bound=bound, graphql=document)
    # An approval of what is no JSON is bound to the text.
    if forward is not None and not said:
        bound = _digest(forward)
    properties = {"kind": "graphql", **said, "graphql": document.properties()}
    return Content(properties, forward, bound=bound, graphql=document)


def _without_secrets(said: Any, written: bytes) -> tuple[Any, tuple[Any, ...]]:
    """What a body says as it may be kept, and what an approval is bound to where that is not all of it."""
    kept = secrets.hidden(said) if secrets.suspicious(written) else said
    return kept, () if kept is said else secrets.bound(written)


def _asked_by_query(pairs: tuple[tuple[str, str], ...]) -> Iterable[tuple[str, str]]:
    """GraphQL's parameters in the query, and what names a document that is kept elsewhere."""
    seen: set[str] = set()
    for name, value in pairs:
        folded = name.casefold()
        if folded not in _GRAPHQL_NAMES:
            continue
        if folded in seen:
            raise Unclassifiable("a parameter of its GraphQL request stands in the query twice")
        seen.add(folded)
        yield name, value


def _loose(data: bytes | None) -> str:
    return (data or b"").decode("latin-1")


def _opaque(content: Content, reason: str, names: tuple[str, ...] = ()) -> Content:
    return Content(content.properties, content.forward, reason, names or content.names, content.bound)


def _digest(data: bytes) -> tuple[Any, ...]:
    return ({"body": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}},)


# --- the head ---------------------------------------------------------------------------------------------------------


def _has_body(head: RequestHead) -> bool:
    return not isinstance(head.framing, NoBody) and head.framing != Length(0)


def _is_form_post(head: RequestHead) -> bool:
    if head.method.upper() != "POST":
        return False
    values = head.fields.all("Content-Type")
    return not values or any(value.partition(";")[0].strip().lower() in _FORM_TYPES for value in values)


def is_graphql(path: Path, settings: ClassifySettings) -> bool:
    return _is_endpoint(path.segments, settings.graphql_paths)


def is_mcp(path: Path, settings: ClassifySettings) -> bool:
    return _is_endpoint(path.segments, settings.mcp_paths)


def _is_endpoint(segments: Iterable[str], endpoints: Sequence[str]) -> bool:
    """As the most lenient of servers reads it: an endpoint too many is read, and denied where it is none."""
    if not endpoints:
        return False
    asked = _folded(segments)
    return any(_folded(endpoint.split("/")) == asked for endpoint in endpoints)


def _folded(segments: Iterable[str]) -> list[str]:
    return [segment.casefold() for segment in segments if segment]


def _mints_access(head: RequestHead, path: Path, settings: ClassifySettings) -> list[str]:
    named = [str(route) for route in settings.mints_access if route.matches(head.method, path.segments)]
    marked = settings.openapi.mints_access(head.method, path.segments) if settings.openapi else ()
    return [*named, *marked]


def _overrides(fields: Fields, names: Iterable[str]) -> list[str]:
    """What may make a server read another method or target, by name."""
    known: Callable[[str], bool] = (_METHOD_FIELDS | _TARGET_FIELDS).__contains__
    headers = [folded for name, _ in fields if known(folded := name.lower().replace("_", "-"))]
    return list(dict.fromkeys([*headers, *overriding(names)]))


def overriding(names: Iterable[str]) -> tuple[str, ...]:
    """Those names of a form's or a document's members that may make a server read another method."""
    return tuple(name for name in names if _METHOD_NAME.fullmatch(name.casefold()))


def _line(method: str, path: Path, pairs: Iterable[tuple[str, str]]) -> str:
    """The request in one line, for people; what looks like a secret is left out."""
    shown = []
    for name, value in pairs:
        said = secrets.HIDDEN if _is_secret(name, value) else quote(value, safe=",:/@")
        shown.append(f"{quote(secrets.text(name), safe='[]*')}={said}")
    return f"{method} {path.text}" + (f"?{'&'.join(shown)}" if shown else "")


def _is_secret(name: str, value: str) -> bool:
    return _SECRET_NAME.search(name) is not None or secrets.is_secret(name) or secrets.text(value) != value
