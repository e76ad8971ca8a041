"""The entrypoint's answer as types and as a message: strict on the way in, complete on the way out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pdp.decision_message import to_proto
from pdp.policy_result import (
    ConstantMask,
    Exemption,
    FieldMask,
    GeneralizeMask,
    HashMask,
    Hint,
    LimitRows,
    NullMask,
    PartialEmailMask,
    PartialMask,
    ReadOnly,
    Reason,
    RecordSession,
    RedactText,
    RemoveHeaders,
    ResultError,
    SetHeaders,
    TimeLimit,
    Unsupported,
    Verdict,
    denied,
    expired,
    narrowed,
    parse_result,
)
from pdp.v1 import decision_pb2 as pb

EMPTY: dict[str, Any] = {"masks": [], "obligations": {}, "requirements": [], "needs": [], "exempted": []}
ALLOW = {**EMPTY, "verdict": "allow", "reasons": [{"code": "reads", "policy": "analyst"}]}
DENY = {**EMPTY, "verdict": "deny", "reasons": [{"code": "no-policy-allows"}]}
REQUIREMENT = {
    "policy": "deletes",
    "code": "owner",
    "approvers": ["group:sales", "user:eve"],
    "count": 2,
    "about": "public.orders",
    "message": "The owner has to agree.",
    "wait": "15m",
    "grant": {"uses": 1, "for": "2h", "reach": "exact"},
    "separate_people": True,
    "escalate": {"after": "5m", "approvers": ["group:security"]},
}
HOLD = {**ALLOW, "verdict": "require_approval", "requirements": [REQUIREMENT, {**REQUIREMENT, "wait": "30s"}]}
MASKS = [
    {"dataset": "d", "field": "*", "except": ["id"], "method": "null"},
    {"dataset": "d", "field": "a", "method": "constant", "value": True},
    {"dataset": "d", "field": "b", "method": "partial", "prefix": 1, "pad": "***", "suffix": 2},
    {"dataset": "d", "field": "c", "method": "partial_email"},
    {"dataset": "d", "field": "e", "method": "hash", "key": "k"},
    {"dataset": "d", "field": "f", "method": "generalize", "step": 10},
]
MASK = {**ALLOW, "verdict": "mask", "masks": MASKS}


def test_every_part_is_read():
    result = parse_result(
        {
            **MASK,
            "reasons": [{"code": "c", "policy": "p", "message": "m", "instead": ["i"]}],
            "obligations": {
                "limit_rows": {"max": 5, "on_excess": "truncate", "path": "$.items"},
                "time_limit": {"seconds": 1.5},
                "read_only": True,
                "redact_text": {"detectors": ["ssn", "email"], "patterns": ["B-[0-9]+"]},
                "set_headers": {"x-tenant": "eu", "prefer": "return=minimal"},
                "remove_headers": ["x-debug", "cookie"],
                "record": {"level": "rows", "rows": 9},
                "notify": ["sec"],
            },
            "exempted": [{"policy": "a", "code": "b", "by": "c", "reason": "d"}],
            "valid_until": "2026-11-24T12:00:00+02:00",
        },
        "sha256:1",
    )
    assert (result.verdict, result.revision) == (Verdict.MASK, "sha256:1")
    assert result.reasons == (Reason("c", "p", "m", ("i",)),)
    assert result.masks == (
        FieldMask("d", "*", NullMask(), ("id",)),
        FieldMask("d", "a", ConstantMask("true")),
        FieldMask("d", "b", PartialMask(1, "***", 2)),
        FieldMask("d", "c", PartialEmailMask()),
        FieldMask("d", "e", HashMask("k")),
        FieldMask("d", "f", GeneralizeMask("10")),
    )
    assert set(result.obligations) == {
        LimitRows(5, truncate=True, path="$.items"),
        TimeLimit(timedelta(seconds=1.5)),
        ReadOnly(),
        RedactText(("email", "ssn"), ("B-[0-9]+",)),
        SetHeaders((("prefer", "return=minimal"), ("x-tenant", "eu"))),
        RemoveHeaders(("cookie", "x-debug")),
        RecordSession(9),
        Unsupported("notify"),
    }
    assert result.exempted == (Exemption("a", "b", "c", "d"),)
    assert result.valid_until == datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_a_requirement_is_kept_as_it_came():
    requirement = parse_result(HOLD, "r").requirements[0]
    assert requirement.document is REQUIREMENT
    assert (requirement.wait, requirement.valid_for) == (timedelta(minutes=15), timedelta(hours=2))
    assert (requirement.escalate_after, requirement.escalate_to) == (timedelta(minutes=5), ("group:security",))
    assert (requirement.count, requirement.uses, requirement.separate_people) == (2, 1, True)


WRONG = {
    "nothing": None,
    "a boolean": True,
    "an unknown verdict": {**ALLOW, "verdict": "maybe"},
    "an unknown key": {**ALLOW, "more": 1},
    "a missing key": {key: value for key, value in ALLOW.items() if key != "obligations"},
    "an allow with masks": {**ALLOW, "masks": MASKS},
    "a mask without masks": {**MASK, "masks": []},
    "a hold without requirements": {**HOLD, "requirements": []},
    "a deny without a reason": {**DENY, "reasons": []},
    "an unknown obligation": {**ALLOW, "obligations": {"limit_row": {"max": 1, "on_excess": "fail"}}},
    "an obligation with an unknown key": {**ALLOW, "obligations": {"time_limit": {"seconds": 1, "s": 2}}},
    "a redaction with an unknown key": {
        **ALLOW,
        "obligations": {"redact_text": {"detectors": ["email"], "patterns": [], "words": ["x"]}},
    },
    "a redaction by a pattern of another type": {
        **ALLOW,
        "obligations": {"redact_text": {"detectors": [], "patterns": [5]}},
    },
    "a header with two values": {**ALLOW, "obligations": {"set_headers": {"x-tenant": ["eu", "us"]}}},
    "one header to remove": {**ALLOW, "obligations": {"remove_headers": "cookie"}},
    "an unknown mask": {**MASK, "masks": [{"dataset": "d", "field": "a", "method": "blur"}]},
    "a mask with another's parameter": {
        **MASK,
        "masks": [{"dataset": "d", "field": "a", "method": "null", "value": 1}],
    },
    "null for absent": {**ALLOW, "valid_until": None},
    "an instant of no calendar": {**ALLOW, "valid_until": "2026-02-30T12:00:00Z"},
    "an instant before all time": {**ALLOW, "valid_until": "0001-01-01T00:00:00+14:00"},
    "a time beyond all time": {**ALLOW, "obligations": {"time_limit": {"seconds": 1e300}}},
    "a wait with a line feed": {**HOLD, "requirements": [{**REQUIREMENT, "wait": "15m\n"}]},
    "zero approvers": {**HOLD, "requirements": [{**REQUIREMENT, "count": 0}]},
}


@pytest.mark.parametrize("case", WRONG)
def test_whatever_is_not_of_the_form_is_an_error(case):
    with pytest.raises(ResultError):
        parse_result(WRONG[case], "r")


def test_a_grant_whose_time_has_passed_is_a_deny():
    result = parse_result({**ALLOW, "valid_until": "2026-11-24T10:00:00Z"}, "r")
    end = datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert expired(result, end - timedelta(microseconds=1)) is result
    late = expired(result, end)
    assert (late.verdict, late.reasons[0].code, late.revision) == (Verdict.DENY, "grant-expired", "r")
    refused = parse_result({**DENY, "valid_until": "2026-11-24T10:00:00Z"}, "r")
    assert expired(refused, end) is refused


def test_an_allow_carries_its_obligations():
    limited = {**ALLOW, "obligations": {"limit_rows": {"max": 5, "on_excess": "fail"}, "budget": BUDGET}}
    message = to_proto(parse_result(limited, "r"), "d-1")
    assert (message.decision_id, message.policy_revision, message.WhichOneof("verdict")) == ("d-1", "r", "allow")
    assert {each.WhichOneof("duty") for each in message.allow.obligations} == {"limit_rows", "unsupported"}
    assert [each.unsupported for each in message.allow.obligations if each.unsupported] == ["budget"]
    assert not message.HasField("valid_until")
    assert to_proto(parse_result(ALLOW, "r"), "d").WhichOneof("verdict") == "allow"


def test_what_is_obliged_of_texts_and_headers_goes_out_typed():
    obliged = {
        "limit_rows": {"max": 5, "on_excess": "truncate", "path": "$.items"},
        "redact_text": {"detectors": ["ssn", "email"], "patterns": ["B-[0-9]+"]},
        "set_headers": {"x-tenant": "eu", "prefer": "return=minimal"},
        "remove_headers": ["x-debug", "cookie"],
    }
    message = to_proto(parse_result({**ALLOW, "obligations": obliged}, "r"), "d")
    headers = [pb.Header(name="prefer", value="return=minimal"), pb.Header(name="x-tenant", value="eu")]
    assert list(message.allow.obligations) == [
        pb.Obligation(limit_rows=pb.LimitRows(max=5, on_excess=pb.ON_EXCESS_TRUNCATE, path="$.items")),
        pb.Obligation(redact_text=pb.RedactText(detectors=["email", "ssn"], patterns=["B-[0-9]+"])),
        pb.Obligation(remove_headers=pb.RemoveHeaders(names=["cookie", "x-debug"])),
        pb.Obligation(set_headers=pb.SetHeaders(headers=headers)),
    ]


BUDGET = [{"per": "subject", "unit": "rows", "max": 5}]


def test_a_mask_names_every_field_and_keeps_the_other_obligations():
    message = to_proto(parse_result({**MASK, "obligations": {"read_only": True}}, "r"), "d")
    fields, read_only = message.mask.obligations
    assert read_only.WhichOneof("duty") == "read_only"
    assert [each.WhichOneof("method") for each in fields.mask_fields.fields] == [each["method"] for each in MASKS]
    assert list(getattr(fields.mask_fields.fields[0], "except")) == ["id"]
    assert fields.mask_fields.fields[2].partial == pb.PartialMask(prefix=1, pad="***", suffix=2)
    assert fields.mask_fields.fields[5].generalize.step == "10"


def test_a_hold_waits_as_long_as_its_most_impatient_requirement():
    message = to_proto(parse_result(HOLD, "r"), "d").require_approval
    assert message.wait.ToTimedelta() == timedelta(seconds=30)
    assert list(message.requirements[0].approvers) == ["group:sales", "user:eve"]
    assert (message.requirements[0].count, message.requirements[0].about) == (2, "public.orders")


def test_a_deny_says_why_and_what_is_allowed_instead():
    hints = [{"policy": "analyst", "message": "Analysts may read."}]
    result = parse_result({**DENY, "reasons": [{"code": "no-policy-allows", "hints": hints}]}, "r")
    assert result.reasons[0].hints == (Hint("analyst", "Analysts may read."),)
    message = to_proto(result, "d")
    assert message.WhichOneof("verdict") == "deny"
    assert not message.deny.retry
    assert message.reasons[0].message == "No policy allows this."
    assert list(message.reasons[0].instead) == ["Analysts may read."]
    assert to_proto(denied("decision-unavailable", "x", retry=True), "d").deny.retry


def test_facts_that_are_missing_are_named_and_grant_nothing():
    result = parse_result({**EMPTY, "verdict": "incomplete", "reasons": [], "needs": ["estimate"]}, "r")
    message = to_proto(result, "d")
    assert message.WhichOneof("verdict") == "incomplete"
    assert list(message.incomplete.needs) == ["estimate"]
    assert message.reasons[0].code == "facts-unavailable"


def test_a_limit_that_people_set_holds_whatever_the_policies_say():
    def limits(document, most):
        duties = to_proto(narrowed(parse_result(document, "r"), most), "d").allow.obligations
        return [(each.WhichOneof("duty"), each.limit_affected.max) for each in duties]

    limited = {**ALLOW, "obligations": {"limit_affected": {"max": 7}, "read_only": True}}
    assert limits(ALLOW, None) == []
    assert limits(ALLOW, 5) == [("limit_affected", 5)]
    assert limits(limited, 5) == [("limit_affected", 5), ("read_only", 0)]
    assert limits(limited, 9) == [("limit_affected", 7), ("read_only", 0)]
    for other in (DENY, HOLD):
        assert narrowed(parse_result(other, "r"), 5) == parse_result(other, "r")
    masked = to_proto(narrowed(parse_result(MASK, "r"), 5), "d").mask.obligations
    assert [each.limit_affected.max for each in masked if each.HasField("limit_affected")] == [5]


def test_numbers_that_a_message_cannot_hold_are_as_strict_as_it_can_say():
    huge = 10**30
    limited = parse_result({**ALLOW, "obligations": {"limit_rows": {"max": huge, "on_excess": "fail"}}}, "r")
    assert 0 < to_proto(limited, "d").allow.obligations[0].limit_rows.max < huge
    held = parse_result({**HOLD, "requirements": [{**REQUIREMENT, "count": huge}]}, "r")
    assert to_proto(held, "d").require_approval.requirements[0].count == 2**31 - 1


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({"level": "none"}, pb.RecordSession(nothing=pb.RecordNothing())),
        ({"level": "everything"}, pb.RecordSession(everything=pb.RecordEverything())),
        ({"level": "rows", "rows": 7}, pb.RecordSession(rows=7)),
    ],
)
def test_what_is_to_be_recorded_reaches_the_proxy(said: dict[str, object], sent: pb.RecordSession):
    message = to_proto(parse_result({**ALLOW, "obligations": {"record": said}}, "r"), "d")
    (duty,) = message.allow.obligations
    assert duty.record == sent


@pytest.mark.parametrize("said", [{"level": "rows"}, {"level": "none", "rows": 3}, {"level": "rows", "rows": 0}])
def test_what_does_not_say_how_much_is_recorded_is_an_error(said: dict[str, object]):
    with pytest.raises(ResultError):
        parse_result({**ALLOW, "obligations": {"record": said}}, "r")
