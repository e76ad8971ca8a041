"""The policy engine as the rest of the decision service sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from pdp.policy_result import PolicyResult


class PolicyEngine(Protocol):
    """Decides by the policies in force; a context manager that owns OPA and the watch over the policy files."""

    @property
    def revision(self) -> str:
        """The digest of what is in force; empty while nothing is."""
        ...

    @property
    def activated_at(self) -> datetime | None:
        """Since when the revision is in force."""
        ...

    @property
    def policy_error(self) -> str:
        """Why the newest files are not in force, with file and line; empty if they are."""
        ...

    @property
    def ready(self) -> bool:
        """Whether OPA answers with the loaded policy of this library."""
        ...

    @property
    def restarts(self) -> int:
        """How often OPA had to be started again."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def decide(self, document: Mapping[str, Any]) -> PolicyResult:
        """One evaluation of the entrypoint. Never raises for a policy problem: that is a deny which says so."""
        ...

    async def input_paths(self, resource_id: str) -> tuple[str, ...]:
        """Which of the input paths of the statement the policies bound to the resource can read."""
        ...

    def revisions(self) -> AsyncIterator[str]:
        """The revision in force, then each new one; a slow reader sees only the newest."""
        ...
