"""Approvals in the store. Functions of a connection; the caller has the transaction, which is exclusive.

Every change of state names the state from which it starts, so that of two changes at once only one takes place.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from pdp.identity.subject import Subject, restored
from pdp.store import tables

_t = tables.approvals.c
# A statement has only so many parameters.
_SOME: Final = 500


class ApprovalState(enum.StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REDEEMED = "redeemed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Assent:
    """One person's yes. `counts_for` are positions of requirements; `names` is every name of the person."""

    person: str
    names: tuple[str, ...]
    subject_id: str
    groups: tuple[str, ...]
    at: datetime.datetime
    counts_for: tuple[int, ...]
    max_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to people about one action. `requirements` are the policy's own documents, unchanged."""

    id: str
    idempotency_key: str
    session_id: str
    decision_id: str
    resource: str
    subject: Subject
    holder: str
    root: str
    action: bytes
    action_digest: bytes
    requirements: tuple[Mapping[str, Any], ...]
    state: ApprovalState
    in_transaction: bool
    created_at: datetime.datetime
    expires_at: datetime.datetime
    uses_left: int
    detached: bool = False
    fold: str = ""
    grant_expires_at: datetime.datetime | None = None
    comment: str = ""
    # What the target's planner expects: {"rows": n} or {"unavailable": why}. For people's eyes alone.
    estimate: Mapping[str, Any] | None = None
    # The most rows that it may change: the policies' limit when it was asked, or the least that somebody agreed to.
    max_rows: int | None = None
    assents: tuple[Assent, ...] = ()


def insert(connection: Connection, approval: Approval) -> None:
    values = {field.name: getattr(approval, field.name) for field in dataclasses.fields(approval)}
    del values["assents"]
    values |= {
        "subject": approval.subject.stored(),
        "requirements": [dict(each) for each in approval.requirements],
        "state": approval.state.value,
    }
    connection.execute(tables.approvals.insert().values(values))


