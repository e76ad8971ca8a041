"""The one shape of what a client is told when its command is refused or held.

Pure. A protocol's own `denial` puts these parts where its clients look: the first line is complete in itself, because
some drivers show nothing else; the detail is for machines and has the same members in every protocol. Neither holds a
value of the target nor what a policy looks like inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pep.core.model import Deny, Held, Reason, Requirement

POLL_SECONDS: Final = 5
MESSAGE_LIMIT: Final = 240
_NAMED_LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class Denial:
    """A line for everybody, a hint in words, and `{"checkrein": {...}}` as JSON."""

    first_line: str
    hint: str
    detail: str


def explain(outcome: Deny | Held, what: str = "this statement") -> Denial:
    """`what` names the refused thing in the protocol's words: "this statement", "DELETE /orders/7"."""
    match outcome:
        case Deny():
            return _refused(outcome, what)
        case Held():
            return _held(outcome, what)


def _refused(deny: Deny, what: str) -> Denial:
    reason = deny.reasons[0] if deny.reasons else Reason("denied")
    allowed = _unique(alternative for each in deny.reasons for alternative in each.instead)
    parts = [f"{what} is refused{_by(reason.policy)}: {_said(reason)}"]
    if allowed:
        parts.append("allowed instead: " + "; ".join(_line(each).rstrip(". ") for each in allowed[:_NAMED_LIMIT]))
    parts.append("it may be tried again later" if deny.retry else "do not repeat it unchanged")
    first_line = f"{_sentences(parts)} [decision {deny.decision_id}]"
    hint = (
        "No decision could be made or kept; wait a little before trying again."
        if deny.retry
        else f"To ask for access, tell the owners of the policy the decision id {deny.decision_id}."
    )
    members: dict[str, Any] = {
        "v": 1,
        "verdict": "deny",
        "id": deny.decision_id,
        "policy": reason.policy,
        "code": reason.code,
        "allowed": allowed,
        "retry": deny.retry,
    }
    return Denial(first_line, _also(deny.reasons[1:], hint), _detail(members))


def _held(held: Held, what: str) -> Denial:
    requirement = held.decision.requirements[0] if held.decision.requirements else Requirement("", "approval", ())
    parts = [f"{what} waits for approval{_by(requirement.policy)}"]
    parts[0] += f": {_line(requirement.message or requirement.code)}"
    if held.approvers:
        parts.append("waiting for " + ", ".join(map(_line, held.approvers[:_NAMED_LIMIT])))
    parts.append("do not send it again, it goes on by itself once approved")
    first_line = f"{_sentences(parts)} [approval {held.approval_id}]"
    where = f" at {_line(held.url)}" if held.url else ""
    hint = f"Approval {held.approval_id} can be given{where} for {max(0, round(held.expires_in))} seconds."
    members: dict[str, Any] = {
        "v": 1,
        "verdict": "require_approval",
        "id": held.decision.decision_id,
        "approval": held.approval_id,
        "policy": requirement.policy,
        "code": requirement.code,
        "allowed": [],
        "retry": False,
        "poll": POLL_SECONDS,
        "url": held.url,
    }
    return Denial(first_line, hint, _detail(members))


def _said(reason: Reason) -> str:
    return _line(reason.message or reason.code)


def _by(policy: str) -> str:
    return f" by policy {_line(policy)}" if policy else ""


def _also(reasons: Sequence[Reason], hint: str) -> str:
    further = "; ".join(_said(reason) for reason in reasons[:_NAMED_LIMIT])
    return f"Also: {further}. {hint}" if further else hint


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _sentences(parts: Iterable[str]) -> str:
    return "; ".join(part.rstrip(". ") for part in parts)


def _line(text: str) -> str:
    """One line that a terminal shows as it is: what is not printable becomes a space."""
    return "".join(character if character.isprintable() else " " for character in text)[:MESSAGE_LIMIT].strip()


def _detail(members: dict[str, Any]) -> str:
    return orjson.dumps({"checkrein": members}).decode()
