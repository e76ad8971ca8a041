"""Records in the store. Functions of a connection; the caller has the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pdp.store import tables

_records = tables.records.c
_bodies = tables.bodies.c


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a chain, its bytes unchanged, with the bodies that are still kept."""

    seq: int
    event: bytes
    hash: bytes
    bodies: Mapping[int, bytes]
    salts: Mapping[int, bytes]


def last(connection: Connection, session_id: str) -> tuple[int, bytes] | None:
    """Number and hash of the chain's last event, or None."""
    wanted = select(_records.seq, _records.hash).where(_records.session_id == session_id)
    row = connection.execute(wanted.order_by(_records.seq.desc()).limit(1)).one_or_none()
    return None if row is None else (row.seq, row.hash)


def last_chain(connection: Connection, prefix: str) -> str | None:
    """Of the chains whose names begin with the prefix, which is ASCII, the name that sorts last."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    wanted = select(func.max(_records.session_id)).where(_records.session_id >= prefix, _records.session_id < after)
    found: str | None = connection.execute(wanted).scalar_one()
    return found


def lock(connection: Connection, session_id: str) -> None:
    """Until the transaction ends, nobody else who asks appends to this chain.

    SQLite's transactions exclude one another as it is.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(session_id, 0))))


def event(connection: Connection, session_id: str, seq: int) -> bytes | None:
    wanted = select(_records.event).where(_records.session_id == session_id, _records.seq == seq)
    return connection.execute(wanted).scalar_one_or_none()


def hash_at(connection: Connection, session_id: str, seq: int) -> bytes | None:
    wanted = select(_records.hash).where(_records.session_id == session_id, _records.seq == seq)
    found: bytes | None = connection.execute(wanted).scalar_one_or_none()
    return found


def add(connection: Connection, session_id: str, seq: int, data: bytes, hash: bytes) -> None:
    connection.execute(tables.records.insert().values(session_id=session_id, seq=seq, event=data, hash=hash))


def body_indexes(connection: Connection, session_id: str, seq: int) -> frozenset[int]:
    """Which bodies of an event are stored."""
    wanted = select(_bodies.index).where(_bodies.session_id == session_id, _bodies.seq == seq)
    return frozenset(connection.execute(wanted).scalars())


def add_body(connection: Connection, session_id: str, seq: int, index: int, salt: bytes, content: bytes) -> None:
    connection.execute(
        tables.bodies.insert().values(session_id=session_id, seq=seq, index=index, salt=salt, content=content)
    )


def page(connection: Connection, session_id: str, start: int, limit: int) -> list[StoredEvent]:
    """Events from `start` on, in order."""
    wanted = (
        select(tables.records)
        .where(_records.session_id == session_id, _records.seq >= start)
        .order_by(_records.seq)
        .limit(limit)
    )
    rows = connection.execute(wanted).all()
    if not rows:
        return []
    kept: dict[int, dict[int, bytes]] = {}
    salts: dict[int, dict[int, bytes]] = {}
    in_page = select(_bodies.seq, _bodies.content, _bodies.index, _bodies.salt).where(
        _bodies.session_id == session_id, _bodies.seq >= rows[0].seq, _bodies.seq <= rows[-1].seq
    )
    for body in connection.execute(in_page):
        kept.setdefault(body.seq, {})[int(body[2])] = body.content
        salts.setdefault(body.seq, {})[int(body[2])] = body.salt
    return [StoredEvent(row.seq, row.event, row.hash, kept.get(row.seq, {}), salts.get(row.seq, {})) for row in rows]
