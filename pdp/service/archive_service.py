"""ArchiveService of the contract: what people do with what is kept, with their own tokens.

Each use is an action that the policies decide, and is put on record in the service's own chain: who had what erased,
or took a copy of what.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio
import orjson
import structlog
from sqlalchemy import Connection

from pdp.audit.retention import ERASED
from pdp.audit.service_chain import ServiceChain
from pdp.identity.subject import Authenticated, same_person
from pdp.identity.tokens import Clock
from pdp.service.admin_service import READ
from pdp.service.people import People
from pdp.service.recorded_event import event_message
from pdp.service.refusal import Refused
from pdp.service.session_message import session_messages
from pdp.service.sessions import Sessions
from pdp.service.times import instant, timestamp
from pdp.store import approval_events, records, retention
from pdp.store import sessions as stored
from pdp.store.checkpoints import process_chains
from pdp.store.database import Database
from pdp.store.sessions import SessionState, StoredSession
from pdp.v1 import admin_service_pb2 as admin
from pdp.v1 import archive_service_pb2 as pb
from pdp.v1 import archive_service_pb2_grpc

log = structlog.get_logger("pdp.archive")

Context = grpc.aio.ServicerContext[Any, Any]

ERASE: Final = "records.erase"
EXPORT: Final = "records.export"
READING: Final = "sessions.read"
EXPORTED: Final = "records.exported"
_EVENTS: Final = 200
_SESSIONS: Final = 100
# Sessions of one run.
_RUN: Final = 10_000
_PAGE: Final = 500
_NAMED: Final = 1000


class ArchiveService(archive_service_pb2_grpc.ArchiveServiceServicer):
    """The calls of auditors and of those who answer for what is kept."""

    def __init__(
        self, *, people: People, chain: ServiceChain, database: Database, sessions: Sessions, now: Clock
    ) -> None:
        self._people = people
        self._sessions = sessions
        self._now = now
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

    async def ExportRecords(  # noqa: N802
        self, request: pb.ExportRecordsRequest, context: Context
    ) -> AsyncIterator[pb.ExportRecordsResponse]:
        if request.session_id:
            async for answer in self._export_session(request, context):
                yield answer
            return
        if not request.HasField("since"):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither a session nor since when")
        since, until = instant(request.since), instant(request.until) if request.HasField("until") else self._now()
        who, decision_id = await self._people.decided(context, EXPORT)
        facts = {"by": who.subject.key, "since": since.isoformat(), "until": until.isoformat()}
        await self._chain.append(EXPORTED, facts, decision_id=decision_id)
        after = ""
        while page := await self._database.bulk.run(partial(_opened, since=since, until=until, after=after)):
            for each in page:
                # A rule about one session holds also where it is one of many.
                await self._people.permitted(context, EXPORT, each.id)
            async for message, event in self._told(page):
                yield pb.ExportRecordsResponse(session=message, event=event)
            after = page[-1].id
        async for refused in self._refused_logins(since, until):
            yield pb.ExportRecordsResponse(refused_login=refused)
        async for event in self._changed(context, since, until):
            yield pb.ExportRecordsResponse(approval=event)

    async def _export_session(
        self, request: pb.ExportRecordsRequest, context: Context
    ) -> AsyncIterator[pb.ExportRecordsResponse]:
        session, who, decision_id = await self._one(context, EXPORT, request.session_id)
        facts = {"by": who.subject.key, "session": session.id}
        await self._chain.append(EXPORTED, facts, decision_id=decision_id)
        async for message, event in self._told([session]):
            yield pb.ExportRecordsResponse(session=message, event=event)
        asked = await self._database.short.run(lambda connection: approval_events.of_session(connection, session.id))
        if not asked:
            return
        async for change in self._approvals(session.opened_at, None):
            if _facts(change).get("approval") in asked:
                yield pb.ExportRecordsResponse(approval=change)

    async def _changed(
        self, context: Context, since: datetime.datetime, until: datetime.datetime
    ) -> AsyncIterator[admin.RecordedEvent]:
        """What became of approvals in that time; their sessions may have been opened before."""
        permitted: set[str] = set()
        async for event in self._approvals(since, until):
            facts = _facts(event)
            about = str(facts.get("session") or facts.get("approval"))
            if about not in permitted:
                await self._people.permitted(context, EXPORT, about)
                permitted.add(about)
            yield event

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:  # noqa: N802
        await self._people.permitted(context, READING)
        limit = min(request.limit or 50, _NAMED)
        names = await self._database.short.run(lambda connection: stored.latest_runs(connection, limit))
        runs = []
        for name in names:
            found = await self._database.short.run(lambda connection, name=name: stored.of_run(connection, name, _RUN))  # type: ignore[misc]
            if found:
                runs.append(self._run(name, found))
        return pb.ListRunsResponse(runs=runs)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> AsyncIterator[pb.GetRunResponse]:  # noqa: N802
        who, decision_id = await self._people.decided(context, READING, request.run)
        found = []
        if request.run:
            found = await self._database.short.run(lambda connection: stored.of_run(connection, request.run, _RUN))
        if not found:
            raise Refused(grpc.StatusCode.NOT_FOUND, "there is no session of such a run")
        for each in found:
            await self._people.permitted(context, READING, each.id)
        facts = {"by": who.subject.key, "run": request.run, "sessions": [each.id for each in found]}
        await self._chain.append(READ, facts, decision_id=decision_id)
        async for message, event in self._told(found):
            yield pb.GetRunResponse(session=message, event=event)

    async def _told(
        self, sessions: Sequence[StoredSession]
    ) -> AsyncIterator[tuple[admin.Session | None, admin.RecordedEvent | None]]:
        """Each session, then its events."""
        messages = await session_messages(self._database, self._sessions, sessions)
        for each, message in zip(sessions, messages, strict=True):
            yield message, None
            async for event in self._events(each.id):
                yield None, event

    async def _approvals(
        self, since: datetime.datetime, until: datetime.datetime | None
    ) -> AsyncIterator[admin.RecordedEvent]:
        """What became of approvals in that time, chain by chain."""
        chains = await self._database.bulk.run(lambda connection: approval_events.beginnings(connection, since))
        for chain, start in chains:
            async for event in self._events(chain, start):
                document = orjson.loads(event.event)
                if until is not None and _time(document["time"]) >= until:
                    break
                if document["type"].startswith("approval."):
                    yield event

    async def _events(self, chain: str, start: int = 0) -> AsyncIterator[admin.RecordedEvent]:
        while page := await self._database.bulk.run(
            partial(records.page, session_id=chain, start=start, limit=_EVENTS)
        ):
            for event in page:
                yield event_message(event)
            start = page[-1].seq + 1

    async def _refused_logins(
        self, since: datetime.datetime, until: datetime.datetime
    ) -> AsyncIterator[admin.RecordedEvent]:
        """They stand in the chains of proxies' processes."""
        for chain in await self._database.bulk.run(process_chains):
            async for event in self._events(chain):
                document = orjson.loads(event.event)
                if document["type"] == "login.refused" and since <= _time(document["time"]) < until:
                    yield event

    def _run(self, name: str, sessions: Sequence[StoredSession]) -> pb.Run:
        verdicts: Counter[str] = Counter()
        for each in sessions:
            verdicts += Counter(each.verdicts) + Counter(self._sessions.verdicts(each.id))
        return pb.Run(
            run=name,
            first=timestamp(sessions[0].opened_at),
            last=timestamp(sessions[-1].opened_at),
            sessions=len(sessions),
            open=sum(each.state is SessionState.OPEN for each in sessions),
            resources=sorted({each.resource for each in sessions}),
            subjects=sorted({each.subject.key for each in sessions}),
            verdicts=verdicts,
        )

    async def _one(self, context: Context, action: str, prefix: str) -> tuple[StoredSession, Authenticated, str]:
        """The session that is meant, if the policies allow the caller this with that very session."""
        found = await self._database.short.run(lambda connection: stored.find_by_prefix(connection, prefix))
        # Asked about the whole id: a rule about one session holds for each way to name it.
        target = found[0].id if len(found) == 1 else prefix
        who, decision_id = await self._people.decided(context, action, target)
        if len(found) != 1:
            text = "more than one session begins with that" if found else "there is no such session"
            raise Refused(grpc.StatusCode.NOT_FOUND, text)
        return found[0], who, decision_id

    async def _erase_session(self, request: pb.EraseRecordsRequest, context: Context) -> pb.EraseRecordsResponse:
        if not request.session_id:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither a session nor a subject")
        session, who, decision_id = await self._one(context, ERASE, request.session_id)
        if session.state is SessionState.OPEN:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the session is open; what is to come would stay")
        answer = pb.EraseRecordsResponse()
        await self._erase(session.id, who.subject.key, decision_id, request, answer)
        await self._database.forget()
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
                await self._database.forget()
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


def _opened(
    connection: Connection, since: datetime.datetime, until: datetime.datetime, after: str
) -> list[StoredSession]:
    return stored.opened_between(connection, since, until, after, _SESSIONS)


def _facts(event: admin.RecordedEvent) -> Mapping[str, Any]:
    facts = orjson.loads(event.event).get("facts")
    return facts if isinstance(facts, dict) else {}


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
