"""Chains, checkpoints, proxies' signatures and marks in the store. Functions of a connection; the caller has the
transaction.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from pdp.audit.checkpoints import Checkpoint, read
from pdp.store import tables

_chains = tables.chains.c
_log = tables.checkpoints.c
_signatures = tables.proxy_signatures.c
_marks = tables.proxy_marks.c


@dataclass(frozen=True, slots=True)
class Begun:
    """Which process began a chain, and as its how-manieth."""

    process: str
    number: int


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far a chain is stored, and how far it is under a checkpoint (-1: not at all)."""

    session: str
    proxy: str
    last_seq: int
    ended: bool
    checked_seq: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log as it is stored, whatever it says."""

    number: int
    session: str
    document: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """What a proxy signed of a chain, and the certificates of its key in PEM (empty: they are not kept)."""

    seq: int
    signature: bytes
    fingerprint: str
    certificates: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to when everything that a process of a proxy recorded is stored."""

    process: str
    proxy: str
    complete_until: datetime.datetime
    sessions: int
    refused: int
    at: datetime.datetime


def note(
    connection: Connection, session: str, *, proxy: str, seq: int, ended: bool, begun: Begun | None = None
) -> None:
    """The chain has grown up to `seq`."""
    grown = tables.chains.update().where(_chains.session_id == session)
    if connection.execute(grown.values(last_seq=seq, ended=ended, behind=True)).rowcount:
        return
    connection.execute(
        tables.chains.insert().values(
            session_id=session,
            proxy=proxy,
            last_seq=seq,
            ended=ended,
            begun_by=begun.process if begun else "",
            begun_as=begun.number if begun else 0,
            behind=True,
            checked_seq=-1,
        )
    )


def due(
    connection: Connection, *, events: int, before: datetime.datetime, limit: int, but: Sequence[str] = ()
) -> list[ChainState]:
    """Chains that want a checkpoint: new ones, ended ones, and those with so many events or so old a one."""
    reasons = (
        _chains.checked_seq < 0,
        _chains.ended,
        _chains.last_seq - _chains.checked_seq >= events,
        _chains.checked_at <= before,
    )
    wanted = select(tables.chains).where(_chains.behind, or_(*reasons), _chains.session_id.not_in(but))
    return [_chain(row) for row in connection.execute(wanted.order_by(_chains.checked_at).limit(limit))]


def checked(connection: Connection, session: str, seq: int, at: datetime.datetime) -> None:
    """A checkpoint covers the chain up to `seq`."""
    mine = tables.chains.update().where(_chains.session_id == session)
    connection.execute(mine.values(checked_seq=seq, checked_at=at, behind=_chains.last_seq > seq))


def head(connection: Connection) -> Checkpoint | None:
    """The last entry of the log. ValueError if it is not one."""
    row = connection.execute(select(tables.checkpoints).order_by(_log.number.desc()).limit(1)).one_or_none()
    return None if row is None else read(row.document, row.signature)


def last_of(connection: Connection, session: str) -> Checkpoint | None:
    """The last entry about this chain. ValueError if it is not one."""
    wanted = select(tables.checkpoints).where(_log.session_id == session).order_by(_log.number.desc()).limit(1)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else read(row.document, row.signature)


def add(connection: Connection, checkpoint: Checkpoint) -> None:
    """IntegrityError if another replica has written an entry of this number."""
    connection.execute(
        tables.checkpoints.insert().values(
            number=checkpoint.number,
            session_id=checkpoint.session,
            document=checkpoint.document,
            signature=checkpoint.signature,
        )
    )


def entries(connection: Connection, after: int, limit: int, chain: str = "") -> list[Entry]:
    """Entries of the log behind that number, in order; only those of one chain where it is named."""
    wanted = select(tables.checkpoints).where(_log.number > after).order_by(_log.number).limit(limit)
    if chain:
        wanted = wanted.where(_log.session_id == chain)
    return [Entry(row.number, row.session_id, row.document, row.signature) for row in connection.execute(wanted)]


