"""What was decided lately for one run of a workflow, over all its sessions. Functions of a connection."""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select

from pdp.store import tables

_decisions = tables.decisions.c
_inputs = tables.decision_inputs.c
_sessions = tables.sessions.c


@dataclass(frozen=True, slots=True)
class RunDecision:
    """`action` is its part of the input document; None once that is erased."""

    id: str
    at: datetime.datetime
    resource: str
    name: str
    verdict: str
    action: Mapping[str, Any] | None


def latest(connection: Connection, *, run: str, session: str, limit: int) -> list[RunDecision]:
    """The newest of the run, or of the one session where there is no run; newest first. Not of sessions' opening."""
    wanted = (
        select(
            _decisions.id, _decisions.at, _decisions.resource, _decisions.action, _decisions.verdict, _inputs.content
        )
        .outerjoin(tables.decision_inputs, _inputs.decision_id == _decisions.id)
        .where(_decisions.action != "connect")
        .order_by(_decisions.at.desc(), _decisions.id)
        .limit(limit)
    )
    if run:
        of_run = select(_sessions.id).where(_sessions.run == run)
        wanted = wanted.where(_decisions.session_id.in_(of_run))
    else:
        wanted = wanted.where(_decisions.session_id == session)
    return [
        RunDecision(row.id, row.at, row.resource, row.action, row.verdict, _action(row.content))
        for row in connection.execute(wanted)
    ]


def _action(content: bytes | None) -> Mapping[str, Any] | None:
    if content is None:
        return None
    action = orjson.loads(zlib.decompress(content)).get("action")
    return action if isinstance(action, dict) else None
