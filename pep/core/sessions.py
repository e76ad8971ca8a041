"""The sessions of one proxy as the decision service knows them: who each is, and when each has to end.

`Sessions` keeps them alive there, renews their tokens, ends them when their credential does, and passes on what `Watch`
says about them. A proxy that loses the decision service keeps its sessions: each new command is then denied by itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from pep.core.errors import DecisionUnavailable
from pep.core.model import Obligation
from pep.core.wire import PolicyChanged, Revoked

if TYPE_CHECKING:
    from pep.core.decision_client import DecisionClient

_KEEP_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 2.0
# What was revoked meanwhile is in the snapshot of the next stream, and is to be cut within a second.
_REOPEN_SECONDS: Final = 0.25
# Without a heartbeat for so long the lease is lost: what the proxy knows of revisions may be out of date.
LEASE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Party:
    type: str
    id: str
    groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who the client is, and the person or workload at the end of its chain."""

    party: Party
    root: Party
    workflow: str = ""

    @property
    def name(self) -> str:
        """The subject as digests spell it, "type:id"."""
        return self.party.name


@dataclass(slots=True)
class SessionHandle:
    """A session that the decision service granted. Only its token, and what policies read, changes while it lives.

    Times are epoch seconds.
    """

    session_id: str
    token: str = field(repr=False)
    subject: Subject
    resource: str
    protocol: str
    decision_id: str = ""
    policy_revision: str = ""
    obligations: tuple[Obligation, ...] = ()
    input_paths: frozenset[str] = frozenset()
    input_paths_revision: str = ""
    credential_expires_at: float | None = None
    token_expires_at: float | None = None

    def renewed(self, token: Token) -> None:
        self.token, self.token_expires_at = token.token, token.expires_at
        if token.input_paths_revision:
            self.input_paths, self.input_paths_revision = token.input_paths, token.input_paths_revision


@dataclass(frozen=True, slots=True)
class Token:
    """A session's new token, and when it ends."""

    token: str = field(repr=False)
    expires_at: float | None
    # What the policies of that revision read; without a revision nothing is said of it.
    input_paths: frozenset[str] = frozenset()
    input_paths_revision: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The decision service says that a session has to end."""

    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WatchNews:
    """One message of Watch: a snapshot, a revision, an ended session, or only a sign of life (all empty)."""

    policy_revision: str = ""
    ended: tuple[SessionEnded, ...] = ()


@dataclass(frozen=True, slots=True)
class _Live:
    handle: SessionHandle
    post: Callable[[Revoked | PolicyChanged], None]
    timers: asyncio.Task[None]


class Sessions:
    """The registry of one proxy process. `run` does its work; sessions may be added only while it runs."""

    def __init__(self, decisions: DecisionClient, *, now: Callable[[], float] = time.time) -> None:
        self._decisions = decisions
        self._now = now
        self._live: dict[str, _Live] = {}
        self._of: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: asyncio.TaskGroup | None = None
        self._log = structlog.get_logger("pep.sessions")
        self._heard = 0.0
        self._stopping = ""
        self.policy_revision = ""

    def __len__(self) -> int:
        return len(self._live)

    def of(self, root: str) -> int:
        """How many are the person's or workload's at the end of a chain."""
        return self._of[root]

    @property
    def leased(self) -> bool:
        """Whether the decision service was heard of within the lease."""
        return self._heard > 0 and time.monotonic() - self._heard < LEASE_SECONDS

    def add(self, handle: SessionHandle, post: Callable[[Revoked | PolicyChanged], None]) -> None:
        """From now on the session is kept alive, and `post` is told when it has to end."""
        assert self._tasks is not None, "Sessions.run is not running"
        tend = self._tasks.create_task(self._tend(handle, post), name=f"tend {handle.session_id}")
        self._live[handle.session_id] = _Live(handle, post, tend)
        self._of[handle.subject.root.name] += 1
        self._empty.clear()
        if self._stopping:
            post(Revoked(self._stopping, at_once=False))

    def remove(self, session_id: str) -> None:
        live = self._live.pop(session_id, None)
        if live is not None:
            live.timers.cancel()
            self._of -= Counter((live.handle.subject.root.name,))
        if not self._live:
            self._empty.set()

    async def emptied(self, timeout: float) -> bool:
        """Whether every session ended within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def revoke_all(self, reason: str) -> None:
        """Tell every session to end when its target is idle, and those that still come, because the proxy stops."""
        self._stopping = reason
        for live in tuple(self._live.values()):
            live.post(Revoked(reason, at_once=False))

    async def run(self) -> None:
        """Watches and keeps until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._watch(), name="watch")
            tasks.create_task(self._keep(), name="keep sessions")

    def _changed(self, revision: str) -> None:
        self.policy_revision = revision
        for live in tuple(self._live.values()):
            live.post(PolicyChanged(revision))

    def _end(self, session_id: str, reason: str) -> None:
        live = self._live.get(session_id)
        if live is not None:
            live.post(Revoked(reason))

    async def _watch(self) -> None:
        while True:
            try:
                async for news in self._decisions.watch():
                    self._heard = time.monotonic()
                    if news.policy_revision and news.policy_revision != self.policy_revision:
                        self._changed(news.policy_revision)
                    for ended in news.ended:
                        self._end(ended.session_id, ended.reason)
            except DecisionUnavailable as error:
                self._log.warning("the decision service is not heard of", error=str(error))
            await asyncio.sleep(_REOPEN_SECONDS)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            if not self._live:
                continue
            try:
                for session_id in await self._decisions.keep_sessions(tuple(self._live)):
                    self._end(session_id, "the session was ended by the decision service")
            except DecisionUnavailable as error:
                self._log.warning("sessions could not be kept", error=str(error))

    async def _tend(self, handle: SessionHandle, post: Callable[[Revoked | PolicyChanged], None]) -> None:
        """Renews the token when two thirds of its life are over; ends the session with its credential."""
        ends = math.inf if handle.credential_expires_at is None else handle.credential_expires_at
        renew = self._renewal(handle)
        while (wake := min(ends, renew)) < math.inf:
            now = self._now()
            if wake > now:
                await asyncio.sleep(wake - now)
            elif ends <= now:
                # Nothing new is decided for it any more; what runs was decided in time.
                post(Revoked("the credential has expired", at_once=False))
                return
            elif reason := await self._renew(handle):
                post(Revoked(reason))
                return
            else:
                renew = self._renewal(handle)

    def _renewal(self, handle: SessionHandle) -> float:
        """When to renew next: a token that is nearly over, because it could not be renewed, is tried again soon."""
        if handle.token_expires_at is None:
            return math.inf
        now = self._now()
        return now + max(_RETRY_SECONDS, (handle.token_expires_at - now) * 2 / 3)

    async def _renew(self, handle: SessionHandle) -> str:
        """Why the session has to end, or "" where it may go on, with a new token or none for now."""
        try:
            renewed = await self._decisions.refresh_session(handle)
        except DecisionUnavailable as error:
            self._log.warning("a session's token was not renewed", session=handle.session_id, error=str(error))
            return ""
        match renewed:
            case str():
                return renewed
            case Token():
                handle.renewed(renewed)
                return ""
            case never:
                assert_never(never)
