"""AdminService of the contract: what people do at the command line, each with their own token.

Every action is decided by the same policies, on the resource `checkrein`. Beside what policies say, some things are
never possible: nobody answers their own request (`pdp.approvals.rules`), and a token that is minted here speaks for no
other person than the one who has it made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
import structlog

from pdp.approvals import rules
from pdp.approvals.approvals import Approvals
from pdp.approvals.errors import NotNarrower, NotPermitted, NotPossible
from pdp.approvals.sentence import decided_sentence
from pdp.audit.service_chain import ServiceChain
from pdp.identity.subject import Authenticated, Party, same_person
from pdp.identity.tokens import OwnIssuer, TokenRequest
from pdp.opa.engine import PolicyEngine
from pdp.service.approval_messages import approval_message
from pdp.service.approval_service import STATES
from pdp.service.decider import Decider
from pdp.service.people import People
from pdp.service.recorded_event import event_message
from pdp.service.refusal import Refused
from pdp.service.session_message import session_messages
from pdp.service.sessions import Sessions
from pdp.service.times import timestamp
from pdp.service.watch import Watchers
from pdp.store import records as stored_records
from pdp.store import run_decisions
from pdp.store import sessions as stored
from pdp.store.approvals import Approval, ApprovalState
from pdp.store.database import Database
from pdp.store.sessions import SessionState, StoredSession
from pdp.v1 import access_pb2, admin_service_pb2_grpc
from pdp.v1 import admin_service_pb2 as pb

log = structlog.get_logger("pdp.admin")

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

READ: Final = "records.read"
KILLED: Final = "session.killed"
MINTED: Final = "token.minted"
_PAGE: Final = 200
# What else the run did, for whoever is to approve one thing of it.
_RECENT: Final = 10
_MOST_SESSIONS: Final = 1000
_BY_NUMBER: Final = {number: state for state, number in STATES.items()}


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """The calls of people."""

    def __init__(
        self,
        *,
        people: People,
        issuer: OwnIssuer | None,
        sessions: Sessions,
        approvals: Approvals,
        decider: Decider,
        engine: PolicyEngine,
        watchers: Watchers,
        database: Database,
        chain: ServiceChain,
        notes: Callable[[], Sequence[str]],
    ) -> None:
        self._people = people
        self._issuer = issuer
        self._sessions = sessions
        self._approvals = approvals
        self._decider = decider
        self._engine = engine
        self._watchers = watchers
        self._database = database
        self._chain = chain
        self._notes = notes

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Context) -> pb.ListApprovalsResponse:  # noqa: N802
        await self._people.permitted(context, "approvals.read")
        states = [_BY_NUMBER[state] for state in request.states if state in _BY_NUMBER] or [ApprovalState.PENDING]
        found = await self._approvals.list(states)
        shown = found if request.unfolded else folded(found)
        alike = {each.fold: len(await self._approvals.alike(each)) for each in shown if _waits(each)}
        return pb.ListApprovalsResponse(
            approvals=[
                approval_message(
                    each,
                    self._engine.owners(each.resource),
                    alike=alike.get(each.fold, 0) if _waits(each) else 0,
                )
                for each in shown
            ]
        )

    async def GetApproval(self, request: pb.GetApprovalRequest, context: Context) -> pb.GetApprovalResponse:  # noqa: N802
        found = await self._approvals.find_by_prefix(request.approval_id) if request.approval_id else []
        await self._people.permitted(
            context, "approvals.read", _target([each.id for each in found], request.approval_id)
        )
        approval = _only(found, "approval")
        touched = rules.datasets(access_pb2.Action.FromString(approval.action))
        _, hidden = await self._people.seeing(
            context, "approval.view", approval.id, resource=approval.resource, datasets=touched
        )
        alike = len(await self._approvals.alike(approval)) if _waits(approval) else 0
        message = approval_message(approval, self._engine.owners(approval.resource), alike=alike, hidden=hidden)
        return pb.GetApprovalResponse(approval=message, recent=await self._recent(approval, values=not hidden))

    async def _recent(self, approval: Approval, *, values: bool) -> list[pb.RecentAction]:
        run = str(approval.subject.workflow.get("run", ""))
        found = await self._database.short.run(
            lambda connection: run_decisions.latest(connection, run=run, session=approval.session_id, limit=_RECENT)
        )
        return [
            pb.RecentAction(
                at=timestamp(each.at),
                resource=each.resource,
                sentence=decided_sentence(each.name, each.action, values=values),
                verdict=each.verdict,
                decision_id=each.id,
            )
            for each in found
        ]

    async def ResolveApproval(  # noqa: N802
        self, request: pb.ResolveApprovalRequest, context: Context
    ) -> pb.ResolveApprovalResponse:
        who = await self._people.permitted(context, "approve", request.approval_id)
        max_rows: int | None = None
        match request.WhichOneof("answer"):
            case "yes":
                refusal = None
                max_rows = request.yes.max_rows if request.yes.HasField("max_rows") else None
            case "no":
                refusal = request.no.comment
            case _:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither yes nor no")
        try:
            approval = await self._approvals.resolve(
                request.approval_id, who, request.action_digest, refusal, max_rows=max_rows
            )
        except NotNarrower as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        except NotPermitted as error:
            log.warning("approval not permitted", approval=request.approval_id, by=who.subject.key, why=str(error))
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
        except NotPossible as error:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
        return pb.ResolveApprovalResponse(approval=approval_message(approval))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: N802
        await self._people.permitted(context, "sessions.read")
        limit = min(request.limit or 50, _MOST_SESSIONS)
        found = await self._database.short.run(
            lambda connection: stored.newest(connection, limit=limit, open_only=request.open_only, run=request.run)
        )
        return pb.ListSessionsResponse(sessions=await self._session_messages(found))

    async def GetSession(  # noqa: N802
        self, request: pb.GetSessionRequest, context: Context
    ) -> AsyncIterator[pb.GetSessionResponse]:
        who, session = await self._session(context, "sessions.read", request.session_id)
        # Who reads what people did is on record before anything is shown.
        await self._chain.append(READ, {"by": who.subject.key, "session": session.id})
        (message,) = await self._session_messages([session])
        yield pb.GetSessionResponse(session=message)
        start = 0
        while page := await self._page(session.id, start):
            for each in page:
                yield pb.GetSessionResponse(event=event_message(each))
            start = page[-1].seq + 1

    async def _page(self, session_id: str, start: int) -> list[stored_records.StoredEvent]:
        return await self._database.bulk.run(
            lambda connection: stored_records.page(connection, session_id, start, _PAGE)
        )

    async def KillSession(self, request: pb.KillSessionRequest, context: Context) -> pb.KillSessionResponse:  # noqa: N802
        who, session = await self._session(context, "sessions.kill", request.session_id)
        reason = request.reason or "ended by an operator"
        if not await self._sessions.end(session.id, SessionState.KILLED, reason):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the session has ended already")
        # Afterwards: what cannot be put on record must not keep a session open.
        await self._chain.append(KILLED, {"by": who.subject.key, "session": session.id})
        log.info("session killed", session=session.id, by=who.subject.key)
        return pb.KillSessionResponse()

    async def MintToken(self, request: pb.MintTokenRequest, context: Context) -> pb.MintTokenResponse:  # noqa: N802
        who = await self._people.permitted(context, "token.mint", f"{request.subject_type}:{request.subject_id}")
        if self._issuer is None:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "identity.issuers has none with self: true")
        try:
            wanted = token_request(request, who)
            if not self._decider.knows(wanted.audience):
                raise ValueError(f"there is no resource {wanted.audience}")
            minted = self._issuer.mint(wanted, not_after=who.expires_at)
        except PermissionError as error:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
        except ValueError as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        facts = {
            "by": who.subject.key,
            "subject": f"{wanted.subject.type}:{wanted.subject.id}",
            "audience": wanted.audience,
            "expires": minted.expires_at.isoformat(),
        }
        await self._chain.append(MINTED, facts)
        log.info("token minted", subject=wanted.subject.id, audience=wanted.audience, by=who.subject.key)
        return pb.MintTokenResponse(token=minted.token, expires_at=timestamp(minted.expires_at))

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: ARG002, N802
        await self._people.permitted(context, "status.read")
        engine = self._engine
        # Asked first: files that change from here on are a change that comes after this answer.
        changing = await engine.changing()
        return pb.GetStatusResponse(
            policy_revision=engine.revision,
            activated_at=timestamp(engine.activated_at),
            in_force=self._watchers.in_force(engine.revision),
            policy_error=engine.policy_error,
            opa_ready=engine.ready,
            opa_restarts=engine.restarts,
            proxies=[
                pb.ProxyStatus(name=each.name, policy_revision=each.revision, spool=each.spool)
                for each in self._watchers.leases()
            ],
            open_sessions=await self._sessions.count_open(),
            pending_approvals=await self._approvals.pending_count(),
            policies_changing=changing,
            rolled_back=_went_back(engine),
            notes=self._notes(),
        )

    async def _session(self, context: Context, action: str, prefix: str) -> tuple[Authenticated, StoredSession]:
        """Who calls and the session they mean, if the policies allow them this with that very session."""
        found: Sequence[StoredSession] = []
        if prefix:
            found = await self._database.short.run(lambda connection: stored.find_by_prefix(connection, prefix))
        who = await self._people.permitted(context, action, _target([each.id for each in found], prefix))
        return who, _only(found, "session")

    async def _session_messages(self, sessions: Sequence[StoredSession]) -> list[pb.Session]:
        return await session_messages(self._database, self._sessions, sessions)


def token_request(request: pb.MintTokenRequest, who: Authenticated) -> TokenRequest:
    """What the token is to say. PermissionError where it would speak for another person than the one who asks."""
    minter = who.subject
    person = same_person(minter.id) if minter.type == "user" else None
    subject = Party(request.subject_type, request.subject_id, tuple(request.groups))
    behind = None
    if request.HasField("on_behalf_of"):
        party = request.on_behalf_of
        behind = Party(party.type, party.id, tuple(party.groups))
    for each in (subject, behind):
        if each is None:
            continue
        if each.type not in {"agent", "user", "service"} or not each.id:
            raise ValueError("a subject is an agent, a user or a service, and has an id")
        if each is behind and each.type != "user" and not set(each.groups) <= set(minter.groups):
            # Policies take these groups for those of whoever answers for the agent.
            raise PermissionError("a token puts nobody behind an agent with groups that its maker is not in")
        if each.type != "user":
            continue
        if same_person(each.id) != person:
            raise PermissionError("a token speaks for no other person than the one who has it made")
        if not set(each.groups) <= set(minter.groups):
            raise PermissionError("a token names no group that its person is not in")
    return TokenRequest(
        subject=subject,
        audience=request.audience,
        on_behalf_of=behind,
        workflow=dict(request.workflow),
        minted_by=tuple(dict.fromkeys((minter.id, minter.root.id, *minter.behind))),
        also=minter.also,
        lifetime=request.lifetime.ToTimedelta() if request.HasField("lifetime") else None,
        # A token does not make its bearer any fresher.
        signed_in_at=who.signed_in_at,
        once=request.once,
    )


def folded(approvals: Sequence[Approval]) -> list[Approval]:
    """Of those that wait and are alike the oldest alone; all others. `approvals` are the newest first."""
    oldest = {each.fold: each.id for each in approvals if _waits(each)}
    return [each for each in approvals if not _waits(each) or oldest[each.fold] == each.id]


def _waits(approval: Approval) -> bool:
    return approval.state is ApprovalState.PENDING


def _went_back(engine: PolicyEngine) -> str:
    pin = engine.pinned
    return "" if pin is None else f"rolled back by {pin.by} at {pin.at:%Y-%m-%d %H:%M:%SZ}"


def _target(found: Sequence[str], prefix: str) -> str:
    """What the policies are asked about: the whole id. A rule about one session must hold for each way to name it."""
    return found[0] if len(found) == 1 else prefix


def _only(found: Sequence[T], what: str) -> T:
    if len(found) != 1:
        text = f"more than one {what} begins with that" if found else f"there is no such {what}"
        raise Refused(grpc.StatusCode.NOT_FOUND, text)
    return found[0]
