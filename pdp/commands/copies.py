"""Where a verifier reads from: the running service, or a store without it, which an auditor has a copy of.

Neither is trusted: what they hand out is judged by `pdp.commands.proof`.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection as Rows
from sqlalchemy import create_engine, select
from sqlalchemy.exc import SQLAlchemyError

from pdp.audit.checkpoints import PURPOSE
from pdp.audit.intake import beginning
from pdp.commands.connection import Connection
from pdp.commands.failure import Failure
from pdp.commands.proof import Facts
from pdp.commands.recorded import Recorded, read
from pdp.shown import shown
from pdp.store import checkpoints, records, sessions, tables
from pdp.store.checkpoints import Entry, Signature
from pdp.store.completeness import Completeness, ProxyState, completeness
from pdp.store.url import read_url
from pdp.v1 import records_service_pb2 as pb
from pdp.v1 import records_service_pb2_grpc
from pdp.v1.admin_service_pb2 import RecordedEvent

T = TypeVar("T")

_SERVICE: Final = records_service_pb2_grpc.RecordsServiceStub
_PAGE: Final = 200
_ENTRIES: Final = 2000


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """The service's public keys, the log of checkpoints, and the names of all chains that have records."""

    keys: Mapping[str, Ed25519PublicKey]
    entries: Sequence[Entry]
    chains: Sequence[str]


@dataclass(frozen=True, slots=True)
class ChainCopy:
    """One chain; its events as they come."""

    facts: Facts
    signatures: Sequence[Signature]
    events: AsyncIterator[Recorded]


class Copy(Protocol):
    """A copy of the records."""

    async def ledger(self, chain: str = "") -> LedgerCopy:
        """All of it, or only what is about one chain."""

    async def chain(self, name: str) -> ChainCopy: ...

    async def completeness(self) -> Completeness: ...


class ServiceCopy:
    """What the running service answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ledger(self, chain: str = "") -> LedgerCopy:
        keys: dict[str, Ed25519PublicKey] = {}
        entries: list[Entry] = []
        chains: list[str] = []
        request = pb.GetLedgerRequest(chain=chain)
        async for answer in self._connection.stream("GetLedger", request, action="records.verify", stub=_SERVICE):
            match answer.WhichOneof("item"):
                case "key":
                    keys[answer.key.id] = public_key(answer.key.key)
                case "entry":
                    entry = answer.entry
                    entries.append(Entry(entry.number, entry.chain, entry.document, entry.signature))
                case "chain":
                    chains.append(answer.chain)
                case _:
                    pass
        return LedgerCopy(keys, entries, chains)

    async def chain(self, name: str) -> ChainCopy:
        request = pb.ReadChainRequest(chain=name)
        answers = self._connection.stream("ReadChain", request, action="sessions.read", stub=_SERVICE)
        facts, signatures, first = Facts(), [], None
        async for answer in answers:
            match answer.WhichOneof("item"):
                case "facts":
                    facts = Facts(dict(answer.facts.begins), answer.facts.state)
                case "signature":
                    given = answer.signature
                    signatures.append(Signature(given.seq, given.signature, "", given.certificates))
                case "event":
                    first = answer.event
                    break
                case _:
                    pass

        async def events() -> AsyncIterator[Recorded]:
            if first is not None:
                yield read(first)
            async for answer in answers:
                yield read(answer.event)

        return ChainCopy(facts, signatures, events())

    async def completeness(self) -> Completeness:
        request = pb.GetMissingRequest()
        answer = await self._connection.call("GetMissing", request, action="records.verify", stub=_SERVICE)
        proxies = [
            ProxyState(
                each.proxy,
                each.complete_until.ToDatetime(datetime.UTC) if each.HasField("complete_until") else None,
                each.running,
                each.sessions,
            )
            for each in answer.proxies
        ]
        return Completeness(tuple(proxies), tuple(answer.missing))


class StoreCopy:
    """A store that is read and not changed: a copy of it, or the one that a service works with."""

    def __init__(self, url: str, now: datetime.datetime) -> None:
        self._place = read_url(url)
        self._now = now
        file = self._place.file
        if file is not None and not file.is_file():
            raise Failure(f"there is no store in {shown(str(file))}")
        self._engine = create_engine(self._place.url)

    def close(self) -> None:
        self._engine.dispose()

    async def ledger(self, chain: str = "") -> LedgerCopy:
        return await asyncio.to_thread(self._read, lambda rows: _ledger(rows, chain))

    async def chain(self, name: str) -> ChainCopy:
        def begin(rows: Rows) -> tuple[Facts, list[Signature]]:
            session = sessions.find(rows, name)
            facts = Facts() if session is None else Facts(beginning(session), session.state.value)
            signed = [
                replace(each, signature=_raw(each.signature), certificates=_raw(each.certificates))
                for each in checkpoints.signatures(rows, name)
            ]
            return facts, signed

        facts, signatures = await asyncio.to_thread(self._read, begin)
        return ChainCopy(facts, signatures, self._events(name))

    async def _events(self, name: str) -> AsyncIterator[Recorded]:
        start = 0
        while page := await asyncio.to_thread(self._read, partial(_page, name=name, start=start)):
            for each in page:
                yield read(
                    RecordedEvent(
                        seq=each.seq,
                        event=_raw(each.event),
                        hash=_raw(each.hash),
                        bodies={index: _raw(body) for index, body in each.bodies.items()},
                        salts={index: _raw(salt) for index, salt in each.salts.items()},
                        erased=sorted(each.erased),
                    )
                )
            start = page[-1].seq + 1

    async def completeness(self) -> Completeness:
        return await asyncio.to_thread(self._read, lambda rows: completeness(rows, self._now))

    def _read(self, work: Callable[[Rows], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise Failure(
                f"the store {shown(str(self._place))} cannot be read: {shown(str(error), limit=300)}"
            ) from None


def _page(rows: Rows, *, name: str, start: int) -> list[records.StoredEvent]:
    return records.page(rows, name, start, _PAGE)


def _raw(value: bytes | str) -> bytes:
    """SQLite keeps what it is given, whatever the column says: text in place of bytes is then found wrong."""
    return value.encode() if isinstance(value, str) else value


def _ledger(rows: Rows, chain: str) -> LedgerCopy:
    kept = select(tables.keys.c.id, tables.keys.c.public).where(tables.keys.c.purpose == PURPOSE)
    keys = {row.id: public_key(_raw(row.public)) for row in rows.execute(kept)}
    names = [] if chain else list(checkpoints.chain_names(rows))
    entries: list[Entry] = []
    while page := checkpoints.entries(rows, entries[-1].number if entries else 0, _ENTRIES, chain):
        entries += [replace(each, document=_raw(each.document), signature=_raw(each.signature)) for each in page]
    return LedgerCopy(keys, entries, names)


def public_key(raw: bytes) -> Ed25519PublicKey:
    """Failure for what is none."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise Failure("what was given as a public key is none") from None
