"""The proxy's own word on its chains: signatures with the key of its certificate, shipped with the records.

Whoever has the decision service's store, or all of the service, can then neither change what this proxy recorded nor
cut its end off: the private key is here alone. What is signed is in `pdp.v1.checkpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from pdp.v1.checkpoints import sign, signed_bytes
from pdp.v1.strict_yaml import ConfigError


@dataclass(frozen=True, slots=True)
class Signed:
    """A chain's hash after an event, signed; certificates in DER, the signer's first."""

    hash: bytes
    certificates: tuple[bytes, ...] = field(repr=False)
    signature: bytes = field(repr=False)


class Signer:
    """Signs with what the files hold; they are read again when they change. Raises ConfigError if they cannot be."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._log = structlog.get_logger("pep.signer")
        try:
            self._read = self._state()
            self._key, self._certificates = self._load()
            # A key that cannot sign is found before anything is recorded.
            sign(self._key, b"")
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"cannot sign records with the key {key} of {certificate}: {error}") from None

    def sign(self, session: str, seq: int, hash: bytes) -> Signed:
        self._refresh()
        return Signed(hash, self._certificates, sign(self._key, signed_bytes(session, seq, hash)))

    def _refresh(self) -> None:
        try:
            state = self._state()
            if state != self._read:
                self._key, self._certificates = self._load()
                self._read = state
        except (OSError, ValueError, TypeError) as error:
            # Half-replaced files: what was read before still holds, and the next signature tries again.
            self._log.warning("the certificate was not read again", error=type(error).__name__)

    def _state(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._files)

    def _load(self) -> tuple[PrivateKeyTypes, tuple[bytes, ...]]:
        certificate, private = (path.read_bytes() for path in self._files)
        key = serialization.load_pem_private_key(private, None)
        chain = x509.load_pem_x509_certificates(certificate)
        if chain[0].public_key() != key.public_key():
            raise ValueError("the key is not the certificate's")
        return key, tuple(each.public_bytes(serialization.Encoding.DER) for each in chain)
