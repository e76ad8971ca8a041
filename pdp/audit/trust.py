"""Whether a signature of a chain is that of the proxy which ships it: its certificate's name, path and key.

`Authorities` is what a certificate has to come from, read again when the file changes; `Origin` is one proxy that is
connected, and what it has shown so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pdp.audit.signatures import NotTrusted, certificates, fingerprint, name_of, pem, trust
from pdp.identity.tokens import Clock
from pdp.v1.checkpoints import is_signed, signed_bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that was found good, as it is kept."""

    fingerprint: str
    chain: bytes


class Authorities:
    """The certificates of a file, for callers."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: tuple[int, int] | None = None
        self._read: list[x509.Certificate] = []

    def current(self) -> list[x509.Certificate]:
        """NotTrusted if the file cannot be read: nobody is vouched for meanwhile."""
        try:
            status = self._file.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state != self._state:
                self._read = x509.load_pem_x509_certificates(self._file.read_bytes())
                self._state = state
        except (OSError, ValueError):
            self._state = None
            raise NotTrusted("the authority cannot be read") from None
        return self._read


class Origin:
    """The proxy that ships records on one stream."""

    def __init__(self, uri: str, name: str, authorities: Authorities, now: Clock) -> None:
        self._uri = uri
        self.name = name
        self._authorities = authorities
        self.now = now
        # The last chain of certificates that was judged, which is nearly always the next one too.
        self._judged: tuple[Sequence[bytes], x509.Certificate, Shown] | None = None

    def check(self, chain: Sequence[bytes], session: str, seq: int, hash: bytes, signature: bytes) -> Shown:
        """NotTrusted if it is not this proxy's signature of this chain."""
        certificate, shown = self._judge(chain)
        if not is_signed(certificate.public_key(), signature, signed_bytes(session, seq, hash)):
            raise NotTrusted("the signature is not of this chain and key")
        return shown

    def _judge(self, chain: Sequence[bytes]) -> tuple[x509.Certificate, Shown]:
        if self._judged is not None and self._judged[0] == chain:
            return self._judged[1], self._judged[2]
        read = certificates(chain)
        if name_of(read[0]) != self._uri:
            raise NotTrusted("the certificate is not that of the proxy which ships")
        trust(read, self._authorities.current(), self.now())
        shown = Shown(fingerprint(read[0]), pem(read))
        self._judged = (chain, read[0], shown)
        return read[0], shown
