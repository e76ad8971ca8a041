"""What one person's answer does to a question: who may give it, what a yes narrows, and when it is enough.

In the transaction that the caller has, which excludes other answers to the same question.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from pdp.approvals import rules
from pdp.approvals.context import text_of
from pdp.approvals.errors import NotNarrower, NotPermitted, NotPossible
from pdp.approvals.events import Events
from pdp.identity.subject import Authenticated
from pdp.identity.tokens import Clock
from pdp.store import approvals as stored
from pdp.store.approvals import Approval, ApprovalState, Assent
from pdp.v1 import access_pb2

_WAITING: Final = (ApprovalState.PENDING,)
_MOST_ROWS: Final = (1 << 31) - 1


class Answers:
    """`next_alike` is told of a question that has ended, for which others like it have waited."""

    def __init__(
        self,
        now: Clock,
        *,
        events: Events,
        next_alike: Callable[[Connection, Approval], None],
        max_sign_in_age: datetime.timedelta,
        same: str | None,
    ) -> None:
        self._now = now
        self._events = events
        self._next_alike = next_alike
        self._max_sign_in_age = max_sign_in_age
        self._same = same

    def unfit(self, who: Authenticated) -> str | None:
        """Why this subject answers nobody's question; None if it may answer some."""
        return rules.unfit(who, None, self._now(), self._max_sign_in_age, self._same)

    def give(
        self,
        connection: Connection,
        id: str,
        who: Authenticated,
        digest: bytes,
        refusal: str | None,
        max_rows: int | None,
    ) -> Approval:
        """The approval as it stands after a yes, or a no with a comment (`refusal`).

        Raises NotPossible, NotPermitted or NotNarrower.
        """
        approval = stored.find(connection, id, lock=True)
        if approval is None:
            raise NotPossible("there is no such approval")
        now = self._now()
        positions = self._permitted(approval, who, digest, now)
        if refusal is not None:
            comment = rules.shown(refusal)
            if not stored.change(connection, id, _WAITING, ApprovalState.DENIED, comment=comment):
                raise NotPossible("it is no longer pending")
            self._events.denied(connection, approval, who, comment)
            self._next_alike(connection, approval)
        else:
            narrower = _narrower(approval, max_rows)
            self._assent(connection, approval, who, positions, now, narrower)
        resolved = stored.find(connection, id)
        assert resolved is not None
        return resolved

    def _permitted(
        self, approval: Approval, who: Authenticated, digest: bytes, now: datetime.datetime
    ) -> tuple[int, ...]:
        if (why := rules.unfit(who, approval.subject, now, self._max_sign_in_age, self._same)) is not None:
            raise NotPermitted(why)
        positions = rules.counts_for(approval, who.subject, now)
        if not positions:
            raise NotPermitted("you are not among those who are asked")
        if approval.state is not ApprovalState.PENDING or approval.expires_at <= now:
            state = "expired" if approval.state is ApprovalState.PENDING else approval.state.value
            raise NotPossible(f"it is no longer pending but {state}")
        if digest != approval.action_digest:
            raise NotPossible("what you saw is not what is asked now; look again")
        return positions

    def _assent(
        self,
        connection: Connection,
        approval: Approval,
        who: Authenticated,
        positions: tuple[int, ...],
        now: datetime.datetime,
        max_rows: int | None,
    ) -> None:
        names = who.subject.names
        if any(names & set(assent.names) for assent in approval.assents):
            if max_rows is not None:
                raise NotPossible("you have said yes before; who agrees after you may narrow it, or anybody say no")
            return
        assent = Assent(min(names), tuple(sorted(names)), who.subject.id, who.subject.groups, now, positions, max_rows)
        stored.add_assent(connection, approval.id, assent)
        if max_rows is not None:
            stored.narrow(connection, approval.id, max_rows)
            approval = dataclasses.replace(approval, max_rows=max_rows)
        self._events.assented(connection, approval, who, assent)
        assents = [*approval.assents, assent]
        if rules.met(approval.requirements, assents):
            end = now + rules.grant_life(approval.requirements)
            if not stored.change(connection, approval.id, _WAITING, ApprovalState.APPROVED, grant_expires_at=end):
                raise NotPossible("it is no longer pending")
            self._events.approved(connection, approval, [each.subject_id for each in assents], text_of(end))
            self._next_alike(connection, approval)


def _narrower(approval: Approval, max_rows: int | None) -> int | None:
    """The limit as it is kept; None where the person names none."""
    if max_rows is None:
        return None
    if (why := rules.uncounted(access_pb2.Action.FromString(approval.action))) is not None:
        raise NotNarrower(f"this cannot be approved for a number of rows: {why}")
    if not 1 <= max_rows <= _MOST_ROWS:
        raise NotNarrower(f"a limit is at least one row and at most {_MOST_ROWS}; to let no row change, say no")
    if approval.max_rows is not None and max_rows > approval.max_rows:
        raise NotNarrower(f"a yes narrows and never widens: at most {approval.max_rows} rows may change as it stands")
    return max_rows
