"""Whose an MCP session is, which streams of it may be taken up again, and what its tools' schemas said of fields.

Shared by all connections of a proxy. The target sees one credential for everybody, so it cannot tell one client's
session from another's: the proxy has to. What an interrupted answer still holds is sent on another stream, which knows
nothing of the call that it answers. Model Context Protocol, "Streamable HTTP", Session Management and Resumability.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pep.http.mcp_fields import Mirrored

V = TypeVar("V")

_MOST: Final = 10_000
_CLEAN: Final = "all was shown as it was"
_REWRITTEN: Final = "some was rewritten"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one client meets one server's tools: `session` is "" where the server has none."""

    subject: str
    session: str
    path: str


class McpSessions:
    """The newest sessions, by the names that the target gave them; an older one is begun anew by its client."""

    def __init__(self, most: int = _MOST) -> None:
        # Whether something of an answer in the session was not for its client to see.
        self._sessions: _Shared[str] = _Shared(most)
        self._owners: dict[str, str] = {}
        self._sessionless: _Shared[None] = _Shared(most)
        self._forgot = False  # who had something rewritten without a session
        self._mirrored: _Shared[dict[str, Mirrored]] = _Shared(most)

    def began(self, id: str, subject: str) -> None:
        """The target answered `initialize` of this subject with that name."""
        if (before := self._owners.get(id, subject)) != subject:
            self._sessions.drop(before, id)
        self._owners[id] = subject
        if self._sessions.get(subject, id) is not None:
            return
        if (gone := self._sessions.put(subject, id, _CLEAN)) is not None:
            del self._owners[gone]

    def is_of(self, id: str, subject: str) -> bool:
        return self._owners.get(id) == subject

    def rewrote(self, id: str, subject: str) -> None:
        """Something of an answer in this session (or, with "", in none) is not for the client to see."""
        if not id:
            self._forgot |= self._sessionless.put(subject, id, None) is not None
        elif self.is_of(id, subject):
            self._sessions.put(subject, id, _REWRITTEN)

    def may_resume(self, id: str, subject: str) -> bool:
        if not id:
            return not self._forgot and not self._sessionless.has(subject, id)
        return self._sessions.get(subject, id) == _CLEAN

    def listed(self, place: Place, tools: Mapping[str, Mirrored]) -> None:
        """The client is shown these tools, with the arguments that fields have to repeat."""
        key = (place.session, place.path)
        known = (self._mirrored.get(place.subject, key) or {}) | dict(tools)
        known = {name: fields for name, fields in known.items() if fields}
        if known:
            self._mirrored.put(place.subject, key, known)
        else:
            self._mirrored.drop(place.subject, key)

    def mirrored(self, place: Place, tool: str) -> Mirrored | None:
        """None where the client was not shown such a tool with such arguments, or not lately."""
        return (self._mirrored.get(place.subject, (place.session, place.path)) or {}).get(tool)


class _Shared(Generic[V]):
    """So many values, the newest of each subject's: where there are too many, who has the most loses the oldest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._kept: dict[str, dict[Hashable, V]] = {}

    def get(self, subject: str, key: Hashable) -> V | None:
        return self._kept.get(subject, {}).get(key)

    def has(self, subject: str, key: Hashable) -> bool:
        return key in self._kept.get(subject, {})

    def put(self, subject: str, key: Hashable, value: V) -> Any:
        """The key of what had to go for it, None where nothing had to."""
        self.drop(subject, key)
        self._kept.setdefault(subject, {})[key] = value
        self._size += 1
        if self._size <= self._most:
            return None
        greatest = max(self._kept, key=lambda each: len(self._kept[each]))
        gone = next(iter(self._kept[greatest]))
        self.drop(greatest, gone)
        return gone

    def drop(self, subject: str, key: Hashable) -> None:
        mine = self._kept.get(subject, {})
        if key in mine:
            del mine[key]
            self._size -= 1
            if not mine:
                del self._kept[subject]
