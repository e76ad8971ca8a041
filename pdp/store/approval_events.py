"""What became of approvals, found in the service's own chains. Functions of a connection.

Each process of the service has a chain; several may be going at once. Within one, times rise with the numbers.
"""

from __future__ import annotations

import datetime
from typing import Final

import orjson
from sqlalchemy import Connection, select

from pdp.store import records, tables

PREFIX: Final = "pdp-"
"""How the names of those chains begin."""

_chains = tables.chains.c


def beginnings(connection: Connection, since: datetime.datetime) -> list[tuple[str, int]]:
    """Chains of the service that have events of that time or later, each with the number of the first of them."""
    mine = select(_chains.session_id, _chains.last_seq).where(_chains.session_id.startswith(PREFIX, autoescape=True))
    found = []
    for chain, last in connection.execute(mine.order_by(_chains.session_id)):
        first = _first(connection, chain, int(last), since)
        if first <= last:
            found.append((chain, first))
    return found


def _first(connection: Connection, chain: str, last: int, since: datetime.datetime) -> int:
    low, high = 0, last + 1
    while low < high:
        middle = (low + high) // 2
        at = _time(records.event(connection, chain, middle))
        # What cannot be read is looked at by whoever reads on from there.
        if at is not None and at < since:
            low = middle + 1
        else:
            high = middle
    return low


def _time(event: bytes | None) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(orjson.loads(event or b"")["time"])
    except (ValueError, KeyError, TypeError):
        return None


def of_session(connection: Connection, session_id: str) -> frozenset[str]:
    """The approvals that a session asked for."""
    wanted = select(tables.approvals.c.id).where(tables.approvals.c.session_id == session_id)
    return frozenset(connection.execute(wanted).scalars())
