"""Decisions in the store, as far as they are kept. Functions of a connection; the caller has the transaction."""

from __future__ import annotations

import datetime
import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, delete, func, select

from pdp.decisions.decided import Decided
from pdp.store import tables

_decisions = tables.decisions.c
_inputs = tables.decision_inputs.c
_SALT: Final = 32


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision that is kept; `input` is None once it is erased."""

    id: str
    at: datetime.datetime
    session: str
    subject: str
    resource: str
    action: str
    verdict: str
    policies: Sequence[str]
    revision: str
    answer: Mapping[str, Any]
    evaluated: bool
    input: Mapping[str, Any] | None = None
    # Whether the input is the one that was decided on.
    intact: bool = True


def insert(connection: Connection, decided: Sequence[Decided]) -> None:
    """Stores decisions with their inputs; those that are there already, because nobody heard of it, stay."""
    wanted = select(_decisions.id).where(_decisions.id.in_([each.id for each in decided]))
    there = set(connection.execute(wanted).scalars())
    rows, inputs = [], []
    for each in decided:
        if each.id in there:
            continue
        content = orjson.dumps(each.input)
        salt = os.urandom(_SALT)
        reasons = [{"policy": policy, "code": code} for policy, code in each.reasons]
        answer = each.answer if each.answer is not None else {"verdict": each.verdict, "reasons": reasons}
        rows.append(
            {
                "id": each.id,
                "at": each.at,
                "session_id": each.session,
                "subject": _text(each.subject, 600),
                "resource": _text(each.resource, 255),
                "action": _text(each.action, 255),
                "verdict": each.verdict,
                "policies": "".join(f"|{policy}|" for policy in each.policies),
                "revision": each.revision,
                "answer": orjson.dumps(answer),
                "evaluated": each.answer is not None,
                "input_salt": salt,
                "input_digest": hashlib.sha256(salt + content).digest(),
            }
        )
        inputs.append({"decision_id": each.id, "at": each.at, "content": zlib.compress(content, 1)})
    if rows:
        connection.execute(tables.decisions.insert(), rows)
        connection.execute(tables.decision_inputs.insert(), inputs)


def _text(value: str, longest: int) -> str:
    """As much as the column holds; a server's text has no zero characters, and one must not cost a batch its place."""
    return value[:longest].replace("\0", "\ufffd")


def newest(
    connection: Connection, *, limit: int, session: str = "", verdict: str = "", policy: str = "", subject: str = ""
) -> list[StoredDecision]:
    """The newest that fit, newest first; `session` is the beginning of an id."""
    wanted = select(tables.decisions).order_by(_decisions.at.desc(), _decisions.id).limit(limit)
    if session:
        wanted = wanted.where(_decisions.session_id.startswith(session, autoescape=True))
    if verdict:
        wanted = wanted.where(_decisions.verdict == verdict)
    if policy:
        wanted = wanted.where(_decisions.policies.contains(f"|{policy}|", autoescape=True))
    if subject:
        wanted = wanted.where(_decisions.subject == subject)
    return [_read(row) for row in connection.execute(wanted)]


def find(connection: Connection, prefix: str) -> list[StoredDecision]:
    """Those whose id begins so, two at most, with their inputs."""
    wanted = (
        select(tables.decisions, _inputs.content)
        .outerjoin(tables.decision_inputs, _inputs.decision_id == _decisions.id)
        .where(_decisions.id.startswith(prefix, autoescape=True))
        .limit(2)
    )
    return [_read(row, row.content) for row in connection.execute(wanted)]


def forget(
    connection: Connection, *, decisions_before: datetime.datetime, inputs_before: datetime.datetime, most: int
) -> int:
    """Erases what is kept no longer; how many decisions went."""
    connection.execute(delete(tables.decision_inputs).where(_inputs.at < inputs_before))
    # Those beyond the most that are kept: everything up to the newest of the surplus.
    beyond = select(_decisions.at).order_by(_decisions.at.desc()).offset(most).limit(1)
    surplus = connection.execute(beyond).scalar_one_or_none()
    before = (
        decisions_before if surplus is None else max(decisions_before, surplus + datetime.timedelta(microseconds=1))
    )
    connection.execute(delete(tables.decision_inputs).where(_inputs.at < before))
    return connection.execute(delete(tables.decisions).where(_decisions.at < before)).rowcount


def count(connection: Connection) -> int:
    """How many are kept."""
    return connection.execute(select(func.count()).select_from(tables.decisions)).scalar_one()


def _read(row: Any, content: bytes | None = None) -> StoredDecision:
    document = None if content is None else zlib.decompress(content)
    return StoredDecision(
        id=row.id,
        at=row.at,
        session=row.session_id,
        subject=row.subject,
        resource=row.resource,
        action=row.action,
        verdict=row.verdict,
        policies=[each for each in row.policies.split("|") if each],
        revision=row.revision,
        answer=orjson.loads(row.answer),
        evaluated=row.evaluated,
        input=None if document is None else orjson.loads(document),
        intact=document is None or hashlib.sha256(row.input_salt + document).digest() == row.input_digest,
    )
