"""What was granted on one connection and is not on record as over: whatever ends the connection, the record says so.

A machine puts on record how each of its executions ended. This is for those that it cannot speak for: it failed, was
stopped or cut off, or never saw the grant. A grant without work at the target (a preparation) has no end to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pep.core.model import Grant
from pep.core.records import Event, EventType
from pep.core.wire import Approved, Ask, Decided

_ENDS: Final = (EventType.RESPONSE, EventType.ERROR)


class Executions:
    """Those that are open, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, Grant]] = {}

    def answered(self, ask: Ask, answer: Decided | Approved) -> None:
        if ask.execution and isinstance(answer, Decided) and isinstance(answer.outcome, Grant):
            self._open[answer.outcome.execution_id] = (ask.session, answer.outcome)

    def recorded(self, event: Event) -> None:
        if self._open and event.type in _ENDS:
            self._open.pop(event.facts.get("execution_id", ""), None)

    def unfinished(self, why: str) -> Iterator[tuple[str, Event]]:
        """The sessions of those that are left, each with what goes on record; afterwards none is left."""
        while self._open:
            execution_id, (session, grant) = self._open.popitem()
            facts = {"error": "it ended without a response", "execution_id": execution_id, "why": why}
            yield session, Event(EventType.ERROR, grant.decision_ids[0], grant.policy_revision, facts)
