"""Duties as the core reads them from the contract: whatever is not whole is one that nobody supports."""

import pytest

from pdp.v1 import decision_pb2 as pb
from pep.core.decision_records import decided
from pep.core.model import (
    OBLIGATION_NAMES,
    Allow,
    LimitRows,
    Obligation,
    OnExcess,
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
)


def test_duties_of_texts_and_headers_are_read():
    messages = [
        pb.Obligation(redact_text=REDACT),
        pb.Obligation(set_headers=HEADERS),
        pb.Obligation(remove_headers=pb.RemoveHeaders(names=["Cookie", "x-debug"])),
        pb.Obligation(limit_rows=LIMIT),
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
    ],
)
def test_a_duty_that_says_nothing_is_supported_by_nobody(message: pb.Obligation):
    (duty,) = obligations([message])
    assert type(duty) is Unsupported
    assert type(duty) not in OBLIGATION_NAMES


def test_the_record_names_the_headers_and_not_what_is_in_them():
    event = decided(Allow("d", "r", DUTIES), Ask(1, (action("get"),)), action("get"), bodies=False)
    assert event.facts["obligations"] == [
        {"name": "redact_text", "detectors": ["email", "ssn"], "patterns": ["B-[0-9]+"]},
        {"name": "set_headers", "headers": ["x-tenant", "prefer"]},
        {"name": "remove_headers", "headers": ["cookie", "x-debug"]},
        {"name": "limit_rows", "max": 5, "on_excess": "truncate", "path": "$.items"},
    ]
