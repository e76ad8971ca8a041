"""DisclosureService of the contract: who was shown a field, or anything that is classified so.

To ask is to read records: the policies decide it, for each session of the answer too, and it is put on record before
anything is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
from sqlalchemy import Connection

from pdp.audit.service_chain import ServiceChain
from pdp.service.admin_service import READ
from pdp.service.archive_service import READING
from pdp.service.people import People
from pdp.service.refusal import Refused
from pdp.service.times import instant, timestamp
from pdp.store import disclosures, sessions
from pdp.store.database import Database
from pdp.store.disclosures import Shown, Within
from pdp.store.sessions import StoredSession
from pdp.v1 import disclosure_service_pb2 as pb
from pdp.v1 import disclosure_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_USUAL: Final = 1000
_MOST: Final = 100_000
_LONGEST: Final = 1001


class DisclosureService(disclosure_service_pb2_grpc.DisclosureServiceServicer):
    """The call of auditors."""

    def __init__(self, *, people: People, chain: ServiceChain, database: Database) -> None:
        self._people = people
        self._chain = chain
        self._database = database

    async def ListDisclosures(  # noqa: N802
        self, request: pb.ListDisclosuresRequest, context: Context
    ) -> AsyncIterator[pb.ListDisclosuresResponse]:
        what = request.WhichOneof("what")
        asked = request.label if what == "label" else request.field
        if not asked or len(asked) > _LONGEST:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither a field nor a label")
        who, decision_id = await self._people.decided(context, READING, asked)
        within = Within(
            instant(request.since) if request.HasField("since") else None,
            instant(request.until) if request.HasField("until") else None,
            request.resource,
            min(request.limit or _USUAL, _MOST),
        )

        def look(connection: Connection) -> tuple[list[Shown], dict[str, StoredSession]]:
            find = disclosures.of_label if what == "label" else disclosures.of_field
            found = find(connection, asked, within)
            of = sessions.find_all(connection, sorted({each.session_id for each in found}))
            return found, {each.id: each for each in of}

        found, of = await self._database.bulk.run(look)
        for session in of:
            # A rule about one session holds also where it is one of many.
            await self._people.permitted(context, READING, session)
        facts = {"by": who.subject.key, "shown": {what: asked}, "sessions": sorted(of)}
        await self._chain.append(READ, facts, decision_id=decision_id)
        for each in found:
            yield _message(each, of[each.session_id])


def _message(shown: Shown, session: StoredSession) -> pb.ListDisclosuresResponse:
    return pb.ListDisclosuresResponse(
        at=timestamp(shown.at),
        session_id=session.id,
        seq=shown.seq,
        subject=session.subject.key,
        root=f"{session.subject.root.type}:{session.subject.root.id}",
        run=session.run,
        resource=session.resource,
        dataset=shown.dataset,
        field=shown.field,
        shown=pb.SHOWN_MASKED if shown.masked else pb.SHOWN_CLEAR,
        labels=shown.labels,
        rows=shown.rows,
        decision_id=shown.decision_id,
    )
