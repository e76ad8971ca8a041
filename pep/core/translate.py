"""The contract's messages as the core's values, and back: the only place that knows both.

Pure. What a newer decision service may send and this proxy does not know is read in the safe direction: a verdict that
is unset or unknown is a deny, a duty that is unset or unknown is one that nobody supports, an unknown mask is NULL.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Final

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.v1 import access_pb2, decision_pb2
from pep.core.model import (
    Action,
    Allow,
    Answer,
    ConstantMask,
    Decision,
    Deny,
    Estimate,
    FieldLabels,
    FieldMask,
    GeneralizeMask,
    HashMask,
    Incomplete,
    LimitAffected,
    LimitRows,
    Mask,
    MaskFields,
    MaskMethod,
    NullMask,
    Obligation,
    OnExcess,
    PartialEmailMask,
    PartialMask,
    ReadOnly,
    Reason,
    RecordLevel,
    RecordSession,
    RedactText,
    RemoveHeaders,
    RequireApproval,
    Requirement,
    SetHeaders,
    TimeLimit,
    Unsupported,
)
from pep.core.sessions import Party, Subject

TEXT_PATH: Final = "action.properties.statement.text"
PARAMETERS_PATH: Final = "action.properties.statement.parameters"
_UNNAMED: Final = decision_pb2.FieldMask()
# RFC 9110, sections 5.1 and 5.5; a value is sent in Latin-1.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}")
_HEADER_VALUE: Final = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
# Where a message goes and how it is framed is not in a header that can be set or taken away.
_OF_THE_MESSAGE: Final = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})
_OF_THE_WAY: Final = _OF_THE_MESSAGE | {"expect", "keep-alive", "proxy-connection", "te", "trailer"}
EVERYTHING: Final = frozenset({TEXT_PATH, PARAMETERS_PATH})


def reads(paths: Iterable[str], path: str) -> bool:
    """Whether a policy that reads `paths` can see `path`: it names it, or something above or below it."""
    return any(path == each or path.startswith(each + ".") or each.startswith(path + ".") for each in paths)


def action_message(action: Action, paths: Iterable[str]) -> access_pb2.Action:
    """Text and parameters travel only where a policy can read them, or a person must see them."""
    paths = tuple(paths)
    message = access_pb2.Action(
        name=action.name,
        protocol=action.protocol,
        properties_json=orjson.dumps(action.properties),
        binding=access_pb2.Binding(path=action.binding.path, definitions=action.binding.definitions),
    )
    if reads(paths, TEXT_PATH):
        message.statement.text = action.statement.text
    if reads(paths, PARAMETERS_PATH):
        message.statement.parameters_json = orjson.dumps(list(action.statement.parameters))
    if action.estimate is not None:
        message.facts.estimate.CopyFrom(estimate(action.estimate))
    return message


def action_size(action: Action, paths: Iterable[str] = EVERYTHING) -> int:
    """Bytes of the action's JSON, with what travels of its text and parameters where policies read `paths`.

    Raises TypeError or ValueError if it has none.
    """
    paths = tuple(paths)
    size = len(orjson.dumps(action.properties))
    if reads(paths, PARAMETERS_PATH):
        size += len(orjson.dumps(list(action.statement.parameters)))
    return size + (len(action.statement.text.encode()) if reads(paths, TEXT_PATH) else 0)


def answer(message: decision_pb2.Decision) -> Answer:
    """What is answered to a first question: it may lack facts."""
    if message.WhichOneof("verdict") != "incomplete" or not message.incomplete.needs:
        return decision(message)
    known = decision(message)
    return Incomplete(known.decision_id, known.policy_revision, tuple(message.incomplete.needs))


def decision(message: decision_pb2.Decision) -> Decision:
    """What is final. An answer that lacks facts is a deny."""
    identity = (message.decision_id, message.policy_revision)
    reasons = tuple(Reason(each.code, each.message, each.policy, tuple(each.instead)) for each in message.reasons)
    match message.WhichOneof("verdict"):
        case "allow":
            return Allow(*identity, obligations(message.allow.obligations), reasons, _labels(message.labels))
        case "mask":
            duties = obligations(message.mask.obligations)
            if not any(isinstance(duty, MaskFields) for duty in duties):
                return Deny(*identity, (Reason("mask-without-fields", "the decision asks for a mask of nothing"),))
            return Mask(*identity, duties, reasons, _labels(message.labels))
        case "require_approval":
            held = message.require_approval
            return RequireApproval(*identity, _requirements(held.requirements), seconds(held.wait), reasons)
        case "deny":
            return Deny(*identity, reasons, message.deny.retry)
        case "incomplete":
            words = "policy asks for facts about it that cannot be found out here"
            return Deny(*identity, reasons or (Reason("facts-unavailable", words),))
        case _:
            return Deny(*identity, (Reason("no-verdict", "the decision service gave no verdict that is known here"),))


def _labels(messages: Iterable[decision_pb2.FieldLabels]) -> tuple[FieldLabels, ...]:
    return tuple(FieldLabels(each.dataset, each.field, tuple(each.labels)) for each in messages)


def obligations(messages: Iterable[decision_pb2.Obligation]) -> tuple[Obligation, ...]:
    return tuple(map(_obligation, messages))


def _obligation(message: decision_pb2.Obligation) -> Obligation:
    match message.WhichOneof("duty"):
        case "mask_fields" if all(each.dataset and each.field for each in message.mask_fields.fields or [_UNNAMED]):
            return MaskFields(tuple(map(_field_mask, message.mask_fields.fields)))
        case "mask_fields":
            return Unsupported("mask of an unnamed field")
        case "limit_rows":
            truncate = message.limit_rows.on_excess == decision_pb2.ON_EXCESS_TRUNCATE
            excess = OnExcess.TRUNCATE if truncate else OnExcess.FAIL
            return LimitRows(message.limit_rows.max, excess, message.limit_rows.path)
        case "limit_affected":
            return LimitAffected(message.limit_affected.max)
        case "time_limit":
            return TimeLimit(seconds(message.time_limit.limit))
        case "read_only":
            return ReadOnly()
        case "record":
            return _recorded(message.record)
        case "redact_text" | "set_headers" | "remove_headers" as name:
            return _text_or_headers(message) or Unsupported(f"{name} of nothing, or of what no header can be")
        case "unsupported":
            return Unsupported(message.unsupported)
        case _:
            return Unsupported("unknown")


def _recorded(message: decision_pb2.RecordSession) -> Obligation:
    match message.WhichOneof("level"):
        case "nothing":
            return RecordSession(RecordLevel.NONE)
        case "rows" if message.rows:
            return RecordSession(RecordLevel.ROWS, message.rows)
        case "everything":
            return RecordSession(RecordLevel.EVERYTHING)
        case _:
            return Unsupported("record of an unknown level")


def _text_or_headers(message: decision_pb2.Obligation) -> Obligation | None:
    """The duty; None for one that names nothing, or nothing by a name: it was not meant to be without effect.

    Nor is one that no message could be sent with, or that says what only the message's own framing and way can say.
    """
    redact, headers, names = message.redact_text, message.set_headers.headers, message.remove_headers.names
    detectors, patterns = frozenset(redact.detectors), tuple(redact.patterns)
    pairs = tuple((each.name.lower(), each.value) for each in headers)
    match message.WhichOneof("duty"):
        case "redact_text" if (detectors or patterns) and all(detectors) and all(patterns):
            return RedactText(detectors, patterns)
        case "set_headers" if pairs and all(_settable(*pair) for pair in pairs) and len(dict(pairs)) == len(pairs):
            return SetHeaders(pairs)
        case "remove_headers" if names and all(map(_removable, names)):
            return RemoveHeaders(frozenset(map(str.lower, names)))
        case _:
            return None


def _settable(name: str, value: str) -> bool:
    known = _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)
    return known is not None and name.lower() not in _OF_THE_WAY


def _removable(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None and name.lower() not in _OF_THE_MESSAGE


def _field_mask(message: decision_pb2.FieldMask) -> FieldMask:
    excepted = frozenset(getattr(message, "except"))
    return FieldMask(message.dataset, message.field, _mask_method(message), excepted)


def _mask_method(message: decision_pb2.FieldMask) -> MaskMethod:
    match message.WhichOneof("method"):
        case "constant":
            return ConstantMask(message.constant.value)
        case "partial":
            return PartialMask(message.partial.prefix, message.partial.pad, message.partial.suffix)
        case "partial_email":
            return PartialEmailMask()
        case "hash":
            return HashMask(message.hash.key)
        case "generalize":
            return GeneralizeMask(message.generalize.step)
        case _:
            return NullMask()


def _requirements(messages: Iterable[decision_pb2.Requirement]) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(each.policy, each.code, tuple(each.approvers), each.count, each.about, each.message)
        for each in messages
    )


def subject(message: access_pb2.Subject) -> Subject:
    root = Party(message.root.type, message.root.id, tuple(message.root.groups))
    own = Party(message.type, message.id, tuple(message.groups))
    return Subject(own, root if root.id else own, message.workflow)


def seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9


def duration(value: float) -> Duration:
    message = Duration()
    message.FromTimedelta(datetime.timedelta(seconds=value))
    return message


def estimate(value: Estimate) -> access_pb2.Estimate:
    if value.rows is None:
        return access_pb2.Estimate(unavailable=value.unavailable or "not known")
    return access_pb2.Estimate(rows=value.rows)


def epoch(message: Timestamp) -> float | None:
    """Seconds since 1970; None where the message says nothing."""
    return message.seconds + message.nanos / 1e9 if message.seconds or message.nanos else None
