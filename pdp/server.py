"""The decision service as a process: how it starts, listens and ends.

What it is put together from is in `parts`, what it answers to in `served`, what it does by itself in `rounds`.

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
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2_grpc

from pdp.approvals.approvals import Approvals
from pdp.audit.notary import Notary
from pdp.audit.retention import Retention
from pdp.audit.service_chain import STOPPED, ServiceChain
from pdp.certificates import Certificate, ServerCertificate, certificate_of, private_folder
from pdp.config import Config
from pdp.decisions.log import DecisionLog
from pdp.identity.tokens import Clock, now_utc
from pdp.meters import Meters
from pdp.opa.engine import PolicyEngine
from pdp.opa.program import find_opa
from pdp.parts import open_parts
from pdp.rounds import begin_rounds
from pdp.served import OPTIONS, add_services, report_health
from pdp.service.decider import targets
from pdp.service.observed import Observed
from pdp.service.policy_history import restore
from pdp.service.refusal import Refusals
from pdp.service.sessions import Sessions
from pdp.service.watch import Watchers
from pdp.store.database import Database, StoreUnavailable
from pdp.v1.addresses import UnixAddress
from pdp.v1.strict_yaml import ConfigError
from pdp.v1.tracing import open_tracer

log = structlog.get_logger("pdp")

_GRACE: Final = 1.0


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
            parts = await open_parts(config, engine, database, now, meters, tracer, shown)
            server = grpc.aio.server(interceptors=[Observed(meters, tracer), Refusals()], options=OPTIONS)
            checks = health.aio.HealthServicer()
            add_services(server, config, certificate, parts, now)
            health_pb2_grpc.add_HealthServicer_to_server(checks, server)
            address = _listen(server, config, shown)
            async with asyncio.TaskGroup() as background:
                tasks = [
                    background.create_task(report_health(engine, database, checks)),
                    *begin_rounds(background, config, parts, now),
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
