"""RevocationService of the contract: who is let in no more, and the keys that are made anew.

Each action is decided by the policies and put on record in the transaction that carries it out.
"""

from __future__ import annotations

import datetime
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from sqlalchemy import Connection

from pdp.audit.checkpoint_keys import CheckpointKeys, Elsewhere
from pdp.audit.checkpoints import PURPOSE as CHECKPOINTS
from pdp.audit.service_chain import Body, ServiceChain
from pdp.identity.revocation import Mark, mark
from pdp.identity.tokens import Clock
from pdp.service.doors import Cutter, Doors
from pdp.service.people import People
from pdp.service.refusal import Refused
from pdp.service.session_tokens import PURPOSE, SessionTokens
from pdp.service.times import instant, timestamp
from pdp.store import revocations as stored
from pdp.store.database import Database
from pdp.store.keys import AHEAD, SigningKey, add, signing_keys
from pdp.store.revocations import Revocation
from pdp.store.sessions import SessionState
from pdp.v1 import revocation_service_pb2 as pb
from pdp.v1 import revocation_service_pb2_grpc

log = structlog.get_logger("pdp.revocations")

REVOKED: Final = "access.revoked"
RESTORED: Final = "access.restored"
ROTATED: Final = "keys.rotated"

_LONGEST_REASON: Final = 400

Context = grpc.aio.ServicerContext[Any, Any]


class RevocationService(revocation_service_pb2_grpc.RevocationServiceServicer):
    """The calls of whoever locks doors."""

    def __init__(
        self,
        *,
        people: People,
        doors: Doors,
        cutter: Cutter,
        tokens: SessionTokens,
        checkpoint_keys: CheckpointKeys,
        chain: ServiceChain,
        database: Database,
        now: Clock,
    ) -> None:
        self._people = people
        self._doors = doors
        self._cutter = cutter
        self._tokens = tokens
        self._checkpoint_keys = checkpoint_keys
        self._chain = chain
        self._database = database
        self._now = now

    async def Revoke(self, request: pb.RevokeRequest, context: Context) -> pb.RevokeResponse:  # noqa: N802
        found = _mark(request.revoked)
        until = instant(request.until) if request.HasField("until") else None
        if until is not None and until <= self._now():
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "until is over already")
        reason = "".join(each if each.isprintable() else " " for each in request.reason)[:_LONGEST_REASON]
        who, decision_id = await self._people.decided(context, "access.revoke", ":".join(found))
        revocation = Revocation(*found, request.revoked.name, reason, who.subject.key, self._now(), until)
        facts = {"kind": found[0], "name": found[1], "by": who.subject.key, "until": until and until.isoformat()}

        def work(connection: Connection) -> None:
            stored.put(connection, revocation)
            bodies = [Body("reason", reason.encode())] if reason else []
            self._chain.write(connection, REVOKED, facts, bodies, decision_id=decision_id)

        # Counted by what is open before: the round that looks for revocations may be the one that ends it.
        opened = self._cutter.open_of(found)
        await self._database.short.run(work)
        await self._doors.read()
        log.warning("revoked", kind=found[0], name=found[1], by=who.subject.key)
        await self._cutter.cut()
        return pb.RevokeResponse(sessions_ended=sum(each.state is not SessionState.OPEN for each in opened))

    async def Restore(self, request: pb.RestoreRequest, context: Context) -> pb.RestoreResponse:  # noqa: N802
        found = _mark(request.revoked)
        who, decision_id = await self._people.decided(context, "access.restore", ":".join(found))

        def work(connection: Connection) -> bool:
            if not stored.remove(connection, *found):
                return False
            facts = {"kind": found[0], "name": found[1], "by": who.subject.key}
            self._chain.write(connection, RESTORED, facts, decision_id=decision_id)
            return True

        if not await self._database.short.run(work):
            raise Refused(grpc.StatusCode.NOT_FOUND, "that is not revoked")
        await self._doors.read()
        log.warning("restored", kind=found[0], name=found[1], by=who.subject.key)
        return pb.RestoreResponse()

    async def ListRevocations(  # noqa: N802
        self,
        request: pb.ListRevocationsRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.ListRevocationsResponse:
        await self._people.permitted(context, "access.read")
        found = await self._database.short.run(stored.every)
        return pb.ListRevocationsResponse(
            revocations=[
                pb.Revocation(
                    revoked=pb.Revoked(kind=each.kind, name=each.spelt),
                    reason=each.reason,
                    revoked_by=each.revoked_by,
                    revoked_at=timestamp(each.revoked_at),
                    until=timestamp(each.until),
                )
                for each in found
            ]
        )

    async def RotateSessionKeys(  # noqa: N802
        self,
        request: pb.RotateSessionKeysRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.RotateSessionKeysResponse:
        who, decision_id = await self._people.decided(context, "keys.rotate", PURPOSE)
        now: datetime.datetime = self._now()

        def work(connection: Connection) -> list[SigningKey]:
            key = add(connection, PURPOSE, now + AHEAD)
            facts = {"key": key.id, "purpose": PURPOSE, "by": who.subject.key}
            self._chain.write(connection, ROTATED, facts, decision_id=decision_id)
            return signing_keys(connection, PURPOSE, now)

        keys = await self._database.short.run(work)
        self._tokens.use(keys)
        return pb.RotateSessionKeysResponse(key_id=keys[0].id, signs_from=timestamp(keys[0].signs_from))

    async def RotateCheckpointKey(  # noqa: N802
        self,
        request: pb.RotateCheckpointKeyRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.RotateCheckpointKeyResponse:
        who, decision_id = await self._people.decided(context, "keys.rotate", CHECKPOINTS)
        try:
            key = await self._checkpoint_keys.rotate()
        except Elsewhere as error:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
        facts = {"key": key, "purpose": CHECKPOINTS, "by": who.subject.key}
        await self._chain.append(ROTATED, facts, decision_id=decision_id)
        return pb.RotateCheckpointKeyResponse(key_id=key)


def _mark(revoked: pb.Revoked) -> Mark:
    try:
        return mark(revoked.kind, revoked.name)
    except ValueError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
