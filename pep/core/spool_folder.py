"""A spool's folder: made, locked while its process lives, taken over from a dead one, and given up.

Several processes may start at once and take over at once: between any two looks at a folder it may go, or be another's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"


def own_folder(directory: Path) -> tuple[Path, int]:
    """A new folder with its lock; another process that starts may take a folder for an orphan before it is locked."""
    while True:
        folder = directory / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        lock = _locked(folder, os.O_CREAT)
        if lock is not None:
            return folder, lock


def orphans(directory: Path) -> Iterator[tuple[Path, int]]:
    """The folders that no living process has, each with its lock, held until its descriptor is closed."""
    for folder in sorted(directory.iterdir()):
        if (folder / _LOCK).exists() and (lock := _locked(folder)) is not None:
            yield folder, lock


def _locked(folder: Path, create: int = 0) -> int | None:
    """The folder's lock; None if a living process holds it, or has removed the folder meanwhile."""
    path = folder / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(descriptor, path):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one of that name."""
    return Place(descriptor, path).holds()


class Place:
    """Where an open file is. What that file is does not change as long as it is open, so the name alone is asked."""

    def __init__(self, descriptor: int, path: Path) -> None:
        opened = os.fstat(descriptor)
        self._file = (opened.st_dev, opened.st_ino)
        self._path = os.fspath(path)

    def holds(self) -> bool:
        """Whether the file is still there: it may have been deleted, or its folder moved away."""
        try:
            named = os.stat(self._path)  # noqa: PTH116 - a path's own costs half as much again
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self._file


def remove_folder(folder: Path, lock: int) -> None:
    """The folder, in which nothing is left, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
    os.close(lock)


def sync_folder(folder: Path) -> None:
    sync_and_close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
