"""One proxy as a process runs it: what a protocol's server gets, and the order of starting and stopping.

A protocol's server is `async def serve(proxy: ProxyConfig, runtime: Runtime) -> None`; which one serves which protocol
is not known here. Each proxy has its own certificate, so its own connection to the decision service, spool and chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pdp.v1.digests import canonical_json
from pdp.v1.operations import Readiness, endpoint
from pdp.v1.addresses import SocketAddress, TcpAddress, UnixAddress
from pdp.v1.strict_yaml import ConfigError
from pdp.v1.tracing import open_tracer
from pdp.v1.turns import Turns
from pep.core.config import Config, DecisionsTls, ProxyConfig
from pep.core.decision_client import Credential, DecisionClient, Login
from pep.core.enforcer import Enforcer
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.estimates import Estimates
from pep.core.facts import NO_ROWS
from pep.core.leg import Leg
from pep.core.listener import Listener
from pep.core.listener_tls import ListenerTls
from pep.core.mailbox import Mailbox
from pep.core.metered import MeteredDecisionClient
from pep.core.meters import Meters, Standing
from pep.core.model import OBLIGATION_NAMES, Deny, ReadOnly, Reason, RecordSession, duty_name, local_deny
from pep.core.owed import Owed
from pep.core.recorder import Recorder, SpoolError, process_chain
from pep.core.records import Body, Event, EventType
from pep.core.renewal import Renewal
from pep.core.sessions import SessionHandle, Sessions
from pep.core.shipments import Spooled
from pep.core.shipper import Shipper, Signing
from pep.core.signer import Signer
from pep.core.spool import Spool
from pep.core.tls import channel_credentials
from pep.core.wire import PolicyChanged, Revoked
from pep.core.worktime import Worktime

# The name in the certificate of a decision service that made its own authority.
_LOCAL_SERVER_NAME: Final = "pdp.checkrein.internal"
_SHIP_ON_STOP_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 2.0
# Duties that hold for a whole session; any other one there is not understood.
_SESSION_DUTIES: Final = frozenset({ReadOnly, RecordSession})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that may be served: its session, its chain, its gate, and where its events go."""

    handle: SessionHandle
    recorder: Recorder
    enforcer: Enforcer
    mailbox: Mailbox


