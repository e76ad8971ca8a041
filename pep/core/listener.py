"""Accepts a proxy's clients: one task for each connection, all of them owned, none of which can end another.

A connection that fails, in whatever way, ends alone.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from pdp.v1.addresses import SocketAddress, TcpAddress, UnixAddress
from pdp.v1.strict_yaml import ConfigError
from pep.core.leg import Leg

BACKLOG: Final = 512


class Listener:
    """One listening socket. `limit` bounds the bytes that a connection may send before its login reads them.

    Where each connection is a session once its login is over, and `known` counts those, at most `strangers` others are
    accepted: whoever cannot log in takes no place from those who can. Of one address at most `per_address` are
    accepted, besides those of which `known_now` was said.
    """

    def __init__(
        self,
        address: SocketAddress,
        *,
        connections: int,
        limit: int,
        strangers: int | None = None,
        per_address: int = sys.maxsize,
        known: Callable[[], int] = lambda: 0,
    ) -> None:
        self._strangers = strangers
        self._per_address = per_address
        self._unknown: set[Leg] = set()
        self._of_address: Counter[str] = Counter()
        self._known = known
        self._configured = address
        self._most = connections
        self._limit = limit
        self._log = structlog.get_logger("pep.listener")
        self._open: set[asyncio.Task[None]] = set()
        self.address: SocketAddress = address
        self.ready = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def serve(
        self,
        connection: Callable[[Leg], Awaitable[None]],
        *,
        tls: ssl.SSLContext | None = None,
        handshake: float | None = None,
        sorry: bytes = b"",
    ) -> None:
        """Run `connection` for each client until cancelled. Raises ConfigError where it cannot listen.

        With `tls` a client begins with its handshake, which may take `handshake` seconds, and is a connection only
        after it. Where TLS is asked for in a protocol's own words, the login starts it (`Leg.start_tls`). `sorry` is
        what one that is turned away is told in its protocol's words.
        """
        async with asyncio.TaskGroup() as tasks:

            def accepted(leg: Leg) -> None:
                if why := self._full(leg.address):
                    self._log.warning("a connection was turned away", peer=leg.peer, open=len(self._open), why=why)
                    leg.write(sorry)
                    leg.close()
                    return
                self._unknown.add(leg)
                self._of_address[leg.address] += 1
                task = tasks.create_task(self._one(connection, leg))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

            server = await self._listen(lambda: Leg(accepted=accepted, limit=self._limit), tls, handshake)
            self._log.info("listening", address=str(self.address))
            self.ready.set()
            try:
                # Nobody but a cancellation ends it.
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()

    def known_now(self, leg: Leg) -> None:
        """The login is over: from here on its subject pays for it, no longer the place where it comes from."""
        if leg in self._unknown:
            self._unknown.discard(leg)
            self._of_address[leg.address] -= 1
            if not self._of_address[leg.address]:
                del self._of_address[leg.address]

    def _full(self, address: str) -> str:
        """Why one more from there cannot be accepted; "" where it can."""
        if len(self._open) >= self._most:
            return "as many are open as may be"
        if self._strangers is not None and len(self._open) - self._known() >= self._strangers:
            return "as many are at their login as may be"
        # A unix socket's ends have no address: they are this machine's own.
        if address and self._of_address[address] >= self._per_address:
            return "as many are of that address as may be"
        return ""

    async def _listen(
        self, leg: Callable[[], Leg], tls: ssl.SSLContext | None, handshake: float | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        limit = handshake if tls is not None else None
        try:
            match self._configured:
                case UnixAddress(path):
                    path.unlink(missing_ok=True)
                    return await loop.create_unix_server(
                        leg, str(path), backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=limit
                    )
                case TcpAddress(host, port):
                    server = await loop.create_server(
                        leg, host, port, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=limit
                    )
                    bound = server.sockets[0].getsockname()
                    self.address = TcpAddress(bound[0], bound[1])
                    return server
        except OSError as error:
            raise ConfigError(f"cannot listen on {self._configured}: {error.strerror or error}") from None

    async def _one(self, connection: Callable[[Leg], Awaitable[None]], leg: Leg) -> None:
        try:
            await connection(leg)
        except (OSError, TimeoutError) as error:
            self._log.info("a connection ended", peer=leg.peer, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a login that fails must not end the sessions of others
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            # Its words may repeat what a client sent.
            self._log.error("a connection failed", peer=leg.peer, error=type(error).__name__, where=where)
        finally:
            self.known_now(leg)
            leg.close()
