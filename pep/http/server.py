"""The HTTP proxy: accepts connections, drives a session machine for each, answers what the machines look up.

The parts: `sessions` (who), `upstream` (the target's connections), `credentials` (what the target is shown), and the
machine itself (`session`) under `pep.core.driver`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import uuid
from typing import Any, Final, assert_never

from pep.core import driver
from pep.core.children import ChildFailed, Children
from pep.core.decision_client import ClientCertificate, Credential
from pep.core.errors import DecisionUnavailable
from pep.core.leg import Leg
from pep.core.mailbox import Mailbox
from pep.core.model import (
    Deny,
    LimitRows,
    MaskFields,
    ReadOnly,
    RecordSession,
    RedactText,
    RemoveHeaders,
    SetHeaders,
    TimeLimit,
    local_deny,
)
from pep.core.records import Event as RecordEvent
from pep.core.records import EventType
from pep.core.runtime import Runtime
from pep.core.wire import ClientData, Revoked
from pep.http import denial, large
from pep.http.classify import Content
from pep.http.config import HttpProxy
from pep.http.credentials import Injector, injector_of
from pep.http.http2.connection import PREFACE, Http2Connection
from pep.http.http2.opening import Limits
from pep.http.http2.stream import Stream
from pep.http.large import Failed
from pep.http.questions import (
    Connect,
    Connected,
    HowStands,
    Known,
    Outgoing,
    Question,
    Read,
    Release,
    Rewrite,
    Standing,
    TakesMore,
    Turn,
    Unreachable,
    WhatIf,
    WhoIs,
)
from pep.http.scrub import Scrub
from pep.http.session import HttpSession
from pep.http.sessions import Directory, digest_of
from pep.http.settings import settings_of
from pep.http.upstream import UpstreamPool, UpstreamSide

SUPPORTED: Final = frozenset(
    {MaskFields, LimitRows, TimeLimit, ReadOnly, RedactText, SetHeaders, RemoveHeaders, RecordSession}
)

_NEVER: Final = 24 * 3600.0


async def serve(proxy: HttpProxy, runtime: Runtime) -> None:
    """Serve clients until the process stops. Raises ConfigError."""
    injector = injector_of(proxy.credential)
    server = HttpServer(proxy, runtime, injector, Scrub(await injector.secrets()))
    async with asyncio.TaskGroup() as tasks:
        background = tasks.create_task(server.directory.run())
        try:
            handshake = proxy.limits.head.total_seconds()
            await runtime.listen(server.client, tls=server.tls, handshake=handshake, sorry=_full())
        finally:
            background.cancel()
            await server.close()


def _full() -> bytes:
    """What a connection too many is told, whatever it wanted to ask."""
    words = "this proxy serves as many connections as it may; try again"
    return denial.problem(503, words, fields=(("Retry-After", "1"),)).encode(close=True)


class _Client:
    """One client connection, as the server knows it."""

    def __init__(self, machine: HttpSession, mailbox: Mailbox) -> None:
        self.machine = machine
        self.mailbox = mailbox


class HttpServer:
    """One proxy."""

    def __init__(self, proxy: HttpProxy, runtime: Runtime, injector: Injector, scrub: Scrub) -> None:
        self._proxy = proxy
        self._runtime = runtime
        self._injector = injector
        self._scrub = scrub
        # Not begun by the login: a client's first bytes may be there before any task has run.
        alpn = ("h2", "http/1.1") if proxy.listen.speaks_http2 else ("http/1.1",)
        self.tls = runtime.client_tls(alpn=alpn)
        self._pool = UpstreamPool(proxy.upstream)
        key = secrets.token_hex(32) if proxy.masks.hash_key is None else proxy.masks.hash_key.resolve()
        self._settings = settings_of(proxy, scrub, injects=injector.injects, hash_keys={"": key.encode()})
        self._exchanges = itertools.count(1)
        self._children = Children(large.CHILD)
        self._clients: set[_Client] = set()
        self._connections: set[Http2Connection] = set()
        self.directory = Directory(
            runtime,
            supported=SUPPORTED,
            idle=proxy.limits.session_idle.total_seconds(),
            serving=lambda: {client.machine.serving for client in self._clients},
            tell=self._tell,
        )

    async def close(self) -> None:
        await self._children.close()
        await self.directory.close("the proxy stops")
        await self._pool.close()

    async def client(self, leg: Leg) -> None:
        """One connection."""
        if await self._speaks_http2(leg):
            await self._http2(leg)
        else:
            await self._serve(leg)

    async def _speaks_http2(self, leg: Leg) -> bool:
        """As agreed in the TLS handshake; without TLS, by what the client begins with (RFC 9113, section 3.3)."""
        if leg.encrypted or not self._proxy.listen.speaks_http2:
            return leg.alpn == "h2"
        begun = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._proxy.limits.head.total_seconds()):
                while PREFACE.startswith(begun) and (data := await leg.read()):
                    begun += data
                    if begun.startswith(PREFACE):
                        break
        # What is not HTTP/2, or not all of its beginning, is read as HTTP/1.1.
        leg.unread(begun)
        return begun.startswith(PREFACE)

    async def _http2(self, leg: Leg) -> None:
        limits = self._proxy.limits
        connection = Http2Connection(
            leg,
            self._serve_stream,
            limits=Limits(
                streams=limits.streams,
                head_bytes=self._settings.head_bytes,
                head=self._settings.head,
                idle=self._settings.idle,
                stalled=self._settings.stalled,
            ),
            # Streams of all connections together, beside the connections.
            may_open=lambda: len(self._clients) < 2 * limits.connections,
            fault=self._fault,
        )
        self._connections.add(connection)
        if self._runtime.stopping.is_set():
            connection.go_away()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _serve_stream(self, stream: Stream) -> None:
        # That its client has left is told, and has not to be asked.
        await self._serve(stream, probe_seconds=_NEVER)

    def _fault(self, why: str) -> None:
        """On record, what belongs to no session. Raises SpoolError."""
        facts = {"error": "request refused", "status": 400, "why": why}
        self._runtime.process.record(RecordEvent(EventType.ERROR, facts=facts))

    async def _serve(self, leg: Leg | Stream, *, probe_seconds: float = driver.PROBE_SECONDS) -> None:
        """One client of HTTP/1.1, or one stream."""
        mailbox = Mailbox(self._runtime.worktime, leg.peer.rpartition(":")[0])
        certificate = leg.peer_certificate()
        shown = None if certificate is None else ClientCertificate((certificate,))
        machine = HttpSession(self._settings, self._exchanges, shown)
        upstream = UpstreamSide(self._pool)
        client = _Client(machine, mailbox)
        self._clients.add(client)
        # The machine's first effects, its timers, come with the first event.
        mailbox.post(ClientData(b""))
        if self._runtime.stopping.is_set():
            mailbox.post(Revoked("the proxy is stopping", at_once=False))
        try:
            lookups = _LookUps(self, leg, upstream, mailbox)
            await driver.run(
                machine,
                leg,
                upstream,
                self.directory.gate,
                lookups,
                _cancel(upstream),
                mailbox,
                client_buffer=self._proxy.limits.client_buffer,
                probe_seconds=probe_seconds,
                at_once=lookups.at_once,
            )
        finally:
            self._clients.discard(client)
            upstream.abort()
            self.directory.settled()

    def _tell(self, event: Revoked) -> None:
        for client in tuple(self._clients):
            client.mailbox.post(event)
        if not event.session:
            for connection in tuple(self._connections):
                connection.go_away()

    async def inject(self, request: Outgoing, body: bytes | None) -> Outgoing:
        """The request with the target's credential in it."""
        target, fields = await self._injector.apply(request.method, request.target, request.fields, request.host, body)
        # It may be another one than before.
        self._scrub.learn(await self._injector.secrets())
        return Outgoing(request.method, target, request.host, fields)

    async def large(self, question: Read | Rewrite) -> Content | bytes | Failed:
        """What a child process makes of what is too large for this one's loop."""
        share = self.directory.share(question.session)
        try:
            match question:
                case Read(_, head, path, body):
                    request = large.reading(head, path, body, self._settings.classify)
                    return large.content(await self._children.ask(request, share))
                case Rewrite(_, work):
                    answer = await self._children.ask(large.rewriting(work), share)
                    return large.rewritten(answer, work.rewriter)
                case never:
                    assert_never(never)
        except ChildFailed as failed:
            return Failed(str(failed))

    def known(self, found: Known) -> Known | Deny:
        """The same, unless as many requests are served for that person or workload as may be."""
        most = self._proxy.limits.requests_per_subject
        if len(self._clients) <= most:
            return found
        share = self.directory.share(found.session)
        serving = [name for client in self._clients if (name := client.machine.serving)]
        if sum(self.directory.share(name) == share for name in serving) < most:
            return found
        words = "this proxy serves as many requests of this person or workload at once as it may"
        return local_deny(f"local-{uuid.uuid4().hex}", "too-many-requests", words, retry=True)

    def rests(self, session: str) -> bool:
        """Whether a connection of that session may rest in the pool."""
        return self._pool.has(session)

    @property
    def stands(self) -> object:
        """See `credentials.Injector`."""
        return self._injector.stands

    def inject_at_once(self, request: Outgoing, body: bytes | None) -> Outgoing | None:
        """The same where nothing has to be waited for, else None."""
        if not self._injector.current:
            return None
        work = self.inject(request, body)
        try:
            work.send(None)
        except StopIteration as done:
            ready: Outgoing = done.value
            return ready
        # Its time was over between the question and the answer.
        work.close()
        return None


