"""The section `pdp`: certificates, policies, resources, approvals, the store, shares.

Its parts `identity` and `records` are large, and have files of their own.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from pdp.config.identity import Identity
from pdp.config.records import Records
from pdp.config.values import ADMINISTRATION, Name, Span, check_url
from pdp.v1.addresses import Address
from pdp.v1.config_values import FilePath, Secret
from pdp.v1.operations_config import Admin
from pdp.v1.strict_yaml import ConfigError, StrictModel

SQLITE_FILE: Final = "sqlite:///"


class Tls(StrictModel):
    """Certificates that somebody else issues; without this section the service keeps an authority of its own."""

    cert: FilePath
    key: FilePath
    client_ca: FilePath


class ProxyGrant(StrictModel):
    """Which resources a proxy may speak for."""

    # The whole SAN URI of its certificate, or the name of one that the local authority issued.
    certificate: str
    # Shell patterns of resource ids.
    resources: Annotated[tuple[str, ...], Field(min_length=1)]


class SessionTokens(StrictModel):
    """What proxies present with each call."""

    ttl: Span = datetime.timedelta(minutes=15)
    # How old the key that signs them may become.
    rotate: Span = datetime.timedelta(days=1)


class Opa(StrictModel):
    """The policy engine's program and patience."""

    path: FilePath | None = None
    timeout: Span = datetime.timedelta(milliseconds=500)


class Policies(StrictModel):
    """Where the policies are, and whether a change is taken up."""

    dir: FilePath
    reload: Literal["watch", "none"] = "watch"


class Resource(StrictModel):
    """What policies see of a target."""

    type: Name
    labels: Mapping[str, str] = Field(default_factory=dict)
    database: str | None = None


class Webhook(StrictModel):
    """Where a notification is posted, signed with a secret that the receiver has as well."""

    url: str
    secret: Secret
    # The authority of its certificate, if not one that the machine trusts.
    ca: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        check_url(value)
        if urlsplit(value).username is not None:
            raise ValueError("holds no user and no password: the signature says who sends")
        return value


class Destination(StrictModel):
    """Who is told, and of what: questions to one of these groups, or with "*" all of them."""

    webhook: Webhook
    groups: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Approvals(StrictModel):
    """How people are asked."""

    # Where people answer; shown to the client with the approval's id behind it.
    address: str | None = None
    # The longest that a statement is held inside an open transaction, where it keeps locks.
    max_in_transaction: Span = datetime.timedelta(seconds=30)
    # How long ago an approver may have signed in.
    max_sign_in_age: Span = datetime.timedelta(hours=12)
    # Who is told that something waits, by a name of the operator's.
    notify: Mapping[Name, Destination] = Field(default_factory=dict)


def _store_url(value: str, info: ValidationInfo) -> str:
    """A URL without a secret in it. A relative file is relative to the configuration's folder, as everywhere."""
    # Imported here, so that commands of an installation without this section start without what a store is made of.
    from pdp.store.url import holds_secret, read_url

    try:
        if holds_secret(value):
            raise ValueError(
                "a password never stands in this file; say where the whole URL is: {env: NAME}, {file: PATH} or"
                " {command: [...]}"
            )
        read_url(value)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("pdp.store.url: ")) from None
    base: Path | None = (info.context or {}).get("base")
    if base is not None and value.startswith(SQLITE_FILE):
        return f"{SQLITE_FILE}{base / value.removeprefix(SQLITE_FILE)}"
    return value


class Store(StrictModel):
    """Where sessions, approvals and records are kept: a URL, or where a URL with a password is to be found."""

    url: Annotated[
        Annotated[str, AfterValidator(_store_url), Tag("literal")] | Annotated[Secret, Tag("reference")],
        Discriminator(lambda value: "literal" if isinstance(value, str) else "reference"),
    ]


class Limits(StrictModel):
    """Shares, each for the person or workload at the end of a chain."""

    sessions_per_subject: Annotated[int, Field(ge=1)] = 500
    pending_approvals_per_subject: Annotated[int, Field(ge=1)] = 50
    # At each replica.
    decisions_per_second_per_subject: Annotated[int, Field(ge=1)] = 1000
    # At each replica; those above it wait, each subject's for its turn.
    decisions_at_once: Annotated[int, Field(ge=1)] = 64
    decisions_at_once_per_subject: Annotated[int, Field(ge=1)] = 8


class Service(StrictModel):
    """The section `pdp`."""

    listen: Address | None = None
    tls: Tls | None = None
    proxies: tuple[ProxyGrant, ...] | None = None
    session_tokens: SessionTokens = SessionTokens()
    opa: Opa = Opa()
    policies: Policies
    resources: Mapping[Name, Resource] = Field(default_factory=dict)
    identity: Identity = Identity()
    approvals: Approvals = Approvals()
    store: Store | None = None
    records: Records = Records()
    limits: Limits = Limits()
    # Where the service says whether it is alive and ready, and its metrics; nowhere without it.
    admin: Admin | None = None

    @field_validator("resources")
    @classmethod
    def _not_reserved(cls, value: Mapping[str, Resource]) -> Mapping[str, Resource]:
        if ADMINISTRATION in value:
            raise ValueError(f"{ADMINISTRATION} is this service itself")
        if any(resource.type == ADMINISTRATION for resource in value.values()):
            raise ValueError(f"the type {ADMINISTRATION} is this service itself")
        return value
