"""A proxy's certificate changes while it serves: the files are read again, and the connections made anew.

Where the new one does not work (half-replaced files, not known to the service, the service away) the old one stays in
use and the new one is tried again: a rotation that goes wrong is an error in the log, not an outage, until the old
certificate has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pep.core.config import DecisionsTls
from pep.core.tls import channel_credentials

LOOK_SECONDS: Final = 1.0

log = structlog.get_logger("pep.certificate")

Renew = Callable[[grpc.ChannelCredentials], Awaitable[None]]


class Renewal:
    """Follows the files of one certificate, as they are when this is made."""

    def __init__(self, tls: DecisionsTls, renew: Renew) -> None:
        self._tls = tls
        self._renew = renew
        self._used = self._state()

    async def run(self) -> None:
        """Looks at the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Takes up what has changed."""
        state = self._state()
        if state is None or state == self._used:
            return
        try:
            _fits(self._tls.cert, self._tls.key)
            await self._renew(channel_credentials(self._tls))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, it ends nothing that serves
            log.warning("the new certificate is not used yet", file=str(self._tls.cert), error=str(error))
            return
        self._used = state
        log.info("the new certificate is in use", file=str(self._tls.cert))

    def _state(self) -> tuple[tuple[int, int], ...] | None:
        try:
            found = [path.stat() for path in (self._tls.cert, self._tls.key, self._tls.ca)]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_ino) for each in found)


def _fits(certificate: Path, key: Path) -> None:
    """ValueError if they are not a pair, which is what half-replaced files look like."""
    public = serialization.load_pem_private_key(key.read_bytes(), None).public_key()
    if x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key() != public:
        raise ValueError("the key is not the certificate's")
