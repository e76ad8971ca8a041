"""Brings the spool's records to the decision service, in order, and says which segments may go.

At most a window of bytes is on the way unacknowledged. After an error everything that is not acknowledged is sent
again: the service ignores a record that it has. Nothing waits for the shipper; a spool that is full denies by itself.

On the way the chains are signed: their first and last event, and one in so many or at such an interval; a tail that has
grown no further is signed by itself. Beside them goes a mark: up to when everything on record here was acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import structlog

from pep.core.decision_client import DecisionClient
from pep.core.errors import DecisionUnavailable
from pep.core.recorder import SpoolError
from pep.core.segments import Segment
from pep.core.shipments import Acknowledged, Countersign, Mark, Shipment
from pep.core.signer import Signer
from pep.core.spool import Spool

WINDOW_BYTES: Final = 4 << 20
_BACK_OFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

# Where in the spool a record ends: the segment's ordinal, and the offset in it.
_Position = tuple[int, int]


# What a chain ends with. A fact cannot look like it but by its own name, and then there is a signature too many.
_LAST: Final = (b'"type":"session.closed"', b'"type":"session.lost"', b'"type":"process"')


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs the chains and how often; and for the mark, the chain of this process and how many it has begun."""

    signer: Signer
    process: str
    sessions: Callable[[], int]
    every: float = 60.0
    events: int = 1000
    mark_every: float = 5.0


@dataclass(slots=True)
class _Tail:
    """How far a chain has been shipped and signed, and when it was signed."""

    seq: int
    hash: bytes
    signed: int
    at: float


