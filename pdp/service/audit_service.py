"""AuditService of the contract: records come in order and are acknowledged when they are stored."""

from __future__ import annotations

import asyncio
import re
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

# A batch is one commit. The queue is as long as one, so that a store that is slow stops the stream, not the service.
_BATCH: Final = 256
_BATCH_BYTES: Final = 4 << 20


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
        queue: asyncio.Queue[Shipped | None] = asyncio.Queue(_BATCH)
        reading = asyncio.create_task(self._read(request_iterator, queue, peer, owned))
        try:
            while batch := await _next_batch(queue):
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

    async def _read(
        self,
        requests: AsyncIterator[pb.RecordRequest],
        queue: asyncio.Queue[Shipped | None],
        peer: Peer,
        owned: set[str],
    ) -> None:
        try:
            async for request in requests:
                if request.session_id not in owned:
                    await self._own(request.session_id, peer)
                    owned.add(request.session_id)
                await queue.put(_shipped(request))
        except Exception:
            # What came before an error is stored all the same.
            await queue.put(None)
            raise
        await queue.put(None)

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


async def _next_batch(queue: asyncio.Queue[Shipped | None]) -> list[Shipped]:
    """What has come, at least one; empty at the end."""
    first = await queue.get()
    if first is None:
        return []
    batch, size = [first], _size(first)
    while len(batch) < _BATCH and size < _BATCH_BYTES and not queue.empty():
        item = queue.get_nowait()
        if item is None:
            # The end is found again by the next call.
            queue.put_nowait(None)
            break
        batch.append(item)
        size += _size(item)
    return batch


def _size(item: Shipped) -> int:
    return len(item.data) if isinstance(item, ShippedEvent) else len(item.content)
