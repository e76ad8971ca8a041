"""What `pep check` looks at besides the shape of the file: certificates, secrets, other files, and who answers where.

What there is to look at, the proxy's own model says. It logs in nowhere and sends nothing but a TCP connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pdp.v1.addresses import SocketAddress, TcpAddress, UnixAddress
from pdp.v1.strict_yaml import ConfigError
from pep.core.config import Config, ProxyConfig
from pep.core.serve import decision_route
from pep.core.tls import channel_credentials, listener_context, upstream_context

_REACH_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    good: bool
    what: str


async def check_proxy(config: Config, proxy: ProxyConfig) -> list[Finding]:
    """Everything about one proxy, good and bad, in the order in which it would matter while starting."""
    findings = [
        _try("certificate for the decision service", lambda: channel_credentials(decision_route(config, proxy)[1])),
        _try("trust in the upstream", lambda: upstream_context(proxy.upstream.tls)),
    ]
    if proxy.listen.tls is not None:
        tls = proxy.listen.tls
        findings.append(_try("certificate for clients", lambda: listener_context(tls)))
    findings += [_try(what, secret.resolve) for what, secret in proxy.secrets().items()]
    findings += [_try(what, partial(_read, file)) for what, file in proxy.files().items()]
    places = [("upstream", address) for address in proxy.targets()]
    places += [("decision service", address) for address in _decision_addresses(config)]
    return [*findings, *[await _reach(f"{what} {address}", address) for what, address in places]]


def _decision_addresses(config: Config) -> tuple[SocketAddress, ...]:
    if config.decisions.addresses:
        return config.decisions.addresses
    listen = None if config.pdp is None else config.pdp.listen
    return (listen or UnixAddress(config.state / "pdp.sock"),)


def _try(what: str, work: Callable[[], object]) -> Finding:
    try:
        work()
    except ConfigError as error:
        return Finding(good=False, what=f"{what}: {error}")
    return Finding(good=True, what=what)


def _read(file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


async def _reach(what: str, address: SocketAddress) -> Finding:
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            _, writer = await _connection(address)
    except TimeoutError:
        return Finding(good=False, what=f"{what}: nothing answers within {_REACH_SECONDS:.0f} s")
    except OSError as error:
        return Finding(good=False, what=f"{what}: {error.strerror or error}")
    writer.close()
    await writer.wait_closed()
    return Finding(good=True, what=what)


async def _connection(address: SocketAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    match address:
        case TcpAddress(host, port):
            return await asyncio.open_connection(host, port)
        case UnixAddress(path):
            return await asyncio.open_unix_connection(str(path))