def find(connection: Connection, id: str, *, lock: bool = False) -> Approval | None:
    """The approval; with `lock` nobody else changes it before the transaction ends."""
    wanted = select(tables.approvals).where(_t.id == id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    return None if row is None else _approval(connection, row)


def find_by_prefix(connection: Connection, prefix: str) -> list[Approval]:
    """At most two: a prefix that fits more than one names none."""
    wanted = select(tables.approvals).where(_t.id.startswith(prefix, autoescape=True)).limit(2)
    return [_approval(connection, row) for row in connection.execute(wanted).all()]


def find_by_key(connection: Connection, session_id: str, idempotency_key: str) -> Approval | None:
    wanted = select(tables.approvals).where(_t.session_id == session_id, _t.idempotency_key == idempotency_key)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else _approval(connection, row)


def find_window(connection: Connection, holder: str, digest: bytes, now: datetime.datetime) -> Approval | None:
    """A grant of several uses that the holder has for exactly this action."""
    wanted = select(tables.approvals).where(
        _t.holder == holder,
        _t.action_digest == digest,
        _t.state == ApprovalState.APPROVED.value,
        _t.uses_left > 0,
        _t.grant_expires_at > now,
    )
    for row in connection.execute(wanted).all():
        approval = _approval(connection, row)
        if is_window(approval):
            return approval
    return None


def find_detached(connection: Connection, holder: str, digest: bytes, now: datetime.datetime) -> Approval | None:
    """What the holder was told to come back for, about exactly this action, if it still can be used."""
    wanted = select(tables.approvals).where(
        _t.holder == holder,
        _t.action_digest == digest,
        _t.detached,
        ((_t.state == ApprovalState.PENDING.value) & (_t.expires_at > now))
        | ((_t.state == ApprovalState.APPROVED.value) & (_t.uses_left > 0) & (_t.grant_expires_at > now)),
    )
    row = connection.execute(wanted.order_by(_t.created_at.desc()).limit(1)).one_or_none()
    return None if row is None else _approval(connection, row)


def pending_alike(connection: Connection, fold: str) -> list[str]:
    """Ids of what is pending and alike, oldest first."""
    wanted = select(_t.id).where(_t.fold == fold, _t.state == ApprovalState.PENDING.value)
    return [str(each) for each in connection.execute(wanted.order_by(_t.created_at, _t.id)).scalars()]


def is_window(approval: Approval) -> bool:
    """Whether every requirement grants more than one use."""
    return all(int(each["grant"]["uses"]) > 1 for each in approval.requirements)


def newest(connection: Connection, states: Sequence[ApprovalState], limit: int = 200) -> list[Approval]:
    wanted = select(tables.approvals).where(_t.state.in_([each.value for each in states]))
    rows = connection.execute(wanted.order_by(_t.created_at.desc(), _t.id).limit(limit)).all()
    return [_approval(connection, row) for row in rows]


def count_pending(connection: Connection, root: str | None = None) -> int:
    wanted = select(func.count()).select_from(tables.approvals).where(_t.state == ApprovalState.PENDING.value)
    if root is not None:
        wanted = wanted.where(_t.root == root)
    return int(connection.execute(wanted).scalar_one())


def change(
    connection: Connection, id: str, start: Sequence[ApprovalState], end: ApprovalState, **values: object
) -> bool:
    """Changes the state if it is one of `start`; False if it is not."""
    changed = connection.execute(
        tables.approvals.update()
        .where(_t.id == id, _t.state.in_([each.value for each in start]))
        .values(state=end.value, **values)
    )
    return changed.rowcount == 1


def add_assent(connection: Connection, approval_id: str, assent: Assent) -> None:
    values = {
        "person": assent.person,
        "names": list(assent.names),
        "subject_id": assent.subject_id,
        "groups": list(assent.groups),
        "at": assent.at,
        "counts_for": list(assent.counts_for),
        "max_rows": assent.max_rows,
    }
    connection.execute(tables.assents.insert().values(approval_id=approval_id, **values))


def narrow(connection: Connection, id: str, max_rows: int) -> None:
    """It may change so many rows at most, from now on."""
    connection.execute(tables.approvals.update().where(_t.id == id).values(max_rows=max_rows))


def expire(connection: Connection, now: datetime.datetime) -> list[tuple[str, ApprovalState]]:
    """Ends every question nobody answered in time, and every yes nobody used in time; each with what it was."""
    ended = []
    late = {
        ApprovalState.PENDING: _t.expires_at <= now,
        ApprovalState.APPROVED: _t.grant_expires_at <= now,
    }
    for state, over in late.items():
        wanted = select(_t.id).where(_t.state == state.value, over).order_by(_t.id)
        found = [str(each) for each in connection.execute(wanted).scalars()]
        # Named again for each: another replica may have ended it, or a person answered, since it was read.
        ended += [(each, state) for each in found if change(connection, each, [state], ApprovalState.EXPIRED)]
    return ended


def answered(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those among the approvals that are not pending any more."""
    found: list[str] = []
    for start in range(0, len(ids), _SOME):
        some = _t.id.in_(ids[start : start + _SOME])
        found += connection.execute(select(_t.id).where(some, _t.state != ApprovalState.PENDING.value)).scalars()
    return found


def held_by_session(connection: Connection, session_id: str) -> list[Approval]:
    """What a session waits for or may still use."""
    states = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
    wanted = select(tables.approvals).where(_t.session_id == session_id, _t.state.in_(states))
    return [_approval(connection, row) for row in connection.execute(wanted).all()]


def usable(connection: Connection) -> list[tuple[str, Subject]]:
    """Whatever waits or may still be used, and for whom."""
    states = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
    wanted = select(_t.id, _t.subject).where(_t.state.in_(states)).order_by(_t.created_at, _t.id)
    return [(row.id, restored(row.subject)) for row in connection.execute(wanted)]


def redemption(connection: Connection, approval_id: str, execution_id: str) -> bytes | None:
    """The decision that an execution was given, or None."""
    column = tables.redemptions.c
    wanted = select(column.decision).where(column.approval_id == approval_id, column.execution_id == execution_id)
    return connection.execute(wanted).scalar_one_or_none()


def redeem(
    connection: Connection, approval_id: str, execution_id: str, decision: bytes, now: datetime.datetime
) -> bytes | None:
    """Takes one use and keeps the answer, both or neither; None if there is no use to take.

    An execution that was given an answer before gets that one, and takes nothing.
    """
    if (given := redemption(connection, approval_id, execution_id)) is not None:
        return given
    taken = connection.execute(
        tables.approvals.update()
        .where(
            _t.id == approval_id,
            _t.state == ApprovalState.APPROVED.value,
            _t.uses_left > 0,
            _t.grant_expires_at > now,
        )
        .values(uses_left=_t.uses_left - 1)
    )
    if taken.rowcount != 1:
        return None
    connection.execute(
        tables.approvals.update()
        .where(_t.id == approval_id, _t.uses_left == 0)
        .values(state=ApprovalState.REDEEMED.value)
    )
    connection.execute(
        tables.redemptions.insert().values(
            approval_id=approval_id, execution_id=execution_id, decision=decision, at=now
        )
    )
    return decision


def _approval(connection: Connection, row: Row[Any]) -> Approval:
    wanted = select(tables.assents).where(tables.assents.c.approval_id == row.id).order_by(tables.assents.c.at)
    assents = tuple(
        Assent(
            each.person,
            tuple(each.names),
            each.subject_id,
            tuple(each.groups),
            each.at,
            tuple(each.counts_for),
            each.max_rows,
        )
        for each in connection.execute(wanted)
    )
    return Approval(
        id=row.id,
        idempotency_key=row.idempotency_key,
        session_id=row.session_id,
        decision_id=row.decision_id,
        resource=row.resource,
        subject=restored(row.subject),
        holder=row.holder,
        root=row.root,
        action=row.action,
        action_digest=row.action_digest,
        requirements=tuple(row.requirements),
        state=ApprovalState(row.state),
        in_transaction=row.in_transaction,
        created_at=row.created_at,
        expires_at=row.expires_at,
        uses_left=row.uses_left,
        detached=row.detached,
        fold=row.fold,
        grant_expires_at=row.grant_expires_at,
        comment=row.comment,
        estimate=row.estimate,
        max_rows=row.max_rows,
        assents=assents,
    )
