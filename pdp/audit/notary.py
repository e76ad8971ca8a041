"""Puts chains under signed checkpoints, so that nobody can cut off an end, or take a chain away, unseen.

Each chain gets one when it begins, when it ends, and in between whenever it has grown by so many events or the last one
is so old. What is signed is what was computed here, from the last signed checkpoint on: a chain that does not hold, or
falls short of it, is not signed but raises an alarm. Several replicas may do this on one store: the log's next
number is taken once, and who comes second tries again with what is due then.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from pdp.audit.checkpoint_keys import CheckpointKeys
from pdp.audit.checkpoints import FIRST, Checkpoint, is_signed, make
from pdp.identity.tokens import Clock
from pdp.store import checkpoints as stored
from pdp.store import records
from pdp.store.checkpoints import ChainState
from pdp.store.database import Database
from pdp.v1.config_values import Secret
from pdp.v1.digests import GENESIS, chain_hash

log = structlog.get_logger("pdp.notary")

# Chains of one transaction (fewer where it may collide with others), and events that one look at a chain reads:
# records come in between.
_CHAINS: Final = 32
_CHAINS_SHARED: Final = 4
_EVENTS: Final = 500


class Broken(Exception):
    """The chain is not what was signed of it, or does not hold."""


class Notary:
    """Signs what is due. `round` is called again and again."""

    def __init__(
        self,
        database: Database,
        keys: CheckpointKeys,
        now: Clock,
        *,
        every: datetime.timedelta,
        events: int,
    ) -> None:
        self._database = database
        self._most = _CHAINS_SHARED if database.shared else _CHAINS
        self._keys = keys
        self._known: Mapping[str, Ed25519PublicKey] = {}
        self._now = now
        self._every = every
        self._events = events
        # Chains that raised an alarm: looked at once, until the next start.
        self._broken: set[str] = set()

    @classmethod
    async def open(
        cls,
        database: Database,
        now: Clock,
        *,
        every: datetime.timedelta,
        events: int,
        place: Path | Secret | None = None,
    ) -> Notary:
        """With the key of that place, or of the store; one is made where there is none. Raises ConfigError."""
        keys = CheckpointKeys(database, now, place)
        await keys.load()
        return cls(database, keys, now, every=every, events=events)

    @property
    def keys(self) -> CheckpointKeys:
        return self._keys

    async def round(self) -> None:
        """Signs everything that is due."""
        while await self._some():
            pass

    async def _some(self) -> bool:
        """Signs some of what is due; whether there may be more."""
        try:
            return await self._database.bulk.run(self._sign_due)
        except IntegrityError:
            log.info("another replica wrote the next checkpoint", retry=True)
            return False

    def _sign_due(self, connection: Connection) -> bool:
        before = self._now() - self._every
        due = stored.due(connection, events=self._events, before=before, limit=self._most, but=sorted(self._broken))
        if not due:
            return False
        try:
            head = stored.head(connection)
        except ValueError:
            log.critical("the log of checkpoints does not end with one", alarm=True)
            return False
        for chain in due:
            try:
                head = self._sign(connection, chain, head)
            except (Broken, ValueError) as error:
                log.critical("a chain is not signed", session=chain.session, why=str(error), alarm=True)
                self._broken.add(chain.session)
        return True

    def _sign(self, connection: Connection, chain: ChainState, head: Checkpoint | None) -> Checkpoint | None:
        seq, digest, to = self._computed(connection, chain)
        if seq < to:
            # A long way: it is gone in steps, each with its checkpoint, so that records are not held up.
            log.debug("a checkpoint on the way", session=chain.session, seq=seq)
        now = self._now()
        made = make(
            number=1 if head is None else head.number + 1,
            previous=FIRST if head is None else head.digest,
            key=self._keys.signing,
            time=now,
            session=chain.session,
            seq=seq,
            hash=digest,
            ended=chain.ended and seq == to,
            signed=stored.signed_up_to(connection, chain.session, seq),
        )
        stored.add(connection, made)
        stored.checked(connection, chain.session, seq, now)
        return made

    def bury(self, connection: Connection, session: str, why: str) -> bool:
        """Signs that a chain whose end is signed is taken out of the store now; the caller takes it out.

        False, and nothing is signed, where the end is not under a checkpoint, or is not what that one says.
        """
        try:
            head, last = stored.head(connection), stored.last_of(connection, session)
        except ValueError:
            return False
        end = records.last(connection, session)
        if head is None or last is None or not last.ended or end != (last.seq, last.hash):
            return False
        if not self._signed(connection, last):
            log.critical("a chain is kept", session=session, why="its end is not signed by this service", alarm=True)
            return False
        made = make(
            number=head.number + 1,
            previous=head.digest,
            key=self._keys.signing,
            time=self._now(),
            session=session,
            seq=last.seq,
            hash=last.hash,
            ended=True,
            signed=last.signed,
            removed=why,
        )
        stored.add(connection, made)
        return True

    def _signed(self, connection: Connection, checkpoint: Checkpoint) -> bool:
        """Whether this service signed it, at another replica or with an earlier key as well."""
        if checkpoint.key not in self._known:
            self._known = self._keys.verifying(connection)
        return is_signed(checkpoint, self._known)

    def _computed(self, connection: Connection, chain: ChainState) -> tuple[int, bytes, int]:
        """The chain's hash as it follows from the last checkpoint: at which number, and where the chain ends now."""
        before = stored.last_of(connection, chain.session)
        seq, digest = -1, GENESIS
        if before is not None:
            if not self._signed(connection, before):
                raise Broken("its last checkpoint is not signed by this service")
            seq, digest = before.seq, before.hash
        elif chain.checked_seq >= 0:
            raise Broken("its checkpoints are gone")
        last = records.last(connection, chain.session)
        if last is None or last[0] < seq:
            raise Broken("it is shorter than its last checkpoint says")
        if last[0] == seq:
            raise Broken("nothing new is stored, though something came")
        for event in records.page(connection, chain.session, seq + 1, _EVENTS):
            if event.seq != seq + 1:
                raise Broken(f"the event with number {seq + 1} is missing")
            digest = chain_hash(digest, chain.session, event.seq, event.event)
            if digest != event.hash:
                raise Broken(f"it does not hold at number {event.seq}")
            seq = event.seq
        return seq, digest, last[0]
