"""AuditService of the contract: records come in order and are acknowledged when they are stored."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio

from pdp.audit.intake import Intake, Shipped, ShippedBody, ShippedEvent
from pdp.service.peers import Peer, Peers
from pdp.service.refusal import Refused
from pdp.store import sessions as stored
from pdp.store.database import Database
from pdp.v1 import audit_service_pb2 as pb
from pdp.v1 import audit_service_pb2_grpc

# The chain of a proxy's process: of what has no session. Its last part has no dash, so a name may.
_PROCESS_CHAIN: Final = re.compile(r"process-(.+)-[0-9a-f]{32}")

Context = grpc.aio.ServicerContext[Any, Any]

# A batch is one commit. What waits for it is bounded, so that a slow store stops the stream, not the service.
_BATCH: Final = 256
_WAITING_BYTES: Final = 8 << 20
_OVERHEAD: Final = 200


class Inbox:
    """What has come and is not stored yet. One side puts, the other takes."""

    def __init__(self) -> None:
        self._waiting: deque[Shipped] = deque()
        self._bytes = 0
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, item: Shipped) -> None:
        """Waits while too much is waiting."""
        while self._bytes >= _WAITING_BYTES:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(item)
        self._bytes += _size(item)
        self._news.set()

    def end(self) -> None:
        """Nothing more will be put."""
        self._ended = True
        self._news.set()

    async def take(self) -> list[Shipped]:
        """Everything that is waiting, up to a batch; empty at the end."""
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        self._bytes -= sum(map(_size, batch))
        self._room.set()
        return batch


def _size(item: Shipped) -> int:
    return _OVERHEAD + len(item.data if isinstance(item, ShippedEvent) else item.content)


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """The call that ships records."""

    def __init__(self, *, peers: Peers, database: Database) -> None:
        self._peers = peers
        self._database = database

    async def Record(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.RecordRequest], context: Context
    ) -> AsyncIterator[pb.RecordResponse]:
        peer = self._peers.calling(context)
        intake = Intake(self._database)
        owned: set[str] = set()
        inbox = Inbox()
        reading = asyncio.create_task(self._read(request_iterator, inbox, peer, owned))
        try:
            while batch := await inbox.take():
                for receipt in await intake.store(batch):
                    if receipt.acknowledged >= 0 or receipt.refused:
                        yield pb.RecordResponse(
                            session_id=receipt.session,
                            acknowledged_seq=max(receipt.acknowledged, 0),
                            refused=receipt.refused,
                        )
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.RecordRequest], inbox: Inbox, peer: Peer, owned: set[str]) -> None:
        try:
            async for request in requests:
                if request.session_id not in owned:
                    await self._own(request.session_id, peer)
                    owned.add(request.session_id)
                await inbox.put(_shipped(request))
        finally:
            # What came before an error is stored all the same.
            inbox.end()

    async def _own(self, session_id: str, peer: Peer) -> None:
        """Refused unless the chain is this proxy's: its own, or that of a session that it opened."""
        own = _PROCESS_CHAIN.fullmatch(session_id)
        if own is not None and own[1] == peer.name:
            return
        session = await self._database.short.run(lambda connection: stored.find(connection, session_id))
        if session is None or session.proxy != peer.uri:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "the record is of a session that is not this proxy's")


def _shipped(request: pb.RecordRequest) -> Shipped:
    match request.WhichOneof("item"):
        case "event":
            return ShippedEvent(request.session_id, request.seq, request.event)
        case "body":
            body = request.body
            return ShippedBody(request.session_id, request.seq, body.index, body.salt, body.content)
        case _:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither an event nor a body")
