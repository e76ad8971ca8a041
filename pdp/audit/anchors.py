"""Brings the log of checkpoints to places where this service cannot change it any more: a file, a command, a URL.

Each place gets every checkpoint as a line (`Checkpoint.line`), in order, at least once: what was accepted there and not
noted here is brought again, which a verifier does not mind. Several replicas share what a command or a URL was given;
a file is one machine's, which gets all of it. That the place cannot be written to afterwards is the place's affair.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from pdp.audit.checkpoints import read
from pdp.calls import Call, CallFailed, status_of
from pdp.config import Anchor
from pdp.store import checkpoints as stored
from pdp.store.database import Database
from pdp.v1.digests import canonical_json

log = structlog.get_logger("pdp.anchors")

_LINES: Final = 500
_PATIENCE: Final = 30.0


class NotAnchored(Exception):
    """The place did not take the lines."""


class Anchors:
    """The configured places. Each of `rounds` is called at an interval of its own: one that hangs holds up no other."""

    def __init__(self, database: Database, places: Sequence[Anchor]) -> None:
        self._database = database
        self.rounds: Sequence[Callable[[], Awaitable[None]]] = [partial(self._round, each) for each in places]

    async def round(self) -> None:
        """Brings every place what it lacks, all at once."""
        await asyncio.gather(*(each() for each in self.rounds))

    async def _round(self, place: Anchor) -> None:
        """One that fails is tried again next time."""
        try:
            await self._bring(place)
        except NotAnchored as error:
            log.error("checkpoints not anchored", place=place.name, why=str(error), alarm=True)  # noqa: TRY400 - says all there is

    async def _bring(self, place: Anchor) -> None:
        sink = _sink(place)
        while True:
            after = await self._database.short.run(lambda connection: stored.anchored(connection, sink))
            entries = await self._database.bulk.run(
                lambda connection, after=after: stored.entries(connection, after, _LINES)  # type: ignore[misc]
            )
            if not entries:
                return
            try:
                lines = b"".join(read(each.document, each.signature).line for each in entries)
            except ValueError:
                raise NotAnchored("the log of checkpoints holds something else") from None
            await _send(place, lines)
            last = entries[-1].number
            await self._database.short.run(lambda connection, last=last: stored.anchor(connection, sink, last))  # type: ignore[misc]


def _sink(place: Anchor) -> str:
    """The name under which it is noted how far the place is."""
    said = {"host": socket.gethostname()} if place.file else {}
    said["place"] = str(place.file or place.url or canonical_json(place.command).decode())
    return hashlib.sha256(canonical_json(said)).hexdigest()


async def _send(place: Anchor, lines: bytes) -> None:
    if place.file is not None:
        await asyncio.to_thread(_append, place.file, lines)
    elif place.command is not None:
        await _run(place.command, lines)
    else:
        assert place.url is not None
        await asyncio.to_thread(_post, place.url, lines)


def _append(file: Path, lines: bytes) -> None:
    try:
        descriptor, readable = _opened(file)
        try:
            size = os.fstat(descriptor).st_size
            if readable and size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A full disk has cut a line off; it comes again, and stands for itself.
                lines = b"\n" + lines
            left = memoryview(lines)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NotAnchored(error.strerror or "input/output error") from None


def _opened(file: Path) -> tuple[int, bool]:
    """The file, and whether it may be read: some storage only takes."""
    flags = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(file, os.O_RDWR | flags, 0o640), True
    except PermissionError:
        return os.open(file, os.O_WRONLY | flags, 0o640), False


async def _run(command: Sequence[str], lines: bytes) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise NotAnchored(f"the command could not be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.communicate(lines)
    except TimeoutError:
        raise NotAnchored("the command took too long") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise NotAnchored(f"the command ended with {process.returncode}")


def _post(url: str, lines: bytes, patience: float = _PATIENCE) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    try:
        status = status_of(Call("POST", url, patience, lines, headers))
    except CallFailed as error:
        raise NotAnchored(str(error)) from None
    if not 200 <= status < 300:
        raise NotAnchored(f"the answer was {status}")
