"""Which package serves which protocol. The core knows none of them; a new protocol is a line here."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from pep.core.config import Models, ProxyConfig
from pep.core.serve import Server


@dataclass(frozen=True, slots=True)
class Protocol:
    """Where a protocol's package has what the core asks of it, as names: imported only where a file wants them."""

    server: str
    config: str


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "http": Protocol("pep.http.server:serve", "pep.http.config:HttpProxy"),
    "postgres": Protocol("pep.postgres.server:serve", "pep.postgres.config:PostgresProxy"),
}


def server_of(protocol: str) -> Server:
    """The protocol's server, imported only now: a proxy loads what it serves and nothing else.

    The protocol is one that `MODELS` has; a configuration that names another one was not read.
    """
    return cast(Server, pkgutil.resolve_name(PROTOCOLS[protocol].server))


def _model(name: str) -> type[ProxyConfig]:
    return cast(type[ProxyConfig], pkgutil.resolve_name(name))


MODELS: Final[Models] = {name: partial(_model, protocol.config) for name, protocol in PROTOCOLS.items()}
