"""Keeps what is kept no longer than the configuration says: bodies of records, then whole sessions.

Done in small steps, so that no record that comes waits long for it. That a body was erased stands in its row and in the
service's own chain; that a session was taken out stands in the log of checkpoints, signed, before it goes. A session
whose end is not signed, or that an approval still waits for, stays.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Final

import structlog
from sqlalchemy import Connection

from pdp.audit.notary import Notary
from pdp.audit.service_chain import ServiceChain
from pdp.identity.tokens import Clock
from pdp.store import retention as stored
from pdp.store.database import Database

log = structlog.get_logger("pdp.retention")

ERASED: Final = "records.erased"
REMOVED: Final = "records.removed"
BY_RETENTION: Final = "retention"
_BODIES: Final = 500
_SESSIONS: Final = 8
# Of one chain, so that the event stays small whatever the step was.
_NAMED: Final = 50


class Retention:
    """`round` is called at intervals. None as a time means for ever."""

    def __init__(
        self,
        database: Database,
        chain: ServiceChain,
        notary: Notary,
        now: Clock,
        *,
        bodies: datetime.timedelta | None,
        index: datetime.timedelta | None,
        approvals: datetime.timedelta | None,
        notifications: datetime.timedelta,
    ) -> None:
        self._database = database
        self._chain = chain
        self._notary = notary
        self._now = now
        self._bodies = bodies
        self._index = index
        self._approvals = approvals
        self._notifications = notifications
        self._erased = False

    async def round(self) -> None:
        """Erases and takes out everything whose time is over."""
        run = self._database.bulk.run
        self._erased = False
        while self._bodies is not None and await run(self._erase):
            pass
        after = True
        while self._index is not None and after:
            after = await run(self._take_out)
        while self._index is not None and await run(self._take_out_marks):
            pass
        while self._approvals is not None and await run(self._take_out_approvals):
            pass
        while await run(self._take_out_notifications):
            pass
        if self._erased:
            await self._database.forget()

    def _erase(self, connection: Connection) -> bool:
        """Some bodies; whether there may be more."""
        assert self._bodies is not None
        before = self._now() - self._bodies
        found = stored.erase_bodies(connection, before, _BODIES)
        texts = stored.erase_texts(connection, before)
        if not found and not texts:
            return False
        self._erased = True
        count = sum(found.values())
        facts: dict[str, object] = {"why": BY_RETENTION, "before": before.isoformat(), "bodies": count, "texts": texts}
        self._chain.write(connection, ERASED, {**facts, "chains": _named(found)})
        log.info("bodies erased", count=count, texts=texts, before=before.isoformat())
        return count == _BODIES

    def _take_out(self, connection: Connection) -> bool:
        """Some sessions; whether there may be more."""
        assert self._index is not None
        before = self._now() - self._index
        due = stored.ended_before(connection, before, _SESSIONS)
        gone = [each for each in due if self._notary.bury(connection, each, BY_RETENTION)]
        for each in gone:
            stored.take_out(connection, each)
        if gone:
            self._erased = True
            facts = {"why": BY_RETENTION, "before": before.isoformat(), "sessions": gone}
            self._chain.write(connection, REMOVED, facts)
            log.info("sessions taken out", count=len(gone), before=before.isoformat())
        return len(due) == _SESSIONS and bool(gone)

    def _take_out_marks(self, connection: Connection) -> bool:
        """What is kept of some processes; whether there may be more."""
        assert self._index is not None
        before = self._now() - self._index
        gone = stored.take_out_marks(connection, before, _SESSIONS)
        if gone:
            facts = {"why": BY_RETENTION, "before": before.isoformat(), "processes": gone}
            self._chain.write(connection, REMOVED, facts)
            log.info("what was said of processes is taken out", count=len(gone), before=before.isoformat())
        return len(gone) == _SESSIONS

    def _take_out_approvals(self, connection: Connection) -> bool:
        assert self._approvals is not None
        before = self._now() - self._approvals
        count = stored.take_out_approvals(connection, before, _BODIES)
        if count:
            facts = {"why": BY_RETENTION, "before": before.isoformat(), "approvals": count}
            self._chain.write(connection, REMOVED, facts)
            log.info("approvals taken out", count=count, before=before.isoformat())
        return count == _BODIES

    def _take_out_notifications(self, connection: Connection) -> bool:
        """Nothing of them is on record, so nothing of their end is."""
        before = self._now() - self._notifications
        count = stored.take_out_notifications(connection, before, _BODIES)
        if count:
            log.info("notifications taken out", count=count, before=before.isoformat())
        return count == _BODIES


def _named(found: Mapping[str, int]) -> Mapping[str, int]:
    return dict(list(found.items())[:_NAMED])
