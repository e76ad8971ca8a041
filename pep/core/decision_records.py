"""What the record says about a decision: the facts of each event of the enforcer, in one place for whoever reads them.

Pure. Facts by event type:
  decision            verdict, action, execution, exchange, reasons [{policy, code, message, instead}], obligations,
                      estimate {rows|unavailable} where a policy asked for it
  intent              execution_id, decision_ids, actions [{name, digest}], exchange
  approval.requested  approval_id, requirements [{policy, code, approvers, count}], approvers, in_transaction, exchange
  approval.resolved   approval_id, state, comment
  approval.redeemed   approval_id, execution_id, verdict
Statement text and parameters are bodies ("statement", "parameters", in the order of the actions): with the intent where
there is one, else with the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, assert_never

from pdp.v1.digests import canonical_json
from pep.core.decision_client import PendingApproval
from pep.core.model import (
    Action,
    Allow,
    Answer,
    Decision,
    Deny,
    Incomplete,
    LimitAffected,
    LimitRows,
    Mask,
    MaskFields,
    Obligation,
    ReadOnly,
    Reason,
    RecordSession,
    RedactText,
    RemoveHeaders,
    RequireApproval,
    SetHeaders,
    TimeLimit,
    Unsupported,
)
from pep.core.records import Body, Event, EventType
from pep.core.wire import Ask


def decided(decision: Decision, ask: Ask, action: Action | None, *, bodies: bool) -> Event:
    """The answer for one action of the Ask; None where the Ask has no action at all."""
    facts: dict[str, Any] = {
        "verdict": verdict_name(decision),
        "action": action.name if action is not None else "",
        "execution": ask.execution,
        "exchange": ask.exchange,
        "reasons": [_reason(reason) for reason in decision.reasons],
    }
    if action is not None and (estimate := action.estimate) is not None:
        # The target's planner was asked because a policy reads it.
        known = {"rows": estimate.rows} if estimate.rows is not None else {"unavailable": estimate.unavailable}
        facts["estimate"] = known
    if isinstance(decision, Allow | Mask):
        facts["obligations"] = [_obligation(duty) for duty in decision.obligations]
    texts = statement_bodies(action) if bodies and action is not None else ()
    return Event(EventType.DECISION, decision.decision_id, decision.policy_revision, facts, tuple(texts))


def intended(ask: Ask, execution_id: str, decisions: Sequence[Decision], digests: Sequence[bytes]) -> Event:
    """What is about to be forwarded. On record before the first byte of it leaves."""
    facts = {
        "execution_id": execution_id,
        "decision_ids": [decision.decision_id for decision in decisions],
        "actions": [
            {"name": action.name, "digest": digest.hex()} for action, digest in zip(ask.actions, digests, strict=True)
        ],
        "exchange": ask.exchange,
    }
    bodies = tuple(body for action in ask.actions for body in statement_bodies(action))
    return Event(EventType.INTENT, decisions[0].decision_id, decisions[0].policy_revision, facts, bodies)


def requested(ask: Ask, decision: RequireApproval, approval: PendingApproval) -> Event:
    facts = {
        "approval_id": approval.approval_id,
        "requirements": [
            {"policy": each.policy, "code": each.code, "approvers": list(each.approvers), "count": each.count}
            for each in decision.requirements
        ],
        "approvers": list(approval.approvers),
        "in_transaction": ask.in_transaction,
        "exchange": ask.exchange,
    }
    return Event(EventType.APPROVAL_REQUESTED, decision.decision_id, decision.policy_revision, facts)


def resolved(decision: RequireApproval, approval_id: str, state: str, comment: str = "") -> Event:
    facts = {"approval_id": approval_id, "state": state, "comment": comment}
    return Event(EventType.APPROVAL_RESOLVED, decision.decision_id, decision.policy_revision, facts)


def redeemed(decision: Decision, approval_id: str, execution_id: str) -> Event:
    facts = {"approval_id": approval_id, "execution_id": execution_id, "verdict": verdict_name(decision)}
    return Event(EventType.APPROVAL_REDEEMED, decision.decision_id, decision.policy_revision, facts)


def statement_bodies(action: Action) -> Iterable[Body]:
    """The action's text and parameters, where it has any."""
    if action.statement.text:
        yield Body("statement", action.statement.text.encode("utf-8", "backslashreplace"))
    if action.statement.parameters:
        try:
            yield Body("parameters", canonical_json(list(action.statement.parameters)))
        except (TypeError, ValueError):
            # Such an action is denied before it is asked about, and the denial is to be on record.
            yield Body("parameters", canonical_json("not representable"))


def verdict_name(decision: Answer) -> str:
    match decision:
        case Allow():
            return "allow"
        case Mask():
            return "mask"
        case RequireApproval():
            return "require_approval"
        case Incomplete():
            return "incomplete"
        case Deny():
            return "deny"
        case never:
            assert_never(never)


def _reason(reason: Reason) -> Mapping[str, Any]:
    return {
        "policy": reason.policy,
        "code": reason.code,
        "message": reason.message,
        "instead": list(reason.instead),
    }


def _obligation(duty: Obligation) -> Mapping[str, Any]:
    match duty:
        case MaskFields(fields):
            named = [
                {"dataset": each.dataset, "field": each.field, "method": type(each.method).__name__} for each in fields
            ]
            return {"name": "mask", "fields": named}
        case LimitRows(maximum, on_excess, path):
            limit = {"name": "limit_rows", "max": maximum, "on_excess": on_excess.value}
            return {**limit, "path": path} if path else limit
        case LimitAffected(maximum):
            return {"name": "limit_affected", "max": maximum}
        case TimeLimit(seconds):
            return {"name": "time_limit", "seconds": seconds}
        case ReadOnly():
            return {"name": "read_only"}
        case RecordSession(level, rows):
            return {"name": "record", "level": level.name.lower(), **({"rows": rows} if rows else {})}
        case RedactText(detectors, patterns):
            return {"name": "redact_text", "detectors": sorted(detectors), "patterns": list(patterns)}
        case SetHeaders(headers):
            # The names alone: what policy writes into a header is for the upstream.
            return {"name": "set_headers", "headers": [name for name, _ in headers]}
        case RemoveHeaders(names):
            return {"name": "remove_headers", "headers": sorted(names)}
        case Unsupported(name):
            return {"name": name, "unsupported": True}
        case never:
            assert_never(never)
