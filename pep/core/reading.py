"""What of an action travels is what the policies read that decide it: both are of one revision, or it is asked again.

A session is told which input paths its policies read, and of which revision they are. Policies may change between that
and a decision, before any notice of it has arrived; a deny that is written on what did not travel would not fire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, assert_never

from pep.core.decision_client import DecisionClient
from pep.core.model import Answer, Deny
from pep.core.sessions import SessionHandle, Token
from pep.core.wire import Ask

MOST_TRIES: Final = 3


class Reading:
    """For one session."""

    def __init__(self, decisions: DecisionClient, session: SessionHandle) -> None:
        self._decisions = decisions
        self._session = session
        self._renewing = asyncio.Lock()

    def lacks(self, ask: Ask) -> bool:
        """Whether something may have been left out of the actions that is read."""
        return ask.paths is not None and ask.paths != self._session.input_paths

    def behind(self, decisions: Sequence[Answer]) -> bool:
        """Whether they grant something by other policies than those whose paths are known."""
        known = self._session.input_paths_revision
        return bool(known) and any(each.policy_revision != known and not isinstance(each, Deny) for each in decisions)

    async def renew(self, revision: str) -> str:
        """Learns what the newest policies read; why the session has to end, or "". Raises DecisionUnavailable."""
        async with self._renewing:
            if self._session.input_paths_revision == revision:
                return ""
            match await self._decisions.refresh_session(self._session):
                case str(ended):
                    return ended
                case Token() as token:
                    self._session.renewed(token)
                    return ""
                case never:
                    assert_never(never)
