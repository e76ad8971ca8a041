"""What becomes of a question to people: asked, answered, used once, or run out.

The store decides every change of state, in transactions that exclude one another; what is kept in memory only wakes
those who wait. An approval allows nothing: it is an input to a fresh decision, which `redeem` asks for.
"""

from __future__ import annotations

import asyncio
import datetime
import weakref
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from pdp.approvals import rules
from pdp.approvals.answers import Answers
from pdp.approvals.context import context_document
from pdp.approvals.errors import NotPermitted, NotPossible, TooMany
from pdp.approvals.events import Events
from pdp.identity.subject import Authenticated
from pdp.identity.tokens import Clock
from pdp.store import approvals as stored
from pdp.store.approvals import Approval, ApprovalState
from pdp.store.database import Database

log = structlog.get_logger("pdp.approvals")

_GRANTED: Final = (ApprovalState.APPROVED,)
_USABLE: Final = (ApprovalState.PENDING, ApprovalState.APPROVED)

# Told of a question that is new, in its transaction.
Told = Callable[[Connection, Approval], None]


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The fresh decision, serialised, and whether it is final: one that is not takes no use."""

    decision: bytes
    final: bool
    decision_id: str = ""
    revision: str = ""
    verdict: str = ""


class Approvals:
    """All of them."""

    def __init__(
        self,
        database: Database,
        now: Clock,
        *,
        events: Events,
        notify: Told,
        max_sign_in_age: datetime.timedelta,
        pending_per_subject: int,
        same: str | None = None,
    ) -> None:
        self._database = database
        self._events = events
        self._notify = notify
        self._now = now
        self._answers = Answers(
            now, events=events, next_alike=self._next_alike, max_sign_in_age=max_sign_in_age, same=same
        )
        self._pending_per_subject = pending_per_subject
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._redeeming: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def create(self, approval: Approval) -> Approval:
        """Asks; the same key in the same session gives the approval that was asked for first.

        A grant of several uses that the holder has for this very action is that approval as well; so is, for who will
        come back, the question that was put before, even in a session that has ended since.
        """

        def work(connection: Connection) -> Approval:
            known = stored.find_by_key(connection, approval.session_id, approval.idempotency_key)
            if known is not None:
                if known.action_digest != approval.action_digest:
                    raise NotPossible("the idempotency key was used for another action")
                return known
            now = self._now()
            window = stored.find_window(connection, approval.holder, approval.action_digest, now)
            if window is not None and window.requirements == approval.requirements:
                return window
            if approval.detached:
                before = stored.find_detached(connection, approval.holder, approval.action_digest, now)
                if before is not None and before.requirements == approval.requirements:
                    return before
            if stored.count_pending(connection, approval.root) >= self._pending_per_subject:
                raise TooMany("too many approvals are pending for this person or workload")
            stored.insert(connection, approval)
            self._events.requested(connection, approval)
            # One of a flood that is asked already is seen with it, and is told of when that one has ended.
            if len(stored.pending_alike(connection, approval.fold)) == 1:
                self._notify(connection, approval)
            return approval

        made = await self._database.short.run(work, approval.subject.share)
        if made.id == approval.id:
            log.info(
                "approval requested",
                approval=made.id,
                session=made.session_id,
                subject=made.subject.key,
                resource=made.resource,
                decision_id=made.decision_id,
                codes=[each["code"] for each in made.requirements],
            )
        return made

    async def find(self, id: str) -> Approval | None:
        return await self._database.short.run(lambda connection: stored.find(connection, id))

    async def follow(self, id: str) -> AsyncGenerator[Approval, None]:
        """The approval as it stands, then each time it changes, until people have answered or it has ended."""
        changed = asyncio.Event()
        self._waiting[id].add(changed)
        try:
            while True:
                changed.clear()
                approval = await self.find(id)
                if approval is None:
                    return
                yield approval
                if approval.state is not ApprovalState.PENDING:
                    return
                await self._changed_or_late(changed, approval.expires_at)
        finally:
            self._waiting[id].discard(changed)
            if not self._waiting[id]:
                del self._waiting[id]

    async def _changed_or_late(self, changed: asyncio.Event, end: datetime.datetime) -> None:
        left = (end - self._now()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                await changed.wait()
        except TimeoutError:
            await self.expire()

    def _changed(self, id: str) -> None:
        for event in self._waiting.get(id, ()):
            event.set()

    async def look(self) -> None:
        """Wakes those who wait here for what another replica has changed."""
        if waited := [*self._waiting]:
            for each in await self._database.short.run(lambda connection: stored.answered(connection, waited)):
                self._changed(each)

    async def cancel(self, id: str, why: str, *, windows: bool = True) -> None:
        """Withdraws a question, or a yes that was not used; nothing if it has ended already.

        Without `windows` a yes of several uses stands: it is not that of the one command that wants it no more.
        """

        def work(connection: Connection) -> bool:
            approval = stored.find(connection, id, lock=True)
            if approval is None:
                return False
            if not windows and approval.state is ApprovalState.APPROVED and stored.is_window(approval):
                return False
            if not stored.change(connection, id, _USABLE, ApprovalState.CANCELLED):
                return False
            self._events.cancelled(connection, approval, rules.shown(why))
            self._next_alike(connection, approval)
            return True

        if await self._database.short.run(work):
            log.info("approval cancelled", approval=id, why=rules.shown(why))
            self._changed(id)

    async def session_ended(self, session_id: str, *, killed: bool = False) -> None:
        """Nothing that a session waited for happens after it.

        A grant of several uses outlives it, and what its client was told to come back for: through another session,
        when the proxy has died meanwhile. Not if somebody ended the session on purpose.
        """
        held = await self._database.short.run(lambda connection: stored.held_by_session(connection, session_id))
        for approval in held:
            window = approval.state is ApprovalState.APPROVED and stored.is_window(approval)
            if killed or not (window or approval.detached):
                await self.cancel(approval.id, "the session ended")

    async def expire(self) -> None:
        """Ends what has run out."""
        now = self._now()

        def work(connection: Connection) -> list[str]:
            ended = []
            for each, was in stored.expire(connection, now):
                approval = stored.find(connection, each)
                assert approval is not None
                self._events.expired(connection, approval, was)
                self._next_alike(connection, approval)
                ended.append(each)
            return ended

        for each in await self._database.short.run(work):
            log.info("approval expired", approval=each)
            self._changed(each)

    def _next_alike(self, connection: Connection, ended: Approval) -> None:
        """One that stood for others has ended: people are told of the next, if there is one."""
        if alike := stored.pending_alike(connection, ended.fold):
            first = stored.find(connection, alike[0])
            assert first is not None
            self._notify(connection, first)

    async def resolve(
        self, id: str, who: Authenticated, digest: bytes, refusal: str | None, *, max_rows: int | None = None
    ) -> Approval:
        """One person's answer: yes, or no with a comment (`refusal`). NotPermitted or NotPossible say why not.

        A yes may be for `max_rows` changed rows at most; NotNarrower where that is more than what stands.
        """

        def work(connection: Connection) -> Approval:
            return self._answers.give(connection, id, who, digest, refusal, max_rows)

        try:
            approval = await self._database.short.run(work)
        except NotPermitted as error:
            await self._events.refused(id, who, str(error))
            raise
        log.info(
            "approval answered",
            approval=id,
            by=who.subject.key,
            answer="yes" if refusal is None else "no",
            state=approval.state.value,
        )
        self._changed(id)
        return approval

    def unfit(self, who: Authenticated) -> str | None:
        """Why this subject answers nobody's question; None if it may answer some."""
        return self._answers.unfit(who)

    async def withdraw(self, id: str, who: Authenticated, comment: str) -> Approval:
        """Takes back a yes before it is used up. NotPossible if there is nothing to take back."""

        def work(connection: Connection) -> Approval:
            approval = stored.find(connection, id, lock=True)
            if approval is None:
                raise NotPossible("there is no such approval")
            said = rules.shown(comment)
            if not stored.change(connection, id, _GRANTED, ApprovalState.WITHDRAWN, comment=said):
                raise NotPossible(f"there is no yes to take back: it is {approval.state.value}")
            self._events.withdrawn(connection, approval, who, said)
            changed = stored.find(connection, id)
            assert changed is not None
            return changed

        approval = await self._database.short.run(work)
        log.info("approval withdrawn", approval=id, by=who.subject.key)
        self._changed(id)
        return approval

    async def redeem(
        self,
        approval: Approval,
        execution_id: str,
        decide: Callable[[dict[str, Any]], Awaitable[Redeemed]],
    ) -> bytes:
        """Decides again with the approval, and takes one use together with keeping the answer.

        The same execution gets the same answer. NotPossible if there is nothing left to use.
        """
        # One at a time for one approval; the transaction below would keep two uses apart even without it.
        async with self._redeeming.setdefault(approval.id, asyncio.Lock()):
            return await self._redeem(approval.id, execution_id, decide)

    async def _redeem(
        self, id: str, execution_id: str, decide: Callable[[dict[str, Any]], Awaitable[Redeemed]]
    ) -> bytes:
        kept, approval = await self._database.short.run(
            lambda connection: (stored.redemption(connection, id, execution_id), stored.find(connection, id))
        )
        if kept is not None:
            return kept
        if approval is None or approval.state is not ApprovalState.APPROVED:
            raise NotPossible(f"the approval is {approval.state.value if approval else 'not known'}")
        answer = await decide(context_document(approval))
        if not answer.final:
            return answer.decision
        now = self._now()

        def work(connection: Connection) -> bytes | None:
            if (before := stored.redemption(connection, id, execution_id)) is not None:
                return before
            given = stored.redeem(connection, id, execution_id, answer.decision, now)
            if given is not None:
                self._events.redeemed(
                    connection, approval, execution_id, answer.decision_id, answer.revision, answer.verdict
                )
            return given

        given = await self._database.short.run(work)
        if given is None:
            raise NotPossible("the approval has been used, or has run out")
        log.info("approval redeemed", approval=id, execution=execution_id, session=approval.session_id)
        return given

    async def list(self, states: Sequence[ApprovalState]) -> Sequence[Approval]:
        return await self._database.short.run(lambda connection: stored.newest(connection, states))

    async def alike(self, approval: Approval) -> Sequence[str]:
        """Ids of what is pending and differs from it in values alone, oldest first."""
        return await self._database.short.run(lambda connection: stored.pending_alike(connection, approval.fold))

    async def find_by_prefix(self, prefix: str) -> Sequence[Approval]:
        return await self._database.short.run(lambda connection: stored.find_by_prefix(connection, prefix))

    async def pending_count(self) -> int:
        return await self._database.short.run(stored.count_pending)
