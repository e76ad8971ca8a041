"""Whose an MCP session is, and which streams of it may be taken up again. Shared by all connections of a proxy.

The target sees one credential for everybody, so it cannot tell one client's session from another's: the proxy has to.
What an interrupted answer still holds is sent on another stream, which knows nothing of the call that it answers.
Model Context Protocol, "Streamable HTTP", Session Management and Resumability.
"""

from __future__ import annotations

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_MOST: Final = 10_000


class McpSessions:
    """The newest sessions, by the names that the target gave them; an older one is begun anew by its client."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._owners: dict[str, str] = {}
        self._rewritten: dict[tuple[str, str], None] = {}

    def began(self, id: str, subject: str) -> None:
        """The target answered `initialize` of this subject with that name."""
        _put(self._owners, id, subject, self._most)

    def is_of(self, id: str, subject: str) -> bool:
        return self._owners.get(id) == subject

    def rewrote(self, id: str, subject: str) -> None:
        """Something of an answer in this session (or, with "", in none) is not for the client to see."""
        _put(self._rewritten, (subject, id), None, self._most)

    def may_resume(self, id: str, subject: str) -> bool:
        return (subject, id) not in self._rewritten


def _put(kept: dict[K, V], key: K, value: V, most: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
