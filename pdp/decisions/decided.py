"""One decision as it is logged and kept: what was asked, what was answered, when, by which policies."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision. `input` is what the policies were asked, or what the service knew where it asked nobody."""

    id: str
    at: datetime.datetime
    revision: str
    action: str
    verdict: str
    # Policy and code of each reason.
    reasons: Sequence[tuple[str, str]]
    # As `type:id`; empty where nobody was authenticated.
    subject: str
    resource: str
    session: str
    client_address: str
    input: Mapping[str, Any]
    # As OPA answered; None where the service answered in its place.
    answer: Mapping[str, Any] | None
    nanoseconds: int
    # Of what was asked, in bytes, as it came.
    size: int = 0

    @property
    def policies(self) -> Sequence[str]:
        """Which policies gave a reason."""
        return sorted({policy for policy, _ in self.reasons if policy})
