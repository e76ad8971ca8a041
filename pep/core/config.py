"""The sections of the configuration that a proxy reads: `state`, `decisions`, `proxies`, `log`.

Of `pdp` it reads only where that listens, so that one file is enough for one machine; it resolves no secret there.
Nothing here names a protocol: a protocol's package says what it does with `upstream.database` and the like.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pdp.v1.strict_yaml import (
    Address,
    ConfigError,
    Duration,
    FilePath,
    Secret,
    Size,
    SocketAddress,
    StrictModel,
    TcpAddress,
    UnixAddress,
    load,
)

_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def _seconds(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)


def is_loopback(address: SocketAddress) -> bool:
    """Whether nobody but this machine can be at the other end; a name other than localhost may be anywhere."""
    match address:
        case UnixAddress():
            return True
        case TcpAddress(host="localhost"):
            return True
        case TcpAddress(host=host):
            try:
                return ipaddress.ip_address(host).is_loopback
            except ValueError:
                return False


class ListenTls(StrictModel):
    """What a proxy shows its clients."""

    cert: FilePath
    key: FilePath


class Listen(StrictModel):
    """Where clients connect. Clear text is for loopback only, unless `plaintext` vouches for another protection."""

    address: Address
    tls: ListenTls | None = None
    plaintext: bool = False

    @model_validator(mode="after")
    def _protected(self) -> Listen:
        if self.tls is None and not self.plaintext and not is_loopback(self.address):
            raise ValueError(
                "needs tls: {cert, key}; without it credentials travel in clear (plaintext: true allows it)"
            )
        return self


class UpstreamTls(StrictModel):
    """How far the upstream's certificate is checked, in libpq's words."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca: FilePath | None = None


class Upstream(StrictModel):
    """The target behind a proxy. Without TLS it must be on this machine."""

    addresses: Annotated[tuple[Address, ...], Field(min_length=1)]
    database: str = ""
    tls: UpstreamTls = UpstreamTls()
    connect_timeout: Duration = _seconds(5)

    @model_validator(mode="after")
    def _protected(self) -> Upstream:
        far = [address for address in self.addresses if not is_loopback(address)]
        if self.tls.mode == "disable" and far:
            raise ValueError(f"{far[0]} is not on this machine, so tls must not be disabled")
        return self


class Credential(StrictModel):
    """What the proxy itself logs in with; without a password the target has to trust it."""

    user: str
    password: Secret | None = None


class Catalog(StrictModel):
    """How the proxy reads the target's catalog, and how old what it has read may be."""

    credential: str = "default"
    max_age: Duration = _seconds(1)


class Limits(StrictModel):
    """What one client may use."""

    login: Duration = _seconds(15)
    idle: Duration | None = None
    statement_bytes: Size = 1 << 20
    sessions: Annotated[int, Field(ge=1)] = 500
    unauthenticated_bytes: Size = 64 << 10
    client_buffer: Size = 64 << 10


class Approval(StrictModel):
    """How long a command may wait for people here; policy may say less."""

    hold: Duration = _seconds(15 * 60)
    hold_in_transaction: Duration = _seconds(30)


class Masks(StrictModel):
    """The key of hashes; without it each start of the proxy makes one, and hashes do not compare across starts."""

    hash_key: Secret | None = None


class Shutdown(StrictModel):
    """How long sessions get to end by themselves."""

    drain: Duration = _seconds(10)


class ProxyConfig(StrictModel):
    """One proxy: one target, one listener."""

    name: Annotated[str, Field(pattern=_NAME)]
    resource: str
    protocol: str
    listen: Listen
    upstream: Upstream
    credentials: Mapping[str, Credential]
    catalog: Catalog = Catalog()
    limits: Limits = Limits()
    approval: Approval = Approval()
    masks: Masks = Masks()
    shutdown: Shutdown = Shutdown()

    @model_validator(mode="after")
    def _named(self) -> ProxyConfig:
        for name in ("default", self.catalog.credential):
            if name not in self.credentials:
                raise ValueError(f'credentials has no "{name}"')
        return self


class DecisionsTls(StrictModel):
    """The proxy's certificate, and what it trusts. `server_name` is the name in the decision service's certificate."""

    cert: FilePath
    key: FilePath
    ca: FilePath
    server_name: str = ""


class Timeouts(StrictModel):
    """How long the decision service may take; afterwards the answer is no."""

    open: Duration = _seconds(5)
    decide: Duration = _seconds(1)


class SpoolConfig(StrictModel):
    """Where records wait until the decision service has them, and how much of them."""

    dir: FilePath | None = None
    # "always": before anything is forwarded; a duration: in groups, so that a power cut loses at most that much.
    fsync: Literal["always"] | Duration = _seconds(0.1)
    max_bytes: Size = 1 << 30
    # The part of max_bytes that one root subject may fill.
    share: Annotated[float, Field(gt=0, le=1)] = 0.25

    @property
    def fsync_seconds(self) -> float:
        """0 for always."""
        return 0.0 if isinstance(self.fsync, str) else self.fsync.total_seconds()


class Decisions(StrictModel):
    """How a proxy reaches the decision service; without addresses, the one of the same file."""

    addresses: tuple[Address, ...] = ()
    tls: DecisionsTls | None = None
    timeout: Timeouts = Timeouts()
    spool: SpoolConfig = SpoolConfig()

    @model_validator(mode="after")
    def _whole(self) -> Decisions:
        if bool(self.addresses) != (self.tls is not None):
            raise ValueError("needs addresses and tls together, or neither for the decision service of the same file")
        return self


class Log(StrictModel):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class _Pdp(BaseModel):
    """What a proxy wants to know of the other side's section; that side checks the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    listen: Address | None = None


class Config(StrictModel):
    """The file as a proxy sees it."""

    version: Literal[1]
    state: FilePath
    pdp: _Pdp | None = None
    decisions: Decisions = Decisions()
    proxies: tuple[ProxyConfig, ...] = ()
    log: Log = Log()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [proxy.name for proxy in self.proxies]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"more than one proxy is named {', '.join(sorted(twice))}")
        return self

    @property
    def spool_dir(self) -> Path:
        return self.decisions.spool.dir or self.state / "spool"


def read(path: Path, only: str | None = None) -> Config:
    """The configuration, its proxies limited to the one named `only`. Raises ConfigError."""
    config = load(path, Config)
    if only is None:
        if not config.proxies:
            raise ConfigError(f"{path}: proxies is empty, so there is nothing to serve")
        return config
    chosen = tuple(proxy for proxy in config.proxies if proxy.name == only)
    if not chosen:
        known = ", ".join(proxy.name for proxy in config.proxies) or "none"
        raise ConfigError(f'{path}: no proxy is named "{only}"; known: {known}')
    return config.model_copy(update={"proxies": chosen})
