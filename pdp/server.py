"""The decision service as a process: what it is put together from, how it starts, and how it ends.

`serve` is what `pdp serve` runs. `running` is the same without signals and the file that says it is ready. It answers
`grpc.health.v1` with SERVING while OPA answers with a loaded policy and the store answers; while they do not, actions
are denied.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pdp.approvals.approvals import Approvals
from pdp.approvals.events import Events
from pdp.approvals.notifications import Notifications
from pdp.audit.anchors import Anchors
from pdp.audit.notary import Notary
from pdp.audit.retention import Retention
from pdp.audit.service_chain import STOPPED, ServiceChain
from pdp.audit.trust import Authorities
from pdp.certificates import Authority, Certificate, ServerCertificate, private_folder
from pdp.config import Config
from pdp.decisions.decided import Decided
from pdp.decisions.explain import Explainer
from pdp.decisions.log import DecisionLog
from pdp.identity.authenticator import Authenticator
from pdp.identity.tokens import Clock, now_utc, open_issuer
from pdp.meters import Meters
from pdp.opa.engine import PolicyEngine
from pdp.opa.program import find_opa
from pdp.service.admin_service import AdminService
from pdp.service.approval_admin_service import ApprovalAdminService
from pdp.service.approval_service import ApprovalService
from pdp.service.archive_service import ArchiveService
from pdp.service.audit_service import AuditService
from pdp.service.decider import Decider, targets
from pdp.service.decision_service import DecisionService
from pdp.service.disclosure_service import DisclosureService
from pdp.service.doors import LOOK, Cutter, Doors
from pdp.service.observed import Observed
from pdp.service.operated import Operated
from pdp.service.peers import Peers
from pdp.service.people import People
from pdp.service.policy_history import PolicyHistory, restore
from pdp.service.policy_service import PolicyService
from pdp.service.rates import Rates
from pdp.service.records_service import RecordsService
from pdp.service.refusal import Refusals
from pdp.service.revocation_service import RevocationService
from pdp.service.session_tokens import PURPOSE, SessionTokens
from pdp.service.sessions import LiveSession, Sessions, every
from pdp.service.watch import Watchers
from pdp.store.database import Database, StoreUnavailable
from pdp.store.keys import rotate, signing_keys
from pdp.store.sessions import SessionState
from pdp.v1 import (
    admin_service_pb2_grpc,
    approval_admin_service_pb2_grpc,
    approval_service_pb2_grpc,
    archive_service_pb2_grpc,
    audit_service_pb2_grpc,
    decision_service_pb2_grpc,
    disclosure_service_pb2_grpc,
    policy_service_pb2_grpc,
    records_service_pb2_grpc,
    revocation_service_pb2_grpc,
)
from pdp.v1.strict_yaml import ConfigError, UnixAddress
from pdp.v1.tracing import Tracer, open_tracer

log = structlog.get_logger("pdp")

SERVICES: Final = (
    "",
    "pdp.v1.DecisionService",
    "pdp.v1.ApprovalService",
    "pdp.v1.AuditService",
    "pdp.v1.AdminService",
    "pdp.v1.RevocationService",
    "pdp.v1.ApprovalAdminService",
    "pdp.v1.PolicyService",
    "pdp.v1.RecordsService",
    "pdp.v1.ArchiveService",
    "pdp.v1.DisclosureService",
)
_GRACE: Final = 1.0
_SWEEP: Final = 1.0
_RENEW: Final = 3600.0
_HEALTH: Final = 0.25
_PROBE: Final = 1.0
_FORGET: Final = 60.0
# A session that is killed at another replica is to be cut within a second.
_LOOK: Final = 0.3
# Oftener than `keys.AHEAD`: a replica knows a new key before it signs.
_ROTATE: Final = 10.0
# A body of a record, with room for what is around it; what other calls carry is bounded where they are handled.
_LARGEST_MESSAGE: Final = 65 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Proxies ping every 5 seconds, with or without a call; the default takes that for abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    # Two services on one port would share the proxies between them.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a service that runs."""

    address: str
    engine: PolicyEngine
    sessions: Sessions
    approvals: Approvals
    watchers: Watchers
    database: Database
    chain: ServiceChain
    decisions: DecisionLog
    notary: Notary
    retention: Retention


