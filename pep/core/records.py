"""Typed events of a session's record, and the bytes and hashes that they become.

An event is the exact bytes that are written, shipped and stored; the chain's hash is over those bytes:
`hash_n = SHA-256(hash_{n-1} || session || seq || bytes)`, `seq` being 8 bytes, big-endian. Texts, parameters and
results are bodies: the event holds `SHA-256(salt || body)`, the salt stands beside the body, so that a body can be
erased.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from pdp.v1.digests import GENESIS, SALT_SIZE, body_digest, canonical_json, chain_hash
from pep.core.values import value


class EventType(enum.StrEnum):
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    SESSION_LOST = "session.lost"
    LOGIN_REFUSED = "login.refused"
    PROCESS = "process"
    DECISION = "decision"
    INTENT = "intent"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_RESOLVED = "approval.resolved"
    APPROVAL_REDEEMED = "approval.redeemed"
    RESPONSE = "response"
    BODY = "body"
    ERROR = "error"


def written(document: object) -> bytes:
    """A document as it stands in records, and as digests of actions are made of it."""
    return canonical_json(document)


@value
class Body:
    """A body of an event: what it is ("statement", "parameters", "result"), its bytes, and its salt."""

    kind: str
    content: bytes
    salt: bytes = field(default_factory=lambda: os.urandom(SALT_SIZE))

    @classmethod
    def of_json(cls, kind: str, document: object) -> Body:
        return cls(kind, canonical_json(document))

    @property
    def digest(self) -> bytes:
        return body_digest(self.salt, self.content)


@value
class Event:
    """What happened; `facts` holds no text of the client and no value of the target, these are bodies."""

    type: EventType
    decision_id: str = ""
    policy_revision: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    bodies: tuple[Body, ...] = ()


@value
class Sealed:
    """An event as it stands in the chain."""

    session: str
    seq: int
    data: bytes
    hash: bytes
    bodies: tuple[Body, ...]


class Chain:
    """Numbers, serialises and hashes the events of one session. Pure but for the clock that is handed in."""

    def __init__(self, session: str, now: Callable[[], str]) -> None:
        self.session = session
        self.seq = 0
        self.hash = GENESIS
        self._now = now

    def seal(self, event: Event) -> Sealed:
        """The event's place in the chain. The caller writes the result before it seals another one."""
        document: dict[str, Any] = {
            "v": 1,
            "session": self.session,
            "seq": self.seq,
            "time": self._now(),
            "type": event.type,
        }
        if event.decision_id:
            document["decision_id"] = event.decision_id
        if event.policy_revision:
            document["policy_revision"] = event.policy_revision
        if event.facts:
            document["facts"] = event.facts
        if event.bodies:
            document["bodies"] = [
                {"kind": body.kind, "size": len(body.content), "sha256": body.digest.hex()} for body in event.bodies
            ]
        data = canonical_json(document)
        digest = chain_hash(self.hash, self.session, self.seq, data)
        sealed = Sealed(self.session, self.seq, data, digest, event.bodies)
        self.hash = digest
        self.seq += 1
        return sealed
