import asyncio
import contextlib
import dataclasses
from typing import Any

import orjson
import pytest

from pep.core.decision_client import ApprovalUpdate, PendingApproval
from pep.core.described import LARGEST_ACTION
from pep.core.enforcer import Enforcer, deny_unsupported, strictest
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.model import (
    Allow,
    Deny,
    FieldMask,
    Grant,
    Held,
    LimitRows,
    Mask,
    MaskFields,
    NullMask,
    ReadOnly,
    Reason,
    RequireApproval,
    Requirement,
    TimeLimit,
    Unsupported,
    digest_of,
)
from pep.core.recorder import Recorder
from pep.core.translate import EVERYTHING
from pep.core.wire import Approved, Ask, Decided
from tests.pep.core.scripted import ALLOW, Scripted, Shelf, action, session_handle

SUPPORTED = frozenset({MaskFields, LimitRows, ReadOnly})
MASKED = Mask("d-2", "r-1", (MaskFields((FieldMask("public.customers", "email", NullMask()),)),))
DENIED = Deny("d-3", "r-1", (Reason("no-ddl", "agents do not change schemas", "no_ddl"),))
LATER = Deny("d-4", "r-1", (Reason("busy"),), retry=True)
HELD = RequireApproval("d-5", "r-1", (Requirement("deletes", "needs_owner", ("group:owners",)),), 900.0)
PENDING = PendingApproval("a-1", "http://approve/a-1", None, ("group:owners",))


class Gate:
    """An enforcer with a scripted service and a shelf for its records."""

    def __init__(self, *, obligations: tuple[Any, ...] = (), paths: frozenset[str] = EVERYTHING, **script: Any) -> None:
        self.service = Scripted(**script)
        self.shelf = Shelf()
        self.session = session_handle(obligations=obligations, input_paths=paths)
        recorder = Recorder(self.shelf, "s-1", "user:ada", now=lambda: "2026-01-01T00:00:00Z")
        self.enforcer = Enforcer(self.service, self.session, recorder, supported=SUPPORTED)

    async def answers(self, ask: Ask) -> list[Decided | Approved]:
        return [answer async for answer in self.enforcer.decide(ask)]

    def decide(self, *texts: str, **options: Any) -> Any:
        """The outcome of an Ask that has one answer."""
        ask = Ask(1, tuple(map(action, texts)), **options)
        (answer,) = asyncio.run(self.answers(ask))
        assert isinstance(answer, Decided)
        assert answer.exchange == 1
        return answer.outcome

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(sealed.data) for sealed in self.shelf.kept]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


def code(outcome: Any) -> str:
    assert isinstance(outcome, Deny)
    return outcome.reasons[0].code


def test_a_grant_exists_only_after_its_decision_and_its_intent_are_on_record():
    gate = Gate(decisions=[ALLOW])
    grant = gate.decide("select 1")
    assert isinstance(grant, Grant)
    assert gate.enforcer.issued(grant)
    assert gate.types == ["decision", "intent"]
    facts = gate.events[1]["facts"]
    assert facts["execution_id"] == grant.execution_id
    assert facts["decision_ids"] == ["d-1"]
    assert facts["actions"] == [
        {"name": "query", "digest": digest_of(action(), "agent:orders-reader", "shop").hex()},
    ]
    assert [(body.kind, body.content) for body in gate.shelf.kept[1].bodies] == [
        ("statement", b"select 1"),
        ("parameters", b'["x"]'),
    ]
    assert gate.shelf.kept[0].bodies == ()


def test_a_grant_of_another_enforcer_is_not_its_own():
    first, second = Gate(decisions=[ALLOW]), Gate(decisions=[ALLOW])
    assert not second.enforcer.issued(first.decide("select 1"))


def test_a_grant_carries_the_duties_of_each_action_and_of_the_session():
    gate = Gate(decisions=[(ALLOW, MASKED)], obligations=(ReadOnly(),))
    grant = gate.decide("select 1", "select 2")
    assert grant.obligations == ((ReadOnly(),), (*MASKED.obligations, ReadOnly()))
    assert grant.decision_ids == ("d-1", "d-2")


