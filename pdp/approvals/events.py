"""What becomes of an approval, as it stands in the service's own chain.

Each event is written in the transaction that makes the change, so that neither is there without the other:

    approval.requested   asked for: who, on what, bound to which digest, for how long
    approval.assented    one person's yes; approval.approved when that was enough
    approval.denied      a person's no
    approval.expired     nobody answered, or nobody used the yes in time
    approval.cancelled   the client left, or its session ended
    approval.withdrawn   a person took back a yes that was not used up
    approval.redeemed    one use of it, with the decision that was taken again
    approval.refused     somebody answered who may not; nothing changed

What people wrote is a body; the statement stands in the record of its session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from pdp.audit.service_chain import Body, ServiceChain
from pdp.identity.subject import Authenticated
from pdp.store.approvals import Approval, ApprovalState, Assent


class Events:
    """Writes them; a function of a connection each, or of none where nothing else changes."""

    def __init__(self, chain: ServiceChain) -> None:
        self._chain = chain

    def requested(self, connection: Connection, approval: Approval) -> None:
        facts = {
            "subject": approval.subject.key,
            "root": f"{approval.subject.root.type}:{approval.subject.root.id}",
            "digest": approval.action_digest.hex(),
            "requirements": [f"{each['policy']}/{each['code']}" for each in approval.requirements],
            "expires": _text(approval.expires_at),
            "uses": approval.uses_left,
            "in_transaction": approval.in_transaction,
            "detached": approval.detached,
            "estimate": dict(approval.estimate) if approval.estimate is not None else None,
            "max_rows": approval.max_rows,
        }
        self._write(connection, "requested", approval, facts)

    def assented(self, connection: Connection, approval: Approval, who: Authenticated, assent: Assent) -> None:
        codes = [approval.requirements[index]["code"] for index in assent.counts_for]
        facts = {"by": who.subject.key, "for": codes, "max_rows": assent.max_rows}
        self._write(connection, "assented", approval, facts | _signed_in(who))

    def approved(self, connection: Connection, approval: Approval, by: Sequence[str], until: str) -> None:
        self._write(connection, "approved", approval, {"by": list(by), "until": until, "max_rows": approval.max_rows})

    def denied(self, connection: Connection, approval: Approval, who: Authenticated, comment: str) -> None:
        facts = {"by": who.subject.key} | _signed_in(who)
        self._write(connection, "denied", approval, facts, _words(comment))

    def expired(self, connection: Connection, approval: Approval, was: ApprovalState) -> None:
        self._write(connection, "expired", approval, {"was": was.value})

    def cancelled(self, connection: Connection, approval: Approval, why: str) -> None:
        self._write(connection, "cancelled", approval, {"was": approval.state.value}, _words(why))

    def withdrawn(self, connection: Connection, approval: Approval, who: Authenticated, comment: str) -> None:
        facts = {"by": who.subject.key, "uses_left": approval.uses_left}
        self._write(connection, "withdrawn", approval, facts, _words(comment))

    def redeemed(
        self, connection: Connection, approval: Approval, execution: str, decision_id: str, revision: str, verdict: str
    ) -> None:
        session, _, name = execution.partition(":")
        facts = {"by_session": session, "execution": name, "verdict": verdict, "max_rows": approval.max_rows}
        self._write(connection, "redeemed", approval, facts, decision_id=decision_id, revision=revision)

    async def refused(self, id: str, who: Authenticated, why: str) -> None:
        await self._chain.append("approval.refused", {"approval": id, "by": who.subject.key, "why": why})

    def _write(
        self,
        connection: Connection,
        what: str,
        approval: Approval,
        facts: dict[str, Any],
        bodies: Sequence[Body] = (),
        *,
        decision_id: str = "",
        revision: str = "",
    ) -> None:
        named = {"approval": approval.id, "session": approval.session_id, "resource": approval.resource}
        self._chain.write(
            connection,
            f"approval.{what}",
            named | facts,
            bodies,
            decision_id=decision_id or approval.decision_id,
            policy_revision=revision,
        )


def _words(text: str) -> tuple[Body, ...]:
    return (Body("comment", text.encode("utf-8", "backslashreplace")),) if text else ()


def _signed_in(who: Authenticated) -> dict[str, str]:
    return {} if who.signed_in_at is None else {"signed_in": _text(who.signed_in_at)}


def _text(instant: Any) -> str:
    return str(instant.isoformat(timespec="microseconds")).replace("+00:00", "Z")
