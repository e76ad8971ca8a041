"""RecordsService of the contract: what a verifier needs, with the caller's own token.

It hands out and judges nothing but what is missing; whoever does not trust it reads the store (`pdp records verify
--store`). The ledger is `records.verify` to the policies; a chain has what people did in it, and is `sessions.read`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio

from pdp.audit.checkpoints import PURPOSE
from pdp.audit.intake import beginning
from pdp.audit.service_chain import ServiceChain
from pdp.identity.tokens import Clock
from pdp.service.admin_service import READ
from pdp.service.people import People
from pdp.service.recorded_event import event_message
from pdp.service.times import timestamp
from pdp.store import checkpoints, records
from pdp.store import sessions as stored
from pdp.store.completeness import completeness
from pdp.store.database import Database
from pdp.store.keys import public_keys
from pdp.v1 import records_service_pb2 as pb
from pdp.v1 import records_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

ACTION: Final = "records.verify"
_PAGE: Final = 200
_ENTRIES: Final = 2000


class RecordsService(records_service_pb2_grpc.RecordsServiceServicer):
    """The calls of auditors."""

    def __init__(self, *, people: People, chain: ServiceChain, database: Database, now: Clock) -> None:
        self._people = people
        self._chain = chain
        self._database = database
        self._now = now

    async def GetLedger(self, request: pb.GetLedgerRequest, context: Context) -> AsyncIterator[pb.GetLedgerResponse]:  # noqa: N802
        await self._people.permitted(context, ACTION, request.chain)
        bulk = self._database.bulk
        keys = await bulk.run(lambda connection: public_keys(connection, PURPOSE))
        for name, key in keys.items():
            yield pb.GetLedgerResponse(key=pb.PublicKey(id=name, key=key.public_bytes_raw()))
        if not request.chain:
            # The names first: a chain that begins meanwhile has a checkpoint too many, not too few.
            for chain in await bulk.run(lambda connection: list(checkpoints.chain_names(connection))):
                yield pb.GetLedgerResponse(chain=chain)
        after = 0
        while page := await bulk.run(partial(checkpoints.entries, after=after, limit=_ENTRIES, chain=request.chain)):
            for each in page:
                entry = pb.LogEntry(
                    number=each.number, chain=each.session, document=each.document, signature=each.signature
                )
                yield pb.GetLedgerResponse(entry=entry)
            after = page[-1].number

    async def ReadChain(self, request: pb.ReadChainRequest, context: Context) -> AsyncIterator[pb.ReadChainResponse]:  # noqa: N802
        who = await self._people.permitted(context, "sessions.read", request.chain)
        await self._chain.append(READ, {"by": who.subject.key, "session": request.chain})
        chain, bulk = request.chain, self._database.bulk
        session = await bulk.run(lambda connection: stored.find(connection, chain))
        facts = pb.ChainFacts()
        if session is not None:
            facts = pb.ChainFacts(begins=beginning(session), state=session.state.value)
        yield pb.ReadChainResponse(facts=facts)
        for signed in await bulk.run(lambda connection: checkpoints.signatures(connection, chain)):
            signature = pb.ProxySignature(seq=signed.seq, signature=signed.signature, certificates=signed.certificates)
            yield pb.ReadChainResponse(signature=signature)
        start = 0
        while page := await bulk.run(partial(records.page, session_id=chain, start=start, limit=_PAGE)):
            for each in page:
                yield pb.ReadChainResponse(event=event_message(each))
            start = page[-1].seq + 1

    async def GetMissing(self, request: pb.GetMissingRequest, context: Context) -> pb.GetMissingResponse:  # noqa: ARG002, N802
        await self._people.permitted(context, ACTION)
        now = self._now()
        found = await self._database.bulk.run(lambda connection: completeness(connection, now))
        proxies = [
            pb.ProxyRecords(
                proxy=each.proxy,
                complete_until=timestamp(each.complete_until),
                running=each.running,
                sessions=each.sessions,
            )
            for each in found.proxies
        ]
        return pb.GetMissingResponse(proxies=proxies, missing=found.missing)
