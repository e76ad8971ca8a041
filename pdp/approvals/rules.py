"""Who may say yes, and when enough people have; pure.

Never the requester, nor anybody who stands behind the requester: neither the person it works for, nor another agent of
the chain, nor whoever had its token made. Only people, and only each for themselves. `separate_people` is always
taken as true: a person counts once for a requirement, whatever number of identities they have in one spelling, or
with one value of the claim that `identity.people` names.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pdp.identity.subject import Authenticated, Subject
from pdp.store.approvals import Approval, Assent
from pdp.v1 import access_pb2
from pdp.v1.config_values import parse_duration

Requirement = Mapping[str, Any]


def unfit(
    who: Authenticated,
    requester: Subject | None,
    now: datetime.datetime,
    max_sign_in_age: datetime.timedelta,
    same: str | None = None,
) -> str | None:
    """Why this subject may not answer this requester's question, whatever the requirements say; None if it may.

    Without a requester: why not anybody's. `same` is the claim that makes two identities one human, where there is one:
    a person who does not carry it could be anybody, whether they ask or answer.
    """
    approver = who.subject
    if approver.type != "user":
        return "only people approve"
    if approver.on_behalf_of is not None or approver.behind:
        return "people approve for themselves only, with a token that they got themselves"
    if who.signed_in_at is None:
        return "a key does not approve; sign in"
    if now - who.signed_in_at > max_sign_in_age:
        return "you signed in too long ago; sign in again"
    if same is not None and not approver.also:
        return f"your token does not carry {same}, which says here who a person is"
    if requester is not None and approver.names & requester.chain:
        return "nobody approves their own request, nor one that is made on their behalf"
    if same is not None and requester is not None and not requester.also and "user" in _types(requester):
        # Whoever asks could be the approver under another name as well.
        return f"who asks does not carry {same}, which says here who a person is"
    return None


def _types(subject: Subject) -> tuple[str, str]:
    return subject.type, subject.root.type


def counts_for(approval: Approval, approver: Subject, now: datetime.datetime) -> tuple[int, ...]:
    """The requirements, by position, whose approvers this person is among."""
    names = {f"user:{approver.id}", *(f"group:{group}" for group in approver.groups)}
    return tuple(
        index
        for index, requirement in enumerate(approval.requirements)
        if names & set(_approvers(requirement, approval.created_at, now))
    )


def _approvers(requirement: Requirement, asked_at: datetime.datetime, now: datetime.datetime) -> list[str]:
    approvers = list(requirement["approvers"])
    escalate = requirement.get("escalate")
    if escalate and now >= asked_at + parse_duration(escalate["after"]):
        approvers += escalate["approvers"]
    return approvers


def met(requirements: Sequence[Requirement], assents: Sequence[Assent]) -> bool:
    """Whether every requirement has enough people; one person's yes counts for each requirement that it fits."""
    return bool(requirements) and all(
        len({assent.person for assent in assents if index in assent.counts_for}) >= int(requirement["count"])
        for index, requirement in enumerate(requirements)
    )


def grant_life(requirements: Sequence[Requirement]) -> datetime.timedelta:
    """How long the yes may be used: the shortest that any requirement grants."""
    return min(parse_duration(each["grant"]["for"]) for each in requirements)


def uses(requirements: Sequence[Requirement]) -> int:
    """How often the yes may be used: the least that any requirement grants."""
    return min(int(each["grant"]["uses"]) for each in requirements)


def holder(subject: Subject) -> str:
    """Who may use a yes: the subject, the one behind it, and the thread and run of its workflow where it has them."""
    parts = (subject.key, subject.root.type, subject.root.id, *(str(subject.workflow.get(k, "")) for k in _BOUND))
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\p") for part in parts)


_BOUND = ("thread", "run")
_COUNTED = frozenset({"insert", "update", "delete", "merge"})
# What of an action's description is values: of PostgreSQL's, HTTP's and MCP's.
_VALUES = frozenset({"pins", "limit", "path", "segments", "query", "headers", "body", "arguments"})


def shown(comment: str) -> str:
    """A person's words, fit to be shown to a client: printable characters on one line, not too many of them."""
    printable = "".join(letter if letter.isprintable() else " " for letter in comment)
    return " ".join(printable.split())[:240]


def datasets(action: access_pb2.Action) -> list[str]:
    """What data the action touches, by name, as far as its description says."""
    try:
        properties = orjson.loads(action.properties_json)
    except ValueError:
        return []
    relations = properties.get("relations") if isinstance(properties, dict) else None
    named = [each.get("dataset") for each in relations or () if isinstance(each, dict)]
    return sorted({name for name in named if isinstance(name, str) and name})


def uncounted(action: access_pb2.Action) -> str | None:
    """Why no limit of changed rows can be set for the action, in words; None where one can."""
    try:
        properties = orjson.loads(action.properties_json)
    except ValueError:
        properties = None
    if action.protocol != "postgres" or not isinstance(properties, dict):
        return "only a statement of SQL has rows that are counted"
    if properties.get("opaque") is not False or properties.get("kind") not in _COUNTED:
        return "only INSERT, UPDATE, DELETE and MERGE have a count of the rows that they change"
    return None


def fold(subject: Subject, resource: str, action: access_pb2.Action) -> str:
    """Equal for actions of one subject in one run that differ in values alone, and in nothing that they touch."""
    try:
        properties = orjson.loads(action.properties_json)
    except ValueError:
        properties = None
    if isinstance(properties, dict):
        shape = {name: value for name, value in properties.items() if name not in _VALUES}
        described = orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)
    else:
        described = action.properties_json
    named = (part.encode() for part in (holder(subject), resource, action.protocol, action.name))
    digest = hashlib.sha256()
    for value in (*named, described):
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
    return digest.hexdigest()
