"""AuditService of the contract: records come in order and are acknowledged when they are stored.

A chain that is not the calling proxy's is refused by itself: the stream goes on, so that one record of a session which
this service does not know holds up no other.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, assert_never

import grpc
import grpc.aio
import structlog

from pdp.audit.intake import (
    Intake,
    Receipt,
    Shipped,
    ShippedBody,
    ShippedEvent,
    ShippedMark,
    ShippedSignature,
)
from pdp.audit.trust import Authorities, Origin
from pdp.identity.tokens import Clock
from pdp.meters import Meters
from pdp.service.peers import Peer, Peers
from pdp.service.refusal import Refused
from pdp.store import sessions as stored
from pdp.store.database import Database
from pdp.v1 import audit_service_pb2 as pb
from pdp.v1 import audit_service_pb2_grpc

# The chain of a proxy's process: of what has no session. Its last part has no dash, so a name may.
_PROCESS_CHAIN: Final = re.compile(r"process-(.+)-[0-9a-f]{32}")

Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger("pdp.audit")

# A batch is one commit. What waits for it is bounded, so that a slow store stops the stream, not the service.
_BATCH: Final = 256
_WAITING_BYTES: Final = 8 << 20
# How long the first of a batch waits for more. The proxy has every record on its own disk until this one answers.
_GATHER: Final = 0.05
_OVERHEAD: Final = 200
_LONGEST_NAME: Final = 255
# What a number in the store has room for.
_MOST: Final = (1 << 63) - 1
# How many chains a stream remembers the owner of; one that is forgotten is looked up again.
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Foreign:
    """The first record of a chain that is not the calling proxy's; what follows of it is dropped."""

    session: str
    why: str


class Inbox:
    """What has come and is not stored yet. One side puts, the other takes."""

    def __init__(self) -> None:
        self._waiting: deque[Shipped | Foreign] = deque()
        self._bytes = 0
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._enough = asyncio.Event()

    async def put(self, item: Shipped | Foreign) -> None:
        """Waits while too much is waiting."""
        while self._bytes >= _WAITING_BYTES:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(item)
        self._bytes += _size(item)
        self._news.set()
        if len(self._waiting) >= _BATCH or self._bytes >= _WAITING_BYTES:
            self._enough.set()

    def end(self) -> None:
        """Nothing more will be put."""
        self._ended = True
        self._news.set()
        self._enough.set()

    async def take(self) -> list[Shipped | Foreign]:
        """Everything that is waiting, up to a batch, once it has had a moment to gather; empty at the end."""
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER):
                await self._enough.wait()
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        self._bytes -= sum(map(_size, batch))
        if len(self._waiting) < _BATCH and not self._ended:
            self._enough.clear()
        self._room.set()
        return batch


def _size(item: Shipped | Foreign) -> int:
    match item:
        case ShippedEvent():
            return _OVERHEAD + len(item.data) + (0 if item.signed is None else _size(item.signed))
        case ShippedBody():
            return _OVERHEAD + len(item.content)
        case ShippedSignature():
            return _OVERHEAD + len(item.hash) + len(item.signature) + sum(map(len, item.certificates))
        case Foreign() | ShippedMark():
            return _OVERHEAD
        case never:
            assert_never(never)


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """The call that ships records."""

    def __init__(
        self, *, peers: Peers, database: Database, authorities: Authorities, now: Clock, meters: Meters
    ) -> None:
        self._meters = meters
        self._peers = peers
        self._database = database
        self._authorities = authorities
        self._now = now

    async def Record(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.RecordRequest], context: Context
    ) -> AsyncIterator[pb.RecordResponse]:
        peer = self._peers.calling(context)
        intake = Intake(self._database, Origin(peer.uri, peer.name, self._authorities, self._now))
        inbox = Inbox()
        reading = asyncio.create_task(self._read(request_iterator, inbox, peer, context))
        try:
            while batch := await inbox.take():
                for receipt in await _receipts(intake, batch):
                    if receipt.refused:
                        self._meters.record_refused()
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
        self, requests: AsyncIterator[pb.RecordRequest], inbox: Inbox, peer: Peer, context: Context
    ) -> None:
        owned: OrderedDict[str, bool] = OrderedDict()
        try:
            async for request in requests:
                # A stream outlives what was true when it began: a proxy that is revoked records no more.
                self._peers.calling(context)
                session = request.session_id
                if session not in owned:
                    owned[session] = await self._owns(peer, session)
                    if len(owned) > _REMEMBERED:
                        owned.popitem(last=False)
                    if not owned[session]:
                        why = "the record is of a session that is not this proxy's"
                        named = session[:_LONGEST_NAME]
                        log.critical("chain refused", session=named, proxy=peer.name, why=why, alarm=True)
                        await inbox.put(Foreign(session, why))
                if owned[session]:
                    await inbox.put(_shipped(request))
        finally:
            # What came before an error is stored all the same.
            inbox.end()

    async def _owns(self, peer: Peer, session_id: str) -> bool:
        """Whether the chain is this proxy's: its own, or that of a session that it opened."""
        if not 0 < len(session_id) <= _LONGEST_NAME:
            return False
        own = _PROCESS_CHAIN.fullmatch(session_id)
        if own is not None and own[1] == peer.name:
            return True
        session = await self._database.short.run(lambda connection: stored.find(connection, session_id))
        return session is not None and session.proxy == peer.uri


async def _receipts(intake: Intake, batch: Sequence[Shipped | Foreign]) -> list[Receipt]:
    refused = [Receipt(each.session, -1, each.why) for each in batch if isinstance(each, Foreign)]
    return [*refused, *await intake.store([each for each in batch if not isinstance(each, Foreign)])]


def _shipped(request: pb.RecordRequest) -> Shipped:
    session, seq = request.session_id, request.seq
    signed = None
    if request.HasField("checkpoint"):
        given = request.checkpoint
        signed = ShippedSignature(session, seq, given.hash, tuple(given.certificates), given.signature)
    match request.WhichOneof("item"):
        case "event":
            return ShippedEvent(session, seq, request.event, signed)
        case "body" if signed is None:
            body = request.body
            return ShippedBody(session, seq, body.index, body.salt, body.content)
        case "mark" if signed is None:
            until = request.mark.complete_until.ToDatetime(datetime.UTC)
            return ShippedMark(session, until, min(request.mark.sessions, _MOST), min(request.mark.refused, _MOST))
        case None if signed is not None:
            return signed
        case _:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "not one of an event, a body, a mark and a checkpoint")
