"""Sessions in the store. Functions of a connection; the caller has the transaction."""

from __future__ import annotations

import datetime
import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from pdp.identity.subject import Subject, restored, same_person
from pdp.store import tables

_t = tables.sessions.c
# A statement has only so many parameters.
_SOME: Final = 500


class SessionState(enum.StrEnum):
    """Where a session stands."""

    OPEN = "open"
    CLOSED = "closed"
    KILLED = "killed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session. `proxy` is the URI of the certificate that opened it."""

    id: str
    proxy: str
    resource: str
    protocol: str
    client_address: str
    labels: Mapping[str, str]
    supported: Sequence[str]
    subject: Subject
    credential_expires_at: datetime.datetime | None
    opened_at: datetime.datetime
    state: SessionState = SessionState.OPEN
    closed_at: datetime.datetime | None = None
    close_reason: str = ""
    last_seq: int | None = None
    verdicts: Mapping[str, int] | None = None
    # The decision that let it open, and the policies that decided.
    decision_id: str = ""
    policy_revision: str = ""
    credential: str = ""

    @property
    def run(self) -> str:
        """The run of the workflow, or nothing."""
        return str(self.subject.workflow.get("run", ""))


def insert(connection: Connection, session: StoredSession) -> None:
    connection.execute(
        tables.sessions.insert().values(
            id=session.id,
            proxy=session.proxy,
            resource=session.resource,
            protocol=session.protocol,
            client_address=session.client_address,
            labels=dict(session.labels),
            supported=list(session.supported),
            subject=session.subject.stored(),
            run=session.run,
            credential_expires_at=session.credential_expires_at,
            root=same_person(session.subject.root.id),
            opened_at=session.opened_at,
            kept_at=session.opened_at,
            state=session.state.value,
            close_reason="",
            verdicts={},
            decision_id=session.decision_id,
            policy_revision=session.policy_revision,
            credential=session.credential,
        )
    )


def find(connection: Connection, id: str) -> StoredSession | None:
    row = connection.execute(select(tables.sessions).where(_t.id == id)).one_or_none()
    return None if row is None else _session(row)


def find_by_prefix(connection: Connection, prefix: str) -> list[StoredSession]:
    """At most two: a prefix that fits more than one names none."""
    wanted = select(tables.sessions).where(_t.id.startswith(prefix, autoescape=True)).limit(2)
    return [_session(row) for row in connection.execute(wanted)]


def newest(connection: Connection, *, limit: int, open_only: bool, run: str) -> list[StoredSession]:
    wanted = select(tables.sessions).order_by(_t.opened_at.desc(), _t.id).limit(limit)
    if open_only:
        wanted = wanted.where(_t.state == SessionState.OPEN.value)
    if run:
        wanted = wanted.where(_t.run == run)
    return [_session(row) for row in connection.execute(wanted)]


def opened_between(
    connection: Connection, since: datetime.datetime, until: datetime.datetime, after: str, limit: int
) -> list[StoredSession]:
    """Sessions that were opened in the time, in the order of their ids, behind that one."""
    wanted = select(tables.sessions).where(_t.opened_at >= since, _t.opened_at < until, _t.id > after)
    return [_session(row) for row in connection.execute(wanted.order_by(_t.id).limit(limit))]


def of_run(connection: Connection, run: str, limit: int) -> list[StoredSession]:
    """The sessions of a run in the order in which they were opened."""
    wanted = select(tables.sessions).where(_t.run == run).order_by(_t.opened_at, _t.id).limit(limit)
    return [_session(row) for row in connection.execute(wanted)]


def latest_runs(connection: Connection, limit: int) -> list[str]:
    """Names of runs, that with the latest session first."""
    latest = func.max(_t.opened_at)
    wanted = select(_t.run).where(_t.run != "").group_by(_t.run).order_by(latest.desc(), _t.run).limit(limit)
    return list(connection.execute(wanted).scalars())


def open_sessions(connection: Connection) -> list[StoredSession]:
    wanted = select(tables.sessions).where(_t.state == SessionState.OPEN.value)
    return [_session(row) for row in connection.execute(wanted)]


def open_ids(connection: Connection) -> set[str]:
    return set(connection.execute(select(_t.id).where(_t.state == SessionState.OPEN.value)).scalars())


