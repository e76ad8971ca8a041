"""The examples: their inputs are what the schema says, and their answers are what the entrypoint says."""

import json
from typing import Any

import jsonschema
import pytest

from pdp.policy_absent import variants

from .conftest import REGO, Ask, Question

INPUT = json.loads((REGO / "schemas" / "input.json").read_text())
DECISION = json.loads((REGO / "schemas" / "decision.json").read_text())


def fits_input(document: Any) -> bool:
    return bool(jsonschema.Draft7Validator(INPUT).is_valid(document))


def test_schemas_are_schemas() -> None:
    jsonschema.Draft7Validator.check_schema(INPUT)
    jsonschema.Draft202012Validator.check_schema(DECISION)


def test_examples_are_answered_as_expected(ask: Ask, examples: dict[str, Any]) -> None:
    answers = ask({name: Question(each["input"], each["input"]["resource"]) for name, each in examples.items()})
    assert answers == {name: example["expected"] for name, example in examples.items()}


def test_examples_are_of_the_schemas(examples: dict[str, Any]) -> None:
    for name, example in examples.items():
        jsonschema.Draft7Validator(INPUT).validate(example["input"])
        jsonschema.Draft202012Validator(DECISION).validate(example["expected"])
        assert example["expected"]["verdict"] != "incomplete", name


def test_an_action_of_a_proxy_is_valid_by_itself(examples: dict[str, Any]) -> None:
    validator = jsonschema.Draft7Validator({"$ref": "#/$defs/postgres", "$defs": INPUT["$defs"]})
    properties = examples["agent-reads-orders"]["input"]["action"]["properties"]["postgres"]
    validator.validate(properties)
    for key in INPUT["$defs"]["postgres"]["required"]:
        assert not validator.is_valid({name: value for name, value in properties.items() if name != key}), key
    assert not validator.is_valid(properties | {"opaque": True})
    assert not validator.is_valid(properties | {"opaque": ""})
    assert not validator.is_valid(properties | {"mints_access": False})
    assert not validator.is_valid(properties | {"writes": False})


def test_nothing_in_an_input_is_null_and_no_key_is_unknown(examples: dict[str, Any]) -> None:
    document = examples["agent-deletes-stale-orders-approved"]["input"]
    for variant in variants(document):
        if variant.change == "null":
            assert not fits_input(variant.document), variant
    for part in ("subject", "action", "resource", "context"):
        assert not fits_input(document | {part: document[part] | {"unknown": 1}}), part


@pytest.mark.parametrize(
    ("example", "change"),
    [
        ("agent-connects", {"properties": {"statement": {"text": "select 1"}}}),
        ("agent-reads-orders", {"name": "approve"}),
        ("agent-reads-orders", {"name": "exec"}),
        ("agent-reads-orders", {"properties": {}}),
        ("approver-lists-approvals", {"name": "query"}),
        ("approver-lists-approvals", {"properties": {"statement": {"text": "select 1"}}}),
    ],
)
def test_an_action_fits_its_resource(examples: dict[str, Any], example: str, change: dict[str, Any]) -> None:
    document = examples[example]["input"]
    assert fits_input(document)
    assert not fits_input(document | {"action": document["action"] | change})
