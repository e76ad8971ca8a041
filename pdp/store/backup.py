"""Copies of the store, and what must not come back with one.

A copy is older than the moment at which it is put back. In between sessions were killed, and grants were used; as they
stand in the copy, they would be open and usable again. So a copy is *settled*: no session in it is open, no question
pending, no grant left, and the key that signs sessions' tokens is gone (a new one is made at the start). Records, and
the keys that sign what is said of them, stay as they are.
"""

from __future__ import annotations

import datetime
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine

from pdp.store import tables
from pdp.store.approvals import ApprovalState
from pdp.store.sessions import SessionState

_PAGES: Final = 1024
_WHY: Final = "the store was restored from a copy"
# The purpose of the keys of sessions' tokens (pdp.service.session_tokens).
_SESSION_KEYS: Final = "session"


@dataclass(frozen=True, slots=True)
class Settled:
    """How much was ended."""

    sessions: int
    approvals: int


class DamagedCopy(Exception):
    """SQLite finds fault with the copy; the text is SQLite's."""


def settle(connection: Connection, now: datetime.datetime) -> Settled:
    """Ends whatever could still be used. Records are not touched."""
    sessions = connection.execute(
        tables.sessions.update()
        .where(tables.sessions.c.state == SessionState.OPEN.value)
        .values(state=SessionState.LOST.value, close_reason=_WHY, closed_at=now)
    )
    usable = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
    approvals = connection.execute(
        tables.approvals.update()
        .where(tables.approvals.c.state.in_(usable))
        .values(state=ApprovalState.CANCELLED.value, comment=_WHY)
    )
    connection.execute(tables.keys.delete().where(tables.keys.c.purpose == _SESSION_KEYS))
    return Settled(sessions.rowcount, approvals.rowcount)


def copy_file(store: Path, target: Path, now: datetime.datetime) -> Settled:
    """A settled copy of a store of SQLite, while it is in use. FileExistsError if there is such a file.

    The copy has everything that was committed when this was called, and appears as a whole, for this user alone.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    # The place is taken first: nothing is ever written over.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # Read only: a copy is made of a store, never a store of a mistyped name.
        source = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        with closing(source), closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy, pages=_PAGES)
            copy.execute("pragma journal_mode=delete")
        engine = create_engine(f"sqlite:///{unfinished}")
        try:
            with engine.begin() as connection:
                # The keys that are taken out are overwritten, not only forgotten.
                connection.exec_driver_sql("pragma secure_delete=on")
                settled = settle(connection, now)
                (found,) = connection.exec_driver_sql("pragma integrity_check").fetchall()[:1]
                if found[0] != "ok":
                    raise DamagedCopy(str(found[0]))
        finally:
            engine.dispose()
        _synchronise(unfinished)
        unfinished.replace(target)
        _synchronise(target.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise
    return settled


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
