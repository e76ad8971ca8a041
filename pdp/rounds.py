"""What the service does by itself while it runs, again and again: each task, how often, and why so often.

A part says what is done in a round (`sweep`, `look`, `forget`); here is only when. Whether the service may answer at
all is not found out here: see `served.report_health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from pdp.certificates import certificate_of
from pdp.config import Config
from pdp.identity.tokens import Clock
from pdp.opa.engine import PolicyEngine
from pdp.parts import Parts
from pdp.service.doors import LOOK
from pdp.service.session_tokens import PURPOSE, SessionTokens
from pdp.service.sessions import every
from pdp.service.watch import Watchers
from pdp.store.database import Database
from pdp.store.keys import rotate

log = structlog.get_logger("pdp")

_SWEEP: Final = 1.0
_RENEW: Final = 3600.0
_PROBE: Final = 1.0
_FORGET: Final = 60.0
# A session that is killed at another replica is to be cut within a second.
_LOOK: Final = 0.3
# Oftener than `keys.AHEAD`: a replica knows a new key before it signs.
_ROTATE: Final = 10.0


def begin_rounds(background: asyncio.TaskGroup, config: Config, parts: Parts, now: Clock) -> list[asyncio.Task[None]]:
    """Begins all of it. The tasks run until they are cancelled."""
    database, anchoring = parts.database, config.pdp.records.checkpoints.every.total_seconds()
    work = (
        every(_SWEEP, parts.sessions.sweep),
        every(_SWEEP, parts.approvals.expire),
        every(_SWEEP, parts.notary.round),
        *(every(anchoring, each) for each in parts.anchors.rounds),
        every(_RENEW, partial(_renew, config)),
        every(LOOK, parts.cutter.look),
        every(_FORGET, parts.doors.forget),
        every(_ROTATE, partial(_rotate, config, database, parts.tokens, now)),
        every(_ROTATE, parts.notary.keys.follow),
        parts.notifications.run(database),
        _announce(parts.engine, parts.watchers),
        every(_PROBE, database.probe),
        *(every(_LOOK, each) for each in _looking(parts)),
        parts.decisions.run(),
        every(_FORGET, parts.decisions.forget),
        every(_FORGET, parts.retention.round),
        parts.history.run(),
        every(_FORGET, parts.history.forget),
    )
    return [background.create_task(each) for each in work]


def _looking(parts: Parts) -> tuple[Callable[[], Awaitable[None]], ...]:
    """Looks for what other replicas have changed; a store that is a file has none."""
    return (parts.sessions.look, parts.approvals.look, parts.history.follow) if parts.database.shared else ()


async def _renew(config: Config) -> None:
    """Renews certificates of the local authority that near their end; the listener reads them again by itself."""
    await asyncio.to_thread(certificate_of, config)


async def _rotate(config: Config, database: Database, tokens: SessionTokens, now: Clock) -> None:
    """A new key for the tokens of sessions where one is due, and what other replicas have made."""
    after = config.pdp.session_tokens.rotate
    tokens.use(
        await database.short.run(
            lambda connection: rotate(connection, PURPOSE, now(), after=after, keep=tokens.longest)
        )
    )


async def _announce(engine: PolicyEngine, watchers: Watchers) -> None:
    """Tells proxies of each new revision. The first is the one that a snapshot names already."""
    told = engine.revision
    async for revision in engine.revisions():
        if revision != told:
            told = revision
            log.info("policies in force", revision=revision)
            watchers.revision(revision)
