"""An approval as a person has to see it before they say yes: pure, from the message to lines.

What they approve is bound by a digest; this module computes it from the very message that it shows, so that a yes is
said to what was on the screen and to nothing else.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from pdp.commands.screen import clock, span
from pdp.input import InvalidAction, strict_json
from pdp.shown import is_cut, shown
from pdp.v1 import access_pb2, decision_pb2
from pdp.v1.admin_service_pb2 import Approval, RecentAction
from pdp.v1.approval_service_pb2 import ApprovalState
from pdp.v1.digests import action_digest

# What fits several screens is read; more than that only where the person asks for it.
_SUMMARY: Final = 80
_IN_A_LIST: Final = 160
STATEMENT_LIMIT: Final = 16_000
_LISTED: Final = 100
GUTTER: Final = "  │ "

Pairs = Iterator[tuple[str, str]]


def state_name(state: int) -> str:
    """pending, approved, ..."""
    return ApprovalState.Name(state).removeprefix("APPROVAL_STATE_").lower()


def party(subject: access_pb2.Subject) -> str:
    """Who asks, and for whom."""
    named = _named(subject.type, subject.id, subject.groups)
    root = subject.root
    if not root.id or (root.type, root.id) == (subject.type, subject.id):
        return named
    return f"{named}, on behalf of {_named(root.type, root.id, root.groups)}"


def _named(type: str, id: str, groups: Sequence[str]) -> str:
    inside = f" ({', '.join(shown(group) for group in groups)})" if groups else ""
    return f"{shown(type)}:{shown(id)}{inside}"


def properties_of(action: access_pb2.Action) -> dict[str, Any] | None:
    """What the proxy says of the action, in the protocol's shape; None where it is not a JSON object."""
    try:
        document = strict_json(action.properties_json)
    except (InvalidAction, ValueError):
        return None
    return document if isinstance(document, dict) else None


def digest_of(approval: Approval) -> bytes | None:
    """The digest of what this module shows; None where that cannot be computed."""
    action = approval.action
    properties = properties_of(action)
    try:
        parameters = strict_json(action.statement.parameters_json or b"[]")
        if properties is None or not isinstance(parameters, list):
            return None
        return action_digest(
            subject=f"{approval.subject.type}:{approval.subject.id}",
            resource=approval.resource,
            protocol=action.protocol,
            name=action.name,
            properties=properties,
            text=action.statement.text,
            parameters=parameters,
            path=action.binding.path,
            definitions=action.binding.definitions,
        )
    except (InvalidAction, TypeError, ValueError):
        return None


def is_whole(approval: Approval, limit: int | None) -> bool:
    """Whether everything that is approved is shown under that limit."""
    if limit is None:
        return True
    statement = approval.action.statement
    texts: list[str | bytes] = [statement.text, statement.parameters_json, *approval.action.binding.definitions]
    described = properties_of(approval.action) or {}
    long_list = any(isinstance(value, list) and len(value) > _LISTED for value in described.values())
    return not long_list and not any(is_cut(text, limit) for text in texts)


def facts(approval: Approval, now: datetime.datetime, limit: int | None = STATEMENT_LIMIT) -> Pairs:
    """Name and value of everything about it but the statement, fit to be printed."""
    yield "In short", _printable(approval.sentence) or "the decision service has no sentence for it"
    yield "Approval", shown(approval.approval_id)
    yield "State", _state(approval, now)
    yield "Who", party(approval.subject)
    if approval.subject.workflow:
        yield "Node", f"{shown(approval.subject.workflow)} (graph/node/run)"
    yield "On", f"{shown(approval.resource)} ({shown(approval.action.protocol)})"
    yield from _action(approval, limit)
    yield from _effects(approval)
    for requirement in approval.requirements:
        yield "Held by", _requirement(requirement)
    for assent in approval.assents:
        codes = ", ".join(shown(code) for code in assent.requirement_codes)
        most = f", at most {rows(assent.max_rows)}" if assent.HasField("max_rows") else ""
        yield "Said yes", f"{shown(assent.subject_id)} at {clock(_instant(assent.at))} for {codes}{most}"
    if approval.comment:
        yield "Comment", shown(approval.comment)
    yield "Waiting", _waiting(approval)
    yield "On yes", _on_yes(approval)
    yield "Session", f"{shown(approval.session_id)}, decision {shown(approval.decision_id)}"
    if approval.hidden:
        yield "NOT SHOWN", f"statement and values: {shown(approval.hidden)}"
    yield "Digest", approval.action_digest.hex()


