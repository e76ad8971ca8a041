"""Takes records as proxies ship them, and stores what continues its chain.

An event is stored as the bytes that came; its hash follows from the one before. A repeat of the same bytes is no
matter; other bytes at a number that is taken are refused, and the log raises an alarm, because one of the two is a
forgery or a fault. What is acknowledged is stored with all its bodies.

Of what an event means, this is known here: a session's chain begins with who opened it for what, and that has to be the
session which this service opened; which events end a chain; and what a proxy signed of its chain (`pdp.v1.checkpoints`)
has to be what is stored.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Connection

from pdp.audit.signatures import NotTrusted
from pdp.audit.trust import Origin
from pdp.store import checkpoints, disclosures, sessions
from pdp.store import records as stored
from pdp.store.checkpoints import Begun, Mark
from pdp.store.database import Database
from pdp.store.sessions import StoredSession
from pdp.v1.digests import GENESIS, SALT_SIZE, body_digest, chain_hash

log = structlog.get_logger("pdp.audit")

_LARGEST_EVENT: Final = 4 << 20
_LARGEST_BODY: Final = 64 << 20
# Chains that a stream remembers the end of; one that is forgotten is read from the store again.
_REMEMBERED: Final = 1024
_LONGEST_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class ShippedSignature:
    """What the proxy signed of the chain after the event with this number; certificates in DER."""

    session: str
    seq: int
    hash: bytes
    certificates: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class ShippedEvent:
    """An event as it came, perhaps signed."""

    session: str
    seq: int
    data: bytes
    signed: ShippedSignature | None = None


@dataclass(frozen=True, slots=True)
class ShippedBody:
    """A body of an event as it came."""

    session: str
    seq: int
    index: int
    salt: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class ShippedMark:
    """The proxy's word on how far its records are complete; `session` is the chain of its process."""

    session: str
    complete_until: datetime.datetime
    sessions: int
    refused: int


Shipped = ShippedEvent | ShippedBody | ShippedSignature | ShippedMark


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
    ended: bool = False
    # What is to be noted of the chain at the end of the batch.
    grown: bool = False
    begun: Begun | None = None

    @property
    def acknowledged(self) -> int:
        return self.last - 1 if self.owed else self.last


class Intake:
    """The records of one stream. One transaction for each batch; a failure stores nothing of it."""

    def __init__(self, database: Database, origin: Origin) -> None:
        self._database = database
        self._origin = origin
        self._chains: dict[str, Chain] = {}
        self._ahead = False

    async def store(self, batch: Sequence[Shipped]) -> list[Receipt]:
        """Stores what can be stored; one receipt for each session in the batch, and one for each refusal."""
        receipts = await self._database.bulk.run(lambda connection: self._store(connection, batch))
        self._ahead = False
        return receipts

    def _store(self, connection: Connection, batch: Sequence[Shipped]) -> list[Receipt]:
        if self._ahead:
            # It is run again, or the batch before failed: what is remembered may be ahead of the store.
            self._chains.clear()
        self._ahead = True
        receipts = []
        for shipped in batch:
            chain = self._chain(connection, shipped.session)
            try:
                match shipped:
                    case ShippedEvent():
                        self._take_event(connection, chain, shipped)
                    case ShippedBody():
                        _take_body(connection, chain, shipped, self._origin.now())
                    case ShippedSignature():
                        self._take_signature(connection, chain, shipped)
                    case ShippedMark():
                        self._take_mark(connection, shipped)
            except RefusedRecord as error:
                why = str(error)
                seq = None if isinstance(shipped, ShippedMark) else shipped.seq
                log.critical("record refused", session=shipped.session, seq=seq, why=why, alarm=True)
                receipts.append(Receipt(shipped.session, chain.acknowledged, why))
        sessions = dict.fromkeys(each.session for each in batch)
        receipts += [Receipt(session, self._chains[session].acknowledged) for session in sessions]
        for chain in (self._chains[session] for session in sessions if self._chains[session].grown):
            proxy = self._origin.name
            checkpoints.note(
                connection, chain.session, proxy=proxy, seq=chain.last, ended=chain.ended, begun=chain.begun
            )
            chain.grown = False
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

    def _take_event(self, connection: Connection, chain: Chain, event: ShippedEvent) -> None:
        if len(event.data) > _LARGEST_EVENT:
            raise RefusedRecord("the event is too large")
        if event.seq <= chain.last:
            if stored.event(connection, chain.session, event.seq) != event.data:
                raise RefusedRecord("another event with this number is stored")
            if event.signed is not None:
                self._take_signature(connection, chain, event.signed)
            return
        if event.seq != chain.last + 1:
            raise RefusedRecord(f"the event with number {chain.last + 1} has not come")
        if chain.owed:
            raise RefusedRecord(f"bodies of the event with number {chain.last} have not come")
        document, named = _named(event)
        if event.seq == 0:
            chain.begun = self._begun(connection, chain.session, document)
        digest = chain_hash(chain.hash, chain.session, event.seq, event.data)
        if event.signed is not None and event.signed.hash != digest:
            raise RefusedRecord("the proxy signed another chain than the one that it ships")
        stored.add(connection, chain.session, event.seq, event.data, digest)
        chain.last, chain.hash, chain.owed = event.seq, digest, named
        chain.ended, chain.grown = ends(document), True
        if document.get("type") == "response":
            disclosures.add(connection, chain.session, event.seq, self._when(document), document)
        if event.signed is not None:
            self._keep_signature(connection, event.signed)

    def _when(self, document: Mapping[str, Any]) -> datetime.datetime:
        try:
            at = datetime.datetime.fromisoformat(document["time"])
        except (KeyError, TypeError, ValueError):
            return self._origin.now()
        return at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)

    def _begun(self, connection: Connection, session_id: str, document: Mapping[str, Any]) -> Begun | None:
        """Of a session's chain, which process began it; RefusedRecord if it does not begin as the session did."""
        session = sessions.find(connection, session_id)
        if session is None:
            return None
        if wrong := differences(beginning(session), document):
            raise RefusedRecord(f"the first event is not of the session that was opened: another {', '.join(wrong)}")
        facts = document["facts"]
        process, number = facts.get("process"), facts.get("number")
        if isinstance(process, str) and len(process) <= _LONGEST_NAME and type(number) is int and 0 < number < 1 << 62:
            return Begun(process, number)
        return None

    def _take_signature(self, connection: Connection, chain: Chain, signed: ShippedSignature) -> None:
        if signed.seq > chain.last:
            raise RefusedRecord("the event that is signed has not come")
        if stored.hash_at(connection, chain.session, signed.seq) != signed.hash:
            raise RefusedRecord("the proxy signed another chain than the one that is stored")
        self._keep_signature(connection, signed)

    def _keep_signature(self, connection: Connection, signed: ShippedSignature) -> None:
        """A signature that proves nothing is not kept; the event is, and its chain is then found unsigned."""
        try:
            certificate = self._origin.check(
                signed.certificates, signed.session, signed.seq, signed.hash, signed.signature
            )
        except NotTrusted as error:
            log.critical("signature refused", session=signed.session, seq=signed.seq, why=str(error), alarm=True)
            return
        checkpoints.add_certificate(connection, certificate.fingerprint, certificate.chain)
        checkpoints.sign(connection, signed.session, signed.seq, certificate.fingerprint, signed.signature)

    def _take_mark(self, connection: Connection, mark: ShippedMark) -> None:
        now = self._origin.now()
        until = min(mark.complete_until, now)
        given = Mark(mark.session, self._origin.name, until, mark.sessions, mark.refused, now)
        checkpoints.mark(connection, given)


