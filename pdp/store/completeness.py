"""What is missing of the records, and up to when each proxy's are complete: what the store can say of itself.

A session that has ended has a record with an end, unless its proxy never took it up: it never said that the session
lives, and nothing was decided in it (the answer came too late, or its beginning could not be put on record). Each
session that a process began has a number, without gaps; a process that began ends, or is heard of; and each says up to
when everything that it recorded is acknowledged. What ended after that time is on its way, not missing. The clocks are
those of the proxies and of the service.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, exists, func, or_, select

from pdp.store import tables
from pdp.store.checkpoints import Mark, marks

_sessions = tables.sessions.c
_chains = tables.chains.c
_decisions = tables.decisions.c
# Something was decided in the session besides that it may begin.
_decided = exists().where(_decisions.session_id == _sessions.id, _decisions.id != _sessions.decision_id)
_MOST: Final = 1000
_MOST_NUMBERS: Final = 10
# A process says every few seconds that it lives.
SILENCE: Final = datetime.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ProxyState:
    """Up to when a proxy's records are complete; None where it has not said so."""

    proxy: str
    complete_until: datetime.datetime | None
    running: int
    sessions: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """The proxies, and what is missing, in words of our own and names."""

    proxies: tuple[ProxyState, ...]
    missing: tuple[str, ...]


def completeness(connection: Connection, now: datetime.datetime) -> Completeness:
    """As far as the store knows at this time."""
    known = {mark.process: mark for mark in marks(connection)}
    running = _running(connection, known)
    proxies = {state.proxy: state for state in _proxies(connection, known, running)}
    found = [
        *_unfinished(connection, proxies, now),
        *_gaps(connection, known, running),
        *_silent(known, running, now),
        *_refused(known),
    ]
    return Completeness(tuple(proxies.values()), tuple(found[:_MOST]))


def _running(connection: Connection, known: dict[str, Mark]) -> dict[str, str]:
    """Processes whose record has no end, or of which there is no record, with their proxy."""
    wanted = select(_chains.session_id, _chains.proxy).where(
        _chains.session_id.startswith("process-", autoescape=True), _chains.ended.is_(False)
    )
    running = {row.session_id: row.proxy for row in connection.execute(wanted)}
    ended = select(_chains.session_id).where(_chains.session_id.in_(known), _chains.ended.is_(True))
    over = set(connection.execute(ended).scalars())
    return running | {process: mark.proxy for process, mark in known.items() if process not in over}


def _proxies(connection: Connection, known: dict[str, Mark], running: dict[str, str]) -> Iterator[ProxyState]:
    wanted = select(_chains.proxy, func.count()).where(_chains.begun_by != "").group_by(_chains.proxy)
    sessions = {row[0]: int(row[1]) for row in connection.execute(wanted)}
    for proxy in sorted({*sessions, *running.values(), *(mark.proxy for mark in known.values())}):
        alive = [process for process, name in running.items() if name == proxy]
        until: list[datetime.datetime | None]
        if alive:
            until = [known[process].complete_until if process in known else None for process in alive]
        else:
            until = [max((mark.at for mark in known.values() if mark.proxy == proxy), default=None)]
        least = None if None in until else min(each for each in until if each is not None)
        yield ProxyState(proxy, least, len(alive), sessions.get(proxy, 0))


def _unfinished(connection: Connection, proxies: dict[str, ProxyState], now: datetime.datetime) -> Iterator[str]:
    wanted = (
        select(tables.sessions, _chains.last_seq.label("stored"))
        .outerjoin(tables.chains, _chains.session_id == _sessions.id)
        .where(
            _sessions.state != "open",
            or_(
                and_(_chains.session_id.is_(None), or_(_sessions.kept_at > _sessions.opened_at, _decided)),
                _chains.ended.is_(False),
                _chains.last_seq < _sessions.last_seq,
            ),
        )
        .order_by(_sessions.closed_at)
        .limit(_MOST)
    )
    for row in connection.execute(wanted):
        proxy = row.proxy.rpartition("/")[2]
        state = proxies.get(proxy)
        complete = state.complete_until if state is not None else None
        if row.closed_at > (complete or now - SILENCE):
            continue
        if row.stored is None:
            yield f"session {row.id} of {proxy} has ended ({row.state}), and nothing of it is on record"
        elif row.last_seq is not None and row.stored < row.last_seq:
            yield f"session {row.id} of {proxy} has events up to number {row.last_seq}, and {row.stored} are here"
        else:
            yield f"session {row.id} of {proxy} has ended ({row.state}), and its record ends at number {row.stored}"


def _gaps(connection: Connection, known: dict[str, Mark], running: dict[str, str]) -> Iterator[str]:
    wanted = (
        select(_chains.begun_by, func.count(), func.max(_chains.begun_as))
        .where(_chains.begun_by != "")
        .group_by(_chains.begun_by)
    )
    counted = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(wanted)}
    for process in sorted({*counted, *known}):
        count, last = counted.get(process, (0, 0))
        if process not in running and process in known:
            # It has ended, so nothing more comes.
            last = max(last, known[process].sessions)
        if count < last:
            numbers = select(_chains.begun_as).where(_chains.begun_by == process)
            there = set(connection.execute(numbers).scalars())
            absent = [str(number) for number in range(1, last + 1) if number not in there]
            named = ", ".join(absent[:_MOST_NUMBERS]) + (", …" if len(absent) > _MOST_NUMBERS else "")
            yield f"of the {last} sessions that {process} began, these are not on record: {named}"


def _silent(known: dict[str, Mark], running: dict[str, str], now: datetime.datetime) -> Iterator[str]:
    for process in sorted(running):
        mark = known.get(process)
        if mark is None:
            yield f"{process} has begun, and has not said yet up to when its records are here"
        elif now - mark.at > SILENCE:
            yield f"{process} has not ended, and is not heard of since {mark.at.isoformat(timespec='seconds')}"


def _refused(known: dict[str, Mark]) -> Iterator[str]:
    for mark in known.values():
        if mark.refused:
            yield f"{mark.process} keeps {mark.refused} chains that were refused here"