def recent(actions: Sequence[RecentAction]) -> Iterator[str]:
    """What else the run did, a line each, newest first."""
    yield "The run's last actions:" if actions else "The run's last actions: none are kept"
    for each in actions:
        # The sentence is the service's; it is rendered again here all the same, as everything that comes over a wire.
        when = clock(_instant(each.at))
        yield f"{GUTTER}{when} {shown(each.verdict)} on {shown(each.resource)}: {_printable(each.sentence)}"


def _effects(approval: Approval) -> Pairs:
    match approval.estimate.WhichOneof("outcome"):
        case "rows":
            yield "Rows", f"about {approval.estimate.rows:,.0f}, as the target's planner guesses; it counts for nothing"
        case "unavailable":
            yield "Rows", f"no estimate: {shown(approval.estimate.unavailable)}"
        case _:
            pass
    for each in approval.owners:
        yield "Owner", f"{shown(each.dataset)}: {', '.join(map(shown, each.owners))}"
    definitions = len(approval.action.binding.definitions)
    if approval.action.protocol == "postgres" and definitions:
        things = "definition" if definitions == 1 else "definitions"
        yield "May change", f"{definitions} {things} below: if one is another by then, the yes does not fit any more"


def _waiting(approval: Approval) -> str:
    inside = "inside an open transaction, which keeps its locks meanwhile" if approval.in_transaction else ""
    until = f"for an answer until {clock(_instant(approval.waits_until))}" if approval.HasField("waits_until") else ""
    return "; ".join(part for part in (until, inside or "in no transaction") if part)


def _on_yes(approval: Approval) -> str:
    """What a yes does; it can be narrower than what is asked, never wider."""
    uses = "once" if approval.grant_uses <= 1 else f"{approval.grant_uses} times at most ({approval.uses_left} left)"
    life = (
        f", within {span(approval.grant_for.ToTimedelta())} of the last yes" if approval.HasField("grant_for") else ""
    )
    most = f", changing at most {rows(approval.max_rows)} each time" if approval.HasField("max_rows") else ""
    return f"exactly this may run {uses}{life}{most}, by nobody else, if the policies then still allow it"


def rows(number: int) -> str:
    """A number of rows in words."""
    return "one row" if number == 1 else f"{number:,} rows"


def _printable(sentence: str) -> str:
    """The service's own marks stay as they are; nothing else that is not to be printed does."""
    return "".join(letter if letter.isprintable() else shown(letter) for letter in sentence)


