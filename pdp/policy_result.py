"""The answer of the policy entrypoint, read into types; pure.

An answer that is not exactly of the form of `rego/schemas/decision.json` is an error here and a deny at the caller:
an unknown key may be a duty that nobody carries out. This module asks nothing and knows no clock.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pdp.library import library_dir
from pdp.schema import Check, compile_schema

Json = Mapping[str, Any]


class ResultError(ValueError):
    """The entrypoint's answer is not of the agreed form."""


class Verdict(enum.Enum):
    """What the bound policies say, before anybody is asked or anything is looked up."""

    ALLOW = "allow"
    MASK = "mask"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a bound policy says about itself where nothing allowed the action."""

    policy: str
    message: str


@dataclass(frozen=True, slots=True)
class Reason:
    """One contribution to the verdict; `policy` is empty for the entrypoint itself and for the decision service."""

    code: str
    policy: str = ""
    message: str = ""
    instead: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()


@dataclass(frozen=True, slots=True)
class NullMask:
    """The value becomes null."""


@dataclass(frozen=True, slots=True)
class ConstantMask:
    """The value becomes this, in the text form of the field's type."""

    value: str


@dataclass(frozen=True, slots=True)
class PartialMask:
    """The first and last characters stay."""

    prefix: int
    pad: str
    suffix: int


@dataclass(frozen=True, slots=True)
class PartialEmailMask:
    """The first letters of an address stay."""


@dataclass(frozen=True, slots=True)
class HashMask:
    """A keyed hash; without a name the target's own key."""

    key: str


@dataclass(frozen=True, slots=True)
class GeneralizeMask:
    """Rounded down to a number or a unit of time."""

    step: str


MaskMethod = NullMask | ConstantMask | PartialMask | PartialEmailMask | HashMask | GeneralizeMask


@dataclass(frozen=True, slots=True)
class FieldMask:
    """How one field of a dataset is masked; `*` is every field that is not excepted."""

    dataset: str
    field: str
    method: MaskMethod
    excepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitRows:
    """The most rows of one execution."""

    max: int
    truncate: bool
    path: str = ""
    """The JSONPath of the list that is counted; empty where an answer is rows."""


@dataclass(frozen=True, slots=True)
class LimitAffected:
    """The most rows that one execution changes."""

    max: int


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """The most time of one execution."""

    limit: timedelta


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Nothing may be written."""


@dataclass(frozen=True, slots=True)
class RedactText:
    """What is struck out of text, wherever detectors or regular expressions find it."""

    detectors: tuple[str, ...]
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetHeaders:
    """Headers by their names in lower case."""

    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoveHeaders:
    """Names of headers, in lower case."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordSession:
    """How much of what comes back is kept on record: so many rows, 0 for nothing, None for everything."""

    rows: int | None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A duty that the contract with the proxies has no message for yet; it turns a grant into a deny there."""

    name: str


Obligation = (
    LimitRows
    | LimitAffected
    | TimeLimit
    | ReadOnly
    | RedactText
    | SetHeaders
    | RemoveHeaders
    | RecordSession
    | Unsupported
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who has to agree. `document` is the requirement as it came: an approval hands it back unchanged."""

    policy: str
    code: str
    approvers: tuple[str, ...]
    count: int
    about: str
    message: str
    wait: timedelta
    uses: int
    valid_for: timedelta
    separate_people: bool
    escalate_after: timedelta | None
    escalate_to: tuple[str, ...]
    document: Json


