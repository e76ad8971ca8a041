"""Steps: how a message of the client waits.

A step is a generator that takes one message as far as it can go. It yields what it waits for and is resumed with the
answer, or, for the upstream, whenever something came back. It ends by returning, or by raising `Refused`.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pep.core.keeping import Keeping
from pep.core.model import Obligation
from pep.postgres.backend import ErrorResponse
from pep.postgres.resolution import SchemaNews
from pep.postgres.settings import UTF8_NAMES


class Wait(enum.Enum):
    """What a step waits for."""

    ANSWER = enum.auto()
    UPSTREAM = enum.auto()


Step = Generator[Wait, Any, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session is made with. Times in seconds; `duties` are the session's own obligations."""

    database: str
    server_version: int
    duties: tuple[Obligation, ...] = ()
    keeping: Keeping = field(default_factory=Keeping, compare=False)
    hash_keys: Mapping[str, bytes] = field(default_factory=dict)
    hold: float | None = None
    hold_in_transaction: float = 30.0
    max_statement: int = 1024 * 1024
    idle: float | None = None
    encodings: tuple[str, ...] = UTF8_NAMES
    news: SchemaNews = field(default_factory=SchemaNews, compare=False)


class Refused(Exception):
    """Ends a step: the client's message is denied with this error."""

    def __init__(self, error: ErrorResponse) -> None:
        super().__init__(error.fields["M"])
        self.error = error


class Exchanges:
    """Numbers what is asked, so that a late answer to something else is told apart."""

    def __init__(self) -> None:
        self.current = 0
        self.asking = False

    def next(self) -> int:
        self.current += 1
        return self.current
