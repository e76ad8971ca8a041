"""The approvals that one session's commands wait for: asked for, awaited, withdrawn when nobody wants them any more.

Nothing is granted here, and none is used: that is the enforcer's. Those that nobody waits for on the wire are in
`detached`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pep.core import decision_records as records
from pep.core.decision_client import ApprovalRequest, ApprovalUpdate, DecisionClient, PendingApproval
from pep.core.described import LARGEST_ACTION, Descriptions
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.estimates import Estimates
from pep.core.local_denials import too_large, undecided
from pep.core.model import Action, Deny, Held, Reason, RequireApproval
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Event
from pep.core.sessions import SessionHandle
from pep.core.wire import Approved, Ask, Decided

ENDED: Final = frozenset({"denied", "cancelled", "expired", "redeemed", "withdrawn"})
"""States in which there is nothing left to withdraw."""
_WITHDRAW_SECONDS: Final = 1.0
_REOPEN_SECONDS: Final = (0.1, 0.5, 2.0)
_UNAPPROVED: Final = {
    "denied": ("approval-denied", "the approval was refused"),
    "expired": ("approval-expired", "nobody approved it in time"),
    "timed-out": ("approval-expired", "nobody approved it in time"),
    "cancelled": ("approval-cancelled", "the request for approval was withdrawn"),
    "withdrawn": ("approval-withdrawn", "the approval was given and taken back"),
    "redeemed": ("approval-used", "the approval has already been used"),
    "unknown": ("approval-unknown", "the decision service does not know the approval"),
}


class Approvals:
    """Those of one session that were asked for and neither used nor withdrawn yet, by exchange.

    `record` puts events on record, and answers with a Deny where that failed.
    """

    def __init__(
        self,
        decisions: DecisionClient,
        session: SessionHandle,
        recorder: Recorder,
        record: Callable[[Sequence[Event]], Deny | None],
        descriptions: Descriptions,
        estimates: Estimates | None,
        now: Callable[[], float],
    ) -> None:
        self._decisions = decisions
        self._session = session
        self._recorder = recorder
        self._record = record
        self._descriptions = descriptions
        self._estimates = estimates
        self._now = now
        self._pending: dict[int, tuple[str, RequireApproval]] = {}
        self._log = structlog.get_logger("pep.enforcer")

    def fits(self, exchange: int, approval_id: str) -> bool:
        """Whether the exchange has this approval."""
        found = self._pending.get(exchange)
        return found is not None and found[0] == approval_id

    def keep(self, exchange: int, held: Held) -> None:
        """The exchange is to use an approval that was asked for before."""
        self._pending[exchange] = (held.approval_id, held.decision)

    def drop(self, exchange: int) -> None:
        """It is used, or somebody else's now: the exchange withdraws it no more."""
        self._pending.pop(exchange, None)

    async def request(self, ask: Ask, action: Action, decision: RequireApproval) -> PendingApproval | Deny:
        """Asks people; a Deny where they cannot be asked."""
        if self._descriptions.size(action) > LARGEST_ACTION:
            return too_large(LARGEST_ACTION)  # people would be shown all of it
        digest = self._descriptions.digest(action)
        estimate = action.estimate
        if estimate is None and self._estimates is not None:
            estimate = await self._estimates.of(action)
        key = os.urandom(16).hex()
        request = ApprovalRequest(
            decision.decision_id, key, action, digest, ask.in_transaction, ask.hold, ask.detached, estimate
        )
        try:
            approval = await self._decisions.request_approval(self._session, request)
        except DecisionUnavailable as error:
            self._log.warning("no decision", session=self._session.session_id, error=str(error))
            return undecided(error)
        except asyncio.CancelledError:
            await self._withdraw_unanswered(request)
            raise
        self._pending[ask.exchange] = (approval.approval_id, decision)
        return approval

    async def _withdraw_unanswered(self, request: ApprovalRequest) -> None:
        """The client left before the approval had a name here: the same key gives it, and then it can go."""
        with contextlib.suppress(DecisionUnavailable, TimeoutError):
            async with asyncio.timeout(_WITHDRAW_SECONDS):
                approval = await self._decisions.request_approval(self._session, request)
                # What people have agreed to before was not asked for now: the client may still come back for it.
                if not approval.approved:
                    await self._decisions.cancel_approval(self._session, approval.approval_id, "the client left")

    def held(self, ask: Ask, decision: RequireApproval, approval: PendingApproval) -> Held:
        """What the client is told while it waits, and for how long it may."""
        limits = [limit for limit in (ask.hold, decision.wait or None) if limit is not None]
        if approval.expires_at is not None:
            limits.append(approval.expires_at - self._now())
        seconds = max(0.0, min(limits, default=0.0))
        return Held(approval.approval_id, decision, approval.url, approval.approvers, seconds)

    async def outcome(self, approval_id: str, seconds: float) -> ApprovalUpdate:
        """The final state. A stream that breaks is opened again, until the time is over."""
        tries = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        async with contextlib.aclosing(
                            self._decisions.await_approval(self._session, approval_id)
                        ) as updates:
                            async for update in updates:
                                tries = 0
                                if update.state != "pending":
                                    return update
                    except RequestRefused:
                        return ApprovalUpdate("unknown")
                    except DecisionUnavailable as error:
                        self._log.info(
                            "waiting for an approval was interrupted", approval=approval_id, error=str(error)
                        )
                    await asyncio.sleep(_REOPEN_SECONDS[min(tries, len(_REOPEN_SECONDS) - 1)])
                    tries += 1
        return ApprovalUpdate("timed-out")

    def resolve(self, ask: Ask, held: Held, update: ApprovalUpdate) -> Decided | Approved:
        """Puts on record what people said, and hands on what it means for the command."""
        decision = held.decision
        event = records.resolved(decision, held.approval_id, update.state, update.comment)
        if update.state == "approved":
            failed = self._record([event])
            return Approved(ask.exchange, held.approval_id) if failed is None else Decided(ask.exchange, failed)
        if update.state in ENDED:
            self.drop(ask.exchange)
        code, message = _UNAPPROVED.get(update.state, _UNAPPROVED["unknown"])
        said = f"{message}: {update.comment}" if update.comment else message
        deny = Deny(decision.decision_id, decision.policy_revision, (Reason(code, said), *decision.reasons))
        return Decided(
            ask.exchange, self._record([event, records.decided(deny, ask, ask.actions[0], bodies=False)]) or deny
        )

    async def withdraw(self, exchange: int, reason: str) -> None:
        """The exchange no longer wants its approval. Never raises, takes a second at most."""
        found = self._pending.pop(exchange, None)
        if found is None:
            return
        try:
            await self.take_back(*found, reason)
        except asyncio.CancelledError:
            self._pending[exchange] = found
            raise

    async def take_back(self, approval_id: str, decision: RequireApproval, reason: str) -> None:
        try:
            async with asyncio.timeout(_WITHDRAW_SECONDS):
                await self._decisions.cancel_approval(self._session, approval_id, reason)
        except (DecisionUnavailable, TimeoutError) as error:
            # It runs out by itself, and nothing here will ever use it.
            self._log.warning("an approval could not be withdrawn", approval=approval_id, error=str(error))
        with contextlib.suppress(SpoolError):
            self._recorder.record(records.resolved(decision, approval_id, "cancelled"))

    async def close(self, reason: str) -> None:
        """Withdraws all of them."""
        for exchange in tuple(self._pending):
            await self.withdraw(exchange, reason)
