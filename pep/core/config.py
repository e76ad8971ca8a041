"""The sections of the configuration that a proxy reads: `state`, `decisions`, `proxies`, `log`.

Of `pdp` it reads only where that listens, so that one file is enough for one machine; it resolves no secret there.
Nothing here names a protocol. A proxy's section has here what every protocol has; a protocol's package brings a model
of its own, a `ProxyConfig` with more in it, and `read` takes the model of each protocol that the file names.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from pdp.v1.addresses import Address, SocketAddress, TcpAddress, UnixAddress
from pdp.v1.config_values import Duration, FilePath, Secret, Size
from pdp.v1.operations_config import Admin, Telemetry
from pdp.v1.strict_yaml import ConfigError, StrictModel, load_shaped
from pep.core.keeping import SESSION_BYTES

# What a protocol's own model is made of comes from here too: such a package knows the core, not the contract.
__all__ = [
    "Approval",
    "Config",
    "ConfigError",
    "Decisions",
    "DecisionsTls",
    "Duration",
    "FilePath",
    "Limits",
    "Listen",
    "ListenTls",
    "Log",
    "Masks",
    "Models",
    "ProxyConfig",
    "Secret",
    "Shutdown",
    "Size",
    "SocketAddress",
    "SpoolConfig",
    "StrictModel",
    "TcpAddress",
    "Timeouts",
    "Upstream",
    "UpstreamTls",
    "is_loopback",
    "read",
    "seconds",
]

_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
# Connections that are not sessions yet, or never will be: logins, cancel requests.
_EXTRA_CONNECTIONS: Final = 64

# The model of each protocol's proxies, by the word that stands for the protocol; made when a file names it.
Models = Mapping[str, Callable[[], "type[ProxyConfig]"]]


def seconds(number: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=number)


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
    """What a proxy shows its clients, and whose certificates they may show in turn."""

    cert: FilePath
    key: FilePath
    client_ca: FilePath | None = None


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
    """How far the upstream's certificate is checked, in libpq's words, and what the proxy shows of itself."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None

    @model_validator(mode="after")
    def _paired(self) -> UpstreamTls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("needs cert and key together, or neither")
        if self.cert is not None and self.mode == "disable":
            raise ValueError("without TLS there is nobody to show cert to")
        return self


class Upstream(StrictModel):
    """The target behind a proxy. Without TLS it must be on this machine."""

    addresses: Annotated[tuple[Address, ...], Field(min_length=1)]
    tls: UpstreamTls = UpstreamTls()
    connect_timeout: Duration = seconds(5)

    @model_validator(mode="after")
    def _protected(self) -> Upstream:
        far = [address for address in self.addresses if not is_loopback(address)]
        if self.tls.mode == "disable" and far:
            raise ValueError(f"{far[0]} is not on this machine, so tls must not be disabled")
        return self


class Limits(StrictModel):
    """What clients may use; a subject here is the person or workload at the end of a chain."""

    sessions: Annotated[int, Field(ge=1)] = 500
    sessions_per_subject: Annotated[int, Field(ge=1)] = 200
    # Those above it wait, each subject's for its turn.
    decisions_at_once: Annotated[int, Field(ge=1)] = 64
    decisions_at_once_per_subject: Annotated[int, Field(ge=1)] = 4
    unauthenticated_bytes: Size = 64 << 10
    client_buffer: Size = 64 << 10
    # What of one session's responses goes on record at most, whatever policy says.
    recorded: Size = SESSION_BYTES

    @property
    def most_connections(self) -> int:
        """How many connections are accepted at once, those counted whose client is not known yet."""
        return self.sessions + _EXTRA_CONNECTIONS

    @property
    def most_strangers(self) -> int | None:
        """How many of them may be without a session; None where connections are not sessions."""
        return None

    @property
    def most_per_address(self) -> int:
        """How many of them may come from one address; where connections are sessions, of those that are none yet."""
        return self.most_connections


class Approval(StrictModel):
    """How long a command may wait for people here; policy may say less."""

    hold: Duration = seconds(15 * 60)


