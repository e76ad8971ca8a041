import json

import jsonschema
import pytest

from pdp.library import library_dir
from pep.core.model import digest_of
from pep.http import mcp, openapi
from pep.http.classify import STRIPPED_UPSTREAM, ClassifySettings, Unclassifiable, classify, needs_body
from pep.http.config import Route
from pep.http.messages import Chunked, Fields, Length, NoBody, RequestHead
from pep.http.paths import Ambiguous, normalise

SCHEMA = json.loads((library_dir() / "schemas" / "input.json").read_bytes())
API = openapi.parse(
    {
        "openapi": "3.1.0",
        "paths": {
            "/charges/{id}": {
                "parameters": [{"name": "id", "in": "path", "schema": {"type": "integer"}}],
                "get": {"operationId": "getCharge"},
            },
            "/tokens": {"post": {"operationId": "createToken", openapi.MINTS_ACCESS: True}},
        },
    }
)
SETTINGS = ClassifySettings(
    scheme="https",
    headers_in_input=frozenset({"accept", "x-tenant"}),
    body_limit=1000,
    mcp_paths=("/mcp",),
    graphql_paths=("/graphql",),
    openapi=API,
    server="pay",
    mints_access=(Route("POST", ("v1", "users", "*", "keys")),),
)
JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
BODY = frozenset({"action.properties.http.body"})


def head(method="GET", target="/", *fields, framing=None, upgrade=""):
    path, mark, query = target.partition("?")
    return RequestHead(
        method,
        target,
        path,
        query if mark else None,
        "pay.example",
        1,
        Fields(fields),
        framing or NoBody(),
        keep_alive=True,
        upgrade=upgrade,
    )


def classified(method="GET", target="/", *fields, body=None, **more):
    framing = None if body is None else Length(len(body))
    asked = head(method, target, *fields, framing=framing, **more)
    request = classify(asked, normalise(asked.path), body, SETTINGS)
    for action in request.actions:
        valid(action)
    return request


def valid(action):
    """Against the schema of the policy input, and such that an approval can be bound to it."""
    jsonschema.validate(action.properties, {"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{action.protocol}"})
    assert digest_of(action, "agent:a", "pay")


def http(*args, **kwargs):
    return classified(*args, **kwargs).actions[0].properties


def test_a_request_is_its_head():
    fields = (("Accept", "a"), ("X-Tenant", "t"), ("accept", "b"), ("Cookie", "secret"))
    request = classified("GET", "/a%20b/c?x=1&y=%2B&x=2", *fields)
    (action,) = request.actions
    assert (action.name, action.protocol) == ("request", "http")
    assert action.properties == {
        "opaque": False,
        "mints_access": [],
        "method": "GET",
        "scheme": "https",
        "host": "pay.example",
        "path": "/a%20b/c",
        "segments": ["a b", "c"],
        "query": {"x": ["1", "2"], "y": ["+"]},
        "headers": {"accept": ["a", "b"], "x-tenant": ["t"]},
        "overrides": [],
        "body": {"kind": "none"},
    }
    assert action.statement.text == "GET /a%20b/c?x=1&y=%2B&x=2"
    assert (request.forward, request.calls, request.graphql) == (None, (), None)


@pytest.mark.parametrize(
    "query",
    ["api_key=S3", "access_token=S3", "X-Amz-Signature=S3", "password=S3", "code=S3", "q=eyJhbGciOiJIUzI1NiJ9.S3.S3"],
)
def test_a_secret_of_the_query_is_not_in_the_statement(query):
    action = classified("GET", f"/a?{query}&b=1").actions[0]
    assert "S3" not in action.statement.text
    assert action.statement.text.endswith("=***&b=1")


def test_an_upgrade_is_an_action_of_its_own():
    assert classified("GET", "/events", upgrade="websocket").actions[0].name == "upgrade"


@pytest.mark.parametrize(
    ("fields", "target", "overrides"),
    [
        ([("X-HTTP-Method-Override", "DELETE")], "/", ["x-http-method-override"]),
        ([("x_http_method_override", "DELETE")], "/", ["x-http-method-override"]),
        ([("X-Method-Override", "PUT"), ("X-HTTP-Method", "PUT")], "/", ["x-method-override", "x-http-method"]),
        ([("X-Original-URL", "/admin"), ("Forwarded", "host=x")], "/", ["x-original-url", "forwarded"]),
        ([("X-Forwarded-Host", "x"), ("X-Forwarded-For", "1.2.3.4")], "/", ["x-forwarded-host"]),
        ([], "/?_method=DELETE", ["_method"]),
        ([], "/?_METHOD=DELETE", ["_METHOD"]),
        ([], "/?.method=DELETE", [".method"]),
        ([], "/?method=DELETE", []),
    ],
)
def test_what_makes_another_request_of_it_is_named(fields, target, overrides):
    assert http("POST", target, *fields)["overrides"] == overrides


