"""What is taken out of the store because its time is over, or because people have it erased. Functions of a connection;
the caller has the transaction.

An erased body leaves its row behind, empty: so it is known that it came. A session that is taken out leaves its row in
`chains`, so that its number among those of its proxy's process is not missing, and its checkpoints.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select

from pdp.identity.subject import restored
from pdp.store import tables
from pdp.store.approvals import ApprovalState
from pdp.store.notifications import NotificationState
from pdp.store.sessions import SessionState

_bodies = tables.bodies.c
_sessions = tables.sessions.c
_chains = tables.chains.c
_approvals = tables.approvals.c
_WAITING: Final = (ApprovalState.PENDING.value, ApprovalState.APPROVED.value)
_OF_THE_RECORD: Final = (tables.shown_labels, tables.shown_fields, tables.records, tables.proxy_signatures)
_EMPTY: Final[Mapping[str, Any]] = {"at": None, "salt": b"", "content": b"", "packed": False}


@dataclass(frozen=True, slots=True)
class Whose:
    """A session and whether it is open."""

    id: str
    open: bool


def erase_bodies(connection: Connection, before: datetime.datetime, limit: int) -> Mapping[str, int]:
    """Erases the oldest bodies that came before that time, at most so many; how many of each chain."""
    old = select(_bodies.session_id, _bodies.seq, _bodies["index"]).where(_bodies.at < before)
    rows = connection.execute(old.order_by(_bodies.at).limit(limit)).all()
    for chain, seq, index in rows:
        mine = (_bodies.session_id == chain, _bodies.seq == seq, _bodies["index"] == index)
        connection.execute(tables.bodies.update().where(*mine).values(**_EMPTY))
    return Counter(row.session_id for row in rows)


def erase_bodies_of(connection: Connection, chain: str) -> int:
    """Erases every body of the chain; how many there were."""
    mine = tables.bodies.update().where(_bodies.session_id == chain, _bodies.at.is_not(None))
    return connection.execute(mine.values(**_EMPTY)).rowcount


def erase_texts(connection: Connection, before: datetime.datetime) -> int:
    """Erases what approvals asked about that are over and were asked before that time."""
    return _erase_actions(connection, _approvals.created_at < before)


def erase_texts_of(connection: Connection, session_id: str) -> int:
    """Erases what the session's decisions were asked, and what its approvals that are over asked about."""
    decisions = select(tables.decisions.c.id).where(tables.decisions.c.session_id == session_id)
    inputs = tables.decision_inputs
    erased = connection.execute(delete(inputs).where(inputs.c.decision_id.in_(decisions))).rowcount
    return erased + _erase_actions(connection, _approvals.session_id == session_id)


def _erase_actions(connection: Connection, which: ColumnElement[bool]) -> int:
    over = and_(which, _approvals.state.not_in(_WAITING))
    notes = tables.notifications
    told = notes.c.approval_id.in_(select(_approvals.id).where(over))
    connection.execute(notes.update().where(told, notes.c.state != NotificationState.WAITING.value).values(body=b""))
    gone = tables.approvals.update().where(over, _approvals.action != b"")
    return connection.execute(gone.values(action=b"", comment="")).rowcount


def ended_before(connection: Connection, before: datetime.datetime, limit: int) -> list[str]:
    """Sessions that ended before then, whose record is whole and under a checkpoint, and that nothing waits for."""
    waits = exists().where(_approvals.session_id == _sessions.id, _approvals.state.in_(_WAITING))
    wanted = (
        select(_sessions.id)
        .join(tables.chains, _chains.session_id == _sessions.id)
        .where(
            _sessions.state != SessionState.OPEN.value,
            _sessions.closed_at < before,
            _chains.ended,
            _chains.behind.is_(False),
            ~waits,
        )
    )
    return list(connection.execute(wanted.order_by(_sessions.closed_at).limit(limit)).scalars())


