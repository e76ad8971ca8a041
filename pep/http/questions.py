"""What a session asks that it cannot know, and what it is told: the LookUps of the HTTP proxy. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pep.core.decision_client import Credential
from pep.core.keeping import Keeping
from pep.core.model import Action, Decision, Held, Obligation
from pep.core.values import value
from pep.http import work
from pep.http.messages import Fields, RequestHead
from pep.http.paths import Path


@value
class WhoIs:
    """Whose credential it is. Answered by `Known` or a Deny."""

    credential: Credential = field(repr=False)
    labels: Mapping[str, str]


@value
class Known:
    """A session of the decision service; what the session machine has to know of it."""

    session: str
    duties: tuple[Obligation, ...]
    input_paths: frozenset[str]
    subject: str = ""
    payer: str = ""  # the one at the end of its chain, who pays for what all share
    keeping: Keeping = field(default_factory=Keeping, compare=False)


@value
class Outgoing:
    """A request as the target is to get it, before the target's credential is put in."""

    method: str
    target: str
    host: str
    fields: Fields


@value
class Connect:
    """A connection for one request, and the request with the credential. Answered by `Connected` or `Unreachable`.

    `body` is the whole body where it is known, for signatures.
    """

    session: str
    request: Outgoing
    body: bytes | None


@value
class Connected:
    """The upstream side has a connection, and the request is ready to be sent; it holds the credential."""

    request: Outgoing = field(repr=False)


@value
class Unreachable:
    reason: str


@value
class Release:
    """The exchange is over; a connection that is in a known state may serve another one. Answered by None.

    It is not, if more came back than the `returned` bytes that are known of here.
    """

    reusable: bool
    returned: int


@value
class TakesMore:
    """Whether the target's connection takes more bytes, or still has to take what was forwarded. Answered by a bool."""


@value
class WhatIf:
    """What would be decided of each action alone. Answered by a tuple of decisions."""

    session: str
    actions: tuple[Action, ...]


@value
class HowStands:
    """Where an approval of the session stands that nobody waits for. Answered by `Standing` or None."""

    session: str
    approval_id: str


@value
class Standing:
    held: Held
    state: str
    comment: str = ""


@value
class Turn:
    """Others go first. Answered by None."""


@value
class Read:
    """What a request says whose body is large. Answered by `classify.Content` or `Failed`."""

    session: str
    head: RequestHead
    path: Path
    body: bytes | None = field(repr=False)


@value
class Rewrite:
    """A large document as the client of that session may see it. Answered by bytes or `Failed`."""

    session: str
    work: work.Rewrite = field(repr=False)


Question = WhoIs | Connect | Release | TakesMore | WhatIf | HowStands | Turn | Read | Rewrite
WhatIfAnswer = tuple[Decision, ...]
