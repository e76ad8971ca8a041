"""A spool's segment files: length-prefixed records with a checksum, read back up to a torn tail; what is known of each.

Pure: nothing here opens a file. An entry is an event of a session's chain, a body that an event names, or the note that
a session is still open, with the end of its chain: a segment begins with these, so that older ones can be removed
without losing sight of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

from pdp.v1.digests import SALT_SIZE
from pep.core.records import Sealed
from pep.core.values import value

SUFFIX: Final = ".segment"

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


def is_torn(data: bytes, offset: int) -> bool:
    """Whether the file ends before what was to stand there does, as when a write was cut short."""
    start = offset + _HEADER.size
    return start > len(data) or start + int(_HEADER.unpack_from(data, offset)[0]) > len(data)


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


@dataclass(slots=True, eq=False)
class Segment:
    """One file. `sessions` has records in it; `pending` says up to which number they are not acknowledged yet."""

    ordinal: int
    path: Path
    size: int = 0
    last_body: int = -1
    last_event: int = -1
    complete: bool = False
    refused: bool = False
    sessions: set[str] = field(default_factory=set)
    pending: dict[str, int] = field(default_factory=dict)
    roots: dict[str, int] = field(default_factory=dict)

    def note(self, entry: Entry, end: int) -> None:
        self.size = end
        match entry:
            case EventEntry(session=session, seq=seq):
                self.sessions.add(session)
                self.pending[session] = seq
                self.last_event = end
            case BodyEntry():
                self.last_body = end
            case OpenEntry():
                pass

    def wrote(self, records: Sequence[Sealed], last_event: int, last_body: int, size: int) -> None:
        """The same for several together, with the places where their last event and body end among their bytes."""
        for sealed in records:
            self.sessions.add(sealed.session)
            self.pending[sealed.session] = sealed.seq
        self.last_event = self.size + last_event
        if last_body:
            self.last_body = self.size + last_body
        self.size += size