def take_out(connection: Connection, session_id: str) -> None:
    """Removes the session, its record, and what hangs on it."""
    mine = select(_approvals.id).where(_approvals.session_id == session_id)
    for table in (tables.notifications, tables.redemptions, tables.assents):
        connection.execute(delete(table).where(table.c.approval_id.in_(mine)))
    for table in (tables.approvals, tables.bodies, *_OF_THE_RECORD):
        connection.execute(delete(table).where(table.c.session_id == session_id))
    connection.execute(delete(tables.sessions).where(_sessions.id == session_id))


def take_out_approvals(connection: Connection, before: datetime.datetime, limit: int) -> int:
    """Removes approvals that were over before then, of sessions that are over too; at most so many, and how many."""
    session_is_open = exists().where(_sessions.id == _approvals.session_id, _sessions.state == SessionState.OPEN.value)
    wanted = select(_approvals.id).where(
        _approvals.state.not_in(_WAITING),
        _approvals.expires_at < before,
        or_(_approvals.grant_expires_at.is_(None), _approvals.grant_expires_at < before),
        ~session_is_open,
    )
    found = list(connection.execute(wanted.order_by(_approvals.expires_at).limit(limit)).scalars())
    for table in (tables.notifications, tables.redemptions, tables.assents):
        connection.execute(delete(table).where(table.c.approval_id.in_(found)))
    connection.execute(delete(tables.approvals).where(_approvals.id.in_(found)))
    return len(found)


def take_out_notifications(connection: Connection, before: datetime.datetime, limit: int) -> int:
    """Removes what was sent, or given up, before then about approvals that are over; how many it were."""
    notes = tables.notifications.c
    waits = exists().where(_approvals.id == notes.approval_id, _approvals.state.in_(_WAITING))
    wanted = select(notes.id).where(
        notes.state != NotificationState.WAITING.value, notes.created_at < before, notes.next_at < before, ~waits
    )
    found = list(connection.execute(wanted.order_by(notes.created_at).limit(limit)).scalars())
    connection.execute(delete(tables.notifications).where(notes.id.in_(found)))
    return len(found)


def take_out_marks(connection: Connection, before: datetime.datetime, limit: int) -> list[str]:
    """Removes what is kept of processes that ended before then and of whose sessions none is left; which they are.

    What is wrong with one stays, and so does the last word of each proxy.
    """
    marks, begun = tables.proxy_marks.c, tables.chains.alias()
    later = tables.proxy_marks.alias()
    wanted = (
        select(marks.process)
        .join(tables.chains, _chains.session_id == marks.process)
        .where(
            _chains.ended,
            _chains.behind.is_(False),
            marks.at < before,
            marks.refused == 0,
            exists().where(later.c.proxy == marks.proxy, later.c.at > marks.at),
            ~exists().where(begun.c.begun_by == marks.process, _sessions.id == begun.c.session_id),
            # A number that is missing goes on to be missed.
            select(func.count()).where(begun.c.begun_by == marks.process).scalar_subquery() == marks.sessions,
        )
    )
    found = list(connection.execute(wanted.order_by(marks.at).limit(limit)).scalars())
    connection.execute(delete(tables.chains).where(_chains.begun_by.in_(found)))
    connection.execute(delete(tables.proxy_marks).where(marks.process.in_(found)))
    return found


def sessions_of(connection: Connection, type: str, name: str, after: str, limit: int) -> tuple[Sequence[Whose], str]:
    """Of the next so many sessions behind that id those of the subject, and where to go on; empty at the end.

    A person's are also those of whoever acts, or acted, on the person's behalf. `name` is as `same_person` gives it.
    """
    wanted = select(_sessions.id, _sessions.state, _sessions.subject).where(_sessions.id > after)
    rows = connection.execute(wanted.order_by(_sessions.id).limit(limit)).all()
    found = [Whose(row.id, row.state == SessionState.OPEN.value) for row in rows if _is_of(row.subject, type, name)]
    return found, rows[-1].id if rows else ""


def _is_of(stored: Mapping[str, Any], type: str, name: str) -> bool:
    subject = restored(stored)
    if name not in subject.chain:
        return False
    return type == "user" or type in (subject.type, subject.root.type)
