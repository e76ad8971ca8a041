"""Events of the decision log and their masks, with the meaning that OPA gives them."""

import datetime

import pytest

from pdp.decisions.decided import Decided
from pdp.decisions.entry import MaskError, event, masked, shortened, without_contents, without_statements
from pdp.policies.reads import on_demand

INPUT = {
    "subject": {"type": "agent", "id": "planner", "properties": {"groups": ["a", "b"]}},
    "resource": {"type": "postgres", "id": "shop", "properties": {"labels": {}}},
    "action": {
        "name": "query",
        "properties": {"postgres": {"kind": "select"}, "statement": {"text": "select 1", "parameters": ["secret"]}},
    },
    "context": {"time": "2030-01-31T10:00:00Z", "session": {"id": "s-1"}, "labels": {"application_name": "x"}},
}
ANSWER = {"verdict": "allow", "reasons": [{"policy": "p", "code": "c", "message": "because"}], "masks": []}


def whole() -> dict:
    decided = Decided(
        id="d-1",
        at=datetime.datetime(2030, 1, 31, 10, tzinfo=datetime.UTC),
        revision="sha256:1",
        action="query",
        verdict="allow",
        reasons=[("p", "c")],
        subject="agent:planner",
        resource="shop",
        session="s-1",
        client_address="10.0.0.1:5",
        input=INPUT,
        answer=ANSWER,
        nanoseconds=7,
    )
    return event(decided, {"id": "one"})


def test_an_event_has_the_fields_of_opas_own():
    assert {name: value for name, value in whole().items() if name not in {"input", "result"}} == {
        "labels": {"id": "one"},
        "decision_id": "d-1",
        "bundles": {"checkrein": {"revision": "sha256:1"}},
        "path": "checkrein/decision/result",
        "requested_by": "10.0.0.1:5",
        "timestamp": "2030-01-31T10:00:00.000000Z",
        "metrics": {"timer_server_handler_ns": 7},
    }


def test_a_short_one_shows_who_what_and_on_what():
    short = shortened(whole())
    assert short["input"] == {
        "subject": {"type": "agent", "id": "planner"},
        "resource": {"id": "shop"},
        "action": {"name": "query"},
        "context": {"session": {"id": "s-1"}},
    }
    assert short["result"] == {"verdict": "allow", "reasons": [{"policy": "p", "code": "c"}]}
    assert short["erased"] == ["/input/action/properties"]


def test_a_whole_one_shows_no_statement():
    found = without_statements(whole(), on_demand())
    assert found["input"]["action"]["properties"] == {"postgres": {"kind": "select"}, "statement": {}}
    assert found["result"] == ANSWER
    assert sorted(found["erased"]) == [
        "/input/action/properties/statement/parameters",
        "/input/action/properties/statement/text",
    ]


@pytest.mark.parametrize(
    ("rule", "path", "left"),
    [
        ("/input/subject/id", ("input", "subject", "id"), None),
        ({"op": "remove", "path": "/result/verdict"}, ("result", "verdict"), None),
        ({"op": "upsert", "path": "/input/subject/id", "value": "***"}, ("input", "subject", "id"), "***"),
        ({"op": "upsert", "path": "/input/new/thing", "value": 1}, ("input", "new", "thing"), 1),
        ("/input/subject/properties/groups/0", ("input", "subject", "properties", "groups"), ["b"]),
        ({"op": "upsert", "path": "/input", "value": {}}, ("input",), {}),
        ("/input", ("input",), None),
    ],
)
def test_a_mask_erases_or_replaces(rule, path, left):
    before = whole()
    found = masked(before, [rule])
    at = found
    for step in path:
        at = at.get(step) if at is not None else None
    assert at == left
    name = rule if isinstance(rule, str) else rule["path"]
    assert found.get("erased", []) + found.get("masked", []) == [name]
    assert before == whole()


def test_what_is_not_there_is_not_said_to_be_erased():
    assert masked(whole(), ["/input/nothing/here"]) == whole()


def test_a_mask_reaches_what_a_short_entry_shows():
    found = shortened(masked(whole(), [{"op": "upsert", "path": "/input/subject/id", "value": "***"}]))
    assert found["input"]["subject"] == {"type": "agent", "id": "***"}
    assert found["masked"] == ["/input/subject/id"]


def test_what_is_erased_and_replaced_is_erased():
    both = [{"op": "upsert", "path": "/input/subject/id", "value": "clear"}, "/input/subject/id"]
    for rules in (both, both[::-1]):
        assert "id" not in masked(whole(), rules)["input"]["subject"]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        "x",
        [1],
        ["input/subject"],
        ["/labels/id"],
        [""],
        [{"op": "erase", "path": "/input"}],
        [{"op": "remove"}],
        [{"path": "/input"}],
    ],
)
def test_what_is_no_mask_is_an_error(rules):
    with pytest.raises(MaskError):
        masked(whole(), rules)


def test_an_event_whose_masks_are_not_known_has_no_contents():
    found = shortened(without_contents(whole()))
    assert "input" not in found
    assert "result" not in found
    assert found["erased"] == ["/input", "/result"]
    assert found["decision_id"] == "d-1"
