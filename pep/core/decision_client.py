"""The decision service as an enforcement point calls it.

`DecisionClient` is the seam, `GrpcDecisionClient` the real thing. Whatever does not end in a whole answer in time is
`DecisionUnavailable`; what that means for a client is decided in `enforcer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, assert_never

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.v1 import (
    approval_service_pb2,
    approval_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
)
from pdp.v1.tracing import NoTracer, Tracer
from pdp.v1.turns import Turns
from pep.core import translate
from pep.core.connections import Connections, Retired, Unauthenticated, answers, translated_errors
from pep.core.errors import DecisionUnavailable, RequestRefused, ShareExhausted
from pep.core.model import Action, Allow, Answer, Decision, Deny, Estimate, Mask, Reason, RequireApproval
from pep.core.sessions import SessionEnded, SessionHandle, Token, WatchNews
from pep.core.shipments import Acknowledged, Countersign, Mark, Shipment, Spooled
from pep.core.signer import Signed


@dataclass(frozen=True, slots=True)
class Jwt:
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StaticKey:
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token or a key whose kind the proxy cannot tell."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Whose key the client proved in TLS to have: certificates in DER, its own first. Who it is, is not read here."""

    chain: tuple[bytes, ...] = field(repr=False)


Credential = Jwt | StaticKey | Bearer | ClientCertificate


