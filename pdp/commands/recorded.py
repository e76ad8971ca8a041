"""An event of a session's record as it comes from the service, read without trust: whatever is wrong becomes a value.

The format is that of the proxies' spool: a JSON object with `v` 1, `session`, `seq`, `time`, `type`, and where they are
known `decision_id`, `policy_revision`, `facts` and `bodies` [{kind, size, sha256}].
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pdp.v1.admin_service_pb2 import RecordedEvent

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Body:
    """A body that the event names; None as content where it is not kept: it was erased, or has not come yet."""

    index: int
    kind: str
    size: int
    content: bytes | None
    digest: str = ""
    salt: bytes = b""
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event. Every text in it is foreign."""

    seq: int
    data: bytes
    hash: bytes
    readable: bool = False
    session: str = ""
    number: int = -1
    time: datetime.datetime | None = None
    type: str = ""
    decision_id: str = ""
    policy_revision: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    bodies: Sequence[Body] = ()
    # Bodies that came with it and that it does not name.
    unnamed: Sequence[int] = ()

    @property
    def head(self) -> Mapping[str, str]:
        """What stands beside the facts, as the document has it."""
        said = {"type": self.type, "decision_id": self.decision_id, "policy_revision": self.policy_revision}
        return {name: value for name, value in said.items() if value}

    def text(self, name: str) -> str:
        """A fact as text; empty where there is none."""
        value = self.facts.get(name)
        return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def items(self, name: str) -> list[Mapping[str, Any]]:
        """A fact that is a list of objects."""
        value = self.facts.get(name)
        return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

    def of_kind(self, kind: str) -> list[Body]:
        return [body for body in self.bodies if body.kind == kind]


def read(event: RecordedEvent) -> Recorded:
    """The event, as far as it can be read."""
    try:
        document = json.loads(event.event)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("v") != VERSION:
        return Recorded(event.seq, event.event, event.hash, unnamed=sorted(event.bodies))
    facts = document.get("facts")
    bodies = _bodies(document.get("bodies"), event)
    return Recorded(
        seq=event.seq,
        data=event.event,
        hash=event.hash,
        readable=True,
        session=_text(document.get("session")),
        number=document["seq"] if isinstance(document.get("seq"), int) else -1,
        time=_time(document.get("time")),
        type=_text(document.get("type")),
        decision_id=_text(document.get("decision_id")),
        policy_revision=_text(document.get("policy_revision")),
        facts=facts if isinstance(facts, dict) else {},
        bodies=bodies,
        unnamed=sorted(set(event.bodies) - {body.index for body in bodies}),
    )


def _bodies(named: object, event: RecordedEvent) -> list[Body]:
    kept, salts, erased = event.bodies, event.salts, frozenset(event.erased)
    entries = named if isinstance(named, list) else []
    return [
        Body(
            index,
            _text(entry.get("kind")),
            size if isinstance(size := entry.get("size"), int) else -1,
            kept.get(index),
            _text(entry.get("sha256")),
            salts.get(index, b""),
            index in erased,
        )
        for index, entry in enumerate(entries)
        if isinstance(entry, dict)
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime.datetime | None:
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)
