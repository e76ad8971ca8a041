"""COPY from the client: its data goes on under the grant of the COPY, while the policies that gave it decide.

Under other policies the same command is asked for again before the next of its messages goes upstream; where they
refuse it, the COPY is failed, and nothing of it stays. The data itself is not read.
"""

from __future__ import annotations

from typing import Final

from pep.core.errors import ClientProtocolError
from pep.core.wire import Continuation
from pep.postgres import denial
from pep.postgres.codec import Oversized, Partial
from pep.postgres.conversation import Conversation
from pep.postgres.effects import Effects
from pep.postgres.frames import Frame, FrontendTag
from pep.postgres.permits import Permits
from pep.postgres.results import Execution
from pep.postgres.stepping import Refused, Step, Wait

MESSAGES: Final = frozenset({FrontendTag.COPY_DATA, FrontendTag.COPY_DONE, FrontendTag.COPY_FAIL})


class CopyIn:
    """The steps, for one session."""

    def __init__(self, talk: Conversation, permits: Permits, effects: Effects) -> None:
        self._talk = talk
        self._permits = permits
        self._effects = effects
        self._asking: Execution | None = None

    @property
    def lapsed(self) -> bool:
        """Whether a COPY is being asked for again that has ended meanwhile."""
        return self._asking is not None and self._talk.copying is not self._asking

    def take(self, item: Frame | Partial | Oversized, execution: Execution) -> Step:
        """What the client sends while the server waits for the data of this execution."""
        tag = item.tag
        # Between the pieces of one message nothing else can be sent.
        begins = not isinstance(item, Partial) or item.first
        if tag in MESSAGES and begins and not self._talk.in_force(execution.grant):
            yield from self._again(execution)
            if self._talk.copying is not execution:
                return
        if tag == FrontendTag.COPY_DATA:
            self._talk.forward(raw(item), Continuation(execution.grant))
        elif tag in MESSAGES:
            self._talk.copying = None
            self._talk.forward(raw(item), Continuation(execution.grant))
        elif tag not in (FrontendTag.SYNC, FrontendTag.FLUSH):
            # The server ignores Sync and Flush here and fails for anything else, which must not reach it undecided.
            raise ClientProtocolError(denial.PROTOCOL_VIOLATION, f"message type 0x{tag:02X} inside COPY is refused")

    def take_early(self, item: Frame | Partial | Oversized) -> Step:
        """A client need not wait until the server begins a COPY. Data of one that has ended is dropped, as there."""
        while (execution := self._talk.copying) is None and self._talk.copy_to_come:
            yield Wait.UPSTREAM
        if execution is not None:
            yield from self.take(item, execution)

    def _again(self, execution: Execution) -> Step:
        self._asking = execution
        try:
            yield from self._permits.again(execution)
            self._effects.start_timer(execution)
        except Refused as refused:
            execution.refuse(refused.error)
            self._talk.fail_copy()
        finally:
            self._asking = None


def raw(item: Frame | Partial | Oversized) -> bytes:
    """The bytes that came."""
    match item:
        case Frame():
            return item.encode()
        case Partial():
            return item.raw
        case Oversized():
            return b""