@pytest.mark.parametrize(
    ("content_type", "body", "name"),
    [
        (FORM, b"a=1&_method=DELETE", "_method"),
        (FORM, b"%5fmethod=DELETE", "_method"),
        (FORM, b"%5Fmethod%5B%5D=DELETE", "_method[]"),
        (JSON, b'{"_method":"DELETE"}', "_method"),
        (
            ("Content-Type", "multipart/form-data; boundary=B"),
            b'--B\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--B--\r\n',
            "_method",
        ),
        (("X-Other", "1"), b"a=1;%5Fmethod=DELETE", "_method"),
        (("Content-Type", FORM[1] + "; charset=utf-7"), b"_method=DELETE", "_method"),
    ],
)
def test_a_form_may_say_another_method(content_type, body, name):
    assert needs_body(head("POST", "/", content_type, framing=Length(len(body))), SETTINGS, frozenset()) is (
        content_type != JSON
    )
    assert http("POST", "/", content_type, body=body)["overrides"] == [name]


def test_header_fields_that_are_never_forwarded_in_any_spelling():
    assert {"x-original-url", "x_original_url", "x_original-url", "x-forwarded-for", "forwarded"} <= STRIPPED_UPSTREAM
    assert "x-http-method-override" not in STRIPPED_UPSTREAM
    assert all(name == name.lower() for name in STRIPPED_UPSTREAM)


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/v1/users/7/keys", ["POST /v1/users/*/keys"]),
        ("/V1/users/7/Keys", ["POST /v1/users/*/keys"]),
        ("/tokens", ["createToken"]),
        ("/v1/users/7", []),
    ],
)
def test_what_hands_out_credentials_is_named(target, named):
    assert http("POST", target)["mints_access"] == named


def test_the_operation_and_its_typed_parameters():
    found = http("GET", "/charges/7")
    assert (found["operation"], found["route"], found["parameters"]) == ("getCharge", "/charges/{id}", {"id": 7})
    assert "operation" not in http("GET", "/other")
    assert http("GET", "/charges/x")["opaque"]


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "fields", "framing", "paths", "needed"),
    [
        ("POST", "/", [JSON], Length(5), frozenset(), False),
        ("POST", "/", [JSON], Length(5), BODY, True),
        ("POST", "/", [JSON], Chunked(), frozenset({"action.properties.http.body.json"}), True),
        ("POST", "/", [JSON], Length(5), frozenset({"action.properties.http"}), True),
        ("POST", "/", [JSON], Length(5), frozenset({"action.properties.http.bodyguard"}), False),
        ("POST", "/", [JSON], Length(0), BODY, False),
        ("GET", "/", [], NoBody(), BODY, False),
        ("POST", "/mcp", [JSON], Length(5), frozenset(), True),
        ("POST", "/MCP", [JSON], Length(5), frozenset(), True),
        ("PUT", "/graphql/", [JSON], Chunked(), frozenset(), True),
        ("POST", "/", [FORM], Length(5), frozenset(), True),
        ("POST", "/", [], Length(5), frozenset(), True),
        ("PUT", "/", [FORM], Length(5), frozenset(), False),
    ],
)
def test_a_body_is_read_where_something_depends_on_it(method, target, fields, framing, paths, needed):
    assert needs_body(head(method, target, *fields, framing=framing), SETTINGS, paths) is needed


def test_a_body_that_was_not_read_says_so_and_goes_on_as_it_comes():
    asked = head("POST", "/mcp", JSON, framing=Length(9))
    request = classify(asked, normalise("/mcp"), None, SETTINGS)
    valid(request.actions[0])
    assert request.actions[0].properties["body"] == {"kind": "unread"}
    assert (len(request.actions), request.forward) == (1, None)


def test_a_body_is_what_is_forwarded():
    request = classified("POST", "/", JSON, body=b' {"amount": 5.0} ')
    assert request.actions[0].properties["body"] == {"kind": "json", "json": {"amount": 5.0}}
    assert request.forward == b'{"amount":5.0}'
    request = classified("POST", "/", FORM, body=b"a=%31&b=2&a=3")
    assert request.actions[0].properties["body"] == {"kind": "form", "form": {"a": ["1", "3"], "b": ["2"]}}
    assert request.forward == b"a=1&b=2&a=3"
    assert http("POST", "/", JSON, body=b"")["body"] == {"kind": "none"}
    assert http("POST", "/", JSON, body=b"null")["body"] == {"kind": "json", "json": None}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ([("Content-Type", "text/plain")], "text"),
        ([("Content-Type", "image/png")], "opaque"),
        ([("Content-Type", "application/json; charset=utf-16")], "opaque"),
        ([], "opaque"),
    ],
)
def test_a_body_that_is_not_looked_into_is_opaque_and_an_approval_is_bound_to_it(fields, kind):
    one, other = (classified("POST", "/", *fields, body=body).actions[0] for body in (b'{"a":1}', b'{"a":2}'))
    assert one.properties["body"] == {"kind": kind}
    assert one.properties["opaque"]
    assert digest_of(one, "agent:a", "pay") != digest_of(other, "agent:a", "pay")


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([JSON], b'{"a":1,"A":2}'),
        ([JSON], b"{"),
        ([JSON, ("Content-Encoding", "gzip")], b"{}"),
        ([JSON, ("Content-Type", "text/plain")], b"{}"),
        ([JSON], b'"' + b"a" * 1000 + b'"'),
        ([FORM], b"a=1;b=2"),
    ],
)
def test_a_body_that_cannot_be_told_is_denied_without_asking(fields, body):
    with pytest.raises(Unclassifiable):
        classified("POST", "/", *fields, body=body)


