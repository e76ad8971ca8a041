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
DOCUMENTS = [("input", each) for each in (STATEMENT, ADMINISTRATION, CONNECT)] + [
    ("decision", each) for each in (GRANT, HOLD)
]

VALUES = st.sampled_from([None, True, False, 0, 1, -1, 1.0, 0.5, "", "x", "approve", "deny", [], [1], {}, {"a": 1}])


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
                at[draw(st.sampled_from(["surprise", "opaque", "until", "value", "except"]))] = copy.deepcopy(
                    draw(VALUES)
                )
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
