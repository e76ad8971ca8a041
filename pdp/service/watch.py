"""What proxies are told unasked, and what they have acknowledged.

Each stream is a list of numbered messages. A proxy's lease lives while it acknowledges; a revision is in force when
every proxy with a live lease has acknowledged a message that carried it.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from pdp.identity.tokens import Clock
from pdp.service.peers import Peer
from pdp.v1 import decision_service_pb2 as pb

log = structlog.get_logger("pdp.watch")

# A proxy that reads nothing for so long is cut off; the snapshot of its next stream tells it everything.
_MOST_WAITING: Final = 4096
_LONGEST_TROUBLE: Final = 200
LEASE: Final = datetime.timedelta(seconds=3)
HEARTBEAT: Final = 1.0


@dataclass(slots=True, eq=False)
class Watcher:
    """One stream to one proxy."""

    peer: Peer
    seen_at: datetime.datetime
    connected: bool = True
    overrun: bool = False
    number: int = 0
    revision: str = ""
    spool: pb.SpoolState | None = None
    waiting: deque[pb.WatchResponse] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    # Revisions sent and not acknowledged yet, with the number of their message.
    unacknowledged: deque[tuple[int, str]] = field(default_factory=deque)

    def push(self, message: pb.WatchResponse) -> None:
        if len(self.waiting) >= _MOST_WAITING:
            self.overrun = True
            self.waiting.clear()
        if not self.overrun:
            self.waiting.append(message)
        self.news.set()

    def take(self) -> pb.WatchResponse | None:
        """The next message, numbered; None if there is none."""
        if not self.waiting:
            self.news.clear()
            return None
        return self.numbered(self.waiting.popleft())

    def numbered(self, message: pb.WatchResponse) -> pb.WatchResponse:
        self.number += 1
        message.number = self.number
        revision = message.policy_revision or message.snapshot.policy_revision
        if revision:
            self.unacknowledged.append((self.number, revision))
        return message


@dataclass(frozen=True, slots=True)
class Lease:
    """A proxy with a live lease and the revision that it has acknowledged."""

    name: str
    revision: str
    # How its process stands with its records, as it says.
    spool: pb.SpoolState | None = None


class Watchers:
    """All streams, the ended ones as long as their leases live."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._watchers: list[Watcher] = []

    def add(self, peer: Peer) -> Watcher:
        watcher = Watcher(peer, self._now())
        self._forget()
        self._watchers.append(watcher)
        return watcher

    def acknowledge(self, watcher: Watcher, number: int) -> None:
        """Renews the lease, and notes what is in force at the proxy."""
        watcher.seen_at = self._now()
        while watcher.unacknowledged and watcher.unacknowledged[0][0] <= number:
            watcher.revision = watcher.unacknowledged.popleft()[1]

    def reported(self, watcher: Watcher, spool: pb.SpoolState) -> None:
        """How a proxy says that its records stand; the log says when it can write none, and when it can again."""
        before = watcher.spool.trouble if watcher.spool is not None else ""
        spool.trouble = spool.trouble[:_LONGEST_TROUBLE]
        watcher.spool = spool
        if spool.trouble and not before:
            log.error("a proxy cannot put on record", proxy=watcher.peer.name, why=spool.trouble, bytes=spool.bytes)
        elif before and not spool.trouble:
            log.info("a proxy can put on record again", proxy=watcher.peer.name)

    def revision(self, revision: str) -> None:
        for watcher in self._connected():
            watcher.push(pb.WatchResponse(policy_revision=revision))

    def session_ended(self, proxy: str, session: str, reason: str) -> None:
        for watcher in self._connected():
            if watcher.peer.uri == proxy:
                ended = pb.SessionEnded(session_id=session, reason=reason)
                watcher.push(pb.WatchResponse(session_ended=ended))

    def leases(self) -> Sequence[Lease]:
        """Every live lease; a proxy that only just went away may still decide by what it has."""
        oldest = self._forget()
        live = [each for each in self._watchers if each.seen_at > oldest]
        found = (Lease(each.peer.name, each.revision, each.spool) for each in live)
        return sorted(found, key=lambda lease: lease.name)

    def _forget(self) -> datetime.datetime:
        """Drops ended streams whose leases have run out; returns since when a lease lives."""
        oldest = self._now() - LEASE
        self._watchers = [each for each in self._watchers if each.connected or each.seen_at > oldest]
        return oldest

    def in_force(self, revision: str) -> bool:
        return bool(revision) and all(lease.revision == revision for lease in self.leases())

    def _connected(self) -> list[Watcher]:
        return [each for each in self._watchers if each.connected]
