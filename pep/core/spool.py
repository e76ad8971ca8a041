"""The spool: where records are durable before anything is forwarded, until the decision service has them.

One folder per process, locked while the process lives, with append-only segment files. `append` returns after write(2),
so what it took survives the death of any process; a power cut loses at most the last group that was not yet synced
(none with fsync "always"). A process that starts adopts the folders of dead ones (`adoption`).

It does not ship: `shipper` reads the segments and says which may go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from pep.core.adoption import adopt
from pep.core.recorder import SpoolError
from pep.core.records import Sealed
from pep.core.segments import (
    SUFFIX,
    BodyEntry,
    Entry,
    EventEntry,
    OpenEntry,
    Segment,
    body_bytes,
    decode,
    encode,
    event_bytes,
)
from pep.core.shipments import Shipment
from pep.core.spool_folder import Place, orphans, own_folder, remove_folder, sync_and_close, sync_folder

SEGMENT_BYTES: Final = 4 << 20
# Kept free for the ends of sessions and for the process's own chain, when commands have filled the rest.
_RESERVE: Final = 16
# Seconds between two tries to write, where the disk took nothing and nothing is synced in groups.
_TRY_AGAIN: Final = 1.0


class Spool:
    """Open with `Spool.open`. `run` syncs in the background, `close` leaves what is not shipped to a successor."""

    def __init__(
        self,
        folder: Path,
        lock: int,
        *,
        fsync_seconds: float,
        max_bytes: int,
        share: float,
        segment_bytes: int,
        idle_seconds: float,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._fsync_seconds = fsync_seconds
        self._max_bytes = max_bytes
        self._share = share
        self._segment_bytes = segment_bytes
        self._idle_seconds = idle_seconds
        self._appended = time.monotonic()
        self._log = structlog.get_logger("pep.spool")
        self._open: dict[str, tuple[int, bytes]] = {}
        self._by_root: dict[str, int] = {}
        self._total = 0
        self._unsynced = False
        self._failed = ""
        self._trouble = ""
        self._adopted: list[tuple[Path, int]] = []
        self.segments: list[Segment] = []
        self.changed = asyncio.Event()
        self._ordinal = 0
        self._file = -1
        self._place: Place | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        fsync_seconds: float = 0.1,
        max_bytes: int = 1 << 30,
        share: float = 0.25,
        segment_bytes: int = SEGMENT_BYTES,
        idle_seconds: float = 60.0,
    ) -> Spool:
        """A new folder under `directory`, and whatever dead processes left there. Raises SpoolError."""
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder, lock = own_folder(directory)
            spool = cls(
                folder,
                lock,
                fsync_seconds=fsync_seconds,
                max_bytes=max_bytes,
                share=share,
                segment_bytes=segment_bytes,
                idle_seconds=idle_seconds,
            )
            for orphan, its_lock in orphans(directory):
                spool._adopt(orphan, its_lock)
            spool._start_segment()
        except OSError as error:
            raise SpoolError(f"cannot use the spool in {directory}: {error.strerror}") from None
        return spool

    @property
    def size(self) -> int:
        """Bytes that it holds: what the decision service does not have yet, and what went with it."""
        return self._total

    @property
    def limit(self) -> int:
        """Bytes that it may hold."""
        return self._max_bytes

    @property
    def failed(self) -> str:
        """Why nothing can be recorded any more; "" while all is well."""
        return self._failed

    @property
    def trouble(self) -> str:
        """Why the disk takes nothing at the moment; "" while it does, or what was last tried did not depend on it."""
        return self._trouble

    @property
    def last_event(self) -> tuple[int, int]:
        """Where the last event ends that is still here: the segment's ordinal, and the offset in it."""
        found = ((each.ordinal, each.last_event) for each in reversed(self.segments) if each.last_event >= 0)
        return next(found, (-1, 0))

    def append(self, records: Sequence[Sealed], *, root: str, final: bool = False) -> None:
        """Make the records durable, all or none. `root` pays for them; `final` ends the session's chain.

        Raises SpoolError: the disk is full or failing, the spool or the root's share of it is.
        """
        if self._failed:
            raise SpoolError(self._failed)
        written: list[bytes] = []
        size = last_event = last_body = 0
        for sealed in records:
            written.append(event_bytes(sealed.session, sealed.seq, sealed.hash, sealed.data))
            last_event = size = size + len(written[-1])
            for index, body in enumerate(sealed.bodies):
                written.append(body_bytes(sealed.session, sealed.seq, index, body.salt, body.content))
                last_body = size = size + len(written[-1])
        data = b"".join(written)
        if self._refused(size, root, final=final):
            self._shed()
            if refused := self._refused(size, root, final=final):
                raise SpoolError(refused)
        if self.segments[-1].size >= self._segment_bytes:
            self._rotate()
        self._write(data)
        segment = self.segments[-1]
        segment.wrote(records, last_event, last_body, size)
        segment.roots[root] = segment.roots.get(root, 0) + size
        self._by_root[root] = self._by_root.get(root, 0) + size
        self._total += size
        self._appended = time.monotonic()
        last = records[-1]
        if final:
            self._open.pop(last.session, None)
        else:
            self._open[last.session] = (last.seq + 1, last.hash)
        self.changed.set()

    def read(self, segment: Segment, offset: int, limit: int = 256 << 10) -> list[tuple[int, Shipment]]:
        """Shipments from `offset` on, each with the offset behind it; at least one where there is one.

        Raises SpoolError. Where the file has gone nothing more is taken: what was said to be on record is not.
        """
        try:
            with segment.path.open("rb") as file:
                file.seek(offset)
                data = file.read(min(limit, segment.size - offset))
                found = list(decode(data))
                if not found and offset < segment.size:
                    data += file.read(segment.size - offset - len(data))
                    found = list(decode(data))
        except FileNotFoundError:
            self._fail("a file of the spool has been removed")
            raise SpoolError(self._failed) from None
        if not found and offset < segment.size:
            raise SpoolError(f"{segment.path} cannot be read back at {offset}")
        return [(offset + end, _shipment(entry)) for end, entry in found]

    def remove(self, segment: Segment) -> None:
        """Everything in it is stored elsewhere; what was refused there is kept aside for people to look at."""
        self.segments.remove(segment)
        if segment.refused:
            aside = self._folder.parent / "refused"
            aside.mkdir(exist_ok=True, mode=0o700)
            with contextlib.suppress(FileNotFoundError):
                segment.path.rename(aside / f"{segment.path.parent.name}-{segment.path.name}")
        else:
            segment.path.unlink(missing_ok=True)
        self._total -= segment.size
        for root, size in segment.roots.items():
            self._by_root[root] -= size
            if not self._by_root[root]:
                del self._by_root[root]
        for adopted in [pair for pair in self._adopted if pair[0] == segment.path.parent]:
            if not any(each.path.parent == adopted[0] for each in self.segments):
                self._adopted.remove(adopted)
                remove_folder(*adopted)

    async def run(self) -> None:
        """Syncs in groups until cancelled, or a sync has failed. That is final: what it lost cannot be known.

        Where the disk takes nothing it tries again without being asked, so that health does not wait for a client.
        """
        while not self._failed:
            await asyncio.sleep(self._fsync_seconds or _TRY_AGAIN)
            if self._trouble:
                self._try()
            elif time.monotonic() - self._appended >= self._idle_seconds:
                # What is erased elsewhere does not lie here because nothing else came.
                with contextlib.suppress(SpoolError):
                    self._shed()
            if self._unsynced and self._fsync_seconds:
                self._unsynced = False
                try:
                    await self._sync()
                except OSError as error:
                    self._fail(f"the spool could not be synced: {error.strerror}")

    async def _sync(self) -> None:
        try:
            # A descriptor of its own: the segment may be closed meanwhile.
            copy = os.dup(self._file)
        except OSError:
            # None is free, because clients have them all: that says nothing of the disk, and the loop waits for it.
            os.fsync(self._file)
        else:
            await asyncio.get_running_loop().run_in_executor(None, sync_and_close, copy)

    def close(self) -> None:
        """Give the folder up. An empty one goes; one with records, or with a chain without an end, has a successor."""
        self._close_file()
        shipped = self._total == 0 or not any(segment.pending for segment in self.segments)
        if shipped and not self._open:
            for segment in list(self.segments):
                self.remove(segment)
            remove_folder(self._folder, self._lock)
        else:
            os.close(self._lock)
        for _, lock in self._adopted:
            os.close(lock)

    def _refused(self, size: int, root: str, *, final: bool) -> str:
        """Why there is no room for so much; "" where there is."""
        # How chains end, and what has no session, is still written where nothing else is any more.
        limit = self._max_bytes + (self._max_bytes // _RESERVE if final or not root else 0)
        if self._total + size > limit:
            return "the spool is full"
        # What has no session has a share like a subject: refused logins fill no disk that others need.
        if not final and self._by_root.get(root, 0) + size > self._max_bytes * self._share:
            return "this subject's share of the spool is full"
        return ""

    def _shed(self) -> None:
        """Lets the last segment go as well where all of it is stored: in a small spool it may be what takes the room.

        Nothing else would begin another, because nothing is written any more.
        """
        last = self.segments[-1]
        if last.last_event >= 0 and not last.pending:
            self._rotate()
            self.remove(last)

    def _write(self, data: bytes) -> None:
        """One write(2), whole or undone."""
        segment = self.segments[-1]
        try:
            written = os.write(self._file, data)
            error = "" if written == len(data) else "the disk is full"
        except OSError as failure:
            error = failure.strerror or "input/output error"
        if error:
            self._trouble = error
            try:
                os.ftruncate(self._file, segment.size)
            except OSError:
                self._fail(f"the spool is damaged: {error}")
            raise SpoolError(f"the spool could not be written: {error}")
        self._keep()
        self._trouble = ""
        self._unsynced = True

    def _keep(self) -> None:
        """Sees that what was just written stays: its file is still in its place, and synced where that is asked for."""
        if self._place is None or not self._place.holds():
            self._fail("a file of the spool has been removed")
            raise SpoolError(self._failed)
        if not self._fsync_seconds:
            try:
                os.fsync(self._file)
            except OSError as error:
                # Whether the disk has it cannot be known, and the next sync would not say so again.
                self._fail(f"the spool could not be synced: {error.strerror}")
                raise SpoolError(self._failed) from None

    def _try(self) -> None:
        """Writes what changes nothing, a note that some chain is open, to see whether the disk takes it again."""
        for session, (seq, digest) in self._open.items():
            note = encode(OpenEntry(session, seq, digest))
            with contextlib.suppress(SpoolError):
                if self.segments[-1].size >= self._segment_bytes:
                    self._rotate()
                self._write(note)
                self.segments[-1].size += len(note)
                self._total += len(note)
            return

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = reason
            self._log.error("nothing can be recorded any more", reason=reason)

    def _rotate(self) -> None:
        """Go on in a new segment. Where none can be begun the old one stays in use, and the next append tries again."""
        before, old = self._file, self.segments[-1]
        try:
            self._start_segment()
        except OSError as error:
            self._trouble = error.strerror or "input/output error"
            raise SpoolError(f"the spool could not begin a new segment: {error.strerror}") from None
        old.complete = True
        try:
            sync_and_close(before)
        except OSError as error:
            self._fail(f"the spool could not be synced: {error.strerror}")
            raise SpoolError(self._failed) from None

    def _close_file(self) -> None:
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            try:
                sync_and_close(descriptor)
            except OSError as error:
                self._fail(f"the spool could not be synced: {error.strerror}")

    def _start_segment(self) -> None:
        """It begins with every chain that is open, so that those before it may go: with all of them, or not at all."""
        path = self._folder / f"{self._ordinal:010d}{SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        notes = b"".join(encode(OpenEntry(name, seq, digest)) for name, (seq, digest) in self._open.items())
        try:
            if os.write(file, notes) != len(notes):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as if write(2) had said so
            sync_folder(self._folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._file, self._place, self._unsynced = file, Place(file, path), True
        self.segments.append(Segment(self._ordinal, path, size=len(notes)))
        self._ordinal += 1
        self._total += len(notes)

    def _adopt(self, folder: Path, lock: int) -> None:
        segments = adopt(folder, self._ordinal)
        if not segments:
            remove_folder(folder, lock)
            return
        self.segments += segments
        self._ordinal += len(segments)
        self._total += sum(segment.size for segment in segments)
        self._adopted.append((folder, lock))
        self.changed.set()


def _shipment(entry: Entry) -> Shipment:
    match entry:
        case BodyEntry():
            return Shipment(entry.session, entry.seq, entry.content, entry.index, entry.salt)
        case EventEntry():
            return Shipment(entry.session, entry.seq, entry.data, hash=entry.hash)
        case OpenEntry():
            return Shipment(entry.session, -1, b"")
