"""How large an action is, and its digest: asked for several times, worked out once.

Pure. A protocol may ask with the very same action again, so what is known of the small ones is kept for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pep.core.model import Action, digest_of
from pep.core.sessions import SessionHandle
from pep.core.translate import action_size

LARGEST_ACTION: Final = 1 << 20
"""In bytes, as it is described to the decision service; nothing larger is asked about."""
_SMALL_ACTION: Final = 4096
_MOST_DESCRIBED: Final = 64


@dataclass(slots=True)
class _Described:
    """An action that was asked about lately."""

    action: Action
    size: int
    digest: bytes = b""


class Descriptions:
    """For one session. TypeError or ValueError where an action cannot be described."""

    def __init__(self, session: SessionHandle) -> None:
        self._session = session
        self._described: dict[int, _Described] = {}

    def size(self, action: Action) -> int:
        """Bytes of the whole of it."""
        known = self._described.get(id(action))
        if known is not None and known.action is action:
            return known.size
        size = action_size(action)
        if size <= _SMALL_ACTION:
            if len(self._described) >= _MOST_DESCRIBED:
                self._described.clear()
            self._described[id(action)] = _Described(action, size)
        return size

    def travels(self, actions: Sequence[Action]) -> int:
        """Bytes that the service has to be told, which are few where no policy reads a long text or parameter."""
        return sum(action_size(action, self._session.input_paths) for action in actions)

    def digest(self, action: Action) -> bytes:
        known = self._described.get(id(action))
        if known is None or known.action is not action:
            return digest_of(action, self._session.subject.name, self._session.resource)
        if not known.digest:
            known.digest = digest_of(action, self._session.subject.name, self._session.resource)
        return known.digest
