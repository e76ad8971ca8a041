"""Takes records as proxies ship them, and stores what continues its chain.

An event is stored as the bytes that came; its hash follows from the one before. A repeat of the same bytes is no
matter; other bytes at a number that is taken are refused, and the log raises an alarm, because one of the two is a
forgery or a fault. What is acknowledged is stored with all its bodies. Nothing here knows what an event means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Connection

from pdp.store import records as stored
from pdp.store.database import Database
from pdp.v1.digests import GENESIS, SALT_SIZE, body_digest, chain_hash

log = structlog.get_logger("pdp.audit")

_LARGEST_EVENT: Final = 4 << 20
_LARGEST_BODY: Final = 64 << 20
# Chains that a stream remembers the end of; one that is forgotten is read from the store again.
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class ShippedEvent:
    """An event as it came."""

    session: str
    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ShippedBody:
    """A body of an event as it came."""

    session: str
    seq: int
    index: int
    salt: bytes
    content: bytes


Shipped = ShippedEvent | ShippedBody


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a session is stored (-1: nothing yet), and why something was refused."""

    session: str
    acknowledged: int
    refused: str = ""


class RefusedRecord(Exception):
    """The event or body does not belong where it says."""


@dataclass(slots=True)
class Chain:
    """One session's chain as far as this stream has followed it."""

    session: str
    last: int = -1
    hash: bytes = GENESIS
    # Digests of bodies that the last event names and that have not come yet, by position.
    owed: dict[int, str] = field(default_factory=dict)

    @property
    def acknowledged(self) -> int:
        return self.last - 1 if self.owed else self.last


class Intake:
    """The records of one stream. One transaction for each batch; a failure stores nothing of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chains: dict[str, Chain] = {}

    async def store(self, batch: Sequence[Shipped]) -> list[Receipt]:
        """Stores what can be stored; one receipt for each session in the batch, and one for each refusal."""
        try:
            return await self._database.bulk.run(lambda connection: self._store(connection, batch))
        except BaseException:
            # What is remembered may now be ahead of the store.
            self._chains.clear()
            raise

    def _store(self, connection: Connection, batch: Sequence[Shipped]) -> list[Receipt]:
        receipts = []
        for shipped in batch:
            chain = self._chain(connection, shipped.session)
            try:
                match shipped:
                    case ShippedEvent():
                        _take_event(connection, chain, shipped)
                    case ShippedBody():
                        _take_body(connection, chain, shipped)
            except RefusedRecord as error:
                why = str(error)
                log.critical("record refused", session=shipped.session, seq=shipped.seq, why=why, alarm=True)
                receipts.append(Receipt(shipped.session, chain.acknowledged, why))
        sessions = dict.fromkeys(each.session for each in batch)
        receipts += [Receipt(session, self._chains[session].acknowledged) for session in sessions]
        for forgotten in [*self._chains][: max(len(self._chains) - _REMEMBERED, 0)]:
            del self._chains[forgotten]
        return receipts

    def _chain(self, connection: Connection, session: str) -> Chain:
        if (chain := self._chains.get(session)) is None:
            chain = self._chains[session] = Chain(session)
            if (last := stored.last(connection, session)) is not None:
                chain.last, chain.hash = last
                event = stored.event(connection, session, chain.last)
                assert event is not None
                there = stored.body_indexes(connection, session, chain.last)
                chain.owed = {index: sha for index, sha in _bodies(event).items() if index not in there}
        return chain


def _take_event(connection: Connection, chain: Chain, event: ShippedEvent) -> None:
    if len(event.data) > _LARGEST_EVENT:
        raise RefusedRecord("the event is too large")
    if event.seq <= chain.last:
        if stored.event(connection, chain.session, event.seq) != event.data:
            raise RefusedRecord("another event with this number is stored")
        return
    if event.seq != chain.last + 1:
        raise RefusedRecord(f"the event with number {chain.last + 1} has not come")
    if chain.owed:
        raise RefusedRecord(f"bodies of the event with number {chain.last} have not come")
    named = _named(event)
    digest = chain_hash(chain.hash, chain.session, event.seq, event.data)
    stored.add(connection, chain.session, event.seq, event.data, digest)
    chain.last, chain.hash, chain.owed = event.seq, digest, named


def _take_body(connection: Connection, chain: Chain, body: ShippedBody) -> None:
    if body.seq > chain.last:
        raise RefusedRecord("the event that names the body has not come")
    owed = chain.owed.get(body.index) if body.seq == chain.last else None
    if owed is None:
        event = stored.event(connection, chain.session, body.seq)
        assert event is not None
        owed = _bodies(event).get(body.index)
        if owed is None:
            raise RefusedRecord("the event names no such body")
        _check_body(body, owed)
        return
    _check_body(body, owed)
    stored.add_body(connection, chain.session, body.seq, body.index, body.salt, body.content)
    del chain.owed[body.index]


def _check_body(body: ShippedBody, digest: str) -> None:
    if len(body.salt) != SALT_SIZE or len(body.content) > _LARGEST_BODY:
        raise RefusedRecord("the body's salt or size is not as agreed")
    if body_digest(body.salt, body.content).hex() != digest:
        raise RefusedRecord("the body is not the one that its event names")


def _named(event: ShippedEvent) -> dict[int, str]:
    """The bodies that a new event names; RefusedRecord if it is not an event of this place."""
    try:
        document = orjson.loads(event.data)
        if (document["session"], document["seq"]) != (event.session, event.seq):
            raise RefusedRecord("the event says that it stands elsewhere")
        return _bodies(event.data)
    except (ValueError, KeyError, TypeError):
        raise RefusedRecord("the event is torn or not of the agreed form") from None


def _bodies(event: bytes) -> dict[int, str]:
    document: Mapping[str, Any] = orjson.loads(event)
    return {index: str(body["sha256"]) for index, body in enumerate(document.get("bodies", []))}
