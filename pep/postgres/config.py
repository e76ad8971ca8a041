"""What a proxy's section of the configuration says besides the common part, if its protocol is PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pep.core.config import (
    Approval,
    Duration,
    Limits,
    ProxyConfig,
    Secret,
    Size,
    StrictModel,
    Upstream,
    seconds,
)


class PostgresUpstream(Upstream):
    """The server, and the one database that the proxy serves."""

    database: str = ""


class Credential(StrictModel):
    """What the proxy itself logs in with; without a password the target has to trust it."""

    user: str
    password: Secret | None = None


class Catalog(StrictModel):
    """How the proxy reads the target's catalog, and how old what it has read may be."""

    credential: str = "default"
    max_age: Duration = seconds(1)


class PostgresLimits(Limits):
    """What one client may use."""

    # Each has a connection to the target, which by its own default takes 100 of everybody.
    sessions_per_subject: Annotated[int, Field(ge=1)] = 50
    login: Duration = seconds(15)
    # Connections whose login is not over: they take no place from those who have one.
    unauthenticated_connections: Annotated[int, Field(ge=1)] = 200
    unauthenticated_per_address: Annotated[int, Field(ge=1)] = 100
    idle: Duration | None = seconds(8 * 3600)
    statement_bytes: Size = 1 << 20

    @property
    def most_strangers(self) -> int | None:
        return self.unauthenticated_connections

    @property
    def most_per_address(self) -> int:
        return self.unauthenticated_per_address


class PostgresApproval(Approval):
    """How long a statement may wait for people here; less where it holds locks meanwhile."""

    hold_in_transaction: Duration = seconds(30)
    # How long the target's planner may take to guess how many rows a held statement touches; it is not asked without.
    estimate: Duration | None = None


class PostgresProxy(ProxyConfig):
    """One proxy before one database."""

    upstream: PostgresUpstream
    credentials: Mapping[str, Credential]
    catalog: Catalog = Catalog()
    limits: PostgresLimits = PostgresLimits()
    approval: PostgresApproval = PostgresApproval()

    @model_validator(mode="after")
    def _named(self) -> PostgresProxy:
        for name in ("default", self.catalog.credential):
            if name not in self.credentials:
                raise ValueError(f'credentials has no "{name}"')
        if self.listen.tls is not None and self.listen.tls.client_ca is not None:
            raise ValueError("listen.tls.client_ca: a client of this protocol is known by its password alone")
        return self

    def secrets(self) -> Mapping[str, Secret]:
        passwords = {
            f"secret of the credential {name}": credential.password
            for name, credential in self.credentials.items()
            if credential.password is not None
        }
        return {**passwords, **super().secrets()}