def _take_body(connection: Connection, chain: Chain, body: ShippedBody, now: datetime.datetime) -> None:
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
    stored.add_body(connection, chain.session, body.seq, body.index, body.salt, body.content, now)
    del chain.owed[body.index]


def _check_body(body: ShippedBody, digest: str) -> None:
    if len(body.salt) != SALT_SIZE or len(body.content) > _LARGEST_BODY:
        raise RefusedRecord("the body's salt or size is not as agreed")
    if body_digest(body.salt, body.content).hex() != digest:
        raise RefusedRecord("the body is not the one that its event names")


def _named(event: ShippedEvent) -> tuple[Mapping[str, Any], dict[int, str]]:
    """A new event, read, and the bodies that it names; RefusedRecord if it is not an event of this place."""
    try:
        document = orjson.loads(event.data)
        if (document["session"], document["seq"]) != (event.session, event.seq):
            raise RefusedRecord("the event says that it stands elsewhere")
        return document, _bodies(event.data)
    except (ValueError, KeyError, TypeError):
        raise RefusedRecord("the event is torn or not of the agreed form") from None


def ends(document: Mapping[str, Any]) -> bool:
    """Whether this event is its chain's last."""
    match document.get("type"):
        case "session.closed" | "session.lost" | "service.stopped":
            return True
        case "process":
            facts = document.get("facts")
            return isinstance(facts, dict) and facts.get("what") in ("stopped", "lost")
        case _:
            return False


def beginning(session: StoredSession) -> dict[str, str]:
    """What the first event of the session's chain has to say."""
    subject = session.subject
    return {
        "subject": f"{subject.type}:{subject.id}",
        "resource": session.resource,
        "protocol": session.protocol,
        "proxy": session.proxy.rpartition("/")[2],
        "decision_id": session.decision_id,
        "policy_revision": session.policy_revision,
    }


def differences(begins: Mapping[str, str], document: Mapping[str, Any]) -> list[str]:
    """In what a chain's first event is not that of the session as it was opened."""
    facts = document.get("facts")
    if document.get("type") != "session.opened" or not isinstance(facts, dict):
        return ["type"]
    said = {**facts, **{name: document.get(name, "") for name in ("decision_id", "policy_revision")}}
    return [name.replace("_", " ") for name, value in begins.items() if said.get(name) != value]


def _bodies(event: bytes) -> dict[int, str]:
    document: Mapping[str, Any] = orjson.loads(event)
    return {index: str(body["sha256"]) for index, body in enumerate(document.get("bodies", []))}