def _cancel(upstream: UpstreamSide) -> Any:
    async def cancel() -> None:
        upstream.abort()

    return cancel


class _LookUps:
    """What one connection's machine asks for; see `questions`."""

    def __init__(self, server: HttpServer, leg: Leg | Stream, upstream: UpstreamSide, mailbox: Mailbox) -> None:
        self._server = server
        self._mailbox = mailbox
        self._leg = leg
        self._upstream = upstream
        # Of the request before: a connection's requests mostly show the same, and want the same.
        self._shown: Credential | None = None
        self._digest = b""
        self._injected: tuple[Outgoing, object, Outgoing] | None = None

    async def answer(self, question: Question) -> Any:
        directory = self._server.directory
        match question:
            case WhoIs(credential, labels):
                found = await directory.find(credential, labels, self._leg.peer)
                return found if isinstance(found, Deny) else self._known(found)
            case Connect(session, request, body):
                return await self._connect(session, request, body)
            case Release() as release:
                self._release(release)
                return None
            case TakesMore():
                return self._upstream.takes_more
            case WhatIf(session, actions):
                enforcer = directory.gate(session).enforcer
                assert enforcer is not None, "a session that is served has a gate"
                return await enforcer.consider(actions)
            case HowStands(session, approval_id):
                return await self._standing(session, approval_id)
            case Turn():
                await asyncio.sleep(0)
                return None
            case Read() | Rewrite() as large:
                return await self._server.large(large)
            case never:
                assert_never(never)

    def at_once(self, question: object) -> tuple[object] | None:
        """See `pep.core.driver.AtOnce`: an open session, a connection that rests, the end of an exchange."""
        match question:
            case WhoIs(credential):
                if credential is not self._shown:
                    self._shown, self._digest = credential, digest_of(credential)
                known = self._server.directory.known(self._digest)
                return None if known is None else (self._known(known),)
            case Connect(session, request, body) if self._server.rests(session):
                return self._connect_at_once(session, request, body)
            case Release() as release:
                self._release(release)
                return (None,)
            case TakesMore():
                return (self._upstream.takes_more,)
            case _:
                return None

    def _known(self, found: Known) -> Known | Deny:
        # From here on the one at the end of the chain pays, no longer the place where the connection comes from.
        self._mailbox.share = self._server.directory.share(found.session)
        return self._server.known(found)

    def _connect_at_once(self, session: str, request: Outgoing, body: bytes | None) -> tuple[object] | None:
        try:
            ready = self._ready(request, body)
        except (OSError, ValueError, RuntimeError) as error:
            return (_without_credential(error),)
        if ready is None or not self._upstream.connect_idle(session):
            return None
        return (Connected(ready),)

    def _ready(self, request: Outgoing, body: bytes | None) -> Outgoing | None:
        """The request with the credential, if that is there: the same one as before for the same request."""
        stands, last = self._server.stands, self._injected
        if stands is not None and last is not None and last[0] is request and last[1] is stands:
            return last[2]
        ready = self._server.inject_at_once(request, body)
        self._injected = None if ready is None or stands is None else (request, stands, ready)
        return ready

    def _release(self, release: Release) -> None:
        # What has arrived meanwhile belongs to no answer.
        self._upstream.release(release.reusable and release.returned == self._upstream.returned)
        self._server.directory.settled()

    async def _connect(self, session: str, request: Outgoing, body: bytes | None) -> Connected | Unreachable:
        try:
            ready = await self._server.inject(request, body)
        except (OSError, ValueError, RuntimeError) as error:
            return _without_credential(error)
        try:
            await self._upstream.connect(session)
        except TimeoutError:
            return Unreachable("the target does not answer in time")
        except OSError as error:
            return Unreachable(f"the target cannot be reached: {type(error).__name__}")
        return Connected(ready)

    async def _standing(self, session: str, approval_id: str) -> Standing | None:
        enforcer = self._server.directory.gate(session).enforcer
        if enforcer is None:
            return None
        try:
            found = await enforcer.detached(approval_id)
        except DecisionUnavailable:
            return None
        return None if found is None else Standing(found[0], found[1].state, found[1].comment)


def _without_credential(error: Exception) -> Unreachable:
    return Unreachable(f"the target's credential cannot be had: {type(error).__name__}")