@asynccontextmanager
async def running(config: Config, engine: PolicyEngine, now: Clock = now_utc) -> AsyncIterator[Running]:
    """The service, listening. Ends calls, background work, OPA and the store in this order."""
    certificate = certificate_of(config)
    shown = _shown(certificate)
    with only_one(config.state):
        database = await asyncio.to_thread(Database, config.store_url)
        async with database, _policies(engine, database):
            meters, tracer = Meters(version("checkrein")), open_tracer(config.telemetry.traces, "checkrein-pdp")
            parts = await _parts(config, engine, database, now, meters, tracer, shown)
            server = grpc.aio.server(interceptors=[Observed(meters, tracer), Refusals()], options=_OPTIONS)
            checks = health.aio.HealthServicer()
            _add(server, config, certificate, parts, now, checks)
            address = _listen(server, config, shown)
            anchoring = config.pdp.records.checkpoints.every.total_seconds()
            async with asyncio.TaskGroup() as background:
                tasks = [
                    background.create_task(every(_SWEEP, parts.sessions.sweep)),
                    background.create_task(every(_SWEEP, parts.approvals.expire)),
                    background.create_task(every(_SWEEP, parts.notary.round)),
                    *(background.create_task(every(anchoring, each)) for each in parts.anchors.rounds),
                    background.create_task(every(_RENEW, partial(_renew, config))),
                    background.create_task(every(LOOK, parts.cutter.look)),
                    background.create_task(every(_FORGET, parts.doors.forget)),
                    background.create_task(every(_ROTATE, partial(_rotate, config, database, parts.tokens, now))),
                    background.create_task(every(_ROTATE, parts.notary.keys.follow)),
                    background.create_task(parts.notifications.run(database)),
                    background.create_task(_announce(engine, parts.watchers)),
                    background.create_task(every(_PROBE, database.probe)),
                    *_looking(background, database, parts),
                    background.create_task(_report_health(engine, database, checks)),
                    background.create_task(parts.decisions.run()),
                    background.create_task(every(_FORGET, parts.decisions.forget)),
                    background.create_task(every(_FORGET, parts.retention.round)),
                    background.create_task(parts.history.run()),
                    background.create_task(every(_FORGET, parts.history.forget)),
                ]
                await server.start()
                if isinstance(config.listen, UnixAddress):
                    config.listen.path.chmod(0o600)
                try:
                    async with parts.operated.answering(config.pdp.admin):
                        yield Running(
                            address,
                            engine,
                            parts.sessions,
                            parts.approvals,
                            parts.watchers,
                            database,
                            parts.chain,
                            parts.decisions,
                            parts.notary,
                            parts.retention,
                        )
                finally:
                    await checks.enter_graceful_shutdown()
                    await server.stop(_GRACE)
                    await parts.decisions.close()
                    for task in tasks:
                        task.cancel()
                    await parts.chain.append(STOPPED, {})
                    await parts.notary.round()
                    await asyncio.to_thread(tracer.close)


@asynccontextmanager
async def _policies(engine: PolicyEngine, database: Database) -> AsyncIterator[None]:
    """The engine, which begins with what the store says that people went back to."""
    await restore(engine, database)
    async with engine:
        yield


def policy_engine(config: Config) -> PolicyEngine:
    """The engine that the configuration describes. Raises OpaMissing where there is no program for it."""
    settings = config.pdp
    return PolicyEngine(
        opa=find_opa(settings.opa.path),
        policies=settings.policies.dir,
        resources=targets(settings),
        state=private_folder(config.state),
        timeout=settings.opa.timeout.total_seconds(),
        watch=settings.policies.reload == "watch",
    )


