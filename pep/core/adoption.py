"""What a process that died has left in its spool: read back, its torn end cut off, its chains ended as lost.

The folder is locked by whoever calls (`spool_folder`); which of it the decision service has already is not known here,
and what it has it ignores. Nothing that can be read is thrown away, and what cannot be read is kept aside.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from pdp.v1.digests import chain_hash
from pep.core.recorder import PROCESS_PREFIX, SpoolError, is_final, utc_now
from pep.core.records import Chain, Event, EventType
from pep.core.segments import SUFFIX, BodyEntry, Entry, EventEntry, OpenEntry, Segment, decode, encode, is_torn


def adopt(folder: Path, ordinal: int) -> list[Segment]:
    """The folder's segments, numbered from `ordinal` on, all chains in them ended; none if nothing was to be shipped.

    Raises SpoolError or OSError where the end of a chain cannot be written.
    """
    chains: dict[str, Chain] = {}
    segments = [Segment(at, path, complete=True) for at, path in enumerate(sorted(folder.glob(f"*{SUFFIX}")), ordinal)]
    for segment in segments:
        _read_back(segment, chains)
    if segments:
        log = structlog.get_logger("pep.spool")
        log.warning("adopted the records of a process that died", sessions=len(chains), segments=len(segments))
        _write_losses(segments[-1], chains)
    return segments


def _read_back(segment: Segment, chains: dict[str, Chain]) -> None:
    """Notes what the segment holds, cuts what is torn, and follows the chains."""
    log = structlog.get_logger("pep.spool")
    data = segment.path.read_bytes()
    for end, entry in _recorded(data):
        segment.note(entry, end)
        match entry:
            case OpenEntry(session=session, seq=seq, hash=digest):
                chains[session] = _chain(session, seq, digest)
            case EventEntry(session=session, seq=seq, hash=digest):
                before = chains.pop(session, None)
                if before is not None and chain_hash(before.hash, session, seq, entry.data) != digest:
                    log.error("a record of a dead process breaks its chain", session=session, seq=seq)
                if not _ends_chain(_document(entry)):
                    chains[session] = _chain(session, seq + 1, digest)
            case BodyEntry():
                pass
    if segment.size < len(data):
        # Mostly the torn end of a last write, which nobody was promised. Where the disk changed something in the
        # middle, whole entries may follow: nothing of it is thrown away.
        kept = _kept_aside(segment.path, data[segment.size :])
        lost = len(data) - segment.size
        log.error("cut what cannot be read, and kept it aside", bytes=lost, kept=str(kept))
        os.truncate(segment.path, segment.size)


def _recorded(data: bytes) -> list[tuple[int, Entry]]:
    """The entries that were on record, each with the offset behind it.

    An event and its bodies are one write. Where that was cut short within the bodies, the event was on record no more
    than they were; alone, it would be one that the service waits for the bodies of, and takes no end behind.
    """
    entries = list(decode(data))
    whole = missing = 0
    for number, (_, entry) in enumerate(entries, 1):
        match entry:
            case EventEntry():
                missing = len(_document(entry).get("bodies", ()))
            case BodyEntry():
                missing -= 1
            case OpenEntry():
                pass
        if not missing:
            whole = number
    return entries[:whole] if entries and is_torn(data, entries[-1][0]) else entries


def _kept_aside(segment: Path, damaged: bytes) -> Path:
    """The file that has it from now on. A segment may be torn more than once: by its process and by a successor."""
    aside = segment.parent.parent / "damaged"
    aside.mkdir(exist_ok=True, mode=0o700)
    for number in itertools.count():
        kept = aside / f"{segment.parent.name}-{segment.name}{f'.{number}' if number else ''}"
        try:
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(damaged)
            file.flush()
            os.fsync(file.fileno())
        return kept
    raise AssertionError("there is always another number")


def _write_losses(segment: Segment, chains: dict[str, Chain]) -> None:
    for chain in chains.values():
        facts = {"what": "lost", "reason": "the proxy process died"}
        kind = EventType.PROCESS if chain.session.startswith(PROCESS_PREFIX) else EventType.SESSION_LOST
        sealed = chain.seal(Event(kind, facts=facts))
        data = encode(EventEntry(sealed.session, sealed.seq, sealed.hash, sealed.data))
        descriptor = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, segment.size)
                raise SpoolError("the spool is full: the loss of a session cannot be recorded")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        segment.note(EventEntry(sealed.session, sealed.seq, sealed.hash, sealed.data), segment.size + len(data))


def _chain(session: str, seq: int, digest: bytes) -> Chain:
    chain = Chain(session, utc_now)
    chain.seq, chain.hash = seq, digest
    return chain


def _document(event: EventEntry) -> Mapping[str, Any]:
    document: Mapping[str, Any] = orjson.loads(event.data)
    return document


def _ends_chain(document: Mapping[str, Any]) -> bool:
    return is_final(document["type"], document.get("facts", {}).get("what"))
