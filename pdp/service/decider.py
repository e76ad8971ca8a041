"""One question to the policies: the input document is built, checked, asked, answered and logged here, and only here.

Every answer goes to the decision log (`pdp.decisions`) on its way, which it does not wait for.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from pdp import input as policy_input
from pdp.config import ADMINISTRATION, Service
from pdp.decision_message import to_proto
from pdp.decisions.decided import Decided
from pdp.identity.subject import Subject
from pdp.identity.tokens import Clock
from pdp.opa.engine import PolicyEngine
from pdp.policy_result import PolicyResult, Verdict, denied, expired, narrowed
from pdp.service.estimate import estimate_document
from pdp.service.labels import labels_of
from pdp.service.refusal import Refused
from pdp.v1 import access_pb2, decision_pb2
from pdp.v1.tracing import Tracer
from pdp.v1.turns import Turns

log = structlog.get_logger("pdp.decider")


def new_id(kind: str) -> str:
    """An id that nobody can guess, short enough for an error message: `d-` and sixteen letters and digits."""
    return f"{kind}-{base64.b32encode(os.urandom(10)).decode().lower()}"


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf, and out of which session, the policies are asked."""

    subject: Subject
    resource: str
    session: str
    client_address: str = ""
    labels: Mapping[str, str] | None = None
    supported: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision as it is sent, and as the policies gave it."""

    decision: decision_pb2.Decision
    result: PolicyResult


def targets(settings: Service) -> list[policy_input.Resource]:
    """The configured targets, as policies see them."""
    return [
        policy_input.Resource(name, each.type, each.labels, each.database or "")
        for name, each in settings.resources.items()
    ]


class Decider:
    """Asks the policies."""

    def __init__(
        self,
        engine: PolicyEngine,
        settings: Service,
        now: Clock,
        told: Callable[[Decided], None],
        tracer: Tracer,
    ) -> None:
        self._tracer = tracer
        limits = settings.limits
        # What OPA has to do at once: who asks for much waits for its own.
        self._turns = Turns(limits.decisions_at_once, limits.decisions_at_once_per_subject)
        self._engine = engine
        self._told = told
        self._now = now
        self._resources = {each.id: each for each in targets(settings)}
        self._resources[ADMINISTRATION] = policy_input.Resource(ADMINISTRATION, ADMINISTRATION)

    def knows(self, resource: str) -> bool:
        """Whether the resource is configured."""
        return resource in self._resources

    async def decide(
        self,
        asker: Asker,
        actions: Sequence[access_pb2.Action],
        *,
        approval: Mapping[str, Any] | None = None,
        batch: tuple[int, int] | None = None,
        max_rows: int | None = None,
    ) -> list[Answer]:
        """One answer for each action, in order; Refused with INVALID_ARGUMENT if any action is not well formed.

        `batch` is the place of a single action in the exchange that it is of; by default its place among `actions`.
        `max_rows` is a limit that people have set: a grant lets no more rows change, whatever the policies say.
        """
        documents = []
        for index, action in enumerate(actions):
            if index:
                # Checking a large action takes a while; others are answered in between.
                await asyncio.sleep(0)
            place = batch or (index, len(actions))
            try:
                documents.append(self._document(asker, action, approval, place))
            except policy_input.InvalidAction as error:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"action {index}: {error}") from None
            except policy_input.InvalidInput:
                log.exception("input document invalid", session=asker.session)
                raise Refused(grpc.StatusCode.INTERNAL, "the input document could not be built") from None
        if len(documents) == 1:
            return [await self._ask(asker, documents[0], actions[0].ByteSize(), max_rows)]
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(self._ask(asker, document, action.ByteSize(), max_rows))
                for document, action in zip(documents, actions, strict=True)
            ]
        return [task.result() for task in asked]

    async def foresee(self, asker: Asker, action: access_pb2.Action, approval: Mapping[str, Any]) -> PolicyResult:
        """What the policies would say then. Nobody acts on it, so it is no decision, and in no log."""
        async with self._turns.of(asker.subject.share):
            return await self._engine.decide(self._document(asker, action, approval, (0, 1)))

    def deny(self, asker: Asker | None, code: str, message: str, *, action: str, retry: bool = False) -> Answer:
        """A denial of this service itself, logged like every other."""
        result = denied(code, message, retry=retry, revision=self._engine.revision)
        asked: dict[str, Any] = {"action": {"name": action}}
        if asker is not None:
            asked |= {
                "subject": {"type": asker.subject.type, "id": asker.subject.id},
                "resource": {"id": asker.resource},
                "context": {"session": {"id": asker.session}},
            }
        return self._logged(asker, asked, result, 0)

    def _document(
        self, asker: Asker, action: access_pb2.Action, approval: Mapping[str, Any] | None, batch: tuple[int, int]
    ) -> dict[str, Any]:
        context = policy_input.Context(
            time=self._now(),
            session=asker.session,
            client_address=asker.client_address,
            batch=batch,
            supported_obligations=asker.supported,
            labels=asker.labels or {},
            facts=_facts(action),
            approval=approval,
        )
        return policy_input.build_input(action, asker.subject.document(), self._resources[asker.resource], context)

    async def _ask(self, asker: Asker, document: Mapping[str, Any], size: int, max_rows: int | None = None) -> Answer:
        async with self._turns.of(asker.subject.share):
            began = time.perf_counter_ns()
            with self._tracer.span("opa", {"resource": asker.resource}) as span:
                result = await self._engine.decide(document)
                span.set("verdict", result.verdict.value)
        result = narrowed(expired(result, self._now()), max_rows)
        answer = self._logged(asker, document, result, time.perf_counter_ns() - began, size)
        if result.verdict in (Verdict.ALLOW, Verdict.MASK):
            classified = self._engine.classified(asker.resource, result.revision)
            for name, properties in document["action"]["properties"].items():
                # Beside the statement there is the protocol's own, or nothing: to open a session shows no field.
                if name != "statement":
                    answer.decision.labels.extend(labels_of(properties, classified))
        return answer

    def _logged(
        self,
        asker: Asker | None,
        asked: Mapping[str, Any],
        result: PolicyResult,
        nanoseconds: int,
        size: int = 0,
    ) -> Answer:
        decision = to_proto(result, new_id("d"))
        self._told(
            Decided(
                id=decision.decision_id,
                at=self._now(),
                revision=result.revision,
                action=asked["action"]["name"],
                verdict=result.verdict.value,
                reasons=[(each.policy, each.code) for each in result.reasons],
                subject=f"{asker.subject.type}:{asker.subject.id}" if asker is not None else "",
                resource=asker.resource if asker is not None else "",
                session=asker.session if asker is not None else "",
                client_address=asker.client_address if asker is not None else "",
                input=asked,
                answer=result.document,
                nanoseconds=nanoseconds,
                size=size,
            )
        )
        return Answer(decision, result)


def _facts(action: access_pb2.Action) -> dict[str, Any] | None:
    """What the proxy found out because policies asked for it, as they read it."""
    known = estimate_document(action.facts.estimate)
    return None if known is None else {"estimate": known}
