"""Duties as the core reads them from the contract: whatever is not whole is one that nobody supports."""

import pytest

from pdp.v1 import decision_pb2 as pb
from pep.core import decision_records
from pep.core.enforcer import deny_unsupported
from pep.core.model import (
    OBLIGATION_NAMES,
    Allow,
    Deny,
    LimitRows,
    Obligation,
    OnExcess,
    RecordLevel,
    RecordSession,
    RedactText,
    RemoveHeaders,
    SetHeaders,
    Unsupported,
)
from pep.core.translate import decision, obligations
from pep.core.wire import Ask
from tests.pep.core.scripted import action

REDACT = pb.RedactText(detectors=["email", "ssn"], patterns=["B-[0-9]+"])
HEADERS = pb.SetHeaders(headers=[pb.Header(name="X-Tenant", value="eu"), pb.Header(name="prefer", value="")])
LIMIT = pb.LimitRows(max=5, on_excess=pb.ON_EXCESS_TRUNCATE, path="$.items")
DUTIES: tuple[Obligation, ...] = (
    RedactText(frozenset({"email", "ssn"}), ("B-[0-9]+",)),
    SetHeaders((("x-tenant", "eu"), ("prefer", ""))),
    RemoveHeaders(frozenset({"cookie", "x-debug"})),
    LimitRows(5, OnExcess.TRUNCATE, "$.items"),
    RecordSession(RecordLevel.ROWS, 20),
)


def test_duties_of_texts_and_headers_are_read():
    messages = [
        pb.Obligation(redact_text=REDACT),
        pb.Obligation(set_headers=HEADERS),
        pb.Obligation(remove_headers=pb.RemoveHeaders(names=["Cookie", "x-debug"])),
        pb.Obligation(limit_rows=LIMIT),
        pb.Obligation(record=pb.RecordSession(rows=20)),
    ]
    assert obligations(messages) == DUTIES
    assert decision(pb.Decision(decision_id="d", policy_revision="r", allow=pb.Allow(obligations=messages))) == Allow(
        "d", "r", DUTIES
    )
    # A detector alone, or a pattern alone, is enough.
    alone = [pb.RedactText(detectors=["email"]), pb.RedactText(patterns=["a"])]
    assert obligations(pb.Obligation(redact_text=each) for each in alone) == (
        RedactText(frozenset({"email"})),
        RedactText(patterns=("a",)),
    )


@pytest.mark.parametrize(
    "message",
    [
        pb.Obligation(redact_text=pb.RedactText()),
        pb.Obligation(redact_text=pb.RedactText(detectors=["email", ""])),
        pb.Obligation(redact_text=pb.RedactText(detectors=["email"], patterns=[""])),
        pb.Obligation(set_headers=pb.SetHeaders()),
        pb.Obligation(set_headers=pb.SetHeaders(headers=[pb.Header(value="eu")])),
        pb.Obligation(set_headers=pb.SetHeaders(headers=[pb.Header(name="a"), pb.Header(name="A", value="b")])),
        pb.Obligation(remove_headers=pb.RemoveHeaders()),
        pb.Obligation(remove_headers=pb.RemoveHeaders(names=["cookie", ""])),
        pb.Obligation(record=pb.RecordSession()),
        pb.Obligation(record=pb.RecordSession(rows=0)),
    ],
)
def test_a_duty_that_says_nothing_is_supported_by_nobody(message: pb.Obligation):
    (duty,) = obligations([message])
    assert type(duty) is Unsupported
    assert type(duty) not in OBLIGATION_NAMES


def test_the_record_names_the_headers_and_not_what_is_in_them():
    event = decision_records.decided(Allow("d", "r", DUTIES), Ask(1, (action("get"),)), action("get"), bodies=False)
    assert event.facts["obligations"] == [
        {"name": "redact_text", "detectors": ["email", "ssn"], "patterns": ["B-[0-9]+"]},
        {"name": "set_headers", "headers": ["x-tenant", "prefer"]},
        {"name": "remove_headers", "headers": ["cookie", "x-debug"]},
        {"name": "limit_rows", "max": 5, "on_excess": "truncate", "path": "$.items"},
        {"name": "record", "level": "rows", "rows": 20},
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-tenant", "zürich \u2603"),
        ("x-tenant", "a\r\nX-Admin: 1"),
        ("x-tenant", "a\0b"),
        ("x-tenant", " a"),
        ("x-tenant", "a "),
        ("x tenant", "a"),
        ("x-tenant:", "a"),
        ("x-t\u00e9nant", "a"),
        *((name, "a") for name in ("Host", "content-length", "Transfer-Encoding", "connection", "TE", "Expect")),
    ],
)
def test_a_header_that_cannot_be_sent_is_a_duty_that_nobody_performs(name: str, value: str) -> None:
    allow = pb.Allow(
        obligations=[pb.Obligation(set_headers=pb.SetHeaders(headers=[pb.Header(name=name, value=value)]))]
    )
    decided = deny_unsupported(decision(pb.Decision(decision_id="d-1", allow=allow)), frozenset({SetHeaders}))
    assert isinstance(decided, Deny)
    assert decided.reasons[0].code == "obligation-unsupported"
    assert "set_headers" in decided.reasons[0].message


@pytest.mark.parametrize("name", ["host", "Content-Length", "upgrade", "a b"])
def test_a_header_that_no_request_can_be_without_is_not_removed(name: str) -> None:
    allow = pb.Allow(obligations=[pb.Obligation(remove_headers=pb.RemoveHeaders(names=[name]))])
    decided = deny_unsupported(decision(pb.Decision(decision_id="d-1", allow=allow)), frozenset({RemoveHeaders}))
    assert isinstance(decided, Deny)


@pytest.mark.parametrize("value", ["", "a", "a b", "zürich", "a\tb"])
def test_what_latin_1_can_say_is_set(value: str) -> None:
    duty = pb.Obligation(set_headers=pb.SetHeaders(headers=[pb.Header(name="X-A", value=value)]))
    assert obligations([duty]) == (SetHeaders((("x-a", value),)),)
