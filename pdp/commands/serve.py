"""`pdp serve` runs the decision service; `pdp up` runs it together with every proxy of the file, as child processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.text import Text

from pdp.commands.children import Children, Ended, Interrupted, lines_of
from pdp.commands.connection import DEFAULT_CONFIG, ConfigFile, Reach, connected
from pdp.commands.failure import Failure
from pdp.commands.screen import console, line, show, table
from pdp.config import Config, NamedProxy, load_config
from pdp.shown import shown
from pdp.v1.addresses import SocketAddress, TcpAddress, socket_address

SERVICE: Final = "pdp"
_COLOURS: Final = ("cyan", "magenta", "green", "blue", "yellow", "red")
_READY_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 0.05
# A proxy drains for 10 seconds by default, then ends its sessions.
_GRACE_SECONDS: Final = 20.0


def serve(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the decision service, and OPA with it, until SIGTERM or Ctrl-C.

    It keeps its authority, keys and records in the configuration's state folder, made on first start.
    """
    settings = load_config(config)
    # Imported here, so that commands which only ask the service start without all that it is made of.
    from pdp import log, server

    log.configure(settings.log)
    asyncio.run(server.serve(settings))


def up(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the decision service with OPA, and every proxy of the file, until SIGTERM or Ctrl-C.

    Each is a process of its own; its lines stand behind its name. The proxies start when the service decides, and one
    line with "ready" is printed when all of them accept connections. One that ends ends all, with its exit status;
    a second Ctrl-C kills at once.
    """
    settings = load_config(config)
    raise typer.Exit(asyncio.run(_up(config, settings)))


async def _up(file: Path, settings: Config) -> int:
    screen, log = console(), console(stderr=True)
    names = [SERVICE, *(proxy.name for proxy in settings.proxies)]
    width = max(map(len, names))

    def write(name: str, text: str, number: int) -> None:
        line(log, Text.assemble((f"{name:<{width}} | ", _COLOURS[number % len(_COLOURS)]), text))

    async with Children(lines_of(names, write), grace=_GRACE_SECONDS) as children:
        try:
            pid = await children.start(SERVICE, "-m", "pdp", "serve", "-c", str(file))
            await children.until(_service_ready(file, settings, pid))
            started = [
                await children.start(proxy.name, "-m", "pep", "serve", "-c", str(file), "--only", proxy.name)
                for proxy in settings.proxies
            ]
            for proxy, pid in zip(settings.proxies, started, strict=True):
                await children.until(_proxy_ready(settings, proxy, pid))
            _announce(screen, file, settings)
            await children.until()
        except Interrupted:
            line(log, "stopping", "bold")
            return 0
        except Ended as ended:
            line(log, f"{ended}, so everything stops", "bold red")
            return ended.status
    raise AssertionError("waiting without an end has ended")


async def _service_ready(file: Path, settings: Config, pid: int) -> None:
    """Until the service decides; where this process has no certificate to ask it with, until it listens."""

    async def serving() -> bool:
        if not _listens(settings, SERVICE, pid):
            return False
        if settings.pdp.tls is not None:
            return True
        async with connected(Reach(file)) as connection:
            with suppress(Failure):
                return await connection.serving()
        return False

    await _patiently(serving, "the decision service has no policies in force; its lines above say why")


async def _proxy_ready(settings: Config, proxy: NamedProxy, pid: int) -> None:
    """Until the proxy accepts connections by its own word: at its address a stranger may listen."""

    async def accepts() -> bool:
        return _listens(settings, f"pep-{proxy.name}", pid)

    await _patiently(accepts, f"the proxy {proxy.name} does not accept connections; its lines above say why")


def _listens(settings: Config, name: str, pid: int) -> bool:
    """Whether this very process has said that it listens (a file of one that was killed may be there still)."""
    try:
        return (settings.state / f"{name}.ready").read_text("utf-8").split(" ", 1)[0] == str(pid)
    except (OSError, UnicodeDecodeError):
        return False


async def _patiently(ask: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    end = time.monotonic() + _READY_SECONDS
    while not await ask():
        if time.monotonic() > end:
            raise Failure(f"{otherwise} (waited {_READY_SECONDS:.0f} s)")
        await asyncio.sleep(_AGAIN_SECONDS)


def _place(proxy: NamedProxy, file: Path) -> SocketAddress | None:
    """Where a proxy listens, from its section, which this service does not check."""
    listen = (proxy.model_extra or {}).get("listen")
    address = listen.get("address") if isinstance(listen, dict) else None
    try:
        found = socket_address(address, file.resolve().parent) if isinstance(address, str) else None
    except ValueError:
        return None
    match found:
        case TcpAddress(host="0.0.0.0", port=port):  # noqa: S104 - compared, not bound
            return TcpAddress("127.0.0.1", port)
        case TcpAddress(host="::", port=port):
            return TcpAddress("::1", port)
        case _:
            return found


def _announce(screen: Console, file: Path, settings: Config) -> None:
    """What listens where, and what to do next."""
    line(screen, "ready", "bold green")
    rows = [(SERVICE, "decision service", str(settings.listen), "")]
    for proxy in settings.proxies:
        protocol = (proxy.model_extra or {}).get("protocol", "")
        place = _place(proxy, file)
        rows.append((proxy.name, f"{protocol} proxy", str(place or ""), f"for the resource {proxy.resource}"))
    show(screen, table(("NAME", "WHAT", "ADDRESS", ""), [[shown(cell) for cell in row] for row in rows], whole=3))
    named = f" -c {shown(str(file))}" if file != DEFAULT_CONFIG else ""
    if settings.proxies:
        audience = shown(settings.proxies[0].resource)
        line(screen, f"a token to log in with:  pdp token{named} --subject agent:NAME --audience {audience}")
    line(screen, f"what happens:            pdp sessions list{named}   pdp approvals list{named}   pdp status{named}")
    screen.file.flush()