def find_all(connection: Connection, ids: Sequence[str]) -> list[StoredSession]:
    found: list[StoredSession] = []
    for start in range(0, len(ids), _SOME):
        wanted = select(tables.sessions).where(_t.id.in_(ids[start : start + _SOME]))
        found += [_session(row) for row in connection.execute(wanted)]
    return found


def count_open(connection: Connection, root: str | None = None) -> int:
    """How many are open, of all or of one person or workload (as `same_person` gives it)."""
    wanted = select(func.count()).select_from(tables.sessions).where(_t.state == SessionState.OPEN.value)
    if root is not None:
        wanted = wanted.where(_t.root == root)
    return int(connection.execute(wanted).scalar_one())


def keep(connection: Connection, ids: Sequence[str], proxy: str, now: datetime.datetime) -> set[str]:
    """Notes that the proxy's sessions live; those among them that are open and its own."""
    kept: set[str] = set()
    for start in range(0, len(ids), _SOME):
        of_proxy = (_t.id.in_(ids[start : start + _SOME]), _t.proxy == proxy, _t.state == SessionState.OPEN.value)
        connection.execute(tables.sessions.update().where(*of_proxy).values(kept_at=now))
        kept.update(connection.execute(select(_t.id).where(*of_proxy)).scalars())
    return kept


def lose(connection: Connection, before: datetime.datetime, reason: str, now: datetime.datetime) -> list[StoredSession]:
    """Ends as lost every open session that no proxy has kept since; those that this ended."""
    late = (_t.state == SessionState.OPEN.value, _t.kept_at <= before)
    lost = [_session(row) for row in connection.execute(select(tables.sessions).where(*late))]
    if lost:
        ended = {"state": SessionState.LOST.value, "close_reason": reason, "closed_at": now}
        connection.execute(tables.sessions.update().where(*late).values(ended))
    return lost


def ended_after(connection: Connection, since: datetime.datetime) -> list[StoredSession]:
    wanted = select(tables.sessions).where(_t.state != SessionState.OPEN.value, _t.closed_at >= since)
    return [_session(row) for row in connection.execute(wanted)]


def ended_since(connection: Connection, proxy: str, since: datetime.datetime) -> list[StoredSession]:
    """Sessions of the proxy that were ended from this side."""
    states = [SessionState.KILLED.value, SessionState.LOST.value]
    wanted = select(tables.sessions).where(_t.proxy == proxy, _t.state.in_(states), _t.closed_at >= since)
    return [_session(row) for row in connection.execute(wanted)]


def end(
    connection: Connection,
    id: str,
    state: SessionState,
    reason: str,
    at: datetime.datetime,
    last_seq: int | None = None,
) -> bool:
    """Ends an open session; False if it was not open."""
    ended = connection.execute(
        tables.sessions.update()
        .where(_t.id == id, _t.state == SessionState.OPEN.value)
        .values(state=state.value, close_reason=reason, closed_at=at, last_seq=last_seq)
    )
    return ended.rowcount == 1


def add_verdicts(connection: Connection, verdicts: Mapping[str, Mapping[str, int]]) -> None:
    """Adds to what is counted already: each replica counts what it has decided."""
    for session, counts in verdicts.items():
        kept = connection.execute(select(_t.verdicts).where(_t.id == session)).scalar_one_or_none()
        if kept is not None:
            total = dict(Counter(kept) + Counter(counts))
            connection.execute(tables.sessions.update().where(_t.id == session).values(verdicts=total))


def event_counts(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """How many events each session's record has."""
    column = tables.records.c.session_id
    wanted = select(column, func.count()).where(column.in_(ids)).group_by(column)
    return {row[0]: row[1] for row in connection.execute(wanted)}


def _session(row: Row[Any]) -> StoredSession:
    return StoredSession(
        id=row.id,
        proxy=row.proxy,
        resource=row.resource,
        protocol=row.protocol,
        client_address=row.client_address,
        labels=row.labels,
        supported=tuple(row.supported),
        subject=restored(row.subject),
        credential_expires_at=row.credential_expires_at,
        opened_at=row.opened_at,
        state=SessionState(row.state),
        closed_at=row.closed_at,
        close_reason=row.close_reason,
        last_seq=row.last_seq,
        verdicts=row.verdicts,
        decision_id=row.decision_id,
        policy_revision=row.policy_revision,
        credential=row.credential,
    )
