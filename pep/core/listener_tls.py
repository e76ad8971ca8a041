"""What a proxy's clients are shown, which changes while the proxy serves: certificate, key and `client_ca` are read
again when their files change.

A change is taken up as a whole, by connections that begin afterwards, or not at all: where the files do not make a
pair, which is what half-replaced ones look like, clients are shown the old certificate, and `trouble` says why.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

import structlog

from pdp.v1.strict_yaml import ConfigError
from pep.core.config import ListenTls
from pep.core.tls import listener_context

LOOK_SECONDS: Final = 1.0

log = structlog.get_logger("pep.certificate")


class ListenerTls:
    """The TLS of one listener. Raises ConfigError where the files are no good to begin with."""

    def __init__(self, tls: ListenTls, *, alpn: Sequence[str] = ()) -> None:
        self._tls = tls
        self._alpn = alpn
        self._read = self._state()
        self._current = listener_context(tls, alpn=alpn)
        # A listener has its context for life. It hands each connection to the one that is current; OpenSSL asks it to
        # also where a client names no server.
        self.context = listener_context(tls, alpn=alpn)
        self.context.sni_callback = self._begins
        # Why the files as they are now are not used; "" while they are.
        self.trouble = ""

    def _begins(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    async def run(self) -> None:
        """Looks at the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Takes up what has changed."""
        state = self._state()
        if state == self._read:
            # Also where somebody put the old files back.
            self.trouble = ""
            return
        try:
            if state is None:
                raise ConfigError(f"{self._tls.cert} or {self._tls.key} is not there")
            fresh = await asyncio.to_thread(listener_context, self._tls, alpn=self._alpn)
        except ConfigError as error:
            if self.trouble != str(error):
                log.warning("the new certificate for clients is not used", error=str(error))
            self.trouble = str(error)
            return
        self._current, self._read, self.trouble = fresh, state, ""
        log.info("the new certificate for clients is in use", file=str(self._tls.cert))

    def _state(self) -> tuple[tuple[int, int, int], ...] | None:
        files = (self._tls.cert, self._tls.key, *(() if self._tls.client_ca is None else (self._tls.client_ca,)))
        try:
            found = [path.stat() for path in files]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)
