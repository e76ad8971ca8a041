"""The parts that the decision service is put together from, opened in the order in which they need one another.

A part is what lasts as long as the service: what it knows, keeps and counts. Here they get their settings and one
another; what they do by themselves begins in `rounds`, and what is asked of them comes by the services in `served`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pdp.approvals.approvals import Approvals
from pdp.approvals.events import Events
from pdp.approvals.notifications import Notifications
from pdp.audit.anchors import Anchors
from pdp.audit.notary import Notary
from pdp.audit.retention import Retention
from pdp.audit.service_chain import ServiceChain
from pdp.certificates import ServerCertificate
from pdp.config import Config, Service
from pdp.decisions.decided import Decided
from pdp.decisions.log import DecisionLog
from pdp.identity.tokens import Clock
from pdp.meters import Meters
from pdp.opa.engine import PolicyEngine
from pdp.service.decider import Decider
from pdp.service.doors import Cutter, Doors
from pdp.service.operated import Operated
from pdp.service.policy_history import PolicyHistory
from pdp.service.session_tokens import PURPOSE, SessionTokens
from pdp.service.sessions import LiveSession, Sessions
from pdp.service.watch import Watchers
from pdp.store.database import Database
from pdp.store.keys import signing_keys
from pdp.store.sessions import SessionState
from pdp.v1.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of, once it is open."""

    database: Database
    sessions: Sessions
    approvals: Approvals
    watchers: Watchers
    decider: Decider
    engine: PolicyEngine
    chain: ServiceChain
    decisions: DecisionLog
    notary: Notary
    retention: Retention
    anchors: Anchors
    tokens: SessionTokens
    doors: Doors
    cutter: Cutter
    meters: Meters
    operated: Operated
    notifications: Notifications
    history: PolicyHistory


async def open_parts(
    config: Config,
    engine: PolicyEngine,
    database: Database,
    now: Clock,
    meters: Meters,
    tracer: Tracer,
    shown: ServerCertificate,
) -> Parts:
    """All of them, of a store that is open. Nobody calls yet, and nothing is done in the background yet."""
    settings = config.pdp
    tokens = await _tokens(settings, database, now)
    chain = ServiceChain(database, now)
    await chain.begin()
    notary = await _notary(config, database, now)
    sessions = Sessions(database, tokens, settings.limits, now)
    notifications = Notifications(settings.approvals, now, engine.owners)
    approvals = _approvals(settings, database, now, chain, notifications)
    watchers = Watchers(now)
    sessions.on_end(_told_of_ends(watchers, approvals))
    await sessions.load()
    doors = Doors(database, now)
    cutter = Cutter(database, doors, sessions, approvals)
    # Before anybody can call: what was revoked while this service was away is in force from the first login on.
    await cutter.look()
    decisions = DecisionLog(settings.records, engine, database, now)
    operated = Operated(
        meters,
        engine=engine,
        database=database,
        sessions=sessions,
        approvals=approvals,
        watchers=watchers,
        certificate=shown,
    )
    return Parts(
        database=database,
        sessions=sessions,
        approvals=approvals,
        watchers=watchers,
        decider=Decider(engine, settings, now, _told_of_decisions(meters, decisions), tracer),
        engine=engine,
        chain=chain,
        decisions=decisions,
        notary=notary,
        retention=_retention(settings, database, chain, notary, now),
        anchors=Anchors(database, settings.records.anchors),
        tokens=tokens,
        doors=doors,
        cutter=cutter,
        meters=meters,
        operated=operated,
        notifications=notifications,
        history=PolicyHistory(engine, database, chain, now),
    )


async def _tokens(settings: Service, database: Database, now: Clock) -> SessionTokens:
    keys = await database.short.run(lambda connection: signing_keys(connection, PURPOSE, now()))
    return SessionTokens(keys, settings.session_tokens.ttl, now)


async def _notary(config: Config, database: Database, now: Clock) -> Notary:
    checkpoints = config.pdp.records.checkpoints
    # Several replicas need one key between them.
    place = checkpoints.key or (None if database.shared else config.state)
    return await Notary.open(database, now, every=checkpoints.every, events=checkpoints.events, place=place)


def _approvals(
    settings: Service, database: Database, now: Clock, chain: ServiceChain, notifications: Notifications
) -> Approvals:
    return Approvals(
        database,
        now,
        events=Events(chain),
        notify=notifications.add,
        same=settings.identity.people.same if settings.identity.people else None,
        max_sign_in_age=settings.approvals.max_sign_in_age,
        pending_per_subject=settings.limits.pending_approvals_per_subject,
    )


def _retention(settings: Service, database: Database, chain: ServiceChain, notary: Notary, now: Clock) -> Retention:
    retain = settings.records.retain
    return Retention(
        database,
        chain,
        notary,
        now,
        bodies=retain.bodies,
        index=retain.index,
        approvals=retain.approvals,
        notifications=retain.notifications,
    )


def _told_of_ends(watchers: Watchers, approvals: Approvals) -> Callable[[LiveSession], Awaitable[None]]:
    """What follows from a session's end: its proxy hears of it, and what it asked people for is over."""

    async def ended(session: LiveSession) -> None:
        if session.state is not SessionState.CLOSED:
            watchers.session_ended(session.stored.proxy, session.id, session.ended_because)
        await approvals.session_ended(session.id, killed=session.state is SessionState.KILLED)

    return ended


def _told_of_decisions(meters: Meters, decisions: DecisionLog) -> Callable[[Decided], None]:
    def told(decided: Decided) -> None:
        meters.decided(decided)
        decisions.add(decided)

    return told