class Runtime:
    """What a protocol's server works with."""

    def __init__(
        self,
        proxy: ProxyConfig,
        decisions: DecisionClient,
        spool: Spool,
        process: Recorder,
        stopping: asyncio.Event,
        meters: Meters | None = None,
    ) -> None:
        self.meters = meters or meters_of(proxy)
        self.proxy = proxy
        self.decisions = decisions
        self.spool = spool
        # The chain of what has no session.
        self.process = process
        self.stopping = stopping
        self.worktime = Worktime()
        self.sessions = Sessions(decisions)
        self.owed = Owed()
        self._background: set[asyncio.Task[None]] = set()
        # Sessions that this process has put on record: each has its number there, so that one is missed.
        self.begun = 0
        self.log = structlog.get_logger("pep").bind(proxy=proxy.name)
        self._tls: ListenerTls | None = None
        limits = proxy.limits
        self.listener = Listener(
            proxy.listen.address,
            connections=limits.most_connections,
            limit=limits.unauthenticated_bytes,
            strangers=limits.most_strangers,
            per_address=limits.most_per_address,
            known=lambda: len(self.sessions),
        )

    def standing(self, spool_age: float) -> Standing:
        """How the proxy stands at the moment; how old its oldest record is, the shipper knows."""
        return Standing(
            sessions=len(self.sessions),
            connections=self.listener.connections,
            spool_bytes=self.spool.size,
            spool_limit=self.spool.limit,
            spool_age=spool_age,
            heard_of=self.sessions.leased,
        )

    def spooled(self, age: float) -> Spooled:
        """The same of its records, for the decision service."""
        trouble = self.spool.failed or self.meters.trouble
        return Spooled(self.spool.size, self.spool.limit, age, trouble, failed=bool(self.spool.failed))

    async def readiness(self) -> Readiness:
        """A proxy is ready when it can answer, even by denying: so also while no decision can be had."""
        reasons, warnings = [], []
        if not self.listener.ready.is_set():
            reasons.append("it does not listen yet")
        if self.stopping.is_set():
            reasons.append("it is stopping")
        if self.spool.failed:
            reasons.append(f"nothing can be put on record: {self.spool.failed}")
        elif self.spool.trouble:
            reasons.append(f"nothing can be put on record now: {self.spool.trouble}")
        elif self.meters.trouble:
            warnings.append(f"the last record could not be written: {self.meters.trouble}")
        if not self.sessions.leased:
            warnings.append("the decision service is not heard of, so everything is denied")
        if self._tls is not None and self._tls.trouble:
            warnings.append(f"the new certificate for clients is not used: {self._tls.trouble}")
        return Readiness(tuple(reasons), tuple(warnings))

    def listening(self, name: str, address: str) -> None:
        """A server says that it accepts clients."""
        self.log.info("listening", name=name, address=address)

    def client_tls(self, *, alpn: Sequence[str] = ()) -> ssl.SSLContext | None:
        """What clients are shown, followed while `listen` runs; None where they come in clear. Raises ConfigError."""
        if self.proxy.listen.tls is None:
            return None
        self._tls = ListenerTls(self.proxy.listen.tls, alpn=alpn)
        return self._tls.context

    async def listen(
        self,
        connection: Callable[[Leg], Awaitable[None]],
        *,
        tls: ssl.SSLContext | None = None,
        handshake: float | None = None,
        sorry: bytes = b"",
    ) -> None:
        """Run `connection` for each client until cancelled: for a server that has no listener of its own.

        `tls` and `handshake` are for clients that begin in TLS, `sorry` for those too many; see `Listener.serve`.
        """
        async with asyncio.TaskGroup() as tasks:
            following = None if self._tls is None else tasks.create_task(self._tls.run())
            try:
                await self.listener.serve(connection, tls=tls, handshake=handshake, sorry=sorry)
            finally:
                if following is not None:
                    following.cancel()

    async def admit(
        self,
        credential: Credential,
        client_address: str,
        *,
        supported: frozenset[type],
        labels: Mapping[str, str] | None = None,
        post: Callable[[Revoked | PolicyChanged], None] | None = None,
        estimates: Estimates | None = None,
        unestimated: str = NO_ROWS,
    ) -> Admitted | Deny:
        """Authenticate a client and open its session, or say why not; either is on record.

        `post` hears what happens to the session where more than its own mailbox has to.
        """
        labels = labels or {}
        names = tuple(sorted(OBLIGATION_NAMES[duty] for duty in supported))
        login = Login(credential, self.proxy.resource, self.proxy.protocol, client_address, names, labels)
        opening = asyncio.ensure_future(self._open(login))
        try:
            answer = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The client has left; what the decision service opens for it all the same is closed again.
            self._in_background(self._close_unused(opening, login, supported))
            raise
        if isinstance(answer, Deny):
            return self._refused(answer, login)
        recorder = Recorder(self.spool, answer.session_id, answer.subject.root.name, observer=self.meters)
        denied = self._opened(answer, login, recorder, supported)
        if denied is not None:
            await self._end(answer, recorder, "the session could not begin")
            return self._refused(denied, login)
        mailbox = Mailbox(self.worktime, answer.subject.root.name)
        self.sessions.add(answer, mailbox.post if post is None else post)
        enforcer = Enforcer(
            self.decisions, answer, recorder, supported=supported, estimates=estimates, unestimated=unestimated
        )
        return Admitted(answer, recorder, enforcer, mailbox)

    async def dismiss(self, admitted: Admitted, reason: str) -> None:
        """The session is over."""
        self.sessions.remove(admitted.handle.session_id)
        await admitted.enforcer.close(reason)
        await self._end(admitted.handle, admitted.recorder, reason)

    async def settled(self) -> None:
        """Until every session that was opened for nobody is closed again."""
        while self._background:
            await asyncio.wait(self._background)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _close_unused(
        self, opening: asyncio.Future[SessionHandle | Deny], login: Login, supported: frozenset[type]
    ) -> None:
        answer = await opening
        if isinstance(answer, SessionHandle):
            recorder = Recorder(self.spool, answer.session_id, answer.subject.root.name, observer=self.meters)
            self._opened(answer, login, recorder, supported)
            await self._end(answer, recorder, "the client left before it was opened")

    async def _open(self, login: Login) -> SessionHandle | Deny:
        if len(self.sessions) >= self.proxy.limits.sessions:
            return _deny("too-many-sessions", "this proxy serves as many sessions as it may", retry=True)
        if self.spool.failed:
            return _deny("record-unavailable", "nothing can be put on record here, so nothing may happen", retry=True)
        try:
            return await self.decisions.open_session(login)
        except RequestRefused as error:
            self.log.warning("a login was not decided", error=str(error))
            return _deny("login-refused", "the decision service does not decide this login")
        except DecisionUnavailable as error:
            self.log.warning("a login was not decided", error=str(error))
            return _deny("decision-unavailable", "the decision service cannot be asked now", retry=True)

    def _opened(
        self, handle: SessionHandle, login: Login, recorder: Recorder, supported: frozenset[type]
    ) -> Deny | None:
        facts = {
            "subject": handle.subject.name,
            "root": handle.subject.root.name,
            "workflow": handle.subject.workflow,
            "resource": handle.resource,
            "protocol": handle.protocol,
            "proxy": self.proxy.name,
            "client_address": login.client_address,
            "obligations": [duty_name(duty) for duty in handle.obligations],
            "process": self.process.session,
            "number": self.begun + 1,
        }
        # The client's own words are a body: they may be anything.
        bodies = (Body("labels", canonical_json(dict(login.labels))),) if login.labels else ()
        event = Event(EventType.SESSION_OPENED, handle.decision_id, handle.policy_revision, facts, bodies)
        try:
            recorder.record(event)
        except SpoolError as error:
            self.log.error("a session could not be recorded", error=str(error))  # noqa: TRY400 - says all there is
            return _deny("record-unavailable", "the session cannot be put on record", retry=True)
        self.begun += 1
        if any(type(duty) not in supported & _SESSION_DUTIES for duty in handle.obligations):
            reason = Reason("obligation-unsupported", "this proxy cannot perform what policy demands of the session")
            return Deny(handle.decision_id, handle.policy_revision, (reason,))
        if self.sessions.of(handle.subject.root.name) >= self.proxy.limits.sessions_per_subject:
            words = "this person or workload has as many sessions at this proxy as it may; close one first"
            return _deny("too-many-sessions", words, retry=True)
        return None

    def _refused(self, deny: Deny, login: Login) -> Deny:
        facts = {
            "resource": login.resource,
            "proxy": self.proxy.name,
            "client_address": login.client_address,
            "codes": [reason.code for reason in deny.reasons],
        }
        try:
            self.process.record(Event(EventType.LOGIN_REFUSED, deny.decision_id, deny.policy_revision, facts))
        except SpoolError as error:
            self.log.error("a refused login could not be recorded", error=str(error))  # noqa: TRY400 - says all there is
        return deny

    async def _end(self, handle: SessionHandle, recorder: Recorder, reason: str) -> None:
        """Puts the end on record where the beginning is, and reports it."""
        if recorder.last_seq >= 0:
            self.owed.record(recorder, Event(EventType.SESSION_CLOSED, facts={"reason": reason}))
        await self._close(handle, recorder, reason)

    async def _close(self, handle: SessionHandle, recorder: Recorder, reason: str) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.decisions.close_session(handle, reason, max(0, recorder.last_seq))
        except (DecisionUnavailable, TimeoutError) as error:
            self.log.warning("a session's end was not reported", session=handle.session_id, error=str(error))


