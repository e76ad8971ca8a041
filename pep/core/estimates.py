"""Where the enforcer asks how many rows a command is expected to touch.

For people to read while they are asked, and for policies that ask for it (`need: estimate`); see `pep.core.facts`.
"""

from __future__ import annotations

from typing import Protocol

from pep.core.model import Action, Estimate

__all__ = ["Estimate", "Estimates"]


class Estimates(Protocol):
    """Where a protocol asks its target."""

    async def of(self, action: Action) -> Estimate:
        """Never raises for what the target does, and takes a short time at most: somebody waits for the answer."""