def test_the_strictest_answer_holds_for_the_whole_batch():
    assert Gate(decisions=[(ALLOW, DENIED, HELD)]).decide("a", "b", "c") == DENIED
    assert strictest([LATER, HELD, DENIED]) is DENIED
    assert strictest([ALLOW, HELD, MASKED]) is HELD


def test_a_deny_is_on_record_with_the_statement():
    gate = Gate(decisions=[DENIED])
    assert gate.decide("drop table t") == DENIED
    assert gate.types == ["decision"]
    assert gate.events[0]["facts"]["verdict"] == "deny"
    assert gate.shelf.kept[0].bodies[0].content == b"drop table t"


@pytest.mark.parametrize("duty", [TimeLimit(1.0), Unsupported("budget"), Unsupported("")])
def test_a_duty_that_cannot_be_performed_turns_a_grant_into_a_deny(duty: Any):
    assert code(Gate(decisions=[Allow("d-1", "r-1", (duty,))]).decide("select 1")) == "obligation-unsupported"
    assert deny_unsupported(Mask("d-1", "r-1", (*MASKED.obligations, duty)), SUPPORTED) != MASKED
    assert deny_unsupported(DENIED, SUPPORTED) is DENIED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (DecisionUnavailable("late"), ("decision-unavailable", True)),
        (RequestRefused("INVALID_ARGUMENT"), ("decision-refused", False)),
        ((), ("decision-unavailable", True)),
        ((ALLOW, ALLOW), ("decision-unavailable", True)),
    ],
)
def test_without_a_whole_answer_it_is_a_deny(answer: Any, expected: tuple[str, bool]):
    outcome = Gate(decisions=[answer]).decide("select 1")
    assert (code(outcome), outcome.retry) == expected


def test_answers_of_two_revisions_do_not_go_together():
    assert code(Gate(decisions=[(ALLOW, Allow("d-9", "r-2"))]).decide("a", "b")) == "decision-unavailable"


def test_an_action_that_is_too_large_is_denied_without_asking():
    gate = Gate()
    assert code(gate.decide("x" * (LARGEST_ACTION + 1))) == "action-too-large"
    assert gate.service.asked == []


def test_a_long_text_that_no_policy_reads_does_not_travel_and_is_decided_and_recorded():
    text = "x" * (LARGEST_ACTION + 1)
    gate = Gate(decisions=[ALLOW], paths=frozenset({"action.properties.postgres.limit"}))
    assert isinstance(gate.decide(text), Grant)
    assert gate.shelf.kept[1].bodies[0].content == text.encode()


def test_people_are_not_asked_about_what_is_too_long_to_be_shown_to_them():
    gate = Gate(decisions=[HELD], paths=frozenset())
    assert code(gate.decide("x" * (LARGEST_ACTION + 1))) == "action-too-large"
    assert gate.types == ["decision", "decision"]


def test_nothing_to_decide_is_a_deny():
    gate = Gate()
    assert code(gate.decide()) == "action-not-understood"
    assert gate.service.asked == []


def test_an_action_that_cannot_be_written_down_is_a_deny():
    gate = Gate()
    assert code(gate.decide("\ud800")) == "action-not-understood"


@pytest.mark.parametrize("decision", [ALLOW, DENIED, HELD])
def test_what_cannot_be_recorded_does_not_happen(decision: Any):
    gate = Gate(decisions=[decision])
    gate.shelf.full = True
    outcome = gate.decide("select 1")
    assert (code(outcome), outcome.retry) == ("record-unavailable", True)
    assert gate.service.requested == []


def test_a_chain_goes_on_after_a_record_that_failed():
    gate = Gate(decisions=[ALLOW, ALLOW])
    gate.shelf.full = True
    gate.decide("select 1")
    gate.shelf.full = False
    gate.decide("select 1")
    assert [event["seq"] for event in gate.events] == [0, 1]