@dataclass(frozen=True, slots=True)
class Login:
    """What a client proved itself with, and for what. `labels` are its own words, never identity."""

    credential: Credential
    resource: str
    protocol: str
    client_address: str
    supported: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A command that needs people. `key` makes a retry harmless; `hold` is None where policy alone says how long."""

    decision_id: str
    key: str
    action: Action
    digest: bytes
    in_transaction: bool
    hold: float | None
    # Nobody waits on the wire: the client comes back, perhaps through another session or another process.
    detached: bool = False
    # None where nobody asked the target.
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """`expires_at` is in epoch seconds, None where the service did not say."""

    approval_id: str
    url: str
    expires_at: float | None
    approvers: tuple[str, ...]
    # It had been asked for before, and people have agreed meanwhile.
    approved: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalUpdate:
    """`state` is "pending", "approved", "denied", "expired", "cancelled", "redeemed", "withdrawn" or "unknown"."""

    state: str
    comment: str = ""


class DecisionClient(Protocol):
    """Every method raises DecisionUnavailable where no whole answer came in time."""

    async def open_session(self, login: Login) -> SessionHandle | Deny: ...

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        """The new token, or why the session has to end."""

    async def keep_sessions(self, session_ids: Sequence[str]) -> Sequence[str]:
        """Those among them that have to end."""

    async def close_session(self, session: SessionHandle, reason: str, last_seq: int) -> None: ...

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Answer, ...]:
        """One decision for each action, in order."""

    async def request_approval(self, session: SessionHandle, request: ApprovalRequest) -> PendingApproval: ...

    def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        """The state now, then each change; ends with a final state."""

    async def cancel_approval(self, session: SessionHandle, approval_id: str, reason: str) -> None: ...

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision: ...

    def watch(self) -> AsyncGenerator[WatchNews, None]:
        """News, each acknowledged when the next one is asked for."""

    async def ship(
        self,
        shipments: AsyncIterator[Shipment | Countersign | Mark],
        acknowledged: Callable[[Acknowledged], None],
    ) -> None:
        """Sends records in order and says which are stored; ends only by an error."""


_FIRST_TRY: Final = 0.6
# Sessions that are being opened at once: each costs the decision service more than a decision.
_OPENINGS: Final = 16
_OPENINGS_PER_ADDRESS: Final = 8
_STATES: Final = {
    approval_service_pb2.APPROVAL_STATE_PENDING: "pending",
    approval_service_pb2.APPROVAL_STATE_APPROVED: "approved",
    approval_service_pb2.APPROVAL_STATE_DENIED: "denied",
    approval_service_pb2.APPROVAL_STATE_EXPIRED: "expired",
    approval_service_pb2.APPROVAL_STATE_CANCELLED: "cancelled",
    approval_service_pb2.APPROVAL_STATE_REDEEMED: "redeemed",
    approval_service_pb2.APPROVAL_STATE_WITHDRAWN: "withdrawn",
}


class GrpcDecisionClient:
    """Over gRPC with the proxy's certificate. Made on the running loop; `close` ends its channels.

    Decisions and streams have connections of their own: a long shipment never delays a decision. `renew` changes the
    certificate while it works.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        credentials: grpc.ChannelCredentials,
        *,
        server_name: str = "",
        open_timeout: float,
        decide_timeout: float,
        turns: Turns | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._spooled: Callable[[], Spooled] | None = None
        self._turns = turns or Turns(sys.maxsize, sys.maxsize)
        self._openings = Turns(_OPENINGS, _OPENINGS_PER_ADDRESS)
        self._tracer = tracer or NoTracer()
        self._addresses = addresses
        self._server_name = server_name
        self._connections = Connections(addresses, credentials, server_name)
        self._open_timeout = open_timeout
        self._decide_timeout = decide_timeout
        self._preferred = 0

    @property
    def _decisions(self) -> Sequence[decision_service_pb2_grpc.DecisionServiceStub]:
        return self._connections.decisions

    @property
    def _approvals(self) -> Sequence[approval_service_pb2_grpc.ApprovalServiceStub]:
        return self._connections.approvals

    async def close(self) -> None:
        await self._connections.close()

    async def renew(self, credentials: grpc.ChannelCredentials) -> None:
        """Goes on with this certificate: calls at once, streams as soon as they are opened again, which they are now.

        DecisionUnavailable where the service does not answer to it or refuses it; then nothing has changed.
        """
        fresh = Connections(self._addresses, credentials, self._server_name)
        try:
            with translated_errors():
                await fresh.try_out(self._open_timeout)
        except BaseException:
            await fresh.close()
            raise
        old, self._connections = self._connections, fresh
        old.retired.set()
        try:
            # What was called before has its answer or its time-out by then, the second try among it.
            await asyncio.sleep(self._open_timeout + self._decide_timeout)
        finally:
            await old.close()

    async def open_session(self, login: Login) -> SessionHandle | Deny:
        request = decision_service_pb2.OpenSessionRequest(
            resource=login.resource,
            protocol=login.protocol,
            client_address=login.client_address,
            labels=login.labels,
            supported_obligations=login.supported,
        )
        match login.credential:
            case Jwt(token):
                request.jwt = token
            case StaticKey(key):
                request.static_key = key
            case Bearer(secret):
                request.bearer = secret
            case ClientCertificate(chain):
                request.certificate.chain.extend(chain)
            case never:
                assert_never(never)
        calls = [stub.OpenSession for stub in self._decisions]
        # Who it is of is not known yet, so the place where it comes from pays for it.
        async with _within(self._openings, login.client_address.rpartition(":")[0], self._open_timeout):
            answer = await self._call(calls, request, self._open_timeout)
        return _opened(answer, login)

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        request = decision_service_pb2.RefreshSessionRequest(token=session.token)
        calls = [stub.RefreshSession for stub in self._decisions]
        answer = await self._call(calls, request, self._open_timeout)
        if answer.ended_because or not answer.token:
            return answer.ended_because or "the session was not renewed"
        expires = translate.epoch(answer.token_expires_at)
        return Token(answer.token, expires, frozenset(answer.input_paths), answer.input_paths_revision)

    async def keep_sessions(self, session_ids: Sequence[str]) -> Sequence[str]:
        request = decision_service_pb2.KeepSessionsRequest(session_ids=session_ids)
        answer = await self._call([stub.KeepSessions for stub in self._decisions], request, self._open_timeout)
        return tuple(answer.ended_session_ids)

    async def close_session(self, session: SessionHandle, reason: str, last_seq: int) -> None:
        request = decision_service_pb2.CloseSessionRequest(token=session.token, reason=reason, last_seq=last_seq)
        await self._call([stub.CloseSession for stub in self._decisions], request, self._open_timeout)

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Answer, ...]:
        async with self._turn(session):
            return await self._decide(session, actions)

    def _turn(self, session: SessionHandle) -> AbstractAsyncContextManager[None]:
        """A place among the decisions that are under way."""
        return _within(self._turns, session.subject.root.name, self._decide_timeout)

    async def _decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Answer, ...]:
        request = decision_service_pb2.DecideRequest(
            token=session.token,
            actions=[translate.action_message(action, session.input_paths) for action in actions],
        )
        answer = await self._call([stub.Decide for stub in self._decisions], request, self._decide_timeout)
        return tuple(map(translate.answer, answer.decisions))

    async def request_approval(self, session: SessionHandle, request: ApprovalRequest) -> PendingApproval:
        message = approval_service_pb2.RequestApprovalRequest(
            token=session.token,
            decision_id=request.decision_id,
            idempotency_key=request.key,
            action=translate.action_message(request.action, translate.EVERYTHING),
            action_digest=request.digest,
            in_transaction=request.in_transaction,
            detached=request.detached,
        )
        if request.hold is not None:
            message.hold.CopyFrom(translate.duration(request.hold))
        if request.estimate is not None:
            message.estimate.CopyFrom(translate.estimate(request.estimate))
        calls = [stub.RequestApproval for stub in self._approvals]
        async with self._turn(session):
            answer = await self._call(calls, message, self._decide_timeout)
        if not answer.approval_id:
            raise DecisionUnavailable("the decision service named no approval")
        expires = translate.epoch(answer.expires_at)
        approved = answer.state == approval_service_pb2.APPROVAL_STATE_APPROVED
        return PendingApproval(answer.approval_id, answer.url, expires, tuple(answer.approvers), approved)

    async def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        while True:
            connections = self._connections
            request = approval_service_pb2.AwaitApprovalRequest(token=session.token, approval_id=approval_id)
            async with connections.streams.one() as channel:
                stub = approval_service_pb2_grpc.ApprovalServiceStub(channel)
                call = stub.AwaitApproval(request, wait_for_ready=True)
                try:
                    with translated_errors():
                        async for answer in answers(call, connections.retired):
                            _whole(answer)
                            yield ApprovalUpdate(_STATES.get(answer.state, "unknown"), answer.comment)
                    return
                except Retired:
                    # The next stream begins with the state as it is then.
                    continue
                except Unauthenticated as error:
                    # A stream outlives the token and the certificate that it began with.
                    if session.token == request.token and connections is self._connections:
                        raise DecisionUnavailable(str(error)) from None
                finally:
                    call.cancel()

    async def cancel_approval(self, session: SessionHandle, approval_id: str, reason: str) -> None:
        request = approval_service_pb2.CancelApprovalRequest(
            token=session.token, approval_id=approval_id, reason=reason
        )
        await self._call([stub.CancelApproval for stub in self._approvals], request, self._decide_timeout)

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision:
        request = approval_service_pb2.RedeemApprovalRequest(
            token=session.token, approval_id=approval_id, action_digest=digest, execution_id=execution_id
        )
        calls = [stub.RedeemApproval for stub in self._approvals]
        async with self._turn(session):
            answer = await self._call(calls, request, self._decide_timeout)
        return translate.decision(answer.decision)

    def report(self, spooled: Callable[[], Spooled]) -> None:
        """From now on the decision service is told how the records stand, with each acknowledgement."""
        self._spooled = spooled

    def _acknowledgement(self, number: int) -> decision_service_pb2.WatchRequest:
        request = decision_service_pb2.WatchRequest(acknowledged=number)
        if self._spooled is not None:
            stands = self._spooled()
            request.spool.bytes, request.spool.limit = stands.size, stands.limit
            request.spool.trouble, request.spool.failed = stands.trouble, stands.failed
            request.spool.age.CopyFrom(translate.duration(stands.age))
        return request

    async def watch(self) -> AsyncGenerator[WatchNews, None]:
        while True:
            connections = self._connections
            async with connections.streams.one() as channel:
                call = decision_service_pb2_grpc.DecisionServiceStub(channel).Watch(wait_for_ready=True)
                try:
                    with translated_errors():
                        await call.write(self._acknowledgement(0))
                        async for answer in answers(call, connections.retired):
                            yield _news(_whole(answer))
                            await call.write(self._acknowledgement(answer.number))
                    return
                except Retired:
                    # The next stream begins with a snapshot, so nothing is missed in between.
                    continue
                finally:
                    call.cancel()

    async def ship(
        self,
        shipments: AsyncIterator[Shipment | Countersign | Mark],
        acknowledged: Callable[[Acknowledged], None],
    ) -> None:
        connections = self._connections
        async with connections.streams.one() as channel:
            stub = audit_service_pb2_grpc.AuditServiceStub(channel)
            try:
                await _ship(stub, shipments, acknowledged, connections.retired)
            except Retired:
                raise DecisionUnavailable("the stream of records moves to another connection") from None
            raise DecisionUnavailable("the decision service ended the stream of records")

    async def _call(self, calls: Sequence[Callable[..., Any]], request: Any, timeout: float) -> Any:
        """One answer within `timeout`, by two tries on two connections. Every call is harmless to repeat.

        The second try waits for a connection, so a service that has just been restarted is not an error.
        """
        request.meta.request_id = uuid.uuid4().hex
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        first = self._preferred
        try:
            return await self._try(calls[first], request, timeout * _FIRST_TRY, wait=False)
        except (RequestRefused, ShareExhausted):
            raise
        except DecisionUnavailable:
            self._preferred = (first + 1) % len(calls)
            return await self._try(calls[self._preferred], request, max(0.001, ends - loop.time()), wait=True)

    async def _try(self, call: Callable[..., Any], request: Any, timeout: float, *, wait: bool) -> Any:
        sent = Timestamp()
        sent.GetCurrentTime()
        request.meta.sent_at.CopyFrom(sent)
        request.meta.timeout.CopyFrom(translate.duration(timeout))
        with translated_errors():
            # A timer of our own as well: how long a client waits depends on nothing in the library.
            carried = tuple(self._tracer.carried().items())
            async with asyncio.timeout(timeout):
                return _whole(await call(request, timeout=timeout, wait_for_ready=wait, metadata=carried))