Server = Callable[[ProxyConfig, Runtime], Awaitable[None]]


async def serve(config: Config, server_of: Callable[[str], Server]) -> None:
    """Serve every proxy of the configuration until SIGTERM or SIGINT. Raises ConfigError before anything listens."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    servers = [(proxy, server_of(proxy.protocol)) for proxy in config.proxies]
    try:
        async with asyncio.TaskGroup() as tasks:
            for proxy, server in servers:
                tasks.create_task(run_proxy(config, proxy, server, stopping))
    except ExceptionGroup as errors:
        wrong, other = errors.split(ConfigError)
        if other is None and wrong is not None:
            raise ConfigError(*(str(error) for error in wrong.exceptions)) from None
        raise


async def run_proxy(config: Config, proxy: ProxyConfig, server: Server, stopping: asyncio.Event) -> None:
    """One proxy from its first record to its last."""
    addresses, tls = decision_route(config, proxy)
    settings = config.decisions
    meters = meters_of(proxy)
    tracer = open_tracer(config.telemetry.traces, f"checkrein-pep-{proxy.name}")
    decisions = MeteredDecisionClient(
        addresses,
        channel_credentials(tls),
        server_name=tls.server_name,
        open_timeout=settings.timeout.open.total_seconds(),
        decide_timeout=settings.timeout.decide.total_seconds(),
        turns=Turns(proxy.limits.decisions_at_once, proxy.limits.decisions_at_once_per_subject),
        meters=meters,
        tracer=tracer,
    )
    try:
        spool = Spool.open(
            config.spool_dir / proxy.name,
            fsync_seconds=settings.spool.fsync_seconds,
            max_bytes=settings.spool.max_bytes,
            share=settings.spool.share,
        )
    except SpoolError as error:
        await decisions.close()
        raise ConfigError(f"proxy {proxy.name}: {error}") from None
    try:
        recorder = Recorder(spool, process_chain(proxy.name), "", observer=meters)
        runtime = Runtime(proxy, decisions, spool, recorder, stopping, meters)
        signer = Signer(tls.cert, tls.key)
        shipper = Shipper(spool, decisions, signing=Signing(signer, recorder.session, lambda: runtime.begun))
        meters.watch(lambda: runtime.standing(shipper.age))
        decisions.report(lambda: runtime.spooled(shipper.age))
        recorder.record(_process_event("started", proxy))
        async with asyncio.TaskGroup() as background:
            renewal = Renewal(tls, decisions.renew)
            work = (runtime.sessions.run(), spool.run(), runtime.owed.run(), shipper.run(), renewal.run())
            running = [background.create_task(each) for each in work]
            try:
                async with _operated(proxy, runtime):
                    await _until_stopped(server(proxy, runtime), runtime)
            finally:
                # Where ends are owed that cannot be written, a successor says of the process that it is lost.
                if runtime.owed.settle():
                    with contextlib.suppress(SpoolError):
                        recorder.record(_process_event("stopped", proxy, sessions=runtime.begun))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await runtime.settled()
                await shipper.drained(_SHIP_ON_STOP_SECONDS)
                for task in running:
                    task.cancel()
    except SpoolError as error:
        raise ConfigError(f"proxy {proxy.name}: {error}") from None
    finally:
        spool.close()
        await decisions.close()
        await asyncio.to_thread(tracer.close)


@contextlib.asynccontextmanager
async def _operated(proxy: ProxyConfig, runtime: Runtime) -> AsyncIterator[None]:
    """Answers what an operator's tools ask, where the configuration says so."""
    if proxy.admin is None:
        yield
        return
    async with endpoint(proxy.admin.listen, runtime.meters.registry, runtime.readiness) as address:
        runtime.log.info("answering operators", address=str(address))
        yield


