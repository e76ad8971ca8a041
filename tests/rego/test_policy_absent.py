"""The variants of an input, and what makes an answer weaker than another."""

from typing import Any

import pytest

from pdp.policy_absent import variants, weaker

ALLOW: dict[str, Any] = {"verdict": "allow", "masks": [], "requirements": [], "obligations": {}}


def test_each_field_absent_and_null_and_each_item_null() -> None:
    document = {"a": {"b": [1, {"c": None}]}, "d": 2}
    assert {str(each): each.document for each in variants(document)} == {
        "a absent": {"d": 2},
        "a null": {"a": None, "d": 2},
        "a.b absent": {"a": {}, "d": 2},
        "a.b null": {"a": {"b": None}, "d": 2},
        "a.b.0 null": {"a": {"b": [None, {"c": None}]}, "d": 2},
        "a.b.1 null": {"a": {"b": [1, None]}, "d": 2},
        "a.b.1.c absent": {"a": {"b": [1, {}]}, "d": 2},
        "d absent": {"a": {"b": [1, {"c": None}]}},
        "d null": {"a": {"b": [1, {"c": None}]}, "d": None},
    }
    assert document == {"a": {"b": [1, {"c": None}]}, "d": 2}


def test_a_requirement_that_was_approved_is_taken_whole() -> None:
    document = {"context": {"approval": {"requirements": [{"code": "x", "grant": {"uses": 1}}]}}}
    assert [str(each) for each in variants(document)][-3:] == [
        "context.approval.requirements absent",
        "context.approval.requirements null",
        "context.approval.requirements.0 null",
    ]


@pytest.mark.parametrize("index", range(5))
def test_verdicts_from_the_weakest(index: int) -> None:
    order = ["allow", "mask", "require_approval", "incomplete", "deny"]
    for other, verdict in enumerate(order):
        got = weaker(ALLOW | {"verdict": order[index]}, ALLOW | {"verdict": verdict})
        assert (got is not None) == (other < index), verdict


def test_what_is_no_answer_is_a_deny() -> None:
    for answer in (None, {}, [], {"verdict": "perhaps"}):
        assert weaker(ALLOW, answer) is None


def mask(method: str, **more: Any) -> dict[str, Any]:
    return ALLOW | {"verdict": "mask", "masks": [{"dataset": "a.b", "field": "c", "method": method, **more}]}


def test_a_mask_that_hides_less_is_weaker() -> None:
    assert weaker(mask("hash"), mask("hash")) is None
    assert weaker(mask("hash"), mask("null")) is None
    assert weaker(mask("hash"), mask("partial")) is not None
    assert weaker(mask("constant", value="a"), mask("constant", value="b")) is not None
    assert weaker(mask("hash"), mask("hash") | {"masks": []}) is not None


def test_a_duty_that_asks_less_is_weaker() -> None:
    limited = ALLOW | {"obligations": {"limit_rows": {"max": 5, "on_excess": "fail"}, "read_only": True}}

    def changed(**duties: Any) -> dict[str, Any]:
        return limited | {"obligations": limited["obligations"] | duties}

    assert weaker(limited, changed(limit_rows={"max": 4, "on_excess": "fail"})) is None
    assert weaker(limited, changed(limit_rows={"max": 6, "on_excess": "fail"})) is not None
    assert weaker(limited, changed(limit_rows={"max": 5, "on_excess": "truncate"})) is not None
    assert weaker(limited, ALLOW) is not None


def test_a_requirement_that_is_gone_is_weaker() -> None:
    asking = ALLOW | {"verdict": "require_approval", "requirements": [{"code": "x"}]}
    assert weaker(asking, asking | {"requirements": [{"code": "x"}, {"code": "y"}]}) is None
    assert weaker(asking, asking | {"requirements": [{"code": "y"}]}) is not None