async def _ship(
    stub: Any,
    shipments: AsyncIterator[Shipment | Countersign | Mark],
    acknowledged: Callable[[Acknowledged], None],
    retired: asyncio.Event,
) -> None:
    call = stub.Record(wait_for_ready=True)

    async def send() -> None:
        async for shipment in shipments:
            await call.write(_record(shipment))

    try:
        with translated_errors():
            try:
                async with asyncio.TaskGroup() as tasks:
                    sending = tasks.create_task(send())
                    async for answer in answers(call, retired):
                        _whole(answer)
                        acknowledged(Acknowledged(answer.session_id, answer.acknowledged_seq, answer.refused))
                    sending.cancel()
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
    finally:
        call.cancel()


@contextlib.asynccontextmanager
async def _within(turns: Turns, share: str, seconds: float) -> AsyncIterator[None]:
    """A place, which has to come in so many seconds. Raises ShareExhausted where it does not."""
    waiting = asyncio.timeout(seconds)
    try:
        async with waiting, turns.of(share):
            # What comes now has a time of its own.
            waiting.reschedule(None)
            yield
    except TimeoutError:
        if not waiting.expired():
            raise
        raise ShareExhausted("too much of this client is under way") from None


def _whole(answer: Any) -> Any:
    """The library hands out None for bytes that are not the message they should be."""
    if answer is None:
        raise DecisionUnavailable("the decision service's answer is not understood")
    return answer


