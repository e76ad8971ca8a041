"""Who is let in no more: revocations, and tokens that have had their one use. Both are in the store, for all replicas.

Revocations are kept in memory as well, since every login and every proxy's call is held against them, and read again
from the store every half second: what another replica revoked is in force here within that time, and what is open is
ended. Nothing is let in while they have not been read for too long.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from pdp.approvals.approvals import Approvals
from pdp.identity.revocation import Mark, marks_of
from pdp.identity.subject import Authenticated, OneTime, Subject
from pdp.identity.tokens import Clock
from pdp.service.sessions import LiveSession, Sessions
from pdp.store import approvals as stored_approvals
from pdp.store import revocations as stored
from pdp.store import used_tokens
from pdp.store.database import Database
from pdp.store.revocations import Revocation
from pdp.store.sessions import SessionState

log = structlog.get_logger("pdp.doors")

LOOK: Final = 0.5
# The store has been out of reach for so long that somebody may have been revoked meanwhile.
_TRUSTED: Final = 60.0
# By so much the clocks of replicas may differ: one that is ahead must not forget what another still lets in.
_CLOCKS: Final = datetime.timedelta(minutes=10)


class Doors:
    """What the authenticator asks of every credential, and `Peers` of every proxy."""

    def __init__(self, database: Database, now: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._now = now
        self._monotonic = monotonic
        self._marks: Mapping[Mark, Revocation] = {}
        self._read_at: float | None = None

    async def read(self) -> None:
        """From the store; what has run out there is no longer in force."""
        started = self._monotonic()
        found = await self._database.short.run(stored.every)
        self._marks = {(each.kind, each.name): each for each in found}
        self._read_at = started

    @property
    def any(self) -> bool:
        return bool(self._marks)

    def why(self, marks: Iterable[Mark]) -> str | None:
        """Why one of these is let in no more, or None."""
        for mark in marks:
            found = self._marks.get(mark)
            if found is not None and (found.until is None or found.until > self._now()):
                return f"the {found.kind} has been revoked" + (f": {found.reason}" if found.reason else "")
        return None

    def why_not(self, subject: Subject, credential: str, proxy: str = "") -> str | None:
        """The same for a session."""
        return self.why(_marks(subject, credential, proxy))

    def revoked(self, who: Authenticated) -> str | None:
        if self._read_at is None or self._monotonic() - self._read_at > _TRUSTED:
            return "who has been revoked cannot be read from the store"
        return self.why(marks_of(who.subject, who.credential))

    async def spend(self, once: OneTime, use: str) -> bool:
        """Takes the token's one use. The first to write it down has it, on whichever replica."""
        # The same call again has the same use: its answer may have been lost on the way to the proxy.
        mine = use or f"once {os.urandom(16).hex()}"
        has = await self._database.short.run(
            lambda connection: used_tokens.take(connection, once.issuer, once.token_id, mine, once.until)
        )
        return has == mine

    async def forget(self) -> None:
        """Uses of tokens that have run out."""
        before = self._now() - _CLOCKS
        await self._database.short.run(lambda connection: used_tokens.forget(connection, before))


def _marks(subject: Subject, credential: str, proxy: str) -> list[Mark]:
    return [*marks_of(subject, credential), *([("proxy", proxy)] if proxy else [])]


class Cutter:
    """Ends what is open of those who are revoked: sessions, and what they wait for."""

    def __init__(self, database: Database, doors: Doors, sessions: Sessions, approvals: Approvals) -> None:
        self._database = database
        self._doors = doors
        self._sessions = sessions
        self._approvals = approvals

    async def look(self) -> None:
        """Reads what is revoked, and cuts it off."""
        await self._doors.read()
        await self.cut()

    def open_of(self, mark: Mark) -> list[LiveSession]:
        """The sessions that are open here and go with that."""
        found = ((each, each.stored) for each in self._sessions.all_open())
        return [each for each, kept in found if mark in _marks(kept.subject, kept.credential, kept.proxy)]

    async def cut(self) -> None:
        if not self._doors.any:
            return
        for session in self._sessions.all_open():
            kept = session.stored
            if (why := self._doors.why_not(kept.subject, kept.credential, kept.proxy)) is not None:
                await self._sessions.end(session.id, SessionState.KILLED, why)
        # A question outlives its session where its client is to come back for the answer.
        for approval, subject in await self._database.short.run(stored_approvals.usable):
            if (why := self._doors.why_not(subject, "")) is not None:
                await self._approvals.cancel(approval, why)
