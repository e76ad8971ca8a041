"""DecisionService of the contract: sessions, decisions, and what proxies are told unasked."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from pdp.config import ADMINISTRATION
from pdp.identity.authenticator import Authenticator
from pdp.identity.subject import Authenticated, AuthenticationFailed
from pdp.identity.tokens import Clock
from pdp.opa.engine import PolicyEngine
from pdp.service.action_digest import fingerprint
from pdp.service.decider import Answer, Asker, Decider, new_id
from pdp.service.judged import again
from pdp.service.peers import Peer, Peers
from pdp.service.rates import Rates
from pdp.service.refusal import Refused
from pdp.service.sessions import Held, LiveSession, Opening, Sessions
from pdp.service.subjects import subject_message
from pdp.service.times import timestamp
from pdp.service.watch import HEARTBEAT, Watcher, Watchers
from pdp.store import sessions as stored
from pdp.store.database import Database
from pdp.store.sessions import SessionState
from pdp.v1 import access_pb2, decision_pb2, decision_service_pb2_grpc
from pdp.v1 import decision_service_pb2 as pb

log = structlog.get_logger("pdp.service")

_MOST_ACTIONS: Final = 1000
_MOST_LABELS: Final = 64
# Of the labels, the address and the like together: a session is kept in memory.
_LARGEST_OPENING: Final = 64 << 10
_LARGEST_BATCH: Final = 16 << 20
_LONGEST_REQUEST_ID: Final = 128
_SNAPSHOT_REACHES_BACK: Final = datetime.timedelta(days=1)

Context = grpc.aio.ServicerContext[Any, Any]


class DecisionService(decision_service_pb2_grpc.DecisionServiceServicer):
    """The calls of a proxy that decides."""

    def __init__(
        self,
        *,
        peers: Peers,
        authenticator: Authenticator,
        sessions: Sessions,
        decider: Decider,
        rates: Rates,
        engine: PolicyEngine,
        watchers: Watchers,
        database: Database,
        now: Clock,
    ) -> None:
        self._peers = peers
        self._authenticator = authenticator
        self._sessions = sessions
        self._decider = decider
        self._rates = rates
        self._engine = engine
        self._watchers = watchers
        self._database = database
        self._now = now

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:  # noqa: N802
        peer = self._peers.calling(context)
        if not peer.serves(request.resource) or request.resource == ADMINISTRATION:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "this proxy may not serve that resource")
        if not self._decider.knows(request.resource):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "that resource is not configured")
        if len(request.labels) > _MOST_LABELS:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"at most {_MOST_LABELS} labels")
        if request.ByteSize() > _LARGEST_OPENING:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "more is said of the session than fits")
        try:
            who = await self._authenticate(request, peer)
        except AuthenticationFailed as error:
            # The reason stays in this log: told to the client, it would help to guess.
            log.warning("authentication failed", why=str(error), proxy=peer.name, client=request.client_address)
            said = "The credential was not accepted."
            if error.retry:
                said = "The credential cannot be checked at the moment."
            refused = self._decider.deny(None, "authentication-failed", said, action="connect", retry=error.retry)
            return pb.OpenSessionResponse(decision=refused.decision)
        return await self._opened(request, peer, who)

    async def _authenticate(self, request: pb.OpenSessionRequest, peer: Peer) -> Authenticated:
        # A proxy that got no answer asks again: that is the same use of a token that is good for one.
        named = 0 < len(request.meta.request_id) <= _LONGEST_REQUEST_ID
        use = f"{peer.uri} {request.meta.request_id}" if named else ""
        match request.WhichOneof("credential"):
            case "jwt":
                return await self._authenticator.token(request.jwt, request.resource, use=use)
            case "static_key":
                return self._authenticator.static_key(request.static_key, request.resource)
            case "bearer":
                return await self._authenticator.bearer(request.bearer, request.resource, use=use)
            case "certificate":
                return self._authenticator.certificate(request.certificate.chain, peer.uri)
            case _:
                raise AuthenticationFailed("no credential")

    async def _opened(self, request: pb.OpenSessionRequest, peer: Peer, who: Authenticated) -> pb.OpenSessionResponse:
        opening = Opening(
            request.resource,
            request.protocol,
            request.client_address,
            dict(request.labels),
            tuple(request.supported_obligations),
        )
        session_id = new_id("s")
        asker = Asker(
            who.subject, opening.resource, session_id, opening.client_address, opening.labels, opening.supported
        )
        answer = await self._connect(asker, who)
        obligations = _obligations(answer.decision)
        if obligations is None:
            return pb.OpenSessionResponse(decision=answer.decision)
        decided = answer.decision
        opening = replace(opening, decision_id=decided.decision_id, policy_revision=decided.policy_revision)
        session = await self._sessions.open(peer, who, opening, session_id)
        if (why := self._authenticator.shut_out(who)) is not None:
            # Revoked while the policies were asked: whoever cut off what was open has not seen this one.
            await self._sessions.end(session_id, SessionState.KILLED, why)
            log.warning("authentication failed", why=why, proxy=peer.name, client=request.client_address)
            said = "The credential was not accepted."
            refused = self._decider.deny(None, "authentication-failed", said, action="connect")
            return pb.OpenSessionResponse(decision=refused.decision)
        token, token_end = self._sessions.token(session)
        return pb.OpenSessionResponse(
            decision=answer.decision,
            session_id=session_id,
            token=token,
            subject=subject_message(who.subject),
            obligations=obligations,
            input_paths=await self._engine.input_paths(opening.resource),
            input_paths_revision=self._engine.revision,
            credential_expires_at=timestamp(who.expires_at),
            token_expires_at=timestamp(token_end),
        )

    async def _connect(self, asker: Asker, who: Authenticated) -> Answer:
        if self._sessions.full(who.subject.root.id):
            message = "Too many sessions are open for this person or workload; close one first."
            return self._decider.deny(asker, "too-many-sessions", message, action="connect", retry=True)
        if not self._rates.take(asker.subject, 1):
            return self._too_fast(asker, "connect")
        (answer,) = await self._decider.decide(asker, [access_pb2.Action(name="connect")])
        if answer.decision.WhichOneof("verdict") == "require_approval":
            message = "Connecting cannot wait for an approval; let the policy require it for single actions."
            return self._decider.deny(asker, "connect-cannot-wait", message, action="connect")
        return answer

    def _too_fast(self, asker: Asker, action: str) -> Answer:
        message = "This person or workload asks for more decisions a second than it may; try again in a second."
        return self._decider.deny(asker, "too-many-decisions", message, action=action, retry=True)

    async def RefreshSession(  # noqa: N802
        self, request: pb.RefreshSessionRequest, context: Context
    ) -> pb.RefreshSessionResponse:
        session = await self._sessions.refreshable(request.token, self._peers.calling(context))
        if session.state is not SessionState.OPEN:
            return pb.RefreshSessionResponse(ended_because=session.ended_because or session.state.value)
        end = session.stored.credential_expires_at
        if end is not None and end <= self._now():
            await self._sessions.end(session.id, SessionState.CLOSED, "the credential has run out")
            return pb.RefreshSessionResponse(ended_because="the credential has run out")
        # Policies may have changed since: a subject that could not connect now does not go on either.
        (answer,) = await self._decider.decide(session.asker(), [access_pb2.Action(name="connect")])
        if _obligations(answer.decision) is None and not answer.decision.deny.retry:
            await self._sessions.end(session.id, SessionState.KILLED, "the policy no longer lets it connect")
            return pb.RefreshSessionResponse(ended_because="the policy no longer lets it connect")
        token, token_end = self._sessions.token(session)
        return pb.RefreshSessionResponse(
            token=token,
            token_expires_at=timestamp(token_end),
            input_paths=await self._engine.input_paths(session.stored.resource),
            input_paths_revision=self._engine.revision,
        )

    async def KeepSessions(self, request: pb.KeepSessionsRequest, context: Context) -> pb.KeepSessionsResponse:  # noqa: N802
        ended = await self._sessions.keep(list(dict.fromkeys(request.session_ids)), self._peers.calling(context))
        return pb.KeepSessionsResponse(ended_session_ids=ended)

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:  # noqa: N802
        session = await self._sessions.refreshable(request.token, self._peers.calling(context))
        if session.state is SessionState.OPEN:
            await self._sessions.end(session.id, SessionState.CLOSED, request.reason, request.last_seq)
        return pb.CloseSessionResponse()

    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:  # noqa: N802
        session = await self._sessions.authorize(request.token, self._peers.calling(context))
        if not 0 < len(request.actions) <= _MOST_ACTIONS:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"from 1 to {_MOST_ACTIONS} actions")
        if request.ByteSize() > _LARGEST_BATCH:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the actions together are too large")
        if any(action.name == "connect" for action in request.actions):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "connect is decided by OpenSession")
        asker = session.asker()
        if self._rates.take(asker.subject, len(request.actions)):
            answers = await self._decider.decide(asker, request.actions)
        else:
            answers = [self._too_fast(asker, each.name) for each in request.actions]
        if session.state is not SessionState.OPEN:
            # Killed while the policies were asked: the answer came too late.
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the session has ended: {session.ended_because}")
        for index, (action, answer) in enumerate(zip(request.actions, answers, strict=True)):
            _note(session, action, answer, (index, len(answers)))
        return pb.DecideResponse(decisions=[answer.decision for answer in answers])

    async def Watch(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.WatchRequest], context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        # Registered before the snapshot is taken, so that what happens in between is sent after it.
        watcher = self._watchers.add(self._peers.calling(context))
        acknowledging = asyncio.create_task(self._acknowledge(request_iterator, watcher))
        try:
            yield watcher.numbered(pb.WatchResponse(snapshot=await self._snapshot(watcher.peer)))
            while not acknowledging.done():
                # The stream of a proxy that is no longer let in ends as well.
                again(lambda: self._peers.calling(context))
                if watcher.overrun:
                    raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much is waiting to be read; watch again")
                if (message := watcher.take()) is not None:
                    yield message
                elif not await _within(HEARTBEAT, watcher.news):
                    yield watcher.numbered(pb.WatchResponse(heartbeat=pb.Heartbeat()))
        finally:
            watcher.connected = False
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)

    async def _acknowledge(self, requests: AsyncIterator[pb.WatchRequest], watcher: Watcher) -> None:
        async for request in requests:
            self._watchers.acknowledge(watcher, request.acknowledged)
            if request.HasField("spool"):
                self._watchers.reported(watcher, request.spool)
        watcher.news.set()

    async def _snapshot(self, peer: Peer) -> pb.Snapshot:
        since = self._now() - _SNAPSHOT_REACHES_BACK
        ended = await self._database.short.run(lambda connection: stored.ended_since(connection, peer.uri, since))
        return pb.Snapshot(
            policy_revision=self._engine.revision,
            sessions_ended=[pb.SessionEnded(session_id=each.id, reason=each.close_reason) for each in ended],
        )


def _note(session: LiveSession, action: access_pb2.Action, answer: Answer, batch: tuple[int, int]) -> None:
    verdict = answer.decision.WhichOneof("verdict")
    session.count(verdict)
    if verdict == "require_approval":
        session.hold(answer.decision.decision_id, Held(fingerprint(action), batch))


def _obligations(decision: decision_pb2.Decision) -> list[decision_pb2.Obligation] | None:
    """The duties of a grant, or None if it grants nothing."""
    match decision.WhichOneof("verdict"):
        case "allow":
            return list(decision.allow.obligations)
        case "mask":
            return list(decision.mask.obligations)
        case _:
            return None


async def _within(seconds: float, news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await news.wait()
    except TimeoutError:
        return False