async def _until_stopped(serving: Awaitable[None], runtime: Runtime) -> None:
    """Serve until the process is told to stop; then sessions get a while to end by themselves, and are cut off."""
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(_awaited(serving))
        stopped = tasks.create_task(runtime.stopping.wait())
        await asyncio.wait((server, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            runtime.sessions.revoke_all("the proxy is stopping")
            await runtime.sessions.emptied(runtime.proxy.shutdown.drain.total_seconds())
        server.cancel()
        stopped.cancel()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def decision_route(config: Config, proxy: ProxyConfig) -> tuple[list[str], DecisionsTls]:
    """Where the decision service is and what the proxy shows it: as configured, or the one of the same file."""
    if config.decisions.tls is not None:
        return [target(address) for address in config.decisions.addresses], config.decisions.tls
    listen: SocketAddress | None = None if config.pdp is None else config.pdp.listen
    folder = config.state / "certificates"
    tls = DecisionsTls(
        cert=folder / f"pep-{proxy.name}.crt",
        key=folder / f"pep-{proxy.name}.key",
        ca=config.state / "ca.crt",
        server_name=_LOCAL_SERVER_NAME,
    )
    missing = [path for path in (tls.cert, tls.key, tls.ca) if not path.exists()]
    if missing:
        raise ConfigError(
            f"proxy {proxy.name}: {missing[0]} does not exist; start the decision service of this file first, "
            "or say in decisions: how to reach another one"
        )
    return [target(listen or UnixAddress(config.state / "pdp.sock"))], tls


def target(address: SocketAddress) -> str:
    """An address as gRPC spells it; one that listens everywhere is reached on this machine."""
    match address:
        case UnixAddress(path):
            return f"unix:{path}"
        case TcpAddress("0.0.0.0" | "::", port):  # noqa: S104 - read here, not bound
            return f"localhost:{port}"
        case TcpAddress():
            return str(address)


def _process_event(what: str, proxy: ProxyConfig, **more: int) -> Event:
    facts = {
        **more,
        "what": what,
        "proxy": proxy.name,
        "pid": os.getpid(),
        "version": _version(),
    }
    return Event(EventType.PROCESS, facts=facts)


def meters_of(proxy: ProxyConfig) -> Meters:
    """What the proxy counts."""
    return Meters(proxy=proxy.name, resource=proxy.resource, protocol=proxy.protocol, version=_version())


def _version() -> str:
    return importlib.metadata.version("checkrein")


def _deny(code: str, message: str, *, retry: bool = False) -> Deny:
    return local_deny(f"local-{os.urandom(16).hex()}", code, message, retry=retry)
