"""Notifications in the store: what waits to be delivered outlives the process. Functions of a connection."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from pdp.store import tables

_t = tables.notifications.c
_LONGEST_ERROR = 500


class NotificationState(enum.StrEnum):
    """Where a notification stands."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"
    # Nobody needs to be told any more: the question had ended before it could be delivered.
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one destination; `next_at` is when it is tried next."""

    id: str
    approval_id: str
    destination: str
    body: bytes
    created_at: datetime.datetime
    state: NotificationState
    attempts: int
    next_at: datetime.datetime
    last_error: str = ""


def insert(connection: Connection, notification: Notification) -> None:
    values = {column.name: getattr(notification, column.name) for column in tables.notifications.columns}
    connection.execute(tables.notifications.insert().values(values | {"state": notification.state.value}))


def told(connection: Connection, approval_id: str) -> bool:
    """Whether there is a notification about the approval already."""
    wanted = select(func.count()).select_from(tables.notifications).where(_t.approval_id == approval_id)
    return bool(connection.execute(wanted).scalar_one())


def claim(
    connection: Connection, destination: str, now: datetime.datetime, until: datetime.datetime
) -> Notification | None:
    """The one that has waited longest, for this caller alone until `until`; None if none is due.

    A caller that dies meanwhile has delivered it or not: it is tried again, under the same id.
    """
    due = select(tables.notifications).where(
        _t.destination == destination, _t.state == NotificationState.WAITING.value, _t.next_at <= now
    )
    row = connection.execute(due.order_by(_t.next_at, _t.id).limit(1)).one_or_none()
    if row is None:
        return None
    taken = connection.execute(
        tables.notifications.update()
        .where(_t.id == row.id, _t.state == NotificationState.WAITING.value, _t.next_at == row.next_at)
        .values(attempts=_t.attempts + 1, next_at=until)
    )
    return _notification(row, attempts=row.attempts + 1, next_at=until) if taken.rowcount == 1 else None


def settle(
    connection: Connection,
    claimed: Notification,
    state: NotificationState,
    *,
    next_at: datetime.datetime,
    error: str = "",
) -> None:
    """What became of an attempt; nothing if somebody else has claimed it since."""
    connection.execute(
        tables.notifications.update()
        .where(_t.id == claimed.id, _t.state == NotificationState.WAITING.value, _t.next_at == claimed.next_at)
        .values(state=state.value, next_at=next_at, last_error=error[:_LONGEST_ERROR])
    )


def newest(connection: Connection, states: Sequence[NotificationState], limit: int = 200) -> list[Notification]:
    wanted = select(tables.notifications).where(_t.state.in_([each.value for each in states]))
    rows = connection.execute(wanted.order_by(_t.created_at.desc(), _t.id).limit(limit))
    return [_notification(row) for row in rows]


def retry(connection: Connection, id: str, now: datetime.datetime) -> int:
    """Tries one again from the beginning, or with an empty id all that were given up; how many that are."""
    again = tables.notifications.update().where(_t.state == NotificationState.DEAD.value)
    if id:
        again = again.where(_t.id == id)
    return connection.execute(again.values(state=NotificationState.WAITING.value, attempts=0, next_at=now)).rowcount


def _notification(row: Row[Any], **changed: Any) -> Notification:
    values = {column.name: getattr(row, column.name) for column in tables.notifications.columns}
    return Notification(**values | {"state": NotificationState(row.state)} | changed)