@pytest.mark.parametrize("decision", [ALLOW, MASKED, HELD])
def test_a_preparation_is_granted_unless_it_is_denied_and_intends_nothing(decision: Any):
    gate = Gate(decisions=[decision])
    assert isinstance(gate.decide("select $1", execution=False), Grant)
    assert gate.types == ["decision"]
    assert gate.shelf.kept[0].bodies[0].content == b"select $1"
    assert code(Gate(decisions=[DENIED]).decide("select $1", execution=False)) == "no-ddl"


def test_approval_in_a_batch_asks_to_send_that_statement_alone():
    gate = Gate(decisions=[(ALLOW, HELD)])
    assert code(gate.decide("select 1", "delete from t")) == "approval-needs-one-statement"
    assert gate.service.requested == []
    assert gate.types == ["decision", "decision"]


async def held_answers(gate: Gate, ask: Ask) -> list[Any]:
    return [answer.outcome if isinstance(answer, Decided) else answer for answer in await gate.answers(ask)]


DELETE = Ask(7, (action("delete from t"),))


def test_an_approved_command_is_asked_again_with_the_approval_and_granted_by_the_fresh_decision():
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")], redemptions=[MASKED])

    async def conversation() -> None:
        first, second = await held_answers(gate, DELETE)
        assert first == Held("a-1", HELD, "http://approve/a-1", ("group:owners",), 900.0)
        assert second == Approved(7, "a-1")
        again = Ask(7, DELETE.actions, redeem="a-1")
        (granted,) = await held_answers(gate, again)
        assert granted.obligations == (MASKED.obligations,)
        digest = digest_of(DELETE.actions[0], "agent:orders-reader", "shop")
        assert gate.service.redeemed == [("a-1", digest, granted.execution_id)]
        await gate.enforcer.close("over")

    asyncio.run(conversation())
    assert gate.service.requested[0].digest == gate.service.redeemed[0][1]
    assert gate.types == [
        "decision",
        "approval.requested",
        "approval.resolved",
        "approval.redeemed",
        "decision",
        "intent",
    ]
    assert gate.service.cancelled == []


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("denied", "approval-denied"),
        ("expired", "approval-expired"),
        ("cancelled", "approval-cancelled"),
        ("redeemed", "approval-used"),
    ],
)
def test_without_a_yes_the_command_is_denied(state: str, expected: str):
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate(state, "not on a Friday")])
    _, outcome = asyncio.run(held_answers(gate, DELETE))
    assert code(outcome) == expected
    assert "not on a Friday" in outcome.reasons[0].message
    assert gate.types[-2:] == ["approval.resolved", "decision"]
    assert gate.service.cancelled == []


def test_a_hold_ends_with_its_time_and_withdraws_the_request():
    gate = Gate(decisions=[HELD], approvals=[PENDING])
    _, outcome = asyncio.run(held_answers(gate, Ask(7, DELETE.actions, hold=0.05)))
    assert code(outcome) == "approval-expired"
    assert [approval for approval, _ in gate.service.cancelled] == ["a-1"]


def test_waiting_goes_on_when_the_stream_breaks():
    broken = DecisionUnavailable("connection lost")
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[broken, ApprovalUpdate("approved")])
    _, outcome = asyncio.run(held_answers(gate, DELETE))
    assert outcome == Approved(7, "a-1")
    assert gate.service.awaited == ["a-1", "a-1"]


def test_an_approval_that_the_service_does_not_know_is_a_deny():
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[RequestRefused("NOT_FOUND")])
    _, outcome = asyncio.run(held_answers(gate, DELETE))
    assert code(outcome) == "approval-unknown"


def test_an_approval_that_cannot_be_requested_is_a_deny():
    gate = Gate(decisions=[HELD], approvals=[DecisionUnavailable("late")])
    assert code(gate.decide("delete from t")) == "decision-unavailable"