async def serve(config: Config, engine: PolicyEngine | None = None, stop: asyncio.Event | None = None) -> None:
    """Runs until SIGTERM, SIGINT or `stop`. Writes `pdp.ready` into the state folder while it listens.

    Raises ConfigError, OpaMissing or OpaFailed if it cannot start; broken policies are no reason not to.
    """
    engine = engine or policy_engine(config)
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready = config.state / "pdp.ready"
    ready.unlink(missing_ok=True)
    try:
        async with AsyncExitStack() as open_:
            try:
                service = await open_.enter_async_context(running(config, engine))
                ready.write_text(f"{os.getpid()} {service.address}\n", "utf-8")
            except (OSError, StoreUnavailable) as error:
                raise ConfigError(f"the service cannot start: {error}") from error
            log.info("listening", address=service.address, revision=engine.revision, pid=os.getpid())
            await stop.wait()
            log.info("stopping")
    finally:
        ready.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def certificate_of(config: Config) -> Certificate:
    """The service's certificate: the configured one, or one of the local authority, made with those of its proxies."""
    private_folder(config.state)
    if config.pdp.tls is not None:
        return Certificate(config.pdp.tls.cert, config.pdp.tls.key, config.pdp.tls.client_ca)
    authority = Authority.open(config.state)
    for proxy in config.proxies:
        authority.issue(proxy.name)
    authority.command_line()
    listen = config.listen
    return authority.server(() if isinstance(listen, UnixAddress) else (listen.host,))


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Holds the state folder for this process; ConfigError if another service has it."""
    descriptor = os.open(private_folder(state) / ".pdp.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"another decision service runs with the state folder {state}") from None
    try:
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Parts:
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


async def _parts(
    config: Config,
    engine: PolicyEngine,
    database: Database,
    now: Clock,
    meters: Meters,
    tracer: Tracer,
    shown: ServerCertificate,
) -> _Parts:
    settings = config.pdp
    keys = await database.short.run(lambda connection: signing_keys(connection, PURPOSE, now()))
    chain = ServiceChain(database, now)
    await chain.begin()
    checkpoints = settings.records.checkpoints
    # Several replicas need one key between them.
    place = checkpoints.key or (None if database.shared else config.state)
    notary = await Notary.open(database, now, every=checkpoints.every, events=checkpoints.events, place=place)
    tokens = SessionTokens(keys, settings.session_tokens.ttl, now)
    sessions = Sessions(database, tokens, settings.limits, now)
    notifications = Notifications(settings.approvals, now, engine.owners)
    approvals = Approvals(
        database,
        now,
        events=Events(chain),
        notify=notifications.add,
        same=settings.identity.people.same if settings.identity.people else None,
        max_sign_in_age=settings.approvals.max_sign_in_age,
        pending_per_subject=settings.limits.pending_approvals_per_subject,
    )
    watchers = Watchers(now)

    async def ended(session: LiveSession) -> None:
        if session.state is not SessionState.CLOSED:
            watchers.session_ended(session.stored.proxy, session.id, session.ended_because)
        await approvals.session_ended(session.id, killed=session.state is SessionState.KILLED)

    sessions.on_end(ended)
    await sessions.load()
    doors = Doors(database, now)
    cutter = Cutter(database, doors, sessions, approvals)
    # Before anybody can call: what was revoked while this service was away is in force from the first login on.
    await cutter.look()
    decisions = DecisionLog(settings.records, engine, database, now)

    def told(decided: Decided) -> None:
        meters.decided(decided)
        decisions.add(decided)

    decider = Decider(engine, settings, now, told, tracer)
    operated = Operated(
        meters,
        engine=engine,
        database=database,
        sessions=sessions,
        approvals=approvals,
        watchers=watchers,
        certificate=shown,
    )
    return _Parts(
        database=database,
        sessions=sessions,
        approvals=approvals,
        watchers=watchers,
        decider=decider,
        engine=engine,
        chain=chain,
        decisions=decisions,
        notary=notary,
        retention=Retention(
            database,
            chain,
            notary,
            now,
            bodies=settings.records.retain.bodies,
            index=settings.records.retain.index,
            approvals=settings.records.retain.approvals,
            notifications=settings.records.retain.notifications,
        ),
        anchors=Anchors(database, settings.records.anchors),
        tokens=tokens,
        doors=doors,
        cutter=cutter,
        meters=meters,
        operated=operated,
        notifications=notifications,
        history=PolicyHistory(engine, database, chain, now),
    )


def _add(
    server: grpc.aio.Server, config: Config, certificate: Certificate, parts: _Parts, now: Clock, checks: Any
) -> None:
    settings = config.pdp
    peers = Peers(config.grants, authority=certificate.authority, now=now, why_not=parts.doors.why)
    issuer = open_issuer(config, now)
    authenticator = Authenticator(settings.identity, issuer, now, parts.doors)
    people = People(authenticator, parts.decider)
    shared: dict[str, Any] = {"sessions": parts.sessions, "decider": parts.decider, "engine": parts.engine}
    decisions = DecisionService(
        peers=peers,
        authenticator=authenticator,
        watchers=parts.watchers,
        rates=Rates(settings.limits.decisions_per_second_per_subject),
        database=parts.database,
        now=now,
        **shared,
    )
    approvals = ApprovalService(peers=peers, approvals=parts.approvals, settings=settings.approvals, now=now, **shared)
    admin = AdminService(
        people=people,
        issuer=issuer,
        approvals=parts.approvals,
        watchers=parts.watchers,
        database=parts.database,
        chain=parts.chain,
        notes=parts.decisions.notes,
        **shared,
    )
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(decisions, server)
    approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(approvals, server)
    authorities = Authorities(certificate.authority)
    audit = AuditService(peers=peers, database=parts.database, authorities=authorities, now=now, meters=parts.meters)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(audit, server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    revocations = RevocationService(
        people=people,
        doors=parts.doors,
        cutter=parts.cutter,
        tokens=parts.tokens,
        checkpoint_keys=parts.notary.keys,
        chain=parts.chain,
        database=parts.database,
        now=now,
    )
    revocation_service_pb2_grpc.add_RevocationServiceServicer_to_server(revocations, server)
    about_approvals = ApprovalAdminService(
        people=people,
        approvals=parts.approvals,
        notifications=parts.notifications,
        database=parts.database,
    )
    approval_admin_service_pb2_grpc.add_ApprovalAdminServiceServicer_to_server(about_approvals, server)
    policies = PolicyService(
        people=people,
        engine=parts.engine,
        history=parts.history,
        decisions=parts.decisions,
        explainer=Explainer(parts.engine.opa, config.state / "opa"),
        chain=parts.chain,
        database=parts.database,
    )
    policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(policies, server)
    proofs = RecordsService(people=people, chain=parts.chain, database=parts.database, now=now)
    records_service_pb2_grpc.add_RecordsServiceServicer_to_server(proofs, server)
    archive = ArchiveService(
        people=people, chain=parts.chain, database=parts.database, sessions=parts.sessions, now=now
    )
    archive_service_pb2_grpc.add_ArchiveServiceServicer_to_server(archive, server)
    shown = DisclosureService(people=people, chain=parts.chain, database=parts.database)
    disclosure_service_pb2_grpc.add_DisclosureServiceServicer_to_server(shown, server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)


def _shown(files: Certificate) -> ServerCertificate:
    try:
        return ServerCertificate(files)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use the certificate {files.certificate}: {error}") from None


def _listen(server: grpc.aio.Server, config: Config, shown: ServerCertificate) -> str:
    address = config.listen
    if isinstance(address, UnixAddress):
        address.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        port = server.add_secure_port(str(address), shown.credentials())
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from None
    return str(address) if isinstance(address, UnixAddress) else f"{address.host}:{port}"


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


def _looking(background: asyncio.TaskGroup, database: Database, parts: _Parts) -> list[asyncio.Task[None]]:
    """Looks for what other replicas have changed; a store that is a file has none."""
    if not database.shared:
        return []
    return [
        background.create_task(every(_LOOK, each))
        for each in (parts.sessions.look, parts.approvals.look, parts.history.follow)
    ]


async def _report_health(engine: PolicyEngine, database: Database, checks: Any) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    last: int | None = None
    while True:
        now = serving if engine.ready and not database.problem else not_serving
        if now != last:
            last = now
            for service in SERVICES:
                await checks.set(service, now)
        await asyncio.sleep(_HEALTH)