def test_a_query_that_can_be_read_in_two_ways_is_refused():
    with pytest.raises(Ambiguous):
        classified("GET", "/?a=%zz")


# --- GraphQL ----------------------------------------------------------------------------------------------------------


def test_a_graphql_request_in_json():
    request = classified("POST", "/graphql", JSON, body=b'{"query": "{ o: orders { id } }"}')
    assert request.actions[0].properties["body"] == {
        "kind": "graphql",
        "json": {"query": "{ o: orders { id } }"},
        "graphql": {
            "operation": "query",
            "fields": ["orders", "orders.id"],
            "aliases": {"o": "orders", "o.id": "orders.id"},
        },
    }
    assert request.graphql.aliases == {"o": "orders", "o.id": "orders.id"}
    assert request.forward == b'{"query":"{ o: orders { id } }"}'


def test_a_graphql_request_as_a_document_and_in_the_query():
    graphql = ("Content-Type", "application/graphql")
    request = classified("POST", "/graphql?operationName=B", graphql, body=b"query A { a } mutation B { b }")
    assert request.actions[0].properties["body"]["graphql"]["operation"] == "mutation"
    assert request.forward == b"query A { a } mutation B { b }"
    request = classified("GET", "/GraphQL/?query=mutation%20%7Bx%3Aa%7D&trace=1&variables=%7B%7D")
    assert request.actions[0].properties["body"]["graphql"] == {
        "operation": "mutation",
        "fields": ["a"],
        "aliases": {"x": "a"},
    }
    assert request.graphql.aliases == {"x": "a"}


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("POST", "/graphql?query=%7Ba%7D", [JSON], b'{"query":"{b}"}'),
        ("POST", "/graphql?operationName=A", [JSON], b'{"query":"query A{a} mutation B{b}","operationName":"B"}'),
        ("POST", "/graphql?query=%7Ba%7D", [("Content-Type", "application/graphql")], b"{b}"),
        ("GET", "/graphql?query=%7Ba%7D&query=%7Bb%7D", [], None),
        ("GET", "/graphql?QUERY=%7Ba%7D", [], None),
        ("GET", "/graphql?query=%7Ba%7D&variables=1", [], None),
        ("GET", "/graphql?query=%7Ba%7D&extensions=%7B", [], None),
        ("POST", "/graphql", [JSON], b'{"query":"{a"}'),
        ("POST", "/graphql", [JSON], b'"text"'),
    ],
)
def test_graphql_that_cannot_be_told_is_denied_without_asking(method, target, fields, body):
    with pytest.raises(Unclassifiable):
        classified(method, target, *fields, body=body)


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("POST", "/graphql", [JSON], b'{"extensions":{"persistedQuery":{"sha256Hash":"x"}}}'),
        ("GET", "/graphql?extensions=%7B%22persistedQuery%22%3A%7B%7D%7D", [], None),
        ("GET", "/graphql?documentId=x", [], None),
        ("POST", "/graphql", [FORM], b"query=%7Ba%7D"),
        ("POST", "/graphql", [("Content-Type", "text/plain")], b'{"query":"{a}"}'),
        ("POST", "/graphql", [], b'{"query":"{a}"}'),
    ],
)
def test_graphql_that_is_not_known_is_opaque_and_its_result_has_unknown_aliases(method, target, fields, body):
    request = classified(method, target, *fields, body=body)
    assert request.actions[0].properties["opaque"]
    assert request.graphql.aliases is None


# --- MCP --------------------------------------------------------------------------------------------------------------


def test_calls_are_actions_beside_the_request_that_carries_them():
    body = b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"refund"}},{"jsonrpc":"2.0","method":"n"}]'
    request = classified("POST", "/mcp", JSON, body=body)
    assert [(action.name, action.protocol) for action in request.actions] == [
        ("request", "http"),
        ("tool", "mcp"),
        ("message", "mcp"),
    ]
    assert request.actions[0].properties["opaque"] is False
    assert request.actions[1].properties["server"] == "pay"
    assert tuple(call.action for call in request.calls) == request.actions[1:]
    assert request.forward == body


@pytest.mark.parametrize(
    ("fields", "body"), [([JSON], b"[]"), ([JSON], b'{"a":1}'), ([("Content-Type", "text/plain")], b"{}"), ([], b"{}")]
)
def test_what_is_no_message_of_mcp_is_opaque(fields, body):
    request = classified("POST", "/mcp", *fields, body=body)
    assert request.actions[0].properties["opaque"]
    assert request.calls == ()


def test_the_question_whether_a_tool_may_be_shown():
    action = mcp.tool_action("refund", SETTINGS)
    valid(action)
    assert "arguments" not in action.properties
    assert action.properties["tool"] == "refund"