class Masks(StrictModel):
    """The key of hashes; without it each start of the proxy makes one, and hashes do not compare across starts."""

    hash_key: Secret | None = None


class Shutdown(StrictModel):
    """How long sessions get to end by themselves."""

    drain: Duration = seconds(10)


class ProxyConfig(StrictModel):
    """One proxy: one target, one listener. A protocol's own model adds what it needs, `credentials` among it."""

    name: Annotated[str, Field(pattern=_NAME)]
    resource: str
    protocol: str
    listen: Listen
    upstream: Upstream
    limits: Limits = Limits()
    approval: Approval = Approval()
    masks: Masks = Masks()
    shutdown: Shutdown = Shutdown()
    # Where this proxy says whether it is alive and ready, and its metrics; nowhere without it.
    admin: Admin | None = None

    def secrets(self) -> Mapping[str, Secret]:
        """Every secret that the proxy will resolve, by what messages call it."""
        return {} if self.masks.hash_key is None else {"secret of the hash key": self.masks.hash_key}

    def files(self) -> Mapping[str, Path]:
        """Every file that the proxy will read besides secrets and certificates, by what messages call it."""
        return {}

    def targets(self) -> tuple[SocketAddress, ...]:
        """Where the proxy will connect to."""
        return self.upstream.addresses


class DecisionsTls(StrictModel):
    """The proxy's certificate, and what it trusts. `server_name` is the name in the decision service's certificate."""

    cert: FilePath
    key: FilePath
    ca: FilePath
    server_name: str = ""


class Timeouts(StrictModel):
    """How long the decision service may take; afterwards the answer is no."""

    open: Duration = seconds(5)
    decide: Duration = seconds(1)


class SpoolConfig(StrictModel):
    """Where records wait until the decision service has them, and how much of them."""

    dir: FilePath | None = None
    # "always": before anything is forwarded; a duration: in groups, so that a power cut loses at most that much.
    fsync: Literal["always"] | Duration = seconds(0.1)
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
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [proxy.name for proxy in self.proxies]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"more than one proxy is named {', '.join(sorted(twice))}")
        return self

    @property
    def spool_dir(self) -> Path:
        return self.decisions.spool.dir or self.state / "spool"


def read(path: Path, models: Models, only: str | None = None) -> Config:
    """The configuration, its proxies limited to the one named `only`. Raises ConfigError."""
    config = load_shaped(path, lambda content: _shape(content, models))
    if only is None:
        if not config.proxies:
            raise ConfigError(f"{path}: proxies is empty, so there is nothing to serve")
        return config
    chosen = tuple(proxy for proxy in config.proxies if proxy.name == only)
    if not chosen:
        known = ", ".join(proxy.name for proxy in config.proxies) or "none"
        raise ConfigError(f'{path}: no proxy is named "{only}"; known: {known}')
    return config.model_copy(update={"proxies": chosen})


def _shape(content: object, models: Models) -> type[Config]:
    """The model of a file with these proxies: a tuple of as many members, each by its own protocol.

    A union of all protocols' models would say of a mistake what it is for each of them.
    """
    proxies = content.get("proxies") if isinstance(content, dict) else None
    if not isinstance(proxies, list) or not proxies:
        return Config
    members: Any = GenericAlias(tuple, tuple(_member(proxy, models) for proxy in proxies))
    return create_model("Config", __base__=Config, proxies=(members, ...))


def _member(proxy: object, models: Models) -> type[BaseModel]:
    protocol = proxy.get("protocol") if isinstance(proxy, dict) else None
    if isinstance(protocol, str) and protocol in models:
        return models[protocol]()

    def refuse(protocol: str) -> str:
        near = difflib.get_close_matches(protocol, models, n=1)
        advice = f'did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f"this protocol is not known; {advice}known: {', '.join(sorted(models))}")

    # What else it says cannot be judged without its protocol.
    known_by_name = ConfigDict(extra="ignore", hide_input_in_errors=True)
    return create_model("Unknown", __config__=known_by_name, protocol=(Annotated[str, AfterValidator(refuse)], ...))
