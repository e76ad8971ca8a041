"""The compiled schemas say of every document what a general validator says of it."""

import copy
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.library import library_dir
from pdp.schema import compile_schema


def schema(name: str) -> dict[str, Any]:
    return json.loads((library_dir() / "schemas" / name).read_bytes())


INPUT, DECISION = schema("input.json"), schema("decision.json")
CHECKS = {name: compile_schema(each) for name, each in (("input", INPUT), ("decision", DECISION))}
ORACLES = {name: jsonschema.Draft7Validator(each) for name, each in (("input", INPUT), ("decision", DECISION))}

STATEMENT = {
    "subject": {"type": "agent", "id": "a", "properties": {"groups": ["g"], "workflow": {"graph": "x", "node": "y"}}},
    "action": {
        "name": "query",
        "properties": {
            "statement": {"text": "select 1", "parameters": [1, None]},
            "postgres": {
                "opaque": False,
                "mints_access": [],
                "class": "read",
                "kind": "select",
                "reaches_beyond": [],
                "relations": [{"dataset": "public.u", "schema": "public", "name": "u", "access": "read"}],
                "columns": [{"dataset": "public.u", "field": "id", "usage": ["output"]}],
                "pins": [{"dataset": "public.u", "field": "id", "value": 1}],
                "functions": [],
                "limit": 10,
            },
        },
    },
    "resource": {"type": "postgres", "id": "shop", "properties": {"labels": {"env": "demo"}}},
    "context": {
        "time": "2026-11-24T10:00:00Z",
        "session": {"id": "s"},
        "batch": {"index": 0, "size": 1},
        "facts": {"estimate": {"rows": 5}},
        "approval": {"id": "1", "state": "approved", "requirements": [{}], "by": []},
    },
}
ADMINISTRATION = copy.deepcopy(STATEMENT) | {
    "action": {"name": "approve", "properties": {"checkrein": {"target": "x"}}},
    "resource": {"type": "checkrein", "id": "checkrein", "properties": {"labels": {}}},
}
CONNECT = copy.deepcopy(STATEMENT) | {"action": {"name": "connect", "properties": {}}}
REQUEST: dict[str, Any] = copy.deepcopy(STATEMENT) | {
    "action": {
        "name": "request",
        "properties": {
            "statement": {"text": "POST /refunds?dry=1"},
            "http": {
                "opaque": False,
                "mints_access": [],
                "method": "POST",
                "scheme": "https",
                "host": "pay.example",
                "path": "/refunds",
                "segments": ["refunds"],
                "query": {"dry": ["1"]},
                "headers": {"accept": ["application/json"]},
                "overrides": [],
                "operation": "refund",
                "route": "/refunds",
                "parameters": {"dry": True},
                "body": {"kind": "json", "json": {"amount": 5}},
            },
        },
    },
    "resource": {"type": "http", "id": "pay", "properties": {"labels": {}}},
}
TOOL: dict[str, Any] = copy.deepcopy(REQUEST) | {
    "action": {
        "name": "tool",
        "properties": {
            "mcp": {
                "opaque": False,
                "mints_access": [],
                "server": "pay",
                "method": "tools/call",
                "tool": "search",
                "arguments": {"q": "x"},
            }
        },
    }
}
REQUIREMENT = {
    "policy": "p",
    "code": "c",
    "approvers": ["group:x"],
    "count": 1,
    "wait": "15m",
    "grant": {"uses": 1, "for": "1h", "reach": "exact"},
    "separate_people": True,
}
GRANT = {
    "verdict": "mask",
    "reasons": [{"code": "x", "policy": "p", "instead": ["y"]}],
    "masks": [
        {"dataset": "d", "field": "*", "except": ["id"], "method": "null"},
        {"dataset": "d", "field": "a", "method": "partial", "prefix": 1, "pad": "*", "suffix": 0},
        {"dataset": "d", "field": "b", "method": "constant", "value": 3},
        {"dataset": "d", "field": "c", "method": "generalize", "step": "day"},
    ],
    "obligations": {"limit_rows": {"max": 3, "on_excess": "fail"}, "read_only": True, "set_headers": {"a": "b"}},
    "requirements": [],
    "needs": [],
    "exempted": [{"policy": "a", "code": "b", "by": "c", "reason": "d"}],
    "valid_until": "2026-11-24T10:00:00Z",
}
HOLD = GRANT | {"verdict": "require_approval", "requirements": [REQUIREMENT]}
DOCUMENTS = [("input", each) for each in (STATEMENT, ADMINISTRATION, CONNECT, REQUEST, TOOL)] + [
    ("decision", each) for each in (GRANT, HOLD)
]

