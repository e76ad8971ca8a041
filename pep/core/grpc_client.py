"""The decision service called over gRPC: calls with a time limit and a second try, streams that are opened again.

What the messages say is in `decision_messages` and `translate`, the channels and their errors are in `connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.v1 import (
    approval_service_pb2,
    approval_service_pb2_grpc,
    audit_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
)
from pdp.v1.tracing import NoTracer, Tracer
from pdp.v1.turns import Turns
from pep.core import decision_messages as messages
from pep.core import translate
from pep.core.connections import Connections, Retired, Unauthenticated, answers, translated_errors
from pep.core.decision_client import ApprovalRequest, ApprovalUpdate, Login, PendingApproval
from pep.core.errors import DecisionUnavailable, RequestRefused, ShareExhausted
from pep.core.model import Action, Answer, Decision, Deny
from pep.core.sessions import SessionHandle, Token, WatchNews
from pep.core.shipments import Acknowledged, Countersign, Mark, Shipment, Spooled

_FIRST_TRY: Final = 0.6
# Sessions that are being opened at once: each costs the decision service more than a decision.
_OPENINGS: Final = 16
_OPENINGS_PER_ADDRESS: Final = 8


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
        request = messages.opening(login)
        calls = [stub.OpenSession for stub in self._decisions]
        # Who it is of is not known yet, so the place where it comes from pays for it.
        async with _within(self._openings, login.client_address.rpartition(":")[0], self._open_timeout):
            answer = await self._call(calls, request, self._open_timeout)
        return messages.opened(answer, login)

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        request = decision_service_pb2.RefreshSessionRequest(token=session.token)
        calls = [stub.RefreshSession for stub in self._decisions]
        return messages.refreshed(await self._call(calls, request, self._open_timeout))

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
        message = messages.asking(session, request)
        calls = [stub.RequestApproval for stub in self._approvals]
        async with self._turn(session):
            answer = await self._call(calls, message, self._decide_timeout)
        return messages.pending(answer)

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
                            yield messages.update(_whole(answer))
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
        return messages.acknowledgement(number, None if self._spooled is None else self._spooled())

    async def watch(self) -> AsyncGenerator[WatchNews, None]:
        while True:
            connections = self._connections
            async with connections.streams.one() as channel:
                call = decision_service_pb2_grpc.DecisionServiceStub(channel).Watch(wait_for_ready=True)
                try:
                    with translated_errors():
                        await call.write(self._acknowledgement(0))
                        async for answer in answers(call, connections.retired):
                            yield messages.news(_whole(answer))
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
            await call.write(messages.record(shipment))

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
