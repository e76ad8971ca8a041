"""The nouns of enforcement: action, decision, obligation, grant.

Values only: nothing here does I/O or knows a protocol. The wire form is `proto/pdp/v1`; `translate` has both.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pdp.v1.digests import action_digest


@dataclass(frozen=True, slots=True)
class Statement:
    """The action as the client wrote it, secrets replaced: text, and parameters as a JSON array."""

    text: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """What makes two equal texts different actions.

    `path` is the resolution path in force; `definitions` has one line for the definition of every object reached.
    """

    path: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many rows an action touches, as the target's planner guesses.

    `rows` is None where that is not known, because of `unavailable`.
    """

    rows: float | None
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One statement, request or operation. `properties` is valid against `input.json#/$defs/<protocol>`.

    `estimate` is there once policies have asked for it; the digest leaves it out.
    """

    name: str
    protocol: str
    properties: Mapping[str, Any]
    statement: Statement = Statement("")
    binding: Binding = Binding()
    estimate: Estimate | None = None


def digest_of(action: Action, subject: str, resource: str) -> bytes:
    """What an approval of this action is bound to; `subject` is "type:id"."""
    return action_digest(
        subject=subject,
        resource=resource,
        protocol=action.protocol,
        name=action.name,
        properties=action.properties,
        text=action.statement.text,
        parameters=action.statement.parameters,
        path=action.binding.path,
        definitions=action.binding.definitions,
    )


# --- obligations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NullMask:
    """The value becomes NULL."""


@dataclass(frozen=True, slots=True)
class ConstantMask:
    """The value becomes a constant, given in the type's text form."""

    value: str


@dataclass(frozen=True, slots=True)
class PartialMask:
    """The first `prefix` and the last `suffix` characters stay, `pad` stands between."""

    prefix: int
    pad: str
    suffix: int


@dataclass(frozen=True, slots=True)
class PartialEmailMask:
    """Two letters of the local part and of the domain stay."""


@dataclass(frozen=True, slots=True)
class HashMask:
    """HMAC-SHA-256 under a key of the target; `key` names it, empty means the target's own."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class GeneralizeMask:
    """The value is rounded down to `step`: a number, or a unit of time."""

    step: str


MaskMethod = NullMask | ConstantMask | PartialMask | PartialEmailMask | HashMask | GeneralizeMask


@dataclass(frozen=True, slots=True)
class FieldMask:
    """How one field of a dataset is masked; the field "*" means every one that is not in `except_`."""

    dataset: str
    field: str
    method: MaskMethod
    except_: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MaskFields:
    fields: tuple[FieldMask, ...]


class OnExcess(enum.Enum):
    FAIL = "fail"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class LimitRows:
    """At most `maximum` rows of one execution reach the client.

    `path` is the JSONPath of the array that is counted in an answer; empty means the protocol's own rows.
    """

    maximum: int
    on_excess: OnExcess = OnExcess.FAIL
    path: str = ""


@dataclass(frozen=True, slots=True)
class LimitAffected:
    """One execution that changes more than `maximum` rows has no effect at all."""

    maximum: int


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """Seconds from forwarding to the end of the response; waiting for an approval does not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A session's duty: refuse whatever writes."""


@dataclass(frozen=True, slots=True)
class RedactText:
    """What the detectors and the patterns (regular expressions) find in text of the result is struck out."""

    detectors: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetHeaders:
    """Headers that the message has as forwarded, and no others of these names; the names are in lower case."""

    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoveHeaders:
    """Headers that the message does not have as forwarded; the names are in lower case."""

    names: frozenset[str]


class RecordLevel(enum.Enum):
    """How much of what comes back is kept on record; the larger the stronger."""

    NONE = 0
    ROWS = 1
    EVERYTHING = 2


@dataclass(frozen=True, slots=True)
class RecordSession:
    """What is kept of each response: nothing, the first `rows` rows, everything. A session's, or one command's."""

    level: RecordLevel
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A duty that this proxy has no class for. No proxy supports it, so it turns a grant into a deny."""

    name: str


Obligation = (
    MaskFields
    | LimitRows
    | LimitAffected
    | TimeLimit
    | ReadOnly
    | RedactText
    | SetHeaders
    | RemoveHeaders
    | RecordSession
    | Unsupported
)

# The policy contract's names, as `supported_obligations` says them.
OBLIGATION_NAMES: Final[Mapping[type, str]] = {
    MaskFields: "mask",
    LimitRows: "limit_rows",
    LimitAffected: "limit_affected",
    TimeLimit: "time_limit",
    ReadOnly: "read_only",
    RedactText: "redact_text",
    SetHeaders: "set_headers",
    RemoveHeaders: "remove_headers",
    RecordSession: "record",
}


def duty_name(duty: Obligation) -> str:
    """What policies and records call it."""
    return duty.name if isinstance(duty, Unsupported) else OBLIGATION_NAMES[type(duty)]


# --- decisions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """One contribution of a policy: a stable code, the author's words, what would be allowed instead."""

    code: str
    message: str = ""
    policy: str = ""
    instead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirement:
    """People who have to agree; approvers are "group:NAME" or "user:ID"."""

    policy: str
    code: str
    approvers: tuple[str, ...]
    count: int = 1
    about: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class FieldLabels:
    """How the policies' data classify one field; nothing is decided by it here. "*" stands for any dataset or field."""

    dataset: str
    field: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Allow:
    decision_id: str
    policy_revision: str
    obligations: tuple[Obligation, ...] = ()
    reasons: tuple[Reason, ...] = ()
    labels: tuple[FieldLabels, ...] = ()


@dataclass(frozen=True, slots=True)
class Mask:
    """A grant whose obligations hold at least one MaskFields."""

    decision_id: str
    policy_revision: str
    obligations: tuple[Obligation, ...]
    reasons: tuple[Reason, ...] = ()
    labels: tuple[FieldLabels, ...] = ()


@dataclass(frozen=True, slots=True)
class RequireApproval:
    decision_id: str
    policy_revision: str
    requirements: tuple[Requirement, ...]
    wait: float
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Not decided: the policies ask for facts about the action, by their names. It grants nothing."""

    decision_id: str
    policy_revision: str
    needs: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Deny:
    """`retry`: the same action may succeed later, for example because no decision could be made."""

    decision_id: str
    policy_revision: str
    reasons: tuple[Reason, ...]
    retry: bool = False


Decision = Allow | Mask | RequireApproval | Deny

Answer = Decision | Incomplete
"""What the decision service says of an action; facts that it lacks never get past the enforcer."""


def local_deny(decision_id: str, code: str, message: str, *, retry: bool = False) -> Deny:
    """A deny that the proxy itself answers with: no policy was asked, or it could not answer."""
    return Deny(decision_id, "", (Reason(code, message),), retry)


# --- what a decision releases -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to forward the frames of one exchange; only `Enforcer` makes one (see `enforcer.Seal`).

    `obligations` has one tuple for each action of the Ask, in order. The intent is on record before a Grant exists.
    `labels` are of the fields that any of the actions touches.
    """

    seal: object
    execution_id: str
    decision_ids: tuple[str, ...]
    policy_revision: str
    obligations: tuple[tuple[Obligation, ...], ...]
    labels: tuple[FieldLabels, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The action waits for people; the answer comes later, as `Approved` or as a `Deny`."""

    approval_id: str
    decision: RequireApproval
    url: str
    approvers: tuple[str, ...]
    expires_in: float


Outcome = Grant | Held | Deny
