"""Revocations in the store. Functions of a connection; the caller has the transaction."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select

from pdp.store import tables

_t = tables.revocations.c


@dataclass(frozen=True, slots=True)
class Revocation:
    """Who or what is let in no more: `name` is compared, `spelt` is shown; without `until`, for good."""

    kind: str
    name: str
    spelt: str
    reason: str
    revoked_by: str
    revoked_at: datetime.datetime
    until: datetime.datetime | None


def put(connection: Connection, revocation: Revocation) -> None:
    """Adds it, in the place of an earlier one of the same name."""
    remove(connection, revocation.kind, revocation.name)
    connection.execute(
        tables.revocations.insert().values(
            kind=revocation.kind,
            name=revocation.name,
            spelt=revocation.spelt,
            reason=revocation.reason,
            revoked_by=revocation.revoked_by,
            revoked_at=revocation.revoked_at,
            until=revocation.until,
        )
    )


def remove(connection: Connection, kind: str, name: str) -> bool:
    """Whether there was one."""
    return connection.execute(tables.revocations.delete().where(_t.kind == kind, _t.name == name)).rowcount == 1


def every(connection: Connection) -> list[Revocation]:
    wanted = select(tables.revocations).order_by(_t.revoked_at.desc(), _t.kind, _t.name)
    return [_revocation(row) for row in connection.execute(wanted)]


def _revocation(row: Row[tuple[object, ...]]) -> Revocation:
    return Revocation(row.kind, row.name, row.spelt, row.reason, row.revoked_by, row.revoked_at, row.until)
