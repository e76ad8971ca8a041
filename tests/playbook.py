"""A protocol's session tested as a conversation: what happened goes in with `>>`, what it must do stands behind `<<`.

    assert (
        Playbook(ready_session())
        >> ClientData(query("delete from users"))
        << Ask(1, (delete("users"),))
        >> Decided(1, denied("not permitted"))
        << ANY_RECORD
        << SendClient(refusal("not permitted"))
    )

What answers the newest question need not spell out its number: `>> decided(denied())`, `>> approved("a-1")`.

Effects are compared exactly and in order. The next event, and the `assert` at the end, want every effect accounted for;
a playbook that is not asserted fails when the test ends (see `fix_playbook`).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from pep.core import wire
from pep.core.model import Deny, Grant, Held, Obligation, Outcome, Reason, RequireApproval, Requirement
from pep.core.records import EventType

SEAL = object()
"""Grants of playbooks carry this; no enforcer ever issued it."""


@dataclasses.dataclass(frozen=True)
class Match:
    """An effect that is described instead of spelt out."""

    description: str
    matches: Callable[[wire.Effect], bool]

    def __repr__(self) -> str:
        return f"<{self.description}>"


ANY_RECORD = Match("any record", lambda effect: isinstance(effect, wire.Record))


def record(type: EventType) -> Match:
    """A record of that type, whatever it says."""
    return Match(f"{type} record", lambda effect: isinstance(effect, wire.Record) and effect.event.type is type)


def any_of(kind: type) -> Match:
    """An effect of that class, whatever it says."""
    return Match(f"any {kind.__name__}", lambda effect: isinstance(effect, kind))


def asks(*texts: str, **fields: object) -> Match:
    """An Ask about statements of these texts, in order, with these further fields."""

    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.Ask):
            return False
        said = tuple(action.statement.text for action in effect.actions)
        return said == texts and all(getattr(effect, name) == value for name, value in fields.items())

    return Match(f"ask about {texts} {fields or ''}", matches)


Answer = Callable[[int], wire.Event]


def decided(outcome: Outcome) -> Answer:
    return lambda exchange: wire.Decided(exchange, outcome)


def approved(approval_id: str) -> Answer:
    return lambda exchange: wire.Approved(exchange, approval_id)


def looked_up(facts: object) -> Answer:
    return lambda exchange: wire.LookedUp(exchange, facts)


class Playbook:
    """The conversation with one session."""

    unfinished: ClassVar[list[Playbook]] = []

    def __init__(self, session: wire.Session) -> None:
        self.session = session
        self._due: deque[wire.Effect] = deque()
        self._said: list[str] = []
        self._exchange = 0
        Playbook.unfinished.append(self)

    def __rshift__(self, happened: wire.Event | Answer) -> Playbook:
        self._nothing_due()
        event = happened(self._exchange) if callable(happened) else happened
        self._said.append(f">> {event!r}")
        self._due.extend(self.session.receive(event))
        for effect in self._due:
            if isinstance(effect, wire.Ask | wire.LookUp):
                self._exchange = effect.exchange
        self._mark()
        return self

    def __lshift__(self, expected: wire.Effect | Match) -> Playbook:
        if not self._due:
            raise AssertionError(self._told(f"expected {expected!r}, but the session does nothing more"))
        effect = self._due.popleft()
        fits = expected.matches(effect) if isinstance(expected, Match) else effect == expected
        if not fits:
            raise AssertionError(self._told(f"expected {expected!r}\n     got {effect!r}"))
        self._said.append(f"<< {effect!r}")
        self._mark()
        return self

    def __bool__(self) -> bool:
        self._nothing_due()
        if self in Playbook.unfinished:
            Playbook.unfinished.remove(self)
        return True

    def take(self) -> list[wire.Effect]:
        """The effects that are due, for a test that looks at them itself."""
        effects = list(self._due)
        self._due.clear()
        self._said += [f"<< {effect!r}" for effect in effects]
        return effects

    def _mark(self) -> None:
        if self not in Playbook.unfinished:
            Playbook.unfinished.append(self)

    def _nothing_due(self) -> None:
        if self._due:
            due = "\n".join(f"  {effect!r}" for effect in self._due)
            raise AssertionError(self._told(f"the session also does:\n{due}"))

    def _told(self, problem: str) -> str:
        return "\n".join([*self._said, problem])


def grant(
    *obligations: Obligation,
    execution_id: str = "e-1",
    decision_id: str = "d-1",
    revision: str = "r-1",
    actions: int = 1,
) -> Grant:
    """A grant with the same obligations for each of so many actions."""
    return Grant(SEAL, execution_id, (decision_id,) * actions, revision, (tuple(obligations),) * actions)


def denied(message: str = "not permitted", *, code: str = "denied", policy: str = "tests", retry: bool = False) -> Deny:
    return Deny("d-1", "r-1", (Reason(code, message, policy),), retry)


def held(approval_id: str = "a-1", *, expires_in: float = 900.0) -> Held:
    requirement = Requirement("tests", "needs_owner", ("group:owners",), message="an owner has to agree")
    decision = RequireApproval("d-1", "r-1", (requirement,), expires_in)
    return Held(approval_id, decision, "http://127.0.0.1/a-1", ("group:owners",), expires_in)
