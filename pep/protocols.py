"""Which package serves which protocol. The core knows none of them; a new protocol is a line here."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Final, cast

from pdp.v1.strict_yaml import ConfigError
from pep.core.serve import Server

SERVERS: Final[Mapping[str, str]] = {"postgres": "pep.postgres.server:serve"}


def server_of(protocol: str) -> Server:
    """The protocol's server, imported only now: a proxy loads what it serves and nothing else. Raises ConfigError."""
    name = SERVERS.get(protocol)
    if name is None:
        raise ConfigError(f'protocol "{protocol}" is not known; known: {", ".join(sorted(SERVERS))}')
    return cast(Server, pkgutil.resolve_name(name))
