"""The decision client with its calls timed and traced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pdp.v1.tracing import Span, Tracer
from pep.core.decision_client import Login
from pep.core.decision_records import verdict_name
from pep.core.errors import DecisionUnavailable
from pep.core.grpc_client import GrpcDecisionClient
from pep.core.meters import Meters
from pep.core.model import Action, Answer, Decision, Deny
from pep.core.sessions import SessionHandle


class MeteredDecisionClient(GrpcDecisionClient):
    """What `GrpcDecisionClient` does; `options` are its own."""

    def __init__(self, *arguments: Any, meters: Meters, tracer: Tracer, **options: Any) -> None:
        super().__init__(*arguments, tracer=tracer, **options)
        self._meters = meters

    async def open_session(self, login: Login) -> SessionHandle | Deny:
        with self._stage("open", resource=login.resource, protocol=login.protocol) as span:
            answer = await super().open_session(login)
            if isinstance(answer, SessionHandle):
                span.set("session", answer.session_id)
            return answer

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Answer, ...]:
        with self._stage("decide", session=session.session_id, resource=session.resource) as span:
            decisions = await super().decide(session, actions)
            span.set("decisions", [decision.decision_id for decision in decisions])
            span.set("verdicts", [verdict_name(decision) for decision in decisions])
            return decisions

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision:
        with self._stage("redeem", session=session.session_id, approval=approval_id) as span:
            decision = await super().redeem_approval(session, approval_id, digest, execution_id)
            span.set("verdict", verdict_name(decision))
            return decision

    @contextmanager
    def _stage(self, stage: str, **attributes: str) -> Iterator[Span]:
        with self._meters.timed(stage), self._tracer.span(f"checkrein.{stage}", attributes) as span:
            try:
                yield span
            except DecisionUnavailable:
                self._meters.unavailable(stage)
                raise
