"""Approvals as messages for people, with their values or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration

from pdp.approvals import rules
from pdp.approvals.sentence import sentence
from pdp.approvals.unvalued import without_values
from pdp.service.approval_service import STATES
from pdp.service.subjects import subject_message
from pdp.service.times import timestamp
from pdp.store.approvals import Approval
from pdp.v1 import access_pb2, decision_pb2
from pdp.v1 import admin_service_pb2 as pb

NOT_SHOWN = "this is not the place where statements and values are shown"


def approval_message(
    approval: Approval, owners: Mapping[str, Sequence[str]] | None = None, *, alike: int = 0, hidden: str = NOT_SHOWN
) -> pb.Approval:
    """An approval as people see it; `alike` is how many wait that differ from it in values alone.

    `hidden` is why statement and values are left out; only with an empty one are they there, and in the sentence.
    """
    action = access_pb2.Action.FromString(approval.action)
    life = Duration()
    life.FromTimedelta(rules.grant_life(approval.requirements))
    return pb.Approval(
        approval_id=approval.id,
        state=STATES[approval.state],
        subject=subject_message(approval.subject),
        resource=approval.resource,
        action=without_values(action) if hidden else action,
        requirements=[
            decision_pb2.Requirement(
                policy=each["policy"],
                code=each["code"],
                approvers=each["approvers"],
                count=int(each["count"]),
                about=each.get("about", ""),
                message=each.get("message", ""),
            )
            for each in approval.requirements
        ],
        assents=[
            pb.Assent(
                subject_id=each.subject_id,
                at=timestamp(each.at),
                requirement_codes=[approval.requirements[index]["code"] for index in each.counts_for],
                max_rows=each.max_rows,
            )
            for each in approval.assents
        ],
        created_at=timestamp(approval.created_at),
        expires_at=timestamp(approval.grant_expires_at or approval.expires_at),
        # Who was not shown it has nothing to say yes to.
        action_digest=b"" if hidden == NOT_SHOWN else approval.action_digest,
        in_transaction=approval.in_transaction,
        session_id=approval.session_id,
        decision_id=approval.decision_id,
        comment=approval.comment,
        alike=alike,
        sentence=sentence(action, owners=owners, estimate=approval.estimate, values=not hidden),
        estimate=_estimate(approval.estimate),
        owners=[
            pb.DatasetOwners(dataset=dataset, owners=(owners or {})[dataset])
            for dataset in rules.datasets(action)
            if dataset in (owners or {})
        ],
        waits_until=timestamp(approval.expires_at),
        grant_for=life,
        grant_uses=rules.uses(approval.requirements),
        uses_left=approval.uses_left,
        hidden=hidden,
        max_rows=approval.max_rows,
    )


def _estimate(estimate: Mapping[str, object] | None) -> access_pb2.Estimate | None:
    match estimate:
        case {"rows": int() | float() as rows}:
            return access_pb2.Estimate(rows=rows)
        case {"unavailable": str() as why}:
            return access_pb2.Estimate(unavailable=why)
        case _:
            return None
