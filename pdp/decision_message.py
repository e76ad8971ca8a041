"""The answer of the policy entrypoint as the message that a proxy receives; pure.

Every duty has its message or goes out by its name alone, which is a deny at the proxy; none is left out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.policy_result import (
    ConstantMask,
    FieldMask,
    GeneralizeMask,
    HashMask,
    LimitAffected,
    LimitRows,
    NullMask,
    Obligation,
    PartialEmailMask,
    PartialMask,
    PolicyResult,
    ReadOnly,
    Reason,
    RecordSession,
    RedactText,
    RemoveHeaders,
    Requirement,
    SetHeaders,
    TimeLimit,
    Unsupported,
    Verdict,
)
from pdp.v1 import decision_pb2 as pb

_SAID: Final = {
    "no-policy-allows": "No policy allows this.",
    "not-understood": "The action was not understood in full, and no policy allows what is not.",
    "mints-access": "This gives a way around the proxy, and no policy allows that by name.",
    "policy-malformed": "A policy is malformed, so nothing is allowed until it is mended.",
    "bindings-malformed": "The bindings are malformed, so nothing is allowed until they are mended.",
    "obligations-conflict": "Policies ask for duties that contradict one another.",
}


def to_proto(result: PolicyResult, decision_id: str) -> pb.Decision:
    """The answer as a proxy receives it; pure.

    `incomplete` has words besides: a proxy that knows no facts denies with them.
    """
    answer = pb.Decision(decision_id=decision_id, policy_revision=result.revision)
    if result.valid_until is not None:
        answer.valid_until.CopyFrom(_timestamp(result.valid_until))
    answer.reasons.extend(_reason_message(each) for each in result.reasons)
    match result.verdict:
        case Verdict.ALLOW:
            answer.allow.SetInParent()
            answer.allow.obligations.extend(_duties(result))
        case Verdict.MASK:
            fields = pb.MaskFields(fields=[_field_message(each) for each in result.masks])
            answer.mask.obligations.append(pb.Obligation(mask_fields=fields))
            answer.mask.obligations.extend(_duties(result))
        case Verdict.REQUIRE_APPROVAL:
            shortest = min(each.wait for each in result.requirements)
            answer.require_approval.wait.CopyFrom(_span(shortest))
            answer.require_approval.requirements.extend(_requirement_message(each) for each in result.requirements)
        case Verdict.DENY:
            answer.deny.retry = result.retry
        case Verdict.INCOMPLETE:
            answer.incomplete.needs.extend(result.needs)
            message = f"The policy needs facts that cannot be had here: {', '.join(result.needs)}."
            answer.reasons.append(pb.Reason(code="facts-unavailable", message=message))
        case never:
            assert_never(never)
    return answer


def _timestamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _span(time: timedelta) -> Duration:
    span = Duration()
    span.FromTimedelta(time)
    return span


def _reason_message(reason: Reason) -> pb.Reason:
    return pb.Reason(
        policy=reason.policy,
        code=reason.code,
        message=reason.message or _SAID.get(reason.code, ""),
        instead=[*reason.instead, *(hint.message for hint in reason.hints)],
    )


def _duties(result: PolicyResult) -> list[pb.Obligation]:
    return [_duty(each) for each in result.obligations]


def _duty(obligation: Obligation) -> pb.Obligation:
    match obligation:
        case LimitRows(max=most, truncate=truncate, path=path):
            excess = pb.ON_EXCESS_TRUNCATE if truncate else pb.ON_EXCESS_FAIL
            return pb.Obligation(limit_rows=pb.LimitRows(max=most, on_excess=excess, path=path))
        case LimitAffected(max=most):
            return pb.Obligation(limit_affected=pb.LimitAffected(max=most))
        case TimeLimit(limit=limit):
            return pb.Obligation(time_limit=pb.TimeLimit(limit=_span(limit)))
        case ReadOnly():
            return pb.Obligation(read_only=pb.ReadOnly())
        case RedactText(detectors=detectors, patterns=patterns):
            return pb.Obligation(redact_text=pb.RedactText(detectors=detectors, patterns=patterns))
        case SetHeaders(headers=headers):
            pairs = [pb.Header(name=name, value=value) for name, value in headers]
            return pb.Obligation(set_headers=pb.SetHeaders(headers=pairs))
        case RemoveHeaders(names=names):
            return pb.Obligation(remove_headers=pb.RemoveHeaders(names=names))
        case RecordSession(rows=None):
            return pb.Obligation(record=pb.RecordSession(everything=pb.RecordEverything()))
        case RecordSession(rows=0):
            return pb.Obligation(record=pb.RecordSession(nothing=pb.RecordNothing()))
        case RecordSession(rows=rows):
            return pb.Obligation(record=pb.RecordSession(rows=rows))
        case Unsupported(name=name):
            return pb.Obligation(unsupported=name)
        case never:
            assert_never(never)


def _field_message(mask: FieldMask) -> pb.FieldMask:
    message = pb.FieldMask(dataset=mask.dataset, field=mask.field)
    getattr(message, "except").extend(mask.excepted)  # a keyword of Python
    match mask.method:
        case NullMask():
            message.null.SetInParent()
        case ConstantMask(value=value):
            message.constant.CopyFrom(pb.ConstantMask(value=value))
        case PartialMask(prefix=prefix, pad=pad, suffix=suffix):
            message.partial.CopyFrom(pb.PartialMask(prefix=prefix, pad=pad, suffix=suffix))
        case PartialEmailMask():
            message.partial_email.SetInParent()
        case HashMask(key=key):
            message.hash.CopyFrom(pb.HashMask(key=key))
        case GeneralizeMask(step=step):
            message.generalize.CopyFrom(pb.GeneralizeMask(step=step))
        case never:
            assert_never(never)
    return message


def _requirement_message(requirement: Requirement) -> pb.Requirement:
    return pb.Requirement(
        policy=requirement.policy,
        code=requirement.code,
        approvers=requirement.approvers,
        count=requirement.count,
        about=requirement.about,
        message=requirement.message,
    )
