"""The decision service's part of the configuration file, strictly read.

Sections: `version`, `state`, `pdp`, `log`; `proxies` and `decisions` belong to the enforcement points, which check
them, and are kept here as they are, for the names of the proxies that one file may start. An option which this version
does not implement is an unknown key. References to secrets are resolved where they are used, not here.

Here is the file as a whole; the section `pdp` is in `service`, two large sections of it in `identity` and `records`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from pdp.config.identity import Certificates, CertificateSubject, Identity, Issuer, SignIn, StaticKey, SubjectClaims
from pdp.config.records import Anchor, DecisionLog, Records
from pdp.config.service import SQLITE_FILE, Approvals, Destination, Limits, ProxyGrant, Service
from pdp.config.values import ADMINISTRATION, Name, check_url, no_twice
from pdp.v1.addresses import SocketAddress, UnixAddress, socket_address
from pdp.v1.config_values import FilePath
from pdp.v1.operations_config import Telemetry
from pdp.v1.strict_yaml import ConfigError, StrictModel, load

# What others read of it, wherever in the package it is described.
__all__ = [
    "ADMINISTRATION",
    "Anchor",
    "Approvals",
    "CertificateSubject",
    "Certificates",
    "Config",
    "DecisionLog",
    "Destination",
    "Identity",
    "Issuer",
    "Limits",
    "Log",
    "NamedProxy",
    "ProxyGrant",
    "Records",
    "Service",
    "SignIn",
    "StaticKey",
    "SubjectClaims",
    "check_url",
    "load_config",
]


class NamedProxy(StrictModel):
    """A proxy of the same file, as far as this service needs it; the proxy itself checks the rest."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)

    name: Name
    resource: str


class Log(StrictModel):
    """How the process speaks of itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(StrictModel):
    """The whole file."""

    version: Literal[1]
    # Authority, certificates, store, keys, sockets; made on first start, for this user alone.
    state: FilePath
    pdp: Service
    decisions: Any = None
    proxies: tuple[NamedProxy, ...] = ()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _whole(self) -> Config:
        no_twice("proxy", [each.name for each in self.proxies])
        for proxy in self.proxies:
            if proxy.resource not in self.pdp.resources:
                raise ValueError(f"proxies: {proxy.name} serves {proxy.resource}, which pdp.resources does not name")
        # The last part of the URI is the name that a proxy's own chain of records has.
        no_twice("pdp.proxies: the name", [each.certificate.rpartition("/")[2] for each in self.grants])
        return self

    @property
    def listen(self) -> SocketAddress:
        """Where the service listens."""
        return self.pdp.listen or UnixAddress(self.state / "pdp.sock")

    def store_url(self) -> str:
        """The store, as SQLAlchemy names it. Blocks where it has to be fetched; ConfigError says what to do."""
        if self.pdp.store is None:
            return f"{SQLITE_FILE}{self.state / 'pdp.db'}"
        url = self.pdp.store.url
        return url if isinstance(url, str) else url.resolve()

    @property
    def grants(self) -> tuple[ProxyGrant, ...]:
        """Which proxy may serve which resources; by default each proxy of the file its own."""
        if self.pdp.proxies is not None:
            return self.pdp.proxies
        return tuple(ProxyGrant(certificate=each.name, resources=(each.resource,)) for each in self.proxies)


def load_config(path: Path) -> Config:
    """The file, or ConfigError with every mistake in it."""
    config = load(path, Config)
    try:
        socket_address(str(config.listen))
    except ValueError as error:
        raise ConfigError(f"{path}: pdp.listen: {config.listen} {error}") from None
    return config