async def cancelled_while_waiting(gate: Gate) -> None:
    task = asyncio.create_task(gate.answers(DELETE))
    await gate.service.waiting.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_client_that_leaves_while_held_withdraws_its_request():
    gate = Gate(decisions=[HELD], approvals=[PENDING])
    asyncio.run(cancelled_while_waiting(gate))
    assert [approval for approval, _ in gate.service.cancelled] == ["a-1"]
    assert gate.events[-1]["facts"] == {"approval_id": "a-1", "state": "cancelled", "comment": ""}


def test_a_client_that_leaves_while_the_request_is_on_its_way_withdraws_it_by_its_key():
    gate = Gate(decisions=[HELD], approvals=[asyncio.Event(), PENDING])
    asyncio.run(cancelled_while_waiting(gate))
    assert [approval for approval, _ in gate.service.cancelled] == ["a-1"]
    first, second = gate.service.requested
    assert first.key == second.key


def test_what_was_approved_before_is_not_withdrawn_by_a_client_that_leaves_while_it_asks():
    before = dataclasses.replace(PENDING, approved=True)
    gate = Gate(decisions=[HELD], approvals=[asyncio.Event(), before])
    asyncio.run(cancelled_while_waiting(gate))
    assert len(gate.service.requested) == 2
    assert gate.service.cancelled == []


def test_an_approval_that_was_given_and_not_used_is_withdrawn_with_its_exchange():
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")])

    async def conversation() -> None:
        await gate.answers(DELETE)
        await gate.enforcer.withdraw(7, "the client left")
        await gate.enforcer.close("over")

    asyncio.run(conversation())
    assert gate.service.cancelled == [("a-1", "the client left")]


@pytest.mark.parametrize(
    ("redeem", "expected"),
    [
        (DENIED, "no-ddl"),
        (HELD, "approval-not-enough"),
        (Allow("d-1", "r-1", (TimeLimit(1.0),)), "obligation-unsupported"),
        (RequestRefused("FAILED_PRECONDITION"), "approval-not-redeemed"),
        (DecisionUnavailable("late"), "decision-unavailable"),
    ],
)
def test_an_approval_alone_grants_nothing(redeem: Any, expected: str):
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")], redemptions=[redeem])

    async def conversation() -> Any:
        await gate.answers(DELETE)
        (outcome,) = await held_answers(gate, Ask(7, DELETE.actions, redeem="a-1"))
        return outcome

    assert code(asyncio.run(conversation())) == expected
    assert "intent" not in gate.types


@pytest.mark.parametrize(
    "ask",
    [
        Ask(7, DELETE.actions, redeem="a-2"),
        Ask(8, DELETE.actions, redeem="a-1"),
        Ask(7, (*DELETE.actions, action("select 1")), redeem="a-1"),
        Ask(7, DELETE.actions, redeem="a-1", execution=False),
    ],
)
def test_an_approval_is_redeemed_only_by_the_exchange_that_asked_for_it(ask: Ask):
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")], redemptions=[ALLOW])

    async def conversation() -> Any:
        await gate.answers(DELETE)
        (outcome,) = await held_answers(gate, ask)
        return outcome

    assert code(asyncio.run(conversation())) == "approval-does-not-fit"
    assert gate.service.redeemed == []


def test_an_approval_is_redeemed_once():
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")], redemptions=[ALLOW, ALLOW])

    async def conversation() -> Any:
        await gate.answers(DELETE)
        again = Ask(7, DELETE.actions, redeem="a-1")
        return [*await held_answers(gate, again), *await held_answers(gate, again)]

    first, second = asyncio.run(conversation())
    assert isinstance(first, Grant)
    assert code(second) == "approval-does-not-fit"


def test_a_yes_that_cannot_be_recorded_is_not_used():
    answer = asyncio.Event()
    gate = Gate(decisions=[HELD], approvals=[PENDING], updates=[answer, ApprovalUpdate("approved")])

    async def conversation() -> Any:
        task = asyncio.create_task(held_answers(gate, DELETE))
        await gate.service.waiting.wait()
        gate.shelf.full = True
        answer.set()
        return await task

    _, outcome = asyncio.run(conversation())
    assert code(outcome) == "record-unavailable"
    assert [approval for approval, _ in gate.service.cancelled] == ["a-1"]
