"""A decision service in memory: it answers what a test has written down, and keeps what it was asked.

An answer that is an exception is raised; one that is an `asyncio.Event` is waited for first.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pep.core.decision_client import ApprovalRequest, ApprovalUpdate, Login, PendingApproval
from pep.core.errors import DecisionUnavailable
from pep.core.model import Action, Allow, Decision, Deny, Statement
from pep.core.recorder import SpoolError
from pep.core.records import Sealed
from pep.core.sessions import Party, SessionHandle, Subject, Token, WatchNews
from pep.core.shipments import Acknowledged, Shipment

ALLOW = Allow("d-1", "r-1")


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds; for what nothing announces."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def session_handle(**changes: Any) -> SessionHandle:
    agent = Party("agent", "orders-reader")
    given = {
        "session_id": "s-1",
        "token": "t-1",
        "subject": Subject(agent, Party("user", "ada")),
        "resource": "shop",
        "protocol": "toy",
    }
    return SessionHandle(**(given | changes))


def action(text: str = "select 1", name: str = "query") -> Action:
    return Action(name, "toy", {"opaque": False}, Statement(text, ("x",)))


@dataclass
class Scripted:
    """The seam `DecisionClient`; `decisions`, `updates` and the like are used up from the left."""

    decisions: list[Any] = field(default_factory=list)
    approvals: list[Any] = field(default_factory=list)
    updates: list[Any] = field(default_factory=list)
    redemptions: list[Any] = field(default_factory=list)
    logins: list[Any] = field(default_factory=list)
    renewals: list[Any] = field(default_factory=list)
    news: asyncio.Queue[WatchNews] = field(default_factory=asyncio.Queue)
    asked: list[tuple[Action, ...]] = field(default_factory=list)
    requested: list[ApprovalRequest] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    redeemed: list[tuple[str, bytes, str]] = field(default_factory=list)
    closed: list[tuple[str, str, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def open_session(self, login: Login) -> SessionHandle | Deny:
        return await self._next(self.logins)

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        return await self._next(self.renewals)

    async def keep_sessions(self, session_ids: Sequence[str]) -> Sequence[str]:
        return [each for each in session_ids if each in self.ended]

    async def close_session(self, session: SessionHandle, reason: str, last_seq: int) -> None:
        self.closed.append((session.session_id, reason, last_seq))

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Decision, ...]:
        self.asked.append(tuple(actions))
        answer = await self._next(self.decisions)
        return answer if isinstance(answer, tuple) else (answer,) * len(actions)

    async def request_approval(self, session: SessionHandle, request: ApprovalRequest) -> PendingApproval:
        self.requested.append(request)
        return await self._next(self.approvals)

    async def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        self.awaited.append(approval_id)
        self.waiting.set()
        yield ApprovalUpdate("pending")
        yield await self._next(self.updates)

    async def cancel_approval(self, session: SessionHandle, approval_id: str, reason: str) -> None:
        self.cancelled.append((approval_id, reason))

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision:
        self.redeemed.append((approval_id, digest, execution_id))
        return await self._next(self.redemptions)

    async def watch(self) -> AsyncGenerator[WatchNews, None]:
        while True:
            yield await self.news.get()

    async def ship(self, shipments: AsyncIterator[Shipment], acknowledged: Callable[[Acknowledged], None]) -> None:
        raise DecisionUnavailable("records stay in the spool")

    async def _next(self, answers: list[Any]) -> Any:
        answer = answers.pop(0) if answers else asyncio.Event()
        if isinstance(answer, asyncio.Event):
            self.waiting.set()
            await answer.wait()
            return await self._next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Shelf:
    """Where a recorder's sealed events go; refuses them from the moment `full` is set."""

    kept: list[Sealed] = field(default_factory=list)
    full: bool = False

    def append(self, records: Sequence[Sealed], *, root: str, final: bool = False) -> None:
        if self.full:
            raise SpoolError("the spool is full")
        self.kept.extend(records)
