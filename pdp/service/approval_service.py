"""ApprovalService of the contract: an action is held for people, and used once they agreed.

A proxy can forge nothing here: the digest is computed again, the decision is taken again, both when the approval is
asked for and when it is used, and `context.approval` comes from the store alone.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.approvals import rules
from pdp.approvals.approvals import Approvals, Redeemed
from pdp.approvals.errors import NotPossible, TooMany
from pdp.config import Approvals as Settings
from pdp.identity.subject import same_person
from pdp.identity.tokens import Clock
from pdp.opa.engine import PolicyEngine
from pdp.policy_result import Requirement, limit_affected
from pdp.service.action_digest import digest, fingerprint
from pdp.service.decider import Decider, new_id
from pdp.service.estimate import estimate_document
from pdp.service.judged import judged
from pdp.service.peers import Peers
from pdp.service.refusal import Refused
from pdp.service.sessions import LiveSession, Sessions
from pdp.store.approvals import Approval, ApprovalState
from pdp.store.sessions import SessionState
from pdp.v1 import access_pb2, approval_service_pb2_grpc, decision_pb2
from pdp.v1 import approval_service_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]

STATES: Mapping[ApprovalState, pb.ApprovalState] = {
    ApprovalState.PENDING: pb.APPROVAL_STATE_PENDING,
    ApprovalState.APPROVED: pb.APPROVAL_STATE_APPROVED,
    ApprovalState.DENIED: pb.APPROVAL_STATE_DENIED,
    ApprovalState.EXPIRED: pb.APPROVAL_STATE_EXPIRED,
    ApprovalState.CANCELLED: pb.APPROVAL_STATE_CANCELLED,
    ApprovalState.REDEEMED: pb.APPROVAL_STATE_REDEEMED,
    ApprovalState.WITHDRAWN: pb.APPROVAL_STATE_WITHDRAWN,
}


# What a proxy makes up for itself, and the store keeps.
_LONGEST_ID: Final = 128


class ApprovalService(approval_service_pb2_grpc.ApprovalServiceServicer):
    """The calls of a proxy that holds an action."""

    def __init__(
        self,
        *,
        peers: Peers,
        sessions: Sessions,
        decider: Decider,
        engine: PolicyEngine,
        approvals: Approvals,
        settings: Settings,
        now: Clock,
    ) -> None:
        self._peers = peers
        self._sessions = sessions
        self._decider = decider
        self._engine = engine
        self._approvals = approvals
        self._settings = settings
        self._now = now

    async def RequestApproval(  # noqa: N802
        self, request: pb.RequestApprovalRequest, context: Context
    ) -> pb.RequestApprovalResponse:
        session = await self._sessions.authorize(request.token, self._peers.calling(context))
        if not 0 < len(request.idempotency_key) <= _LONGEST_ID:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"an idempotency key is needed, of at most {_LONGEST_ID} letters"
            )
        kept = session.stored
        computed = digest(request.action, kept.subject.key, kept.resource)
        if computed != request.action_digest:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the digest is not that of the action")
        requirements = await self._requirements(session, request)
        wait = self._wait(request, requirements)
        now = self._now()
        documents = tuple(dict(each.document) for each in requirements)
        asked = Approval(
            id=new_id("a"),
            idempotency_key=request.idempotency_key,
            session_id=session.id,
            decision_id=request.decision_id,
            resource=kept.resource,
            subject=kept.subject,
            holder=rules.holder(kept.subject),
            root=same_person(kept.subject.root.id),
            action=request.action.SerializeToString(deterministic=True),
            action_digest=computed,
            requirements=documents,
            state=ApprovalState.PENDING,
            in_transaction=request.in_transaction,
            created_at=now,
            expires_at=now + wait,
            uses_left=rules.uses(documents),
            detached=request.detached,
            fold=rules.fold(kept.subject, kept.resource, request.action),
            estimate=estimate_document(request.estimate),
            max_rows=await self._limit(session, request.action, documents),
        )
        try:
            made = await self._approvals.create(asked)
        except TooMany as error:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
        except NotPossible as error:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, str(error)) from None
        if session.state is not SessionState.OPEN:
            # It ended while the question was written down, so its end has not seen the question.
            await self._approvals.session_ended(session.id, killed=session.state is SessionState.KILLED)
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the session has ended: {session.ended_because}")
        return self._response(made)

    def _response(self, approval: Approval) -> pb.RequestApprovalResponse:
        address = self._settings.address
        end = Timestamp()
        end.FromDatetime(approval.expires_at)
        approvers = dict.fromkeys(name for each in approval.requirements for name in each["approvers"])
        return pb.RequestApprovalResponse(
            approval_id=approval.id,
            url=f"{address.rstrip('/')}/approvals/{approval.id}" if address else f"pdp approvals show {approval.id}",
            expires_at=end,
            approvers=list(approvers),
            state=STATES[approval.state],
        )

    async def _requirements(self, session: LiveSession, request: pb.RequestApprovalRequest) -> tuple[Requirement, ...]:
        """What the policies require now, for an action of which they said so before in this session."""
        held = session.held.get(request.decision_id)
        if held is None:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION, "no such decision of this session required approval; decide again"
            )
        if held.fingerprint != fingerprint(request.action):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the decision was about another action")
        action = await self._as_policies_see(request.action, session.stored.resource)
        (answer,) = await self._decider.decide(session.asker(), [action], batch=held.batch)
        if answer.decision.WhichOneof("verdict") != "require_approval":
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the policies have changed their answer; decide again")
        return answer.result.requirements

    async def _limit(
        self, session: LiveSession, action: access_pb2.Action, requirements: tuple[Mapping[str, Any], ...]
    ) -> int | None:
        """The most rows that the policies would let change if people agreed; those may only set a smaller limit."""
        if rules.uncounted(action) is not None:
            return None
        supposed = {"id": "supposed", "state": "approved", "requirements": [*requirements], "by": []}
        seen = await self._as_policies_see(action, session.stored.resource)
        return limit_affected(await self._decider.foresee(session.asker(), seen, supposed))

    async def _as_policies_see(self, action: access_pb2.Action, resource: str) -> access_pb2.Action:
        """The action with only so much of its statement as the bound policies read."""
        paths = await self._engine.input_paths(resource)
        seen = access_pb2.Action()
        seen.CopyFrom(action)
        reads_text = any(path.endswith("statement.text") for path in paths)
        reads_parameters = any(path.endswith("statement.parameters") for path in paths)
        if not reads_text and not reads_parameters:
            seen.ClearField("statement")
        elif not reads_parameters:
            seen.statement.ClearField("parameters_json")
        return seen

    def _wait(self, request: pb.RequestApprovalRequest, requirements: tuple[Requirement, ...]) -> datetime.timedelta:
        waits = [each.wait for each in requirements]
        if request.HasField("hold"):
            waits.append(max(request.hold.ToTimedelta(), datetime.timedelta(0)))
        if request.in_transaction:
            waits.append(self._settings.max_in_transaction)
        return min(waits)

    async def AwaitApproval(  # noqa: N802
        self, request: pb.AwaitApprovalRequest, context: Context
    ) -> AsyncIterator[pb.AwaitApprovalResponse]:
        session = await self._sessions.authorize(request.token, self._peers.calling(context))
        await self._own(session, request.approval_id)

        def judge() -> None:
            self._sessions.check(request.token, self._peers.calling(context))

        async for approval in judged(self._approvals.follow(request.approval_id), judge):
            yield pb.AwaitApprovalResponse(state=STATES[approval.state], comment=approval.comment)

    async def CancelApproval(  # noqa: N802
        self, request: pb.CancelApprovalRequest, context: Context
    ) -> pb.CancelApprovalResponse:
        session = await self._sessions.refreshable(request.token, self._peers.calling(context))
        approval = await self._own(session, request.approval_id)
        await self._approvals.cancel(approval.id, request.reason, windows=False)
        return pb.CancelApprovalResponse()

    async def RedeemApproval(  # noqa: N802
        self, request: pb.RedeemApprovalRequest, context: Context
    ) -> pb.RedeemApprovalResponse:
        session = await self._sessions.authorize(request.token, self._peers.calling(context))
        if not 0 < len(request.execution_id) <= _LONGEST_ID:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"an execution id is needed, of at most {_LONGEST_ID} letters"
            )
        approval = await self._own(session, request.approval_id)
        asker = session.asker()
        if request.action_digest != approval.action_digest:
            message = "What would run is not what was approved; ask again."
            refused = self._decider.deny(asker, "approval-changed", message, action="approval")
            return pb.RedeemApprovalResponse(decision=refused.decision)
        action = await self._as_policies_see(access_pb2.Action.FromString(approval.action), approval.resource)

        async def decide(document: dict[str, Any]) -> Redeemed:
            (answer,) = await self._decider.decide(
                asker, [action], approval=document, batch=(0, 1), max_rows=approval.max_rows
            )
            session.count(answer.decision.WhichOneof("verdict"))
            decision = answer.decision
            return Redeemed(
                decision.SerializeToString(),
                final=not decision.deny.retry,
                decision_id=decision.decision_id,
                revision=decision.policy_revision,
                verdict=decision.WhichOneof("verdict") or "deny",
            )

        try:
            # An execution is one session's: the same id out of another session is another execution, and takes a use.
            given = await self._approvals.redeem(approval, f"{session.id}:{request.execution_id}", decide)
        except NotPossible as error:
            refused = self._decider.deny(asker, "approval-not-usable", f"{_sentence(error)}.", action="approval")
            return pb.RedeemApprovalResponse(decision=refused.decision)
        if session.state is not SessionState.OPEN:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the session has ended: {session.ended_because}")
        return pb.RedeemApprovalResponse(decision=decision_pb2.Decision.FromString(given))

    async def _own(self, session: LiveSession, approval_id: str) -> Approval:
        """The approval, if it is this subject's, in this thread and run, on this resource."""
        approval = await self._approvals.find(approval_id)
        kept = session.stored
        if approval is None or (approval.holder, approval.resource) != (rules.holder(kept.subject), kept.resource):
            raise Refused(grpc.StatusCode.NOT_FOUND, "this subject has no such approval")
        return approval


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