def statement(approval: Approval, limit: int | None = STATEMENT_LIMIT) -> Iterator[str]:
    """The statement and its parameters as lines, each behind the gutter."""
    said = approval.action.statement
    if approval.hidden:
        yield "Statement: its words and names, without values" if said.text else "Statement: not shown to you"
        if said.text:
            yield shown(said.text, limit=limit, gutter=GUTTER)
        return
    if said.text:
        digest = hashlib.sha256(said.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        yield f"Statement, {len(said.text):,} characters, sha256 {digest}:"
        yield shown(said.text, limit=limit, gutter=GUTTER)
    else:
        yield "Statement: none was sent"
    if said.parameters_json and said.parameters_json != b"[]":
        yield "Parameters:"
        yield from parameters(said.parameters_json, limit=limit)


def parameters(raw: bytes, *, limit: int | None) -> Iterator[str]:
    """The parameters, one a line, numbered as statements number them."""
    try:
        values = strict_json(raw)
    except (InvalidAction, ValueError):
        values = None
    if not isinstance(values, list):
        yield f"{GUTTER}(not a list) {shown(raw, limit=limit)}"
        return
    for index, value in enumerate(values, 1):
        later = value == {"parameter": index}
        yield f"{GUTTER}${index} = {'(given when it is executed)' if later else shown(_json(value), limit=limit)}"


def summary(approval: Approval) -> str:
    """The action in a few words: its kind and what it touches, or what was written where it does not say these."""
    if approval.sentence:
        said = _printable(approval.sentence)
        # The end says what else it does.
        return said if len(said) <= _IN_A_LIST else f"{said[: _IN_A_LIST // 2]} … {said[-_IN_A_LIST // 2 :]}"
    protocol = properties_of(approval.action) or {}
    if "kind" not in protocol and approval.action.statement.text:
        return shown(approval.action.statement.text, limit=_SUMMARY)
    kind = shown(str(protocol.get("kind") or approval.action.name))
    touched = [_relation(each) for each in _objects(protocol, "relations") if each.get("access") != "read"]
    return f"{kind} {', '.join(touched)}".strip()


def _state(approval: Approval, now: datetime.datetime) -> str:
    name = state_name(approval.state)
    asked = f"asked {span(now - _instant(approval.created_at))} ago"
    if name not in ("pending", "approved"):
        return f"{name}, {asked}"
    left = _instant(approval.expires_at) - now
    return f"{name}, {asked}, " + (f"ends in {span(left)}" if left > datetime.timedelta(0) else "its time is over")


def _action(approval: Approval, limit: int | None) -> Pairs:
    action = approval.action
    properties = properties_of(action)
    known = properties or {}
    words = [shown(action.name), *(shown(str(known[key])) for key in ("kind", "class") if key in known)]
    yield "Action", ", ".join(dict.fromkeys(words))
    if properties is None:
        yield "NOT READABLE", "the proxy's description of the action is not a JSON object"
    else:
        yield from _described(properties, _LISTED if limit is not None else None)
    if action.binding.path:
        yield "Names in", ", ".join(shown(each) for each in action.binding.path)
    for definition in action.binding.definitions:
        yield "Bound to", shown(definition, limit=limit)


def _described(protocol: Mapping[str, Any], most: int | None) -> Pairs:
    """What a statement does, as the proxy found out; the alarming things first."""
    if protocol.get("opaque") is not False:
        yield "NOT UNDERSTOOD", shown(str(protocol.get("opaque", "the proxy does not say whether it understood it")))
    for key, name in (("mints_access", "GIVES ACCESS"), ("reaches_beyond", "REACHES BEYOND")):
        if values := protocol.get(key):
            yield name, _list(values, most)
    if protocol.get("kind") in ("delete", "update") and protocol.get("has_where") is False:
        yield "EVERY ROW", "the statement has no condition"
    for relation in _objects(protocol, "relations"):
        also = relation.get("via") and relation.get("access") != "read"
        yield "ALSO WRITES" if also else "Touches", f"{shown(str(relation.get('access', '?')))} {_relation(relation)}"
    read: dict[str, list[str]] = {}
    for column in _objects(protocol, "columns"):
        read.setdefault(str(column.get("dataset", "?")), []).append(str(column.get("field", "?")))
    for dataset, fields in read.items():
        yield "Can read", f"{shown(dataset)}: {_list(list(dict.fromkeys(fields)), most)}"
    known = {"opaque", "mints_access", "reaches_beyond", "relations", "columns", "kind", "class", "has_where", "pins"}
    for pin in _objects(protocol, "pins"):
        yield "Only where", shown(f"{pin.get('dataset')}.{pin.get('field')} = {_json(pin.get('value'))}")
    for key, value in protocol.items():
        if key not in known and value not in ([], {}, None, ""):
            yield shown(key.replace("_", " ").capitalize()), _list(value, most)


def _relation(relation: Mapping[str, Any]) -> str:
    via = f" (by way of {shown(str(relation['via']))})" if relation.get("via") else ""
    temporary = " (temporary)" if relation.get("temporary") else ""
    return f"{shown(str(relation.get('dataset', '?')))}{via}{temporary}"


def _requirement(requirement: decision_pb2.Requirement) -> str:
    people = "one" if requirement.count <= 1 else str(requirement.count)
    approvers = ", ".join(shown(each) for each in requirement.approvers)
    about = f" about {shown(requirement.about)}" if requirement.about else ""
    message = f": {shown(requirement.message)}" if requirement.message else ""
    return f"{shown(requirement.policy)}/{shown(requirement.code)}{about}{message} (needs {people} of {approvers})"


def _objects(protocol: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    values = protocol.get(key)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _list(value: object, most: int | None) -> str:
    if isinstance(value, list):
        named = [shown(each if isinstance(each, str) else _json(each)) for each in value[:most]]
        more = f" and {len(value) - len(named):,} more" if len(named) < len(value) else ""
        return ", ".join(named) + more
    return shown(value if isinstance(value, str) else _json(value))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _instant(stamp: Timestamp) -> datetime.datetime:
    return stamp.ToDatetime(datetime.UTC)