def _record(item: Shipment | Countersign | Mark) -> audit_service_pb2.RecordRequest:
    """What is shipped as a message; the bytes of a spooled record are unchanged."""
    match item:
        case Mark():
            until = Timestamp()
            until.FromMicroseconds(int(item.complete_until * 1_000_000))
            mark = audit_service_pb2.Mark(complete_until=until, sessions=item.sessions, refused=item.refused)
            return audit_service_pb2.RecordRequest(session_id=item.process, mark=mark)
        case Countersign():
            message = audit_service_pb2.RecordRequest(session_id=item.session, seq=item.seq)
        case Shipment():
            message = audit_service_pb2.RecordRequest(session_id=item.session, seq=item.seq)
            if item.body is None:
                message.event = item.data
            else:
                message.body.index, message.body.salt, message.body.content = item.body, item.salt, item.data
        case never:
            assert_never(never)
    if item.signed is not None:
        message.checkpoint.CopyFrom(_checkpoint(item.signed))
    return message


def _checkpoint(signed: Signed) -> audit_service_pb2.Checkpoint:
    return audit_service_pb2.Checkpoint(hash=signed.hash, certificates=signed.certificates, signature=signed.signature)


def _opened(answer: decision_service_pb2.OpenSessionResponse, login: Login) -> SessionHandle | Deny:
    decision = translate.decision(answer.decision)
    match decision:
        case Deny():
            return decision
        case RequireApproval() | Mask():
            words = "a connection can only be allowed or denied"
            return Deny(decision.decision_id, decision.policy_revision, (Reason("connect-not-allowed", words),))
        case Allow():
            pass
    if not (answer.session_id and answer.token and answer.subject.id):
        raise DecisionUnavailable("the decision service opened a session without saying which or whose")
    duties = dict.fromkeys((*translate.obligations(answer.obligations), *decision.obligations))
    return SessionHandle(
        session_id=answer.session_id,
        token=answer.token,
        subject=translate.subject(answer.subject),
        resource=login.resource,
        protocol=login.protocol,
        decision_id=decision.decision_id,
        policy_revision=decision.policy_revision,
        obligations=tuple(duties),
        input_paths=frozenset(answer.input_paths),
        input_paths_revision=answer.input_paths_revision or decision.policy_revision,
        credential_expires_at=translate.epoch(answer.credential_expires_at),
        token_expires_at=translate.epoch(answer.token_expires_at),
    )


def _news(answer: decision_service_pb2.WatchResponse) -> WatchNews:
    match answer.WhichOneof("event"):
        case "snapshot":
            ended = tuple(SessionEnded(each.session_id, each.reason) for each in answer.snapshot.sessions_ended)
            return WatchNews(answer.snapshot.policy_revision, ended)
        case "policy_revision":
            return WatchNews(answer.policy_revision)
        case "session_ended":
            return WatchNews(ended=(SessionEnded(answer.session_ended.session_id, answer.session_ended.reason),))
        case _:
            return WatchNews()
