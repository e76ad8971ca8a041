"""What an operator's tools ask of a process, over HTTP: is it alive, is it ready, and its metrics.

`/healthz` answers while the process does. `/readyz` says whether it can do its work, and if not, why; what is wrong
without keeping it from its work is said as well. `/metrics` is in Prometheus' text format. Nothing here shows a
statement, a value or a secret, and nothing here changes anything; it is not authenticated, so it belongs on an address
that only the operator's network reaches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pdp.v1.addresses import SocketAddress, TcpAddress, UnixAddress
from pdp.v1.strict_yaml import ConfigError

_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Why a process cannot do its work, and what else is wrong; both empty while all is well."""

    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return not self.reasons


@asynccontextmanager
async def endpoint(
    address: SocketAddress,
    registry: CollectorRegistry,
    readiness: Callable[[], Awaitable[Readiness]],
    refresh: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[SocketAddress]:
    """Answers at the address until the block ends; gives the address, with the port that was bound.

    `refresh` is awaited before metrics are read, for those that have to be looked up. Raises ConfigError.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        now = await readiness()
        document = {"ready": now.ready, "reasons": now.reasons, "warnings": now.warnings}
        body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, status=200 if now.ready else 503, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        if refresh is not None:
            await refresh()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        yield await _listen(runner, address)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: SocketAddress) -> SocketAddress:
    try:
        match address:
            case UnixAddress(path):
                path.unlink(missing_ok=True)
                await web.UnixSite(runner, str(path)).start()
                path.chmod(0o600)
                return address
            case TcpAddress(host, port):
                await web.TCPSite(runner, host, port, shutdown_timeout=_STOP_SECONDS).start()
                bound = runner.addresses[0]
                return TcpAddress(bound[0], bound[1])
    except OSError as error:
        raise ConfigError(f"admin.listen: cannot listen on {address}: {error.strerror or error}") from None
