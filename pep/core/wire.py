"""Events and effects: the whole conversation between a protocol's session and the outside.

A session is sans-I/O: `receive(event)` returns effects, in order. Drivers do the I/O. An exchange is the unit that
blocks: one Sync group, request, channel request or requestId; every Ask, LookUp and their answers carry its id.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Protocol

from pep.core.model import Action, Grant, Outcome
from pep.core.records import Event as RecordEvent
from pep.core.values import value

# --- events: what happened --------------------------------------------------------------------------------------------


@value
class ClientData:
    data: bytes


@value
class UpstreamData:
    data: bytes


@value
class Decided:
    """The answer to an Ask. After `Held` another follows, `Approved` or a `Decided` with a Deny, unless it is final."""

    exchange: int
    outcome: Outcome
    final: bool = False


@value
class Approved:
    """People agreed. The session classifies again and asks once more, with `redeem`."""

    exchange: int
    approval_id: str


@value
class LookedUp:
    """The answer to a LookUp; `facts` is the protocol's own type."""

    exchange: int
    facts: Any


@value
class TimerFired:
    name: str


@value
class ClientClosed:
    pass


@value
class UpstreamClosed:
    pass


@value
class CancelRequested:
    """The client asks, on another connection, to cancel what this session runs."""


@value
class Revoked:
    """The session has to end: killed, credential expired, subject revoked, the proxy stops.

    Not `at_once` leaves what the target is working on to its end; nothing is waited for behind that. `session` says
    which one, where several identities share a connection.
    """

    reason: str
    at_once: bool = True
    session: str = ""


@value
class PolicyChanged:
    """Another policy revision decides from now on: what older grants still release has to be asked for again."""

    revision: str


@value
class RecordFailed:
    """A record could not be written. Nothing more may be forwarded."""

    reason: str


Event = (
    ClientData
    | UpstreamData
    | Decided
    | Approved
    | LookedUp
    | TimerFired
    | ClientClosed
    | UpstreamClosed
    | CancelRequested
    | Revoked
    | PolicyChanged
    | RecordFailed
)

NEEDS_WHOLE = "approval-needs-the-whole"
"""See `Ask.whole`."""

NEEDS_MORE = "policies-read-more"
"""See `Ask.paths`."""

# --- effects: what to do ----------------------------------------------------------------------------------------------


@value
class Ask:
    """Decide these actions; the strictest answer holds for all. Blocks the exchange.

    `execution` says that a grant releases work at the target (an intent is recorded); False for a mere preparation.
    `redeem` names an approval to consume. `hold` is how many seconds the command may wait for people, None as long as
    policy says. `detached` does not wait for them: the answer is `Held` and nothing more, and the same action asked
    again is answered by that approval. Not `whole` leaves out what an approval would have to be bound to: where one is
    needed, nobody is asked and the answer is a Deny with the code `NEEDS_WHOLE`, so that the rest can be fetched and
    the Ask repeated. `paths` are the input paths by which something was left out of the actions, None where nothing
    was: where the policies that decide read others, the answer is a Deny with the code `NEEDS_MORE`, so that the
    actions can be made anew and the Ask repeated. `session` says for whom, where several identities share a connection.
    """

    exchange: int
    actions: tuple[Action, ...]
    execution: bool = True
    redeem: str | None = None
    hold: float | None = None
    in_transaction: bool = False
    detached: bool = False
    whole: bool = True
    paths: frozenset[str] | None = None
    session: str = ""


@value
class CancelAsk:
    """The exchange no longer wants an answer; a pending approval is withdrawn."""

    exchange: int
    reason: str


@value
class LookUp:
    """Facts that the session cannot know; `question` is the protocol's own type. Blocks the exchange."""

    exchange: int
    question: Any


@value
class SendClient:
    data: bytes


@value
class Continuation:
    """More of a command that was granted before: data of its COPY, a further slice of its portal."""

    grant: Grant


@value
class Housekeeping:
    """A frame of a closed list of types that carries no command."""


@value
class Own:
    """A frame that the proxy itself originates; `why` names the entry of the closed list."""

    why: str


By = Grant | Continuation | Housekeeping | Own


@value
class SendUpstream:
    """A frame for the target, and the right by which it may go there."""

    data: bytes
    by: By


@value
class Record:
    """An event for the session's chain; written before the next effect is carried out."""

    event: RecordEvent
    session: str = ""


@value
class SetTimer:
    """Fire `TimerFired(name)` once after so many seconds; replaces a timer of the same name; None clears it."""

    name: str
    seconds: float | None


@value
class CancelUpstream:
    """Ask the target, out of band, to cancel what this session runs there."""


@value
class PauseUpstream:
    pass


@value
class ResumeUpstream:
    pass


class Ending(enum.Enum):
    """How the client's side ends."""

    FLUSHED = enum.auto()  # once what was sent has been flushed
    LINGERING = enum.auto()  # the same, but the client may still be sending: it is to read the answer before a reset
    CUT = enum.auto()  # at once and by a reset: what was sent must not be taken for the whole


@value
class Close:
    """End both sides."""

    reason: str
    ending: Ending = Ending.FLUSHED


Effect = (
    Ask
    | CancelAsk
    | LookUp
    | SendClient
    | SendUpstream
    | Record
    | SetTimer
    | CancelUpstream
    | PauseUpstream
    | ResumeUpstream
    | Close
)


class Session(Protocol):
    """A protocol's state machine."""

    def receive(self, event: Event) -> Iterable[Effect]:
        """The effects of one event, in the order in which they must be carried out."""


class LookUps(Protocol):
    """Where a protocol answers its own LookUp questions; may do I/O."""

    async def answer(self, question: Any) -> Any:
        """The facts. An exception ends the session: unknown facts are never guessed."""
