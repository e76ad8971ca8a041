"""Approvals of one session that nobody waits for on the wire: the client comes back with the same action.

An entry lives as long as it can be used: until it is used, or until its time is over and the decision service does not
say that people have agreed. Nothing is decided or granted here, and nothing recorded: that is the enforcer's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from pep.core.decision_client import ApprovalUpdate, DecisionClient
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.model import Held
from pep.core.sessions import SessionHandle

# The service's clock and this one differ a little.
_GRACE_SECONDS: Final = 1.0
# How long a yes is good is known to the service alone: it is asked again.
_LOOK_AGAIN_SECONDS: Final = 30.0
# While the service cannot be asked, an entry that is over is kept so much longer.
_PATIENCE_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Entry:
    held: Held
    ends: float
    patience: float
    looking: bool = False


@dataclass(slots=True)
class _Asking:
    """Somebody puts an action forward, and how many do or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class Detached:
    """The entries, by the digest of the one action that each is for; `now` in epoch seconds."""

    def __init__(self, decisions: DecisionClient, session: SessionHandle, now: Callable[[], float]) -> None:
        self._decisions = decisions
        self._session = session
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._asking: dict[bytes, _Asking] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def due(self) -> bool:
        """Whether the time of an entry is over; `forget` then says of which."""
        now = self._now()
        return any(entry.ends <= now and not entry.looking for entry in self._entries.values())

    def keep(self, digest: bytes, held: Held) -> None:
        ends = self._now() + held.expires_in + _GRACE_SECONDS
        self._entries[digest] = _Entry(held, ends, ends + _PATIENCE_SECONDS)

    def get(self, digest: bytes) -> Held | None:
        entry = self._entries.get(digest)
        return None if entry is None else entry.held

    def named(self, approval_id: str) -> Held | None:
        return next((entry.held for entry in self._entries.values() if entry.held.approval_id == approval_id), None)

    def take(self, digest: bytes, held: Held) -> bool:
        """Takes the entry out, to be used; False where it is not there any more."""
        entry = self._entries.get(digest)
        if entry is None or entry.held is not held:
            return False
        del self._entries[digest]
        return True

    @contextlib.asynccontextmanager
    async def alone(self, digest: bytes) -> AsyncIterator[None]:
        """One at a time may put this action forward."""
        asking = self._asking.setdefault(digest, _Asking())
        asking.wanted += 1
        try:
            async with asking.lock:
                yield
        finally:
            asking.wanted -= 1
            if not asking.wanted:
                del self._asking[digest]

    async def state(self, approval_id: str) -> ApprovalUpdate:
        """Where an approval stands now. Raises DecisionUnavailable."""
        try:
            async with contextlib.aclosing(self._updates(approval_id)) as updates:
                async for update in updates:
                    return update
        except RequestRefused:
            return ApprovalUpdate("unknown")
        raise DecisionUnavailable("the decision service did not say where the approval stands")

    async def forget(self) -> list[tuple[Held, ApprovalUpdate]]:
        """Forgets what can be used no more, and says where each of it stood; "pending" where that is not known."""
        forgotten: list[tuple[Held, ApprovalUpdate]] = []
        now = self._now()
        for digest, entry in tuple(self._entries.items()):
            if entry.ends > now or entry.looking:
                continue
            entry.looking = True
            try:
                update = await self.state(entry.held.approval_id)
            except DecisionUnavailable:
                update = ApprovalUpdate("pending")
                if now < entry.patience:
                    continue
            finally:
                entry.looking = False
            if update.state == "approved":
                entry.ends = self._now() + _LOOK_AGAIN_SECONDS
            elif self.take(digest, entry.held):
                forgotten.append((entry.held, update))
        return forgotten

    def _updates(self, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        return self._decisions.await_approval(self._session, approval_id)