VALUES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        1.0,
        0.5,
        "",
        "x",
        "approve",
        "deny",
        "tool",
        "http",
        "form",
        "none",
        [],
        [1],
        {},
        {"a": 1},
    ]
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    name, document = draw(st.sampled_from(DOCUMENTS))
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 2))):
        *parents, last = draw(st.sampled_from([place for place in places(document) if place]))
        at = document
        for step in parents:
            at = at[step]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                at[last] = copy.deepcopy(draw(VALUES))
            case "remove":
                del at[last]
            case "add" if isinstance(at, dict):
                at[
                    draw(
                        st.sampled_from(
                            ["surprise", "opaque", "until", "value", "except", "http", "mcp", "json", "form"]
                        )
                    )
                ] = copy.deepcopy(draw(VALUES))
    return name, document


@settings(max_examples=400, deadline=None)
@given(mutations())
def test_it_agrees_with_a_general_validator(case: tuple[str, Any]):
    name, document = case
    assert (CHECKS[name](document) is None) == ORACLES[name].is_valid(document)


@pytest.mark.parametrize(("name", "document"), DOCUMENTS)
def test_the_examples_fit(name: str, document: Any):
    assert CHECKS[name](document) is None


def test_a_mismatch_names_the_place_and_no_value():
    document = copy.deepcopy(STATEMENT)
    document["action"]["properties"]["postgres"]["relations"][0]["access"] = "a secret"
    wrong = str(CHECKS["input"](document))
    assert wrong.startswith("action.properties.postgres.relations.0.access: must be one of read, ")
    assert "secret" not in wrong


def test_true_is_not_one_and_a_line_feed_is_not_the_end():
    assert compile_schema({"const": 1})(True) is not None
    assert compile_schema({"enum": [True]})(1) is not None
    assert compile_schema({"type": "integer"})(True) is not None
    assert compile_schema({"pattern": "^a$"})("a\n") is not None


@pytest.mark.parametrize("broken", [{"typ": "object"}, {"properties": {"a": {"oneOf": []}}}, {"$ref": "#/nowhere"}])
def test_what_is_not_known_in_a_schema_is_an_error_at_once(broken: Any):
    with pytest.raises(ValueError, match=r"keyword|no #"):
        compile_schema(broken)


def changed(document: Any, path: str, value: Any) -> Any:
    document = copy.deepcopy(document)
    *parents, last = path.split(".")
    at = document
    for step in parents:
        at = at[step]
    at[last] = value
    return document


HTTP, MCP = REQUEST["action"]["properties"]["http"], TOOL["action"]["properties"]["mcp"]
QUERY = {"operation": "query", "fields": ["orders.id"]}


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        (REQUEST, "action.name", "query"),
        (REQUEST, "action.name", "tool"),
        (REQUEST, "action.name", "connect"),
        (REQUEST, "action.properties", {}),
        (REQUEST, "action.properties", {"mcp": MCP}),
        (REQUEST, "action.properties", {"http": HTTP, "mcp": MCP}),
        (REQUEST, "action.properties", {"http": HTTP, "mcp": MCP, "statement": {"text": "x"}}),
        (REQUEST, "resource.type", "postgres"),
        (REQUEST, "resource.type", "checkrein"),
        (TOOL, "action.name", "request"),
        (TOOL, "action.properties.mcp", {key: value for key, value in MCP.items() if key != "tool"}),
        (STATEMENT, "resource.type", "http"),
        *[(REQUEST, "action.properties.http.body", body) for body in (
            {"kind": "json"}, {"kind": "none", "json": 1}, {"kind": "unread", "json": 1}, {"kind": "graphql"},
            {"kind": "graphql", "graphql": {"operation": "query"}}, {"kind": "form", "json": 1}, {"kind": "form"},
            {"kind": "multipart"}, {"kind": "multipart", "parts": ["a"], "form": {}},
            {"kind": "json", "json": 1, "form": {}},
            {"kind": "opaque", "graphql": QUERY}, {"kind": "text", "parts": []}, {"kind": "xml"}, {"json": 1}, {},
        )],
        *[(REQUEST, f"action.properties.http.{key}", None) for key in HTTP],
        *[(TOOL, f"action.properties.mcp.{key}", None) for key in MCP],
        (REQUEST, "action.properties.http.query", {"dry": "1"}),
        (REQUEST, "action.properties.http.headers", {"accept": "x"}),
    ],
)  # fmt: skip
def test_what_a_proxy_of_http_may_not_say(document: Any, path: str, value: Any):
    assert CHECKS["input"](changed(document, path, value)) is not None


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        (REQUEST, "action.name", "upgrade"),
        (TOOL, "action.name", "message"),
        (CONNECT, "resource.type", "http"),
        *[(REQUEST, "action.properties.http.body", body) for body in (
            {"kind": "none"}, {"kind": "unread"}, {"kind": "opaque"}, {"kind": "text"}, {"kind": "json", "json": None},
            {"kind": "form", "form": {"a": ["1", "2"]}}, {"kind": "multipart", "parts": ["a"]},
            {"kind": "graphql", "json": {"query": "{id}"},
             "graphql": QUERY | {"name": "orders", "aliases": {"o": "orders"}}},
        )],
    ],
)  # fmt: skip
def test_what_a_proxy_of_http_may_say(document: Any, path: str, value: Any):
    assert CHECKS["input"](changed(document, path, value)) is None
