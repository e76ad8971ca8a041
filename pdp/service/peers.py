"""Which proxy is calling, by its certificate, and what it may serve.

The name is read from the certificate itself: in the list of names that gRPC passes on, a host name and a URI of the
same spelling are alike. A connection lives longer than what was true when it was made: that the certificate has run
out, that its authority is no longer trusted, or that it was revoked, is asked at each call.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from pdp.certificates import proxy_uri
from pdp.config import ProxyGrant
from pdp.identity.revocation import Mark
from pdp.identity.tokens import Clock
from pdp.service.refusal import Refused

_PROXY: Final = re.compile(r"spiffe://[a-z0-9._-]+/pep/([A-Za-z0-9][A-Za-z0-9._-]{0,62})")
_REMEMBERED: Final = 1024

Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger("pdp.peers")


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy: the URI of its certificate is its identity, the last part of it its name."""

    uri: str
    name: str
    resources: tuple[str, ...]

    def serves(self, resource: str) -> bool:
        return any(fnmatch.fnmatchcase(resource, pattern) for pattern in self.resources)


@dataclass(frozen=True, slots=True)
class Presented:
    """What is read of a certificate, once for all calls of its connections."""

    uris: tuple[str, ...]
    fingerprint: str
    ends: datetime.datetime
    chain: tuple[x509.Certificate, ...]


class Peers:
    """The proxies that the configuration names.

    `authority` is the file of those who may issue their certificates; `why_not` says why one is let in no more.
    """

    def __init__(
        self,
        grants: Iterable[ProxyGrant],
        *,
        authority: Path,
        now: Clock,
        why_not: Callable[[Iterable[Mark]], str | None],
    ) -> None:
        self._grants = {proxy_uri(grant.certificate): grant.resources for grant in grants}
        self._authorities = _Authorities(authority)
        self._now = now
        self._why_not = why_not
        self._read: OrderedDict[bytes, Presented] = OrderedDict()

    def calling(self, context: Context) -> Peer:
        """The calling proxy; Refused for a certificate that is not, or is no longer, one of a configured proxy."""
        presented = self._presented(context)
        found = _PROXY.fullmatch(presented.uris[0]) if presented is not None and len(presented.uris) == 1 else None
        if presented is None or found is None or presented.uris[0] not in self._grants:
            raise _refused("the certificate is not one of a configured proxy")
        uri = presented.uris[0]
        if presented.ends <= self._now():
            raise _refused("the certificate has run out")
        if (why := self._why_not((("proxy", uri), ("certificate", presented.fingerprint)))) is not None:
            raise _refused(why)
        if not self._authorities.trust(presented):
            raise _refused("the certificate is of an authority that is no longer trusted")
        return Peer(uri, found[1], self._grants[uri])

    def _presented(self, context: Context) -> Presented | None:
        said = context.auth_context()
        leaf, chain = (next(iter(said.get(name, ())), b"") for name in ("x509_pem_cert", "x509_pem_cert_chain"))
        if not leaf:
            return None
        known = self._read.get(leaf)
        if known is None:
            try:
                known = _read(leaf, chain)
            except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
                return None
            self._read[leaf] = known
            if len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        return known


class _Authorities:
    """The certificates of the file, read again when it changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: tuple[int, int] | None = None
        self._known: tuple[x509.Certificate, ...] = ()
        self._trusted: dict[str, bool] = {}

    def trust(self, presented: Presented) -> bool:
        """Whether one of them stands at the end of the chain. TLS has checked it with those of its own time."""
        try:
            status = self._file.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state != self._state:
                self._known = tuple(x509.load_pem_x509_certificates(self._file.read_bytes()))
                self._state = state
                self._trusted.clear()
        except (OSError, ValueError):
            # It is being replaced; what was read last stays in use, here and for new connections.
            log.warning("authority not read again", file=str(self._file))
        found = self._trusted.get(presented.fingerprint)
        if found is None:
            found = self._trusted[presented.fingerprint] = self._issued(presented)
        return found

    def _issued(self, presented: Presented) -> bool:
        current, *rest = presented.chain
        for _ in range(len(presented.chain) + 1):
            if any(_issued_by(current, each) for each in self._known):
                return True
            above = next((each for each in rest if _issued_by(current, each)), None)
            if above is None:
                return False
            current = above
        return False


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read(leaf: bytes, chain: bytes) -> Presented:
    certificate = x509.load_pem_x509_certificate(leaf)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    above = [each for each in (x509.load_pem_x509_certificates(chain) if chain else []) if each != certificate]
    return Presented(
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_after_utc,
        (certificate, *above),
    )


def _refused(why: str) -> Refused:
    return Refused(grpc.StatusCode.PERMISSION_DENIED, why)