def sign(connection: Connection, session: str, seq: int, fingerprint: str, signature: bytes) -> None:
    """Keeps the proxy's signature; the first one for a number stays."""
    there = select(_signatures.seq).where(_signatures.session_id == session, _signatures.seq == seq)
    if connection.execute(there).one_or_none() is None:
        values = {"session_id": session, "seq": seq, "fingerprint": fingerprint, "signature": signature}
        connection.execute(tables.proxy_signatures.insert().values(values))


def add_certificate(connection: Connection, fingerprint: str, chain: bytes) -> None:
    column = tables.proxy_certificates.c.fingerprint
    if connection.execute(select(column).where(column == fingerprint)).one_or_none() is None:
        connection.execute(tables.proxy_certificates.insert().values(fingerprint=fingerprint, chain=chain))


def signed_up_to(connection: Connection, session: str, seq: int) -> int:
    """The number of the last event, up to that one, at which the proxy signed the chain; -1 for none."""
    wanted = select(func.max(_signatures.seq)).where(_signatures.session_id == session, _signatures.seq <= seq)
    found = connection.execute(wanted).scalar_one()
    return -1 if found is None else int(found)


def signatures(connection: Connection, session: str) -> list[Signature]:
    kept = tables.proxy_certificates
    wanted = (
        select(tables.proxy_signatures, kept.c.chain)
        .outerjoin(kept, kept.c.fingerprint == _signatures.fingerprint)
        .where(_signatures.session_id == session)
        .order_by(_signatures.seq)
    )
    return [Signature(row.seq, row.signature, row.fingerprint, row.chain or b"") for row in connection.execute(wanted)]


def mark(connection: Connection, given: Mark) -> None:
    """The process's latest word; it never goes back."""
    values = {
        "complete_until": given.complete_until,
        "sessions": given.sessions,
        "refused": given.refused,
        "at": given.at,
    }
    mine = tables.proxy_marks.update().where(_marks.process == given.process)
    if connection.execute(mine.where(_marks.complete_until <= given.complete_until).values(**values)).rowcount:
        return
    if connection.execute(select(_marks.process).where(_marks.process == given.process)).one_or_none() is None:
        connection.execute(tables.proxy_marks.insert().values(process=given.process, proxy=given.proxy, **values))


def marks(connection: Connection) -> list[Mark]:
    wanted = select(tables.proxy_marks).order_by(_marks.proxy, _marks.process)
    return [
        Mark(row.process, row.proxy, row.complete_until, row.sessions, row.refused, row.at)
        for row in connection.execute(wanted)
    ]


def chain_names(connection: Connection) -> Iterator[str]:
    """Every chain that has records, found in the records themselves."""
    wanted = select(tables.records.c.session_id).distinct().order_by(tables.records.c.session_id)
    yield from connection.execute(wanted).scalars()


def process_chains(connection: Connection) -> list[str]:
    """The chains of proxies' processes."""
    wanted = select(_chains.session_id).where(_chains.session_id.startswith("process-", autoescape=True))
    return list(connection.execute(wanted.order_by(_chains.session_id)).scalars())


def anchored(connection: Connection, sink: str) -> int:
    """Up to which number the log was brought there."""
    column = tables.anchors.c
    return connection.execute(select(column.number).where(column.sink == sink)).scalar_one_or_none() or 0


def anchor(connection: Connection, sink: str, number: int) -> None:
    """Up to which number it is there now; it never goes back."""
    column = tables.anchors.c
    mine = tables.anchors.update().where(column.sink == sink)
    if connection.execute(mine.where(column.number < number).values(number=number)).rowcount:
        return
    if connection.execute(select(column.sink).where(column.sink == sink)).one_or_none() is None:
        connection.execute(tables.anchors.insert().values(sink=sink, number=number))


def _chain(row: Row[Any]) -> ChainState:
    return ChainState(row.session_id, row.proxy, row.last_seq, row.ended, row.checked_seq)
