"""Facts that policies ask for: fetched once, in the second question alone, and a grant without them is none."""

import asyncio
from typing import Any

import orjson
import pytest

from pdp.v1 import decision_pb2 as pb
from pep.core import translate
from pep.core.decision_client import ApprovalUpdate, PendingApproval
from pep.core.enforcer import Enforcer
from pep.core.estimates import Estimate
from pep.core.model import Action, Allow, Deny, Grant, Incomplete, LimitAffected, Reason, RequireApproval, Requirement
from pep.core.recorder import Recorder
from pep.core.wire import Approved, Ask, Decided
from tests.pep.core.scripted import ALLOW, Scripted, Shelf, action, session_handle

ASKED = Incomplete("d-0", "r-1", ("estimate",))
FEW = Estimate(3.0)
UNKNOWN = Estimate(None, "a function of its own")
HELD = RequireApproval("d-5", "r-1", (Requirement("p", "many", ("group:owners",)),), 900.0)
PENDING = PendingApproval("a-1", "http://approve/a-1", None, ("group:owners",))


class Planner:
    """Expects the same of everything, and keeps what it was asked."""

    def __init__(self, answer: Estimate) -> None:
        self.answer = answer
        self.asked: list[Action] = []

    async def of(self, action: Action) -> Estimate:
        self.asked.append(action)
        return self.answer


class Gate:
    """An enforcer with a scripted service."""

    def __init__(self, planner: Planner | None, **script: Any) -> None:
        self.service = Scripted(**script)
        self.shelf = Shelf()
        recorder = Recorder(self.shelf, "s-1", "user:ada", now=lambda: "2026-01-01T00:00:00Z")
        supported = frozenset({LimitAffected})
        self.enforcer = Enforcer(
            self.service, session_handle(), recorder, supported=supported, estimates=planner, unestimated="it is off"
        )

    def answers(self, *texts: str, **options: Any) -> list[Any]:
        async def collected() -> list[Decided | Approved]:
            return [answer async for answer in self.enforcer.decide(Ask(1, tuple(map(action, texts)), **options))]

        return asyncio.run(collected())

    def decide(self, *texts: str, **options: Any) -> Any:
        (answer,) = self.answers(*texts, **options)
        return answer.outcome

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [orjson.loads(sealed.data)["facts"] for sealed in self.shelf.kept]


def test_it_is_asked_again_with_the_estimate_which_is_on_record():
    planner = Planner(FEW)
    gate = Gate(planner, decisions=[ASKED, ALLOW])
    assert isinstance(gate.decide("delete"), Grant)
    first, second = gate.service.asked
    assert first == (action("delete"),)
    assert [each.estimate for each in second] == [FEW]
    assert planner.asked == [action("delete")]
    assert gate.facts[0]["estimate"] == {"rows": 3.0}


def test_only_the_actions_of_which_it_is_asked_are_estimated():
    planner = Planner(FEW)
    gate = Gate(planner, decisions=[(ALLOW, ASKED), ALLOW])
    assert isinstance(gate.decide("select", "delete"), Grant)
    assert planner.asked == [action("delete")]
    assert [each.estimate for each in gate.service.asked[1]] == [None, FEW]


@pytest.mark.parametrize(
    ("planner", "decisions", "said"),
    [
        (None, [ASKED], "policy asks how many rows it would touch, and it is off"),
        (Planner(FEW), [ASKED, ASKED], "policy asks for facts about it that it was given already"),
        (Planner(FEW), [Incomplete("d-0", "r-1", ("estimate", "moon"))], "facts that this proxy does not know: moon"),
        (Planner(UNKNOWN), [ASKED, ALLOW], "which is not known: a function of its own"),
    ],
)
def test_what_cannot_be_found_out_is_denied_in_words(planner: Planner | None, decisions: list[Any], said: str):
    gate = Gate(planner, decisions=decisions)
    outcome = gate.decide("delete")
    assert isinstance(outcome, Deny)
    assert outcome.reasons[0].code == "facts-unavailable"
    assert said in outcome.reasons[0].message
    assert outcome.decision_id
    assert gate.facts[-1]["verdict"] == "deny"


def test_people_may_let_through_what_nobody_can_estimate():
    gate = Gate(
        Planner(UNKNOWN),
        decisions=[ASKED, HELD],
        approvals=[PENDING],
        updates=[ApprovalUpdate("approved")],
        redemptions=[Allow("d-6", "r-1", (LimitAffected(2),))],
    )
    _, approved = gate.answers("delete")
    assert isinstance(approved, Approved)
    (request,) = gate.service.requested
    # What people see is what policies saw, and the target is not asked twice.
    assert request.estimate == request.action.estimate == UNKNOWN
    outcome = gate.decide("delete", redeem="a-1")
    assert isinstance(outcome, Grant)
    assert outcome.obligations == ((LimitAffected(2),),)


def test_a_redemption_that_lacks_facts_is_a_deny():
    message = pb.Decision(decision_id="d", policy_revision="r", incomplete=pb.Incomplete(needs=["estimate"]))
    assert translate.answer(message) == Incomplete("d", "r", ("estimate",))
    denied = translate.decision(message)
    assert isinstance(denied, Deny)
    message.reasons.add(code="facts-unavailable", message="The policy needs facts.")
    assert translate.decision(message) == Deny("d", "r", (Reason("facts-unavailable", "The policy needs facts."),))
    # Nothing is named, so nothing could be fetched.
    nothing = pb.Decision(decision_id="d", policy_revision="r", incomplete=pb.Incomplete())
    assert isinstance(translate.answer(nothing), Deny)


def test_a_limit_of_changed_rows_is_read_and_supported_by_who_says_so():
    (limit,) = translate.obligations([pb.Obligation(limit_affected=pb.LimitAffected(max=5))])
    assert limit == LimitAffected(5)
    (none,) = translate.obligations([pb.Obligation(limit_affected=pb.LimitAffected())])
    assert none == LimitAffected(0)
