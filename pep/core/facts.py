"""Facts that policies ask for before they decide (`need`): fetched here, and what becomes of an answer without them.

There is one, the estimate of rows. Policies get it in a second question about the same action. Where it cannot be had,
they are told so, and may then hold the action for people or refuse it; that they let it through is not enough, because
a rule that compares a number does not hold of one that is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pep.core.estimates import Estimates
from pep.core.model import Action, Allow, Answer, Decision, Deny, Incomplete, Mask, Reason

ESTIMATE: Final = "estimate"
NO_ROWS: Final = "nothing of this protocol is a number of rows that could be estimated"


class Facts:
    """For one session. `unestimated` is why there are no estimates, in words, where there are none."""

    def __init__(self, estimates: Estimates | None, unestimated: str = NO_ROWS) -> None:
        self._estimates = estimates
        self._unestimated = unestimated

    async def found(self, actions: Sequence[Action], answers: Sequence[Answer]) -> tuple[Action, ...] | Deny:
        """The actions with what was asked of each; a Deny where this proxy cannot find it out."""
        known: list[Action] = []
        for action, answer in zip(actions, answers, strict=True):
            if not isinstance(answer, Incomplete):
                known.append(action)
                continue
            if unknown := [need for need in answer.needs if need != ESTIMATE]:
                return _unavailable(answer, f"policy asks for facts that this proxy does not know: {unknown[0]}")
            if self._estimates is None:
                return _unavailable(answer, f"policy asks how many rows it would touch, and {self._unestimated}")
            known.append(replace(action, estimate=await self._estimates.of(action)))
        return tuple(known)


def settled(action: Action, answer: Answer) -> Decision:
    """The decision that an answer is: one that still lacks facts, or grants what nobody could estimate, is a deny."""
    match answer:
        case Incomplete():
            return _unavailable(answer, "policy asks for facts about it that it was given already")
        case Allow() | Mask() if action.estimate is not None and action.estimate.rows is None:
            why = action.estimate.unavailable
            return _unavailable(answer, f"policy asks how many rows it would touch, which is not known: {why}")
        case decided:
            return decided


def _unavailable(answer: Incomplete | Allow | Mask, words: str) -> Deny:
    return Deny(answer.decision_id, answer.policy_revision, (Reason("facts-unavailable", words), *answer.reasons))
