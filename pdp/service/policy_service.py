"""PolicyService of the contract: what was in force when, going back, and why a decision was as it was.

Whoever goes back or reads a decision is on record in the service's own chain before they are answered.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
import orjson
import structlog

from pdp.audit.service_chain import ServiceChain
from pdp.decisions.explain import Explained, Explainer
from pdp.decisions.log import DecisionLog
from pdp.decisions.trace import Rule
from pdp.opa.engine import PolicyEngine
from pdp.opa.program import OpaFailed
from pdp.policies.bundle import is_of
from pdp.policies.difference import differences
from pdp.policies.problems import PolicyError
from pdp.policy_result import ResultError, expired, parse_result
from pdp.service.people import People
from pdp.service.policy_history import PolicyHistory
from pdp.service.refusal import Refused
from pdp.service.times import timestamp
from pdp.store import decisions as stored
from pdp.store import policies as stored_policies
from pdp.store.database import Database
from pdp.store.decisions import StoredDecision
from pdp.v1 import policy_service_pb2 as pb
from pdp.v1 import policy_service_pb2_grpc

log = structlog.get_logger("pdp.policies")

Context = grpc.aio.ServicerContext[Any, Any]

EXPLAINED: Final = "decision.explained"
_DEFAULT: Final = 50
_MOST: Final = 1000
_LONGEST_TRACE: Final = 16 << 20
_LONGEST_DIFF: Final = 20_000


class PolicyService(policy_service_pb2_grpc.PolicyServiceServicer):
    """The calls about policies and decisions."""

    def __init__(
        self,
        *,
        people: People,
        engine: PolicyEngine,
        history: PolicyHistory,
        decisions: DecisionLog,
        explainer: Explainer,
        chain: ServiceChain,
        database: Database,
    ) -> None:
        self._people = people
        self._engine = engine
        self._history = history
        self._decisions = decisions
        self._explainer = explainer
        self._chain = chain
        self._database = database

    async def ListPolicyChanges(  # noqa: N802
        self, request: pb.ListPolicyChangesRequest, context: Context
    ) -> pb.ListPolicyChangesResponse:
        await self._people.permitted(context, "policy.read")
        limit = min(request.limit or _DEFAULT, _MOST)
        found = await self._database.short.run(lambda connection: stored_policies.newest(connection, limit))
        return pb.ListPolicyChangesResponse(
            changes=[
                pb.PolicyChange(
                    at=timestamp(each.at),
                    change=each.change,
                    revision=each.revision,
                    by=each.by,
                    changes=each.changes,
                    problems=each.problems,
                    kept=each.kept,
                )
                for each in found
            ]
        )

    async def DiffPolicies(self, request: pb.DiffPoliciesRequest, context: Context) -> pb.DiffPoliciesResponse:  # noqa: N802
        await self._people.permitted(context, "policy.read")
        _, before = await self._bundle(request.before)
        _, after = await self._bundle(request.after or self._engine.revision)
        lines = list(differences(before, after))
        if len(lines) > _LONGEST_DIFF:
            lines = [*lines[:_LONGEST_DIFF], f"({len(lines) - _LONGEST_DIFF} more lines)"]
        return pb.DiffPoliciesResponse(lines=lines)

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.RollBackResponse:  # noqa: N802
        who, decision_id = await self._people.decided(context, "policy.rollback", request.revision)
        revision, content = await self._bundle(request.revision)
        try:
            await self._history.roll_back(revision, content, who.subject.key, decision_id)
        except (PolicyError, OpaFailed) as error:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"it cannot be put in force: {error}") from None
        return pb.RollBackResponse(revision=self._engine.revision)

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:  # noqa: ARG002, N802
        who, decision_id = await self._people.decided(context, "policy.rollback")
        if not await self._history.resume(who.subject.key, decision_id):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the policy files are what is in force")
        return pb.ResumeResponse(revision=self._engine.revision, policy_error=self._engine.policy_error)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Context) -> pb.ListDecisionsResponse:  # noqa: N802
        await self._people.permitted(context, "decisions.read")
        await self._decisions.stored()
        found = await self._database.bulk.run(
            lambda connection: stored.newest(
                connection,
                limit=min(request.limit or _DEFAULT, _MOST),
                session=request.session_id,
                verdict=request.verdict,
                policy=request.policy,
                subject=request.subject,
            )
        )
        return pb.ListDecisionsResponse(decisions=[_message(each) for each in found])

    async def ExplainDecision(  # noqa: N802
        self, request: pb.ExplainDecisionRequest, context: Context
    ) -> pb.ExplainDecisionResponse:
        prefix = request.decision_id
        await self._decisions.stored()
        found = await self._database.bulk.run(lambda connection: stored.find(connection, prefix)) if prefix else []
        whole = found[0].id if len(found) == 1 else prefix
        who, decision_id = await self._people.decided(context, "decisions.explain", whole)
        if len(found) != 1:
            said = "more than one decision begins with that" if found else "no such decision is kept"
            raise Refused(grpc.StatusCode.NOT_FOUND, said)
        decision = found[0]
        facts = {"by": who.subject.key, "decision": decision.id}
        await self._chain.append(EXPLAINED, facts, decision_id=decision_id, policy_revision=self._engine.revision)
        answer = pb.ExplainDecisionResponse(
            decision=_message(decision),
            answer_json=orjson.dumps(decision.answer),
            input_json=b"" if decision.input is None else orjson.dumps(decision.input),
        )
        explained = await self._again(decision)
        if isinstance(explained, str):
            answer.not_repeated = explained
            return answer
        answer.again_json = orjson.dumps(explained.answer)
        answer.same = _same(decision, explained)
        answer.contributed.extend(_rule(each) for each in explained.contributed)
        answer.missed.extend(_rule(each) for each in explained.missed)
        if request.trace:
            answer.trace = explained.trace[:_LONGEST_TRACE]
        return answer

    async def _again(self, decision: StoredDecision) -> Explained | str:
        """What the same bundle makes of the same input, or why that cannot be known."""
        if decision.input is None:
            return "what was asked is not kept any more"
        if not decision.intact:
            return "what was asked is not as it was written: the store was changed"
        if not decision.evaluated:
            return "the policies did not answer: this service decided in their place"
        run = self._database.bulk.run
        bundle = await run(lambda connection: stored_policies.bundle(connection, decision.revision))
        if bundle is None:
            return "the policies that decided are not kept any more"
        if not await asyncio.to_thread(is_of, bundle, decision.revision):
            return "the policies that decided are not as they were written: the store was changed"
        try:
            return await self._explainer.explain(bundle, decision.input)
        except OpaFailed as error:
            return f"it could not be evaluated again: {error}"

    async def _bundle(self, prefix: str) -> tuple[str, bytes]:
        found = []
        if prefix:
            found = await self._database.short.run(lambda connection: stored_policies.revisions(connection, prefix))
        if len(found) != 1:
            said = "more than one revision begins with that" if found else "no such revision is kept"
            raise Refused(grpc.StatusCode.NOT_FOUND, said)
        content = await self._database.short.run(lambda connection: stored_policies.bundle(connection, found[0]))
        if content is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, "no such revision is kept")
        if not await asyncio.to_thread(is_of, content, found[0]):
            log.critical("a kept bundle is not that of its revision", revision=found[0], alarm=True)
            raise Refused(grpc.StatusCode.DATA_LOSS, "what is kept of that revision is not it: the store was changed")
        return found[0], content


def _same(decision: StoredDecision, explained: Explained) -> bool:
    """Whether the answer is the one that was given; OPA's sets come in no order of their own."""
    try:
        again = expired(parse_result(explained.answer, decision.revision), decision.at)
    except ResultError:
        return False
    if again.document is None:
        return again.verdict.value == decision.verdict
    return bool(_sorted(again.document) == _sorted(decision.answer))


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {name: _sorted(each) for name, each in value.items()}
        case list():
            return sorted(
                (_sorted(each) for each in value), key=lambda each: orjson.dumps(each, option=orjson.OPT_SORT_KEYS)
            )
        case _:
            return value


def _message(decision: StoredDecision) -> pb.KeptDecision:
    return pb.KeptDecision(
        decision_id=decision.id,
        at=timestamp(decision.at),
        session_id=decision.session,
        subject=decision.subject,
        resource=decision.resource,
        action=decision.action,
        verdict=decision.verdict,
        policies=decision.policies,
        revision=decision.revision,
    )


def _rule(rule: Rule) -> pb.RuleReached:
    return pb.RuleReached(
        policy=rule.policy,
        kind=rule.kind,
        code=rule.code,
        file=rule.file,
        line=rule.line,
        stopped_at=[pb.Condition(file=each.file, line=each.line, text=each.text) for each in rule.stopped_at],
    )
