"""Policies in the store: what was in force when, the bundles, and the one that people went back to.

Functions of a connection; the caller has the transaction.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from pdp.policies.history import Change, Pin, PolicyEvent
from pdp.store import tables

_bundles = tables.policy_bundles.c
_history = tables.policy_history.c
_pin = tables.policy_pin.c
_ONE: Final = 1


@dataclass(frozen=True, slots=True)
class StoredChange:
    """One change of the policies in force."""

    change: str
    at: datetime.datetime
    revision: str
    by: str
    changes: Sequence[str]
    problems: str
    # Whether its bundle is still kept.
    kept: bool


def add(connection: Connection, event: PolicyEvent, changes: Sequence[str]) -> None:
    """Puts a change into the history, and its bundle beside it."""
    connection.execute(
        tables.policy_history.insert().values(
            at=event.at,
            event=event.change.value,
            revision=event.revision,
            by=event.by[:600],
            changes=list(changes),
            problems=event.problems,
        )
    )
    if event.bundle is not None and bundle(connection, event.revision) is None:
        connection.execute(
            tables.policy_bundles.insert().values(
                revision=event.revision, version=event.bundle.version, content=event.bundle.content, kept_at=event.at
            )
        )


def last_revision(connection: Connection) -> str:
    """The revision that came into force last; empty if none ever did."""
    wanted = select(_history.revision).where(_history.event != Change.REFUSED.value).order_by(_history.id.desc())
    return connection.execute(wanted.limit(1)).scalar_one_or_none() or ""


def newest(connection: Connection, limit: int) -> list[StoredChange]:
    """The newest changes, newest first."""
    wanted = (
        select(tables.policy_history, _bundles.revision.label("kept"))
        .outerjoin(tables.policy_bundles, _bundles.revision == _history.revision)
        .order_by(_history.id.desc())
        .limit(limit)
    )
    return [
        StoredChange(row.event, row.at, row.revision, row.by, row.changes, row.problems, row.kept is not None)
        for row in connection.execute(wanted)
    ]


def bundle(connection: Connection, revision: str) -> bytes | None:
    """The bundle of a revision, if it is kept."""
    return connection.execute(select(_bundles.content).where(_bundles.revision == revision)).scalar_one_or_none()


def revisions(connection: Connection, prefix: str) -> list[str]:
    """Kept revisions that begin so, with or without the name of the digest; two at most."""
    wanted = select(_bundles.revision).where(
        _bundles.revision.startswith(prefix, autoescape=True)
        | _bundles.revision.startswith(f"sha256:{prefix}", autoescape=True)
    )
    return list(connection.execute(wanted.limit(2)).scalars())


def forget(connection: Connection, *, newest: int, most: int) -> None:
    """Drops bundles that nothing refers to, and the oldest of more than `most`.

    Referred to is what a kept decision was decided by, the pinned one, and what the newest changes brought.
    """
    recent = list(connection.execute(select(_history.revision).order_by(_history.id.desc()).limit(newest)).scalars())
    recent += connection.execute(select(_pin.revision)).scalars()
    used = set(recent) | set(connection.execute(select(tables.decisions.c.revision).distinct()).scalars())
    kept = list(connection.execute(select(_bundles.revision).order_by(_bundles.kept_at.desc())).scalars())
    unused = [each for each in kept if each not in used]
    surplus = [each for each in kept[most:] if each not in recent]
    for each in {*unused, *surplus}:
        connection.execute(delete(tables.policy_bundles).where(_bundles.revision == each))


def pin(connection: Connection) -> Pin | None:
    """What people went back to, if that holds."""
    wanted = select(tables.policy_pin, _bundles.content).join(tables.policy_bundles, _bundles.revision == _pin.revision)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else Pin(row.revision, row.content, row.files, row.by, row.at)


def set_pin(connection: Connection, pin: Pin) -> None:
    """Goes back to it, in place of whatever was gone back to before."""
    connection.execute(delete(tables.policy_pin))
    connection.execute(
        tables.policy_pin.insert().values(id=_ONE, revision=pin.revision, files=pin.files, by=pin.by, at=pin.at)
    )


def end_pin(connection: Connection, pin: Pin) -> None:
    """Ends this one, and no later one."""
    connection.execute(delete(tables.policy_pin).where(_pin.revision == pin.revision, _pin.at == pin.at))
