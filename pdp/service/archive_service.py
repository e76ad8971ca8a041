"""ArchiveService of the contract: what people do with what is kept, with their own tokens.

Each use is an action that the policies decide, and is put on record in the service's own chain: who had what erased,
or took a copy of what.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio
import structlog
from sqlalchemy import Connection

from pdp.audit.retention import ERASED
from pdp.audit.service_chain import ServiceChain
from pdp.identity.subject import same_person
from pdp.service.people import People
from pdp.service.refusal import Refused
from pdp.store import retention
from pdp.store import sessions as stored
from pdp.store.database import Database
from pdp.store.sessions import SessionState
from pdp.v1 import archive_service_pb2 as pb
from pdp.v1 import archive_service_pb2_grpc

log = structlog.get_logger("pdp.archive")

Context = grpc.aio.ServicerContext[Any, Any]

ERASE: Final = "records.erase"
_PAGE: Final = 500
_NAMED: Final = 1000


class ArchiveService(archive_service_pb2_grpc.ArchiveServiceServicer):
    """The calls of auditors and of those who answer for what is kept."""

    def __init__(self, *, people: People, chain: ServiceChain, database: Database) -> None:
        self._people = people
        self._chain = chain
        self._database = database

    async def EraseRecords(self, request: pb.EraseRecordsRequest, context: Context) -> pb.EraseRecordsResponse:  # noqa: N802
        match request.WhichOneof("whose"):
            case "session_id":
                return await self._erase_session(request, context)
            case "subject":
                return await self._erase_subject(request, context)
            case _:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither a session nor a subject")

    async def _erase_session(self, request: pb.EraseRecordsRequest, context: Context) -> pb.EraseRecordsResponse:
        prefix = request.session_id
        found = await self._database.short.run(lambda connection: stored.find_by_prefix(connection, prefix))
        # Asked about the whole id: a rule about one session holds for each way to name it.
        target = found[0].id if len(found) == 1 else prefix
        who, decision_id = await self._people.decided(context, ERASE, target)
        if len(found) != 1 or not prefix:
            text = "more than one session begins with that" if found and prefix else "there is no such session"
            raise Refused(grpc.StatusCode.NOT_FOUND, text)
        if found[0].state is SessionState.OPEN:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the session is open; what is to come would stay")
        answer = pb.EraseRecordsResponse()
        await self._erase(target, who.subject.key, decision_id, request, answer)
        return answer

    async def _erase_subject(self, request: pb.EraseRecordsRequest, context: Context) -> pb.EraseRecordsResponse:
        who, _ = await self._people.decided(context, ERASE, request.subject)
        kind, colon, name = request.subject.partition(":")
        if not colon or kind not in {"agent", "user", "service"} or not same_person(name):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "a subject is agent:ID, user:ID or service:ID")
        answer, after, person = pb.EraseRecordsResponse(), "", same_person(name)

        def page(connection: Connection) -> tuple[list[retention.Whose], str]:
            found, last = retention.sessions_of(connection, kind, person, after, _PAGE)
            return list(found), last

        while True:
            found, after = await self._database.bulk.run(page)
            for each in found:
                if each.open:
                    if len(answer.open) < _NAMED:
                        answer.open.append(each.id)
                    continue
                try:
                    _, decision_id = await self._people.decided(context, ERASE, each.id)
                except Refused:
                    if len(answer.refused) < _NAMED:
                        answer.refused.append(each.id)
                    continue
                await self._erase(each.id, who.subject.key, decision_id, request, answer)
            if not after:
                return answer

    async def _erase(
        self,
        session_id: str,
        by: str,
        decision_id: str,
        request: pb.EraseRecordsRequest,
        answer: pb.EraseRecordsResponse,
    ) -> None:
        def work(connection: Connection) -> tuple[int, int]:
            bodies = retention.erase_bodies_of(connection, session_id)
            texts = 0 if request.bodies_only else retention.erase_texts_of(connection, session_id)
            facts = {"why": "request", "by": by, "session": session_id, "bodies": bodies, "texts": texts}
            self._chain.write(connection, ERASED, facts, decision_id=decision_id)
            return bodies, texts

        bodies, texts = await self._database.bulk.run(work)
        log.warning("records erased", session=session_id, by=by, bodies=bodies, texts=texts)
        answer.bodies += bodies
        answer.texts += texts
        answer.sessions += bool(bodies or texts)
