"""Records in the store. Functions of a connection; the caller has the transaction.

Bodies are kept compressed where that makes them smaller. It is done here, in the thread of the transaction: whoever
waits for a decision does not wait for it. Digests are over the body as it came.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import zstandard
from sqlalchemy import Connection, func, select

from pdp.store import tables

_records = tables.records.c
_bodies = tables.bodies.c
# Made once, with the values beside them: a statement that is put together for each row takes five times as long.
_ADD: Final = tables.records.insert()
_ADD_BODY: Final = tables.bodies.insert()
# Below this a frame's head and sum eat up what is won.
_WORTH_PACKING: Final = 128
_LEVEL: Final = 3
# The most that a frame may unpack to: one that somebody put in its place fills no memory.
_LARGEST: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a chain, its bytes unchanged, with the bodies that are still kept, and which were erased."""

    seq: int
    event: bytes
    hash: bytes
    bodies: Mapping[int, bytes]
    salts: Mapping[int, bytes]
    erased: frozenset[int] = frozenset()


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
    connection.execute(_ADD, {"session_id": session_id, "seq": seq, "event": data, "hash": hash})


def body_indexes(connection: Connection, session_id: str, seq: int) -> frozenset[int]:
    """Which bodies of an event have come, those that were erased since included."""
    wanted = select(_bodies.index).where(_bodies.session_id == session_id, _bodies.seq == seq)
    return frozenset(connection.execute(wanted).scalars())


def add_body(
    connection: Connection,
    session_id: str,
    seq: int,
    index: int,
    salt: bytes,
    content: bytes,
    at: datetime.datetime,
) -> None:
    kept = _packed(content)
    place = {"session_id": session_id, "seq": seq, "index": index}
    values = {"at": at, "salt": salt, "content": kept or content, "packed": kept is not None}
    connection.execute(_ADD_BODY, place | values)


def _packed(content: bytes) -> bytes | None:
    """None where it is no smaller so."""
    if len(content) < _WORTH_PACKING:
        return None
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
    return packed if len(packed) < len(content) else None


def _unpacked(content: bytes, packed: bool) -> bytes:
    """The body as it came. What is no frame is handed out as it is: it is then found not to be what was written."""
    if not packed:
        return content
    try:
        if not 0 <= zstandard.frame_content_size(content) <= _LARGEST:
            return content
        return zstandard.ZstdDecompressor().decompress(content)
    except (zstandard.ZstdError, TypeError, MemoryError):
        return content


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
    erased: dict[int, set[int]] = {}
    in_page = select(tables.bodies).where(
        _bodies.session_id == session_id, _bodies.seq >= rows[0].seq, _bodies.seq <= rows[-1].seq
    )
    for body in connection.execute(in_page).mappings():
        seq, index = int(body["seq"]), int(body["index"])
        if body["at"] is None and not body["content"]:
            erased.setdefault(seq, set()).add(index)
            continue
        kept.setdefault(seq, {})[index] = _unpacked(body["content"], bool(body["packed"]))
        salts.setdefault(seq, {})[index] = body["salt"]
    return [
        StoredEvent(
            row.seq,
            row.event,
            row.hash,
            kept.get(row.seq, {}),
            salts.get(row.seq, {}),
            frozenset(erased.get(row.seq, ())),
        )
        for row in rows
    ]
