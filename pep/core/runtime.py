"""What a protocol's server works with: who may come in, their sessions and records, and how the proxy stands.

One `Runtime` for one proxy. How it is started and stopped is in `serve`; no protocol is known here.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pdp.v1.digests import canonical_json
from pdp.v1.operations import Readiness
from pep.core.config import ProxyConfig
from pep.core.decision_client import Credential, DecisionClient, Login
from pep.core.enforcer import Enforcer
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.estimates import Estimates
from pep.core.facts import NO_ROWS
from pep.core.leg import Leg
from pep.core.listener import Listener
from pep.core.listener_tls import ListenerTls
from pep.core.local_denials import denied
from pep.core.mailbox import Mailbox
from pep.core.meters import Meters, Standing
from pep.core.model import OBLIGATION_NAMES, Deny, ReadOnly, Reason, RecordSession, duty_name
from pep.core.owed import Owed
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Body, Event, EventType
from pep.core.sessions import SessionHandle, Sessions
from pep.core.shipments import Spooled
from pep.core.spool import Spool
from pep.core.wire import PolicyChanged, Revoked
from pep.core.worktime import Worktime

CLOSE_SECONDS: Final = 2.0
"""For the word to the decision service that a session is over."""
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
            return denied("too-many-sessions", "this proxy serves as many sessions as it may", retry=True)
        if self.spool.failed:
            return denied("record-unavailable", "nothing can be put on record here, so nothing may happen", retry=True)
        try:
            return await self.decisions.open_session(login)
        except RequestRefused as error:
            self.log.warning("a login was not decided", error=str(error))
            return denied("login-refused", "the decision service does not decide this login")
        except DecisionUnavailable as error:
            self.log.warning("a login was not decided", error=str(error))
            return denied("decision-unavailable", "the decision service cannot be asked now", retry=True)

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
            return denied("record-unavailable", "the session cannot be put on record", retry=True)
        self.begun += 1
        if any(type(duty) not in supported & _SESSION_DUTIES for duty in handle.obligations):
            reason = Reason("obligation-unsupported", "this proxy cannot perform what policy demands of the session")
            return Deny(handle.decision_id, handle.policy_revision, (reason,))
        if self.sessions.of(handle.subject.root.name) >= self.proxy.limits.sessions_per_subject:
            words = "this person or workload has as many sessions at this proxy as it may; close one first"
            return denied("too-many-sessions", words, retry=True)
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
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.decisions.close_session(handle, reason, max(0, recorder.last_seq))
        except (DecisionUnavailable, TimeoutError) as error:
            self.log.warning("a session's end was not reported", session=handle.session_id, error=str(error))


def meters_of(proxy: ProxyConfig) -> Meters:
    """What the proxy counts."""
    return Meters(proxy=proxy.name, resource=proxy.resource, protocol=proxy.protocol, version=version())


def version() -> str:
    return importlib.metadata.version("checkrein")
