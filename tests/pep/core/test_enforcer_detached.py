"""Approvals that nobody waits for on the wire: the client comes back with the same action."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pep.core.decision_client import ApprovalUpdate
from pep.core.enforcer import Enforcer
from pep.core.errors import DecisionUnavailable
from pep.core.model import Deny, Grant, Held, digest_of
from pep.core.recorder import Recorder
from pep.core.sessions import SessionHandle
from pep.core.wire import NEEDS_WHOLE, Ask, Decided
from tests.pep.core.scripted import ALLOW, Scripted, Shelf, action, session_handle, until
from tests.pep.core.test_enforcer import DENIED, HELD, PENDING, SUPPORTED

LASTS = dataclasses.replace(PENDING, expires_at=1_060.0)


class Standing(Scripted):
    """The approval stands as the test says, and the stream of its states says that first."""

    state: ApprovalUpdate | Exception = ApprovalUpdate("pending")

    async def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        if isinstance(self.state, Exception):
            raise self.state
        yield self.state


class Desk:
    def __init__(self, **script: Any) -> None:
        self.service = Standing(**script)
        self.shelf = Shelf()
        self.now = 1_000.0
        self.enforcer = Enforcer(
            self.service,
            session_handle(),
            Recorder(self.shelf, "s-1", "user:ada"),
            supported=SUPPORTED,
            now=lambda: self.now,
        )
        self._exchange = 0

    async def ask(self, text: str = "refund 7") -> Any:
        """The one answer, and that it is the last one."""
        self._exchange += 1
        ask = Ask(self._exchange, (action(text),), detached=True)
        (answer,) = [answer async for answer in self.enforcer.decide(ask)]
        assert isinstance(answer, Decided)
        assert answer.final == isinstance(answer.outcome, Held)
        return answer.outcome


def code(outcome: Any) -> str:
    assert isinstance(outcome, Deny)
    return outcome.reasons[0].code


def test_it_is_asked_once_and_granted_once_by_the_fresh_decision():
    async def run() -> None:
        desk = Desk(decisions=[HELD, HELD], approvals=[PENDING, PENDING], redemptions=[ALLOW])
        assert isinstance(await desk.ask(), Held)
        assert isinstance(await desk.ask(), Held)
        assert len(desk.service.requested) == 1
        desk.service.state = ApprovalUpdate("approved")
        granted = await desk.ask()
        assert isinstance(granted, Grant)
        assert desk.enforcer.issued(granted)
        digest = digest_of(action("refund 7"), "agent:orders-reader", "shop")
        assert desk.service.redeemed == [("a-1", digest, granted.execution_id)]
        assert not desk.enforcer.has_detached
        # Another time it is another command, which is asked for anew.
        desk.service.state = ApprovalUpdate("pending")
        assert isinstance(await desk.ask(), Held)
        assert len(desk.service.requested) == 2

    asyncio.run(run())


def test_another_action_has_no_part_in_it():
    async def run() -> None:
        desk = Desk(decisions=[HELD, DENIED], approvals=[PENDING])
        assert isinstance(await desk.ask("refund 7"), Held)
        desk.service.state = ApprovalUpdate("approved")
        assert await desk.ask("refund 8") == DENIED
        assert desk.service.redeemed == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("state", "expected"),
    [("denied", "approval-denied"), ("expired", "approval-expired"), ("unknown", "approval-unknown")],
)
def test_without_a_yes_it_is_denied_and_then_asked_anew(state: str, expected: str):
    async def run() -> None:
        desk = Desk(decisions=[HELD, HELD], approvals=[PENDING, PENDING])
        await desk.ask()
        desk.service.state = ApprovalUpdate(state)
        assert code(await desk.ask()) == expected
        desk.service.state = ApprovalUpdate("pending")
        assert isinstance(await desk.ask(), Held)

    asyncio.run(run())


def test_while_it_is_not_known_how_it_stands_it_is_a_deny_to_try_again():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[PENDING], redemptions=[ALLOW])
        await desk.ask()
        desk.service.state = DecisionUnavailable("down")
        refused = await desk.ask()
        assert code(refused) == "decision-unavailable"
        assert refused.retry
        desk.service.state = ApprovalUpdate("approved")
        assert isinstance(await desk.ask(), Grant)

    asyncio.run(run())


def test_what_is_pending_outlives_the_session_because_the_client_may_come_back_through_another():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[PENDING])
        await desk.ask()
        assert desk.service.requested[0].detached
        await desk.enforcer.close("it was not used")
        assert desk.service.cancelled == []

    asyncio.run(run())


def test_a_client_that_comes_back_through_another_session_is_granted_what_was_approved_meanwhile():
    async def run() -> None:
        agreed = dataclasses.replace(PENDING, approved=True)
        desk = Desk(decisions=[HELD], approvals=[agreed], redemptions=[ALLOW])
        desk.service.state = ApprovalUpdate("approved")
        # The service gives the approval that the first proxy had asked for.
        (answer,) = [each async for each in desk.enforcer.decide(Ask(1, (action("refund 7"),), detached=True))]
        assert isinstance(answer, Decided)
        assert isinstance(answer.outcome, Grant)
        digest = digest_of(action("refund 7"), "agent:orders-reader", "shop")
        assert desk.service.redeemed == [("a-1", digest, answer.outcome.execution_id)]
        assert not desk.enforcer.has_detached

    asyncio.run(run())


def test_how_it_stands_is_told_to_its_own_session():
    async def run() -> None:
        desk, other = Desk(decisions=[HELD], approvals=[PENDING]), Desk()
        held = await desk.ask()
        assert await desk.enforcer.detached("a-1") == (held, ApprovalUpdate("pending"))
        assert await desk.enforcer.detached("a-2") is None
        assert await other.enforcer.detached("a-1") is None

    asyncio.run(run())


def test_what_would_be_decided_is_asked_and_releases_nothing():
    async def run() -> None:
        desk = Desk(decisions=[(ALLOW, DENIED)])
        assert await desk.enforcer.consider((action("a"), action("b"))) == (ALLOW, DENIED)
        assert desk.shelf.kept == []

    asyncio.run(run())


def test_what_is_not_whole_is_put_forward_to_nobody():
    async def run() -> None:
        desk = Desk(decisions=[HELD, ALLOW])
        partly = Ask(1, (action("refund 7"),), whole=False)
        (answer,) = [answer async for answer in desk.enforcer.decide(partly)]
        assert isinstance(answer, Decided)
        assert code(answer.outcome) == NEEDS_WHOLE
        assert desk.service.requested == []
        (answer,) = [answer async for answer in desk.enforcer.decide(partly)]
        assert isinstance(answer, Decided)
        assert isinstance(answer.outcome, Grant)

    asyncio.run(run())


def test_two_that_come_back_at_once_are_both_answered_and_one_is_granted():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[PENDING], redemptions=[ALLOW])
        await desk.ask()
        both = asyncio.Barrier(2)

        async def approved(_session: SessionHandle, _approval: str) -> AsyncGenerator[ApprovalUpdate, None]:
            # Neither hears how it stands before the other has asked.
            await both.wait()
            yield ApprovalUpdate("approved")

        desk.service.await_approval = approved  # type: ignore[method-assign]
        outcomes = await asyncio.gather(desk.ask(), desk.ask())
        (granted,) = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
        (refused,) = [outcome for outcome in outcomes if outcome is not granted]
        assert code(refused) == "approval-used"
        assert len(desk.service.redeemed) == 1

    asyncio.run(run())


@pytest.mark.parametrize("state", ["denied", "expired", "redeemed", "unknown"])
def test_an_approval_that_nobody_comes_back_for_is_forgotten_at_its_end(state: str):
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[LASTS])
        await desk.ask()
        desk.service.state = ApprovalUpdate(state)
        desk.now = 1_059.0
        assert not desk.enforcer.has_overdue
        await desk.enforcer.forget_overdue()
        assert desk.enforcer.has_detached
        desk.now = 1_062.0
        assert desk.enforcer.has_overdue
        await desk.enforcer.forget_overdue()
        assert not desk.enforcer.has_detached
        last = json.loads(desk.shelf.kept[-1].data)
        assert (last["type"], last["facts"]["state"]) == ("approval.resolved", state)
        assert desk.service.cancelled == []

    asyncio.run(run())


def test_one_that_is_still_pending_at_its_end_is_withdrawn():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[LASTS])
        await desk.ask()
        desk.now = 1_062.0
        await desk.enforcer.forget_overdue()
        assert not desk.enforcer.has_detached
        assert [approval for approval, _ in desk.service.cancelled] == ["a-1"]

    asyncio.run(run())


def test_one_that_people_agreed_to_is_kept_as_long_as_the_service_says_so():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[LASTS], redemptions=[ALLOW])
        await desk.ask()
        desk.service.state = ApprovalUpdate("approved")
        for desk.now in (1_062.0, 1_200.0, 2_000.0):
            assert desk.enforcer.has_overdue
            await desk.enforcer.forget_overdue()
            assert not desk.enforcer.has_overdue, "it is not asked again at once"
        assert isinstance(await desk.ask(), Grant)

    asyncio.run(run())


def test_while_the_service_is_away_one_that_is_over_is_kept_a_while_and_no_longer():
    async def run() -> None:
        desk = Desk(decisions=[HELD], approvals=[LASTS])
        await desk.ask()
        desk.service.state = DecisionUnavailable("down")
        desk.now = 1_062.0
        await desk.enforcer.forget_overdue()
        assert desk.enforcer.has_detached
        desk.now = 1_200.0
        await desk.enforcer.forget_overdue()
        assert not desk.enforcer.has_detached

    asyncio.run(run())


def test_two_first_requests_for_one_action_at_once_put_it_forward_once():
    async def run() -> None:
        wait = asyncio.Event()
        desk = Desk(decisions=[HELD, HELD], approvals=[wait, PENDING, PENDING])
        first, second = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
        await desk.service.waiting.wait()
        await until(lambda: len(desk.service.asked) == 2)
        wait.set()
        outcomes = await asyncio.gather(first, second)
        assert [outcome.approval_id for outcome in outcomes] == ["a-1", "a-1"]
        assert len(desk.service.requested) == 1
        assert desk.service.cancelled == []

    asyncio.run(run())


def test_where_the_first_of_two_leaves_while_it_asks_the_second_asks_by_itself():
    async def run() -> None:
        never = asyncio.Event()
        desk = Desk(decisions=[HELD, HELD], approvals=[never, PENDING, PENDING])
        first, second = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
        await desk.service.waiting.wait()
        await until(lambda: len(desk.service.asked) == 2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert isinstance(await second, Held)
        assert len(desk.service.cancelled) == 1, "what the first one asked for is withdrawn"
        assert desk.enforcer.has_detached

    asyncio.run(run())
