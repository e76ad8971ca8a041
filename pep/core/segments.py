"""The bytes of a spool's segment files: length-prefixed records with a checksum, read back up to a torn tail.

Pure. An entry is an event of a session's chain, a body that an event names, or the note at the start of a segment that
a session is still open, with the end of its chain, so that older segments can be removed without losing sight of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, assert_never

from pdp.v1.digests import SALT_SIZE
from pep.core.values import value

_HEADER: Final = struct.Struct(">II")
_FIXED: Final = struct.Struct(">BBQ")
_INDEX: Final = struct.Struct(">I")
_HASH_SIZE: Final = 32
_EVENT, _BODY, _OPEN = 1, 2, 3
# Larger than anything that is ever written: a longer length is a torn or foreign file, not a reason to read on.
LONGEST: Final = 64 << 20


@value
class EventEntry:
    """The exact bytes of an event, and the chain's hash after it."""

    session: str
    seq: int
    hash: bytes
    data: bytes


@value
class BodyEntry:
    """The body at position `index` of the event `seq`."""

    session: str
    seq: int
    index: int
    salt: bytes
    content: bytes


@value
class OpenEntry:
    """The session goes on in this segment: the number its next event will have, and the hash before it."""

    session: str
    seq: int
    hash: bytes


Entry = EventEntry | BodyEntry | OpenEntry


def encode(entry: Entry) -> bytes:
    match entry:
        case EventEntry(session, seq, digest, data):
            return event_bytes(session, seq, digest, data)
        case BodyEntry(session, seq, index, salt, content):
            return body_bytes(session, seq, index, salt, content)
        case OpenEntry(session, seq, digest):
            return _record(_OPEN, session, seq, digest)
        case never:
            assert_never(never)


def event_bytes(session: str, seq: int, digest: bytes, data: bytes) -> bytes:
    """An EventEntry, written."""
    return _record(_EVENT, session, seq, digest + data)


def body_bytes(session: str, seq: int, index: int, salt: bytes, content: bytes) -> bytes:
    """A BodyEntry, written."""
    return _record(_BODY, session, seq, _INDEX.pack(index) + salt + content)


def _record(kind: int, session: str, seq: int, rest: bytes) -> bytes:
    name = session.encode()
    payload = _FIXED.pack(kind, len(name), seq) + name + rest
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def decode(data: bytes, offset: int = 0) -> Iterator[tuple[int, Entry]]:
    """Each whole entry with the offset behind it; stops, without an error, where no whole entry follows."""
    while (found := _payload(data, offset)) is not None:
        offset, payload = found
        entry = _entry(payload)
        if entry is None:
            return
        yield offset, entry


def _payload(data: bytes, offset: int) -> tuple[int, bytes] | None:
    start = offset + _HEADER.size
    if start > len(data):
        return None
    length, checksum = _HEADER.unpack_from(data, offset)
    payload = data[start : start + length]
    if not 0 < length <= LONGEST or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return start + length, payload


def _entry(payload: bytes) -> Entry | None:
    if len(payload) < _FIXED.size:
        return None
    kind, length, seq = _FIXED.unpack_from(payload)
    try:
        session = payload[_FIXED.size : _FIXED.size + length].decode()
    except UnicodeDecodeError:
        return None
    rest = payload[_FIXED.size + length :]
    if kind == _EVENT and len(rest) >= _HASH_SIZE:
        return EventEntry(session, seq, rest[:_HASH_SIZE], rest[_HASH_SIZE:])
    if kind == _BODY and len(rest) >= _INDEX.size + SALT_SIZE:
        (index,) = _INDEX.unpack_from(rest)
        salt, content = rest[_INDEX.size :][:SALT_SIZE], rest[_INDEX.size + SALT_SIZE :]
        return BodyEntry(session, seq, index, salt, content)
    if kind == _OPEN and len(rest) == _HASH_SIZE:
        return OpenEntry(session, seq, rest)
    return None
