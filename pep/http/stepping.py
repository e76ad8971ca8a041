"""Steps: how an exchange waits. A step is a generator that yields what it waits for and is resumed when it is there."""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pep.core.model import Deny, Held
from pep.http.classify import ClassifySettings
from pep.http.cors import Cors
from pep.http.denial import Answer
from pep.http.holding import Holding
from pep.http.mcp_sessions import McpSessions
from pep.http.scrub import Scrub

T = TypeVar("T")

# Methods that change nothing (RFC 9110, section 9.2.1), of those that are served.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Wait(enum.Enum):
    """What a step waits for."""

    ANSWER = enum.auto()  # a decision or a look-up; sent into the step
    CLIENT = enum.auto()  # more of the client's bytes
    EITHER = enum.auto()  # something from one of the two sides, or from the clock


Step = Generator[Wait, Any, T]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session is made with. Times in seconds, sizes in bytes; None means without limit."""

    classify: ClassifySettings
    scrub: Scrub
    login: frozenset[str]
    injects: bool
    host: str | None = None  # what the target is told it is called; None: what the client said
    base_path: str = ""
    head_bytes: int = 64 * 1024
    decoded_limit: int = 64 * 1024 * 1024
    head: float = 10.0
    idle: float = 60.0
    stalled: float = 30.0
    response: float | None = None
    hold: float | None = 60.0
    respond_async: bool = True
    websocket: bool = True
    cors: Cors = field(default_factory=Cors)
    hash_keys: Mapping[str, bytes] | None = None
    mcp_sessions: McpSessions = field(default_factory=McpSessions)
    holding: Holding = field(default_factory=lambda: Holding(64 * 1024 * 1024))


class Refused(Exception):
    """Ends an exchange with an answer of the proxy's own. `deny` is what is still to be put on record, if anything."""

    def __init__(self, answer: Answer, deny: Deny | None = None) -> None:
        super().__init__(answer.status)
        self.answer = answer
        self.deny = deny


class Pending(Exception):
    """Ends an exchange: the request waits for people, and the client comes back."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.approval_id)
        self.held = held


class Cut(Exception):
    """Ends the connection: the response cannot be finished, and what was sent of it must not look whole."""


class Stale(Exception):
    """The target's connection ended without an answer: it may have been over before the request was sent."""


class TargetStalls(Exception):
    """The target does not take the request's body: what of it has arrived waits here for too long."""