@dataclass(frozen=True, slots=True)
class Exemption:
    """A rule that another policy lifted."""

    policy: str
    code: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The whole answer, with the digest of what answered; the revision is empty where nothing did."""

    verdict: Verdict
    revision: str
    reasons: tuple[Reason, ...] = ()
    masks: tuple[FieldMask, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    needs: tuple[str, ...] = ()
    exempted: tuple[Exemption, ...] = ()
    valid_until: datetime | None = None
    retry: bool = False
    document: Json | None = None
    """As OPA answered, for the decision log; None where OPA did not."""


def denied(code: str, message: str, *, retry: bool = False, revision: str = "") -> PolicyResult:
    """A deny of the decision service itself, not of a policy."""
    return PolicyResult(Verdict.DENY, revision, (Reason(code, message=message),), retry=retry)


def parse_result(document: object, revision: str) -> PolicyResult:
    """Reads what `data.checkrein.decision.result` answered.

    Raises ResultError for anything that decision.json does not describe.
    """
    if (wrong := _shape()(document)) is not None:
        raise ResultError(str(wrong))
    assert isinstance(document, dict)
    try:
        return PolicyResult(
            verdict=Verdict(document["verdict"]),
            revision=revision,
            reasons=tuple(_reason(each) for each in document["reasons"]),
            masks=tuple(_mask(each) for each in document["masks"]),
            obligations=tuple(_obligation(name, each) for name, each in sorted(document["obligations"].items())),
            requirements=tuple(_requirement(each) for each in document["requirements"]),
            needs=tuple(document["needs"]),
            exempted=tuple(Exemption(e["policy"], e["code"], e["by"], e["reason"]) for e in document["exempted"]),
            valid_until=_instant(document["valid_until"]) if "valid_until" in document else None,
            document=document,
        )
    except (OverflowError, ValueError) as error:  # an instant or a time that no calendar has
        raise ResultError(f"a value is out of range: {error}") from error


def expired(result: PolicyResult, now: datetime) -> PolicyResult:
    """The same answer, or a deny if it is a grant whose time has passed: policies do not read the clock for it."""
    if result.valid_until is None or now < result.valid_until or result.verdict is Verdict.DENY:
        return result
    return denied("grant-expired", "What allowed this has run out.", revision=result.revision)


def limit_affected(result: PolicyResult) -> int | None:
    """The most rows that a grant lets change; None where it sets no limit, or grants nothing."""
    if result.verdict not in (Verdict.ALLOW, Verdict.MASK):
        return None
    return min((each.max for each in result.obligations if isinstance(each, LimitAffected)), default=None)


def narrowed(result: PolicyResult, max_rows: int | None) -> PolicyResult:
    """The same answer; if it is a grant, for so many changed rows at most, whatever else the policies say."""
    if max_rows is None or result.verdict not in (Verdict.ALLOW, Verdict.MASK):
        return result
    known = limit_affected(result)
    least = LimitAffected(max_rows if known is None else min(max_rows, known))
    others = tuple(each for each in result.obligations if not isinstance(each, LimitAffected))
    return replace(result, obligations=(least, *others))


@functools.cache
def _shape() -> Check:
    schema = json.loads((library_dir() / "schemas" / "decision.json").read_bytes())
    return compile_schema(schema, "#/definitions/decision")


def _reason(document: Json) -> Reason:
    return Reason(
        code=document["code"],
        policy=document.get("policy", ""),
        message=document.get("message", ""),
        instead=tuple(document.get("instead", ())),
        hints=tuple(Hint(each["policy"], each["message"]) for each in document.get("hints", ())),
    )


def _mask(document: Json) -> FieldMask:
    return FieldMask(document["dataset"], document["field"], _method(document), tuple(document.get("except", ())))


def _method(document: Json) -> MaskMethod:
    match document["method"]:
        case "null":
            return NullMask()
        case "constant":
            return ConstantMask(_text(document["value"]))
        case "partial":
            return PartialMask(_size(document["prefix"]), document["pad"], _size(document["suffix"]))
        case "partial_email":
            return PartialEmailMask()
        case "hash":
            return HashMask(document.get("key", ""))
        case "generalize":
            return GeneralizeMask(_text(document["step"]))
        case method:
            raise ResultError(f"no such mask: {method}")


def _text(value: str | float | bool) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _obligation(name: str, duty: Any) -> Obligation:
    match name:
        case "limit_rows":
            return LimitRows(_size(duty["max"]), duty["on_excess"] == "truncate", duty.get("path", ""))
        case "limit_affected":
            return LimitAffected(_size(duty["max"]))
        case "time_limit":
            return TimeLimit(timedelta(seconds=duty["seconds"]))
        case "read_only":
            return ReadOnly()
        case "redact_text":
            return RedactText(tuple(sorted(duty["detectors"])), tuple(sorted(duty["patterns"])))
        case "set_headers":
            return SetHeaders(tuple(sorted(duty.items())))
        case "remove_headers":
            return RemoveHeaders(tuple(sorted(duty)))
        case "record":
            return RecordSession(_rows(duty))
        case _:
            return Unsupported(name)


def _rows(duty: Json) -> int | None:
    match duty:
        case {"level": "none", **rest} if not rest:
            return 0
        case {"level": "everything", **rest} if not rest:
            return None
        case {"level": "rows", "rows": rows}:
            return _size(rows)
        case _:
            raise ResultError("record: rows go with the level rows, and only there")


def _requirement(document: Json) -> Requirement:
    escalate = document.get("escalate")
    return Requirement(
        policy=document["policy"],
        code=document["code"],
        approvers=tuple(document["approvers"]),
        count=_size(document["count"]),
        about=document.get("about", ""),
        message=document.get("message", ""),
        wait=_duration(document["wait"]),
        uses=_size(document["grant"]["uses"]),
        valid_for=_duration(document["grant"]["for"]),
        separate_people=document["separate_people"],
        escalate_after=_duration(escalate["after"]) if escalate else None,
        escalate_to=tuple(escalate["approvers"]) if escalate else (),
        document=document,
    )


_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(text: str) -> timedelta:
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _size(number: float) -> int:
    """What the messages can hold; a smaller limit, or more people than there are, is the stricter answer."""
    return min(int(number), (1 << 31) - 1)
