"""`pdp.records`: how long what happened is kept, how it is sealed, and where the decision log goes."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from pdp.config.values import Span, check_url
from pdp.v1.config_values import FilePath, Secret, Size
from pdp.v1.strict_yaml import StrictModel


class DecisionLog(StrictModel):
    """Where the decision log goes, in the format of OPA's own. Without this section: to the service's own log."""

    console: bool = False
    file: FilePath | None = None
    # How large the file gets before a new one is begun, and how many older ones stay.
    rotate: Annotated[Size, Field(ge=1 << 12)] = 100 << 20
    files: Annotated[int, Field(ge=1, le=1000)] = 5
    # A receiver of OPA's decision logs.
    url: str | None = None
    batch: Span = datetime.timedelta(seconds=5)
    token: Secret | None = None
    ca: FilePath | None = None
    # Of the input only who, what and on what; or all of it but statements, parameters and bodies.
    input: Literal["short", "whole"] = "short"

    @model_validator(mode="after")
    def _somewhere(self) -> DecisionLog:
        if self.url is not None:
            check_url(self.url)
        elif self.token is not None or self.ca is not None:
            raise ValueError("token and ca go with url")
        if not self.console and self.file is None and self.url is None:
            raise ValueError("needs at least one of console, file and url")
        return self


class KeptDecisions(StrictModel):
    """How long decisions can be looked up, and how long explained: for that their inputs are needed."""

    keep: Span = datetime.timedelta(days=30)
    inputs: Span = datetime.timedelta(days=7)
    most: Annotated[int, Field(ge=1000)] = 500_000


class Checkpoints(StrictModel):
    """How soon what a running session has on record comes under a signature: whichever is reached first."""

    every: Span = datetime.timedelta(seconds=60)
    events: Annotated[int, Field(ge=1)] = 1000
    # PEM (Ed25519), the same for all replicas. Without it a file of the state folder, or of several replicas the store.
    key: Secret | None = None


class Anchor(StrictModel):
    """Where the log of checkpoints is brought, so that this service cannot change it afterwards: one of the three."""

    # Lines are appended; best on storage that only appends.
    file: FilePath | None = None
    # Gets the lines on its standard input; 0 means that it has them.
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    url: Annotated[str, Field(pattern=r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]).+$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Anchor:
        if sum(each is not None for each in (self.file, self.command, self.url)) != 1:
            raise ValueError("needs exactly one of file, command and url")
        return self

    @property
    def name(self) -> str:
        """For people and logs: of a URL no more than its host, of a command its program."""
        if self.url is not None:
            return str(urlsplit(self.url).hostname)
        return str(self.file or (self.command or ("",))[0])


class Retain(StrictModel):
    """How long what is on record is kept; without a time, for ever."""

    # Statements, parameters, results; what people were asked to approve.
    bodies: Span | None = None
    # Whole sessions, after their end; and of proxies' processes that have ended and left none, what is said of them.
    index: Span | None = None
    # Questions to people, after they are over. Their records are the sessions'.
    approvals: Span | None = None
    # What people were sent about them.
    notifications: Span = datetime.timedelta(days=30)

    @model_validator(mode="after")
    def _in_order(self) -> Retain:
        if self.index is not None and self.bodies is not None and self.index < self.bodies:
            raise ValueError("index: a session is kept at least as long as its bodies")
        return self


class Records(StrictModel):
    """What is kept of what happened."""

    retain: Retain = Retain()
    checkpoints: Checkpoints = Checkpoints()
    anchors: tuple[Anchor, ...] = ()
    decision_log: DecisionLog | None = None
    decisions: KeptDecisions = KeptDecisions()
