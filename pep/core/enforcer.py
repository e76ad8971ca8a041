"""The one gate: from the actions of an exchange to the right to forward it.

Anything that goes wrong on the way is a deny: no decision in time, an answer that is not whole, a duty that this proxy
cannot perform, a record that cannot be written. Only this module makes a `Grant`, and only after the intent is durable.
Nothing here knows a protocol or forwards a byte. How people are asked and waited for is in `approvals` and `detached`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Final, assert_never

import structlog

from pep.core import decision_records as records
from pep.core.approvals import ENDED, Approvals
from pep.core.decision_client import ApprovalUpdate, DecisionClient, PendingApproval
from pep.core.described import LARGEST_ACTION, Descriptions
from pep.core.detached import Detached
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.estimates import Estimates
from pep.core.facts import NO_ROWS, Facts, settled
from pep.core.local_denials import denied, too_large, undecided
from pep.core.model import (
    Action,
    Allow,
    Answer,
    Decision,
    Deny,
    FieldLabels,
    Grant,
    Held,
    Incomplete,
    Mask,
    Obligation,
    Reason,
    RequireApproval,
    duty_name,
)
from pep.core.reading import MOST_TRIES, Reading
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Event
from pep.core.sessions import SessionHandle
from pep.core.wire import NEEDS_MORE, NEEDS_WHOLE, Approved, Ask, Decided

# The service says itself when time is over; the timer here is for when it does not.
_GRACE_SECONDS: Final = 1.0


def deny_unsupported(decision: Decision, supported: frozenset[type]) -> Decision:
    """A grant with a duty that this proxy cannot perform is no grant."""
    if not isinstance(decision, Allow | Mask):
        return decision
    missing = sorted({duty_name(duty) for duty in decision.obligations if type(duty) not in supported})
    if not missing:
        return decision
    reason = Reason("obligation-unsupported", f"this proxy cannot perform what policy demands: {', '.join(missing)}")
    return Deny(decision.decision_id, decision.policy_revision, (reason, *decision.reasons))


def strictest(decisions: Sequence[Decision]) -> Decision:
    """The answer that holds for all: deny, then approval, then the grants. A final deny comes before one to retry."""
    denies = [decision for decision in decisions if isinstance(decision, Deny)]
    if denies:
        return min(denies, key=lambda deny: deny.retry)
    held = [decision for decision in decisions if isinstance(decision, RequireApproval)]
    return held[0] if held else decisions[0]


class Enforcer:
    """The gate of one session."""

    def __init__(
        self,
        decisions: DecisionClient,
        session: SessionHandle,
        recorder: Recorder,
        *,
        supported: frozenset[type],
        estimates: Estimates | None = None,
        unestimated: str = NO_ROWS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._decisions = decisions
        self._session = session
        self._recorder = recorder
        self._supported = supported
        self._facts = Facts(estimates, unestimated)
        self._seal = object()
        self._descriptions = Descriptions(session)
        self._approvals = Approvals(decisions, session, recorder, self._record, self._descriptions, estimates, now)
        # Actions that people are going to be asked about, with the facts that policies wanted, by exchange.
        self._known: dict[int, tuple[Action, ...]] = {}
        self._reading = Reading(decisions, session)
        self._detached = Detached(decisions, session, now)
        self._log = structlog.get_logger("pep.enforcer")

    def issued(self, grant: Grant) -> bool:
        """Whether this enforcer made the grant."""
        return grant.seal is self._seal

    async def decide(self, ask: Ask) -> AsyncGenerator[Decided | Approved, None]:
        """The answers to an Ask: one, or Held and then another. Leaving it early withdraws a pending approval."""
        first = await self.answer(ask)
        if isinstance(first, Decided):
            yield first
            return
        async with contextlib.aclosing(self.hold(ask, first)) as answers:
            async for answer in answers:
                yield answer

    async def answer(self, ask: Ask) -> Decided | RequireApproval:
        """The one answer to an Ask; a RequireApproval where people have to be waited for, by `hold`."""
        if ask.redeem is not None:
            return Decided(ask.exchange, await self._redeem(ask, ask.redeem))
        if ask.detached and (before := await self._asked_before(ask)) is not None:
            return before
        ask, decisions = await self._ask(ask)
        decision = strictest(decisions)
        match decision:
            case Allow() | Mask():
                return Decided(ask.exchange, self._grant(ask, decisions, _new_id()))
            case Deny(reasons=(Reason(code=code), *_)) if code == NEEDS_MORE:
                return Decided(ask.exchange, decision)
            case RequireApproval() if not ask.whole:
                missing = Reason(NEEDS_WHOLE, "it needs approval, and that is given to the whole of it")
                return Decided(ask.exchange, Deny(decision.decision_id, decision.policy_revision, (missing,)))
            case RequireApproval() if ask.execution and len(ask.actions) == 1 and ask.detached:
                return await self._detach(ask, decision)
            case RequireApproval() if ask.execution and len(ask.actions) == 1:
                self._known[ask.exchange] = ask.actions
                return decision
            case RequireApproval() if ask.execution:
                alone = Reason(
                    "approval-needs-one-statement",
                    "it needs approval, and that is given to one statement at a time; send it alone",
                    instead=("send the statement that needs approval by itself",),
                )
                deny = Deny(decision.decision_id, decision.policy_revision, (alone, *decision.reasons))
                return Decided(ask.exchange, self._refuse(ask, [deny] * len(ask.actions), deny))
            case Deny():
                return Decided(ask.exchange, self._refuse(ask, decisions, decision))
            case RequireApproval():
                return Decided(ask.exchange, self._grant(ask, decisions, _new_id()))
            case never:
                assert_never(never)

    async def consider(self, actions: Sequence[Action]) -> tuple[Decision, ...]:
        """What would be answered to each action alone; it releases nothing, asks nobody and is not on record here."""
        _, decisions = await self._ask(Ask(0, tuple(actions), execution=False))
        return decisions if len(decisions) == len(actions) else decisions[:1] * len(actions)

    @property
    def has_detached(self) -> bool:
        """Whether there are approvals that a later request may use."""
        return bool(self._detached)

    @property
    def has_overdue(self) -> bool:
        """Whether the time of one of these is over, so that `forget_overdue` has something to do."""
        return self._detached.due

    async def detached(self, approval_id: str) -> tuple[Held, ApprovalUpdate] | None:
        """An approval of this session that nobody waits for, and where it stands. Raises DecisionUnavailable."""
        held = self._detached.named(approval_id)
        return None if held is None else (held, await self._detached.state(approval_id))

    async def forget_overdue(self) -> None:
        """Forgets the approvals that no request can use any more; what becomes of each is on record."""
        for held, update in await self._detached.forget():
            if update.state == "pending":
                await self._approvals.take_back(held.approval_id, held.decision, "nobody came back for it in time")
                continue
            with contextlib.suppress(SpoolError):
                self._recorder.record(records.resolved(held.decision, held.approval_id, update.state, update.comment))

    async def withdraw(self, exchange: int, reason: str) -> None:
        """The exchange no longer wants its approval. Never raises, takes a second at most."""
        await self._approvals.withdraw(exchange, reason)

    async def close(self, reason: str) -> None:
        """Withdraw whatever is waited for, because the session ends.

        What a client comes back for stands: it may come back through another session, when this proxy has gone. The
        service ends it with its time, or with a session that somebody ends on purpose.
        """
        await self._approvals.close(reason)

    # --- a decision ---------------------------------------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> tuple[Ask, tuple[Decision, ...]]:
        """One decision for each action, which has the facts by then that policies wanted; or a single deny."""
        answers = await self._answers(ask)
        if any(isinstance(each, Incomplete) for each in answers):
            found = await self._facts.found(ask.actions, answers)
            if isinstance(found, Deny):
                return ask, (found,)
            ask = replace(ask, actions=found)
            answers = await self._answers(ask)
        if len(answers) == len(ask.actions):
            answers = tuple(settled(*each) for each in zip(ask.actions, answers, strict=True))
        return ask, tuple(
            deny_unsupported(each, self._supported) for each in answers if not isinstance(each, Incomplete)
        )

    async def _answers(self, ask: Ask) -> tuple[Answer, ...]:
        """One answer for each action; a single deny where there is no whole answer."""
        try:
            sizes = [self._descriptions.size(action) for action in ask.actions]
        except (TypeError, ValueError):
            return (denied("action-not-understood", "this proxy could not describe it to the decision service"),)
        if not sizes:
            return (denied("action-not-understood", "it holds nothing that could be decided"),)
        if sum(sizes) > LARGEST_ACTION and self._descriptions.travels(ask.actions) > LARGEST_ACTION:
            return (too_large(LARGEST_ACTION),)
        try:
            for _ in range(MOST_TRIES):
                if self._reading.lacks(ask):
                    return (denied(NEEDS_MORE, "policies read more of it than was said", retry=True),)
                decisions = await self._decisions.decide(self._session, ask.actions)
                if not self._reading.behind(decisions):
                    break
                if ended := await self._reading.renew(decisions[0].policy_revision):
                    return (denied("session-ended", f"the session has ended: {ended}"),)
            else:
                return (denied("policies-change", "the policies change while it is decided", retry=True),)
        except DecisionUnavailable as error:
            return (self._unavailable(error),)
        if len(decisions) != len(ask.actions) or len({each.policy_revision for each in decisions}) != 1:
            return (self._unavailable(DecisionUnavailable("the answer does not fit the question")),)
        return decisions

    def _refuse(self, ask: Ask, decisions: Sequence[Decision], deny: Deny) -> Deny:
        """Put a refusal on record, and hand it back."""
        if len(decisions) == len(ask.actions):
            answers = zip(decisions, ask.actions, strict=True)
            events = [records.decided(decision, ask, action, bodies=True) for decision, action in answers]
        else:
            # One answer for them all: the first event names it, and each action's text is on record.
            events = [records.decided(deny, ask, action, bodies=True) for action in ask.actions or (None,)]
        return self._record(events) or deny

    def _grant(self, ask: Ask, decisions: Sequence[Decision], execution_id: str, *first: Event) -> Grant | Deny:
        """Every action may go on: the intent becomes durable, then the grant exists."""
        answers = zip(decisions, ask.actions, strict=True)
        events = [*first, *(records.decided(each, ask, action, bodies=not ask.execution) for each, action in answers)]
        if ask.execution:
            events.append(
                records.intended(ask, execution_id, decisions, [*map(self._descriptions.digest, ask.actions)])
            )
        failed = self._record(events)
        if failed is not None:
            return failed
        return Grant(
            seal=self._seal,
            execution_id=execution_id,
            decision_ids=tuple(decision.decision_id for decision in decisions),
            policy_revision=decisions[0].policy_revision,
            obligations=tuple(map(self._duties, decisions)),
            labels=tuple(dict.fromkeys(label for each in decisions for label in _labels(each))),
        )

    def _duties(self, decision: Decision) -> tuple[Obligation, ...]:
        """A decision's duties and those of the whole session."""
        match decision:
            case Allow(obligations=own) | Mask(obligations=own):
                return tuple(dict.fromkeys((*own, *self._session.obligations)))
            case _:
                return self._session.obligations

    def _record(self, events: Sequence[Event]) -> Deny | None:
        try:
            self._recorder.record(*events)
        except SpoolError as error:
            self._log.error("a decision could not be recorded", session=self._session.session_id, error=str(error))
            return denied("record-unavailable", "it cannot be put on record, so it must not happen", retry=True)
        return None

    def _unavailable(self, error: DecisionUnavailable) -> Deny:
        self._log.warning("no decision", session=self._session.session_id, error=str(error))
        return undecided(error)

    # --- people -------------------------------------------------------------------------------------------------------

    async def hold(self, ask: Ask, decision: RequireApproval) -> AsyncGenerator[Decided | Approved, None]:
        ask = replace(ask, actions=self._known.pop(ask.exchange, ask.actions))
        action = ask.actions[0]
        failed = self._record([records.decided(decision, ask, action, bodies=True)])
        if failed is not None:
            yield Decided(ask.exchange, failed)
            return
        settled = False
        try:
            opened = await self._approvals.request(ask, action, decision)
            if isinstance(opened, Deny):
                settled = True
                yield Decided(ask.exchange, self._refuse(ask, [opened], opened))
                return
            held = self._approvals.held(ask, decision, opened)
            failed = self._record([records.requested(ask, decision, opened)])
            yield Decided(ask.exchange, failed or held)
            if failed is not None:
                return
            limit = held.expires_in + _GRACE_SECONDS
            update = await self._approvals.outcome(
                held.approval_id, limit if ask.hold is None else min(limit, ask.hold)
            )
            outcome = self._approvals.resolve(ask, held, update)
            # An approval that ran out here may still be pending there, and one that was not recorded is not used.
            settled = isinstance(outcome, Approved) or update.state in ENDED
            yield outcome
        finally:
            if not settled:
                await self.withdraw(ask.exchange, "the client no longer waits")

    async def _detach(self, ask: Ask, decision: RequireApproval) -> Decided:
        """Ask people, and let the client come back for the answer. Of two at once for one action, one asks.

        A client that comes back through another session, because its proxy has died, gets the answer there.
        """
        action = ask.actions[0]
        failed = self._record([records.decided(decision, ask, action, bodies=True)])
        if failed is not None:
            return Decided(ask.exchange, failed, final=True)
        digest = self._descriptions.digest(action)
        async with self._detached.alone(digest):
            held = self._detached.get(digest)
            approved = False
            if held is None:
                opened = await self._approvals.request(ask, action, decision)
                if isinstance(opened, Deny):
                    return Decided(ask.exchange, self._refuse(ask, [opened], opened), final=True)
                approved = opened.approved
                put = await self._put_forward(ask, decision, digest, opened)
                if isinstance(put, Deny):
                    return Decided(ask.exchange, put, final=True)
                held = put
        answer = await self._asked_before(ask) if approved else None
        return answer or Decided(ask.exchange, held, final=True)

    async def _put_forward(
        self, ask: Ask, decision: RequireApproval, digest: bytes, opened: PendingApproval
    ) -> Held | Deny:
        failed = self._record([records.requested(ask, decision, opened)])
        if failed is not None:
            await self.withdraw(ask.exchange, "it could not be put on record")
            return failed
        self._approvals.drop(ask.exchange)
        held = self._approvals.held(ask, decision, opened)
        self._detached.keep(digest, held)
        return held

    async def _asked_before(self, ask: Ask) -> Decided | None:
        """The answer of the approval that this very action was put forward for; None where there is none."""
        if len(ask.actions) != 1:
            return None
        try:
            digest = self._descriptions.digest(ask.actions[0])
        except (TypeError, ValueError):
            return None
        held = self._detached.get(digest)
        if held is None:
            return None
        try:
            update = await self._detached.state(held.approval_id)
        except DecisionUnavailable as error:
            deny = self._unavailable(error)
            return Decided(ask.exchange, self._refuse(ask, [deny], deny))
        if update.state == "pending":
            return Decided(ask.exchange, held, final=True)
        if not self._detached.take(digest, held):
            # Another exchange came back for it meanwhile: it is that one's.
            update = ApprovalUpdate("redeemed")
        self._approvals.keep(ask.exchange, held)
        match self._approvals.resolve(ask, held, update):
            case Approved(approval_id=approval_id):
                return Decided(ask.exchange, await self._redeem(ask, approval_id))
            case Decided() as refused:
                return refused

    async def _redeem(self, ask: Ask, approval_id: str) -> Grant | Deny:
        """Use an approval for the action as it stands now. The service decides again; only its grant counts."""
        if not self._approvals.fits(ask.exchange, approval_id) or len(ask.actions) != 1 or not ask.execution:
            deny = denied("approval-does-not-fit", "the approval was given to another command")
            return self._refuse(ask, [deny] * len(ask.actions), deny)
        action, execution_id = ask.actions[0], _new_id()
        try:
            digest = self._descriptions.digest(action)
            answer = await self._decisions.redeem_approval(self._session, approval_id, digest, execution_id)
        except RequestRefused:
            # It is not used up, and no other command can use it: take it back.
            await self.withdraw(ask.exchange, "the command is no longer what was approved")
            changed = "it is not what was approved any more, or the approval has ended; send it again to ask anew"
            deny = denied("approval-not-redeemed", changed)
            return self._refuse(ask, [deny], deny)
        except DecisionUnavailable as error:
            # It may have been used up: what is lost then is the grant, never is there a second one.
            await self.withdraw(ask.exchange, "the answer did not come in time")
            deny = self._unavailable(error)
            return self._refuse(ask, [deny], deny)
        except (TypeError, ValueError):
            deny = denied("action-not-understood", "this proxy could not describe it to the decision service")
            return self._refuse(ask, [deny], deny)
        self._approvals.drop(ask.exchange)
        event = records.redeemed(answer, approval_id, execution_id)
        match deny_unsupported(answer, self._supported):
            case Allow() | Mask() as granted if self._reading.behind([granted]) and ask.paths is not None:
                other = Reason("policies-change", "the policies have changed; send it again")
                deny = Deny(granted.decision_id, granted.policy_revision, (other,), retry=True)
            case Allow() | Mask() as granted:
                return self._grant(ask, [granted], execution_id, event)
            case RequireApproval() as again:
                reason = Reason("approval-not-enough", "the policy now asks for another approval; send it again")
                deny = Deny(again.decision_id, again.policy_revision, (reason, *again.reasons))
            case Deny() as refused:
                deny = refused
            case never:
                assert_never(never)
        return self._record([event, records.decided(deny, ask, action, bodies=True)]) or deny


def _labels(decision: Decision) -> tuple[FieldLabels, ...]:
    return decision.labels if isinstance(decision, Allow | Mask) else ()


def _new_id() -> str:
    return os.urandom(16).hex()