class Shipper:
    """Ships one spool. `run` does the work, `drained` waits for it. Without `signing` nothing is signed or marked."""

    def __init__(
        self, spool: Spool, decisions: DecisionClient, *, window: int = WINDOW_BYTES, signing: Signing | None = None
    ) -> None:
        self._spool = spool
        self._decisions = decisions
        self._window = window
        self._signing = signing
        self._tails: dict[str, _Tail] = {}
        # Where the spool's last event ended at that time: once it is acknowledged, so is everything before that time.
        self._watermarks: deque[tuple[float, _Position]] = deque()
        self._complete_until = 0.0
        self._began = time.time()
        self._marked_at = float("-inf")
        self._acknowledged: dict[str, int] = {}
        self._given_up: set[str] = set()
        # What is on the way, in order: where it ends, whose it is, its number, whether it is an event, its size.
        self._sent: deque[tuple[_Position, str, int, bool, int]] = deque()
        self._outstanding = 0
        # The last event that is known to be stored; answers come in order, so all before it is stored too.
        self._settled: _Position = (-1, 0)
        self._progress = asyncio.Event()
        self._log = structlog.get_logger("pep.shipper")

    async def run(self) -> None:
        """Ships until cancelled."""
        failures = 0
        while True:
            self._sent.clear()
            self._outstanding = 0
            before = self._settled
            try:
                await self._decisions.ship(self._shipments(), self._acknowledge)
            except DecisionUnavailable as error:
                self._log.info("records wait in the spool", error=str(error))
            except (SpoolError, OSError) as error:
                self._log.error("the spool cannot be read back", error=str(error))
            failures = 0 if self._settled > before else failures + 1
            await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])

    @property
    def age(self) -> float:
        """For how many seconds at least the oldest record has waited that the service does not have; 0 if it has all.

        Known as exactly as the marks are taken.
        """
        if not any(segment.pending for segment in self._spool.segments):
            return 0.0
        return max(0.0, time.time() - max(self._complete_until, self._began))

    async def drained(self, timeout: float) -> bool:
        """Whether everything in the spool was acknowledged within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while any(segment.pending for segment in self._spool.segments):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    async def _shipments(self) -> AsyncIterator[Shipment | Countersign | Mark]:
        """Every record that is not known to be stored, in order; then what is appended."""
        ordinal, offset = -1, 0
        while True:
            segment = self._next_segment(ordinal, offset)
            for aside in self._aside(idle=segment is None):
                yield aside
            if segment is None:
                await self._change()
                continue
            if segment.ordinal != ordinal:
                ordinal, offset = segment.ordinal, 0
            for end, shipment in self._spool.read(segment, offset):
                offset = end
                if shipment.session in self._given_up:
                    segment.pending.pop(shipment.session, None)
                    segment.refused = True
                elif not self._is_stored(shipment, (ordinal, end)):
                    await self._room(len(shipment.data))
                    self._note_sent(shipment, (ordinal, end))
                    yield self._signed(shipment)

    async def _change(self) -> None:
        """Until something is appended, or it is time for a mark."""
        self._spool.changed.clear()
        try:
            async with asyncio.timeout(None if self._signing is None else self._signing.mark_every):
                await self._spool.changed.wait()
        except TimeoutError:
            pass

    def _signed(self, shipment: Shipment) -> Shipment:
        if self._signing is None or shipment.body is not None:
            return shipment
        now = time.monotonic()
        tail = self._tails.get(shipment.session)
        last = any(mark in shipment.data for mark in _LAST)
        due = (
            tail is None
            # A record without a signed beginning could be anybody's.
            or shipment.seq == 0
            or last
            # Sent again, so it did not arrive before.
            or shipment.seq == tail.signed
            or shipment.seq - tail.signed >= self._signing.events
            or now - tail.at >= self._signing.every
        )
        if not due:
            assert tail is not None
            tail.seq, tail.hash = shipment.seq, shipment.hash
            return shipment
        if last:
            self._tails.pop(shipment.session, None)
        else:
            self._tails[shipment.session] = _Tail(shipment.seq, shipment.hash, shipment.seq, now)
        return replace(shipment, signed=self._signing.signer.sign(shipment.session, shipment.seq, shipment.hash))

    def _aside(self, *, idle: bool) -> Iterator[Countersign | Mark]:
        """What goes beside the records, where it is time for it."""
        signing, now = self._signing, time.monotonic()
        if signing is None or now - self._marked_at < signing.mark_every:
            return
        self._marked_at = now
        for session, tail in self._tails.items() if idle else ():
            stored = tail.signed < tail.seq <= self._acknowledged.get(session, -1)
            if stored and session not in self._given_up and now - tail.at >= signing.every:
                tail.signed, tail.at = tail.seq, now
                yield Countersign(session, tail.seq, signing.signer.sign(session, tail.seq, tail.hash))
        self._watermarks.append((time.time(), self._spool.last_event))
        if idle and not any(segment.pending for segment in self._spool.segments):
            self._complete_until = self._watermarks[-1][0]
            self._watermarks.clear()
        while self._watermarks and self._watermarks[0][1] <= self._settled:
            self._complete_until = self._watermarks.popleft()[0]
        if self._complete_until:
            yield Mark(signing.process, self._complete_until, signing.sessions(), len(self._given_up))

    def _next_segment(self, ordinal: int, offset: int) -> Segment | None:
        """The first segment with something behind that position."""
        for segment in self._spool.segments:
            if segment.ordinal > ordinal and segment.size > 0:
                return segment
            if segment.ordinal == ordinal and segment.size > offset:
                return segment
        return None

    def _is_stored(self, shipment: Shipment, position: _Position) -> bool:
        if shipment.seq < 0:
            return True
        known = self._acknowledged.get(shipment.session, -1)
        if shipment.body is None:
            return shipment.seq <= known
        # An answer names events: the bodies of the last one may still have been on the way.
        return shipment.seq < known or (shipment.seq == known and position <= self._settled)

    async def _room(self, size: int) -> None:
        while self._outstanding and self._outstanding + size > self._window:
            self._progress.clear()
            await self._progress.wait()

    def _note_sent(self, shipment: Shipment, position: _Position) -> None:
        size = len(shipment.data)
        self._sent.append((position, shipment.session, shipment.seq, shipment.body is None, size))
        self._outstanding += size

    def _acknowledge(self, answer: Acknowledged) -> None:
        if answer.refused:
            self._give_up(answer)
        else:
            known = self._acknowledged.get(answer.session, -1)
            self._acknowledged[answer.session] = max(known, answer.seq)
        while self._sent and self._is_over(self._sent[0][1], self._sent[0][2]):
            position, _, _, is_event, size = self._sent.popleft()
            self._outstanding -= size
            if is_event:
                self._settled = max(self._settled, position)
        self._release(answer.session)
        self._progress.set()

    def _give_up(self, answer: Acknowledged) -> None:
        """The service will not take this chain: it is kept here for people to look at, and holds up no other."""
        if answer.session in self._given_up:
            return
        self._log.error("a chain was refused and stays here", session=answer.session, refused=answer.refused)
        self._given_up.add(answer.session)
        for segment in self._spool.segments:
            segment.refused = segment.refused or answer.session in segment.sessions

    def _is_over(self, session: str, seq: int) -> bool:
        return session in self._given_up or seq <= self._acknowledged.get(session, -1)

    def _release(self, session: str) -> None:
        """Remove the segments of which everything is stored, or will never be."""
        for segment in tuple(self._spool.segments):
            last = segment.pending.get(session)
            if last is not None and self._is_over(session, last):
                del segment.pending[session]
            stored = not segment.pending and self._settled >= (segment.ordinal, segment.last_body)
            if segment.complete and stored:
                self._spool.remove(segment)
                self._forget_absent()

    def _forget_absent(self) -> None:
        """Keep numbers only for chains that have records here, so that they do not add up over a long life."""
        names = {session for segment in self._spool.segments for session in segment.sessions}
        self._acknowledged = {name: seq for name, seq in self._acknowledged.items() if name in names}
