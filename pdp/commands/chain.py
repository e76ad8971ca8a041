"""A session's chain, computed again: which event is not what was written. Pure.

`hash_n = SHA-256(hash_{n-1} || session || seq || bytes)`, as `pdp.v1.digests` has it. Whoever can change the store can
write a whole new chain; what is compared here is one copy with itself. A body that is still kept is held against its
salted digest in the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pdp.commands.recorded import Recorded
from pdp.v1.digests import GENESIS, body_digest, chain_hash

CLOSING = ("session.closed", "session.lost")


@dataclass(frozen=True, slots=True)
class Wrong:
    """An event that is wrong, and in which way; the text is of our own words."""

    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the chain as a whole says."""

    events: int
    bodies: int
    erased: int
    wrong: tuple[Wrong, ...]
    # Unset where the record has its closing event, or need not have one yet.
    unfinished: str = ""

    @property
    def whole(self) -> bool:
        return not self.wrong and not self.unfinished


class Check:
    """Takes a chain's events in order, and says at each what is wrong with it."""

    def __init__(self, session_id: str) -> None:
        self._session = session_id
        self._previous = GENESIS
        self.last_type = ""
        self.events = self.bodies = self.erased = self.absent = 0

    def feed(self, event: Recorded) -> list[Wrong]:
        wrong = [Wrong(event.seq, why) for why in _event(self._session, event, self.events, self._previous)]
        # On with the hash that is stored: so each event is judged for itself.
        self._previous = event.hash
        self.last_type = event.type
        self.events = event.seq + 1
        self.bodies += sum(body.content is not None for body in event.bodies)
        self.erased += sum(body.content is None and body.erased for body in event.bodies)
        self.absent += sum(body.content is None and not body.erased for body in event.bodies)
        return wrong


def verify(session_id: str, events: Iterable[Recorded], *, over: bool) -> Verdict:
    """Every event in order; `over` says that the session has ended, so that its record should have as well."""
    check = Check(session_id)
    wrong = [each for event in events for each in check.feed(event)]
    unfinished = ""
    if over and check.last_type not in CLOSING:
        unfinished = "the session has ended, and its record does not: what came last may be missing"
    return Verdict(check.events, check.bodies, check.erased, tuple(wrong), unfinished)


def _event(session_id: str, event: Recorded, expected: int, previous: bytes) -> Iterator[str]:
    if event.seq != expected:
        yield f"follows number {expected - 1}: {'events are missing' if event.seq > expected else 'twice the number'}"
    if chain_hash(previous, session_id, event.seq, event.data) != event.hash:
        yield "its hash is not that of its bytes after the event before it"
    if not event.readable:
        yield "is not an event of this format"
        return
    if (event.session, event.number) != (session_id, event.seq):
        yield "says that it is another session's, or another number's"
    for body in event.bodies:
        if body.content is not None and len(body.content) != body.size:
            yield f"names {body.size:,} bytes as its body {body.index}, and {len(body.content):,} are kept"
        elif body.content is not None and body_digest(body.salt, body.content).hex() != body.digest:
            yield f"comes with another body {body.index} than the one that it names"
    for index in event.unnamed:
        yield f"comes with a body {index} that it does not name"
