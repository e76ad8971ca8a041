"""How many rows a command is expected to touch, for people to read while they are asked. Nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pep.core.model import Action


@dataclass(frozen=True, slots=True)
class Estimate:
    """`rows` as the target's planner guesses; None where that is not known, because of `unavailable`."""

    rows: float | None
    unavailable: str = ""


class Estimates(Protocol):
    """Where a protocol asks its target."""

    async def of(self, action: Action) -> Estimate:
        """Never raises for what the target does, and takes a short time at most: somebody waits for the answer."""
