"""Client certificates as identity: X.509-SVIDs of SPIFFE trust domains, verified here and not where they were shown.

The proxy that spoke TLS with the client vouches for one thing, that the client has the key, and is believed only where
the configuration names it for the trust domain. Chain, validity and purpose are judged here (RFC 5280 in the profile of
the Web PKI, as `cryptography` implements it), and the name is read from the certificate alone: one SPIFFE ID, `under`
and a segment. Nothing is asked of a revocation service, so certificates should be short.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pdp.certificates import proxy_uri
from pdp.config import Certificates, CertificateSubject
from pdp.identity.subject import Authenticated, AuthenticationFailed, Subject
from pdp.identity.tokens import Clock
from pdp.v1.strict_yaml import ConfigError

_LONGEST_CHAIN: Final = 8
_LARGEST: Final = 16 << 10
# SPIFFE ID, section 2: no query, no fragment, no port, segments of these characters and none of dots alone.
_SPIFFE: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+)")
_LONGEST_ID: Final = 255

log = structlog.get_logger("pdp.identity")


class ClientCertificates:
    """Judges certificates of the configured trust domains. Raises ConfigError if an authority cannot be read."""

    def __init__(self, settings: Iterable[Certificates], now: Clock) -> None:
        self._domains = {each.domain: _Domain(each) for each in settings}
        self._now = now

    def authenticate(self, chain: Sequence[bytes], proxy: str) -> Authenticated:
        """Who the certificate says it is; `proxy` is the URI of the proxy that says it saw proof of the key."""
        leaf, *between = _certificates(chain)
        name = _name(leaf)
        found = _SPIFFE.fullmatch(name)
        domain = self._domains.get(found[1]) if found else None
        if found is None or domain is None:
            raise AuthenticationFailed("the certificate's trust domain is not configured")
        if proxy not in domain.proxies:
            raise AuthenticationFailed("this proxy's word on certificates of that trust domain is not taken")
        verified = domain.verified(leaf, between, self._now())
        ends = min(each.not_valid_after_utc for each in verified)
        fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
        return Authenticated(domain.subject(found[2]), ends, None, credential=f"certificate:{fingerprint}")


class _Domain:
    """One trust domain."""

    def __init__(self, settings: Certificates) -> None:
        self._settings = settings
        self.proxies = frozenset(map(proxy_uri, settings.proxies))
        self._read: tuple[int, int] | None = None
        self._store: Store | None = None
        try:
            self._refresh()
        except (OSError, ValueError) as error:
            raise ConfigError(f"identity.certificates: cannot use the authority {settings.ca}: {error}") from None

    def verified(
        self, leaf: x509.Certificate, between: list[x509.Certificate], now: datetime.datetime
    ) -> list[x509.Certificate]:
        """The chain up to an authority of the domain, or AuthenticationFailed."""
        try:
            store = self._refresh()
        except (OSError, ValueError) as error:
            # Perhaps it is being replaced; whom it no longer vouches for is not let in meanwhile.
            log.warning("authority not read", file=str(self._settings.ca), error=type(error).__name__)
            raise AuthenticationFailed("the trust domain's authority cannot be read", retry=True) from error
        verifier = PolicyBuilder().store(store).time(now).build_client_verifier()
        try:
            return verifier.verify(leaf, between).chain
        except (VerificationError, ValueError, x509.UnsupportedGeneralNameType) as error:
            raise AuthenticationFailed(f"the certificate does not verify: {error}") from error

    def _refresh(self) -> Store:
        status = self._settings.ca.stat()
        state = (status.st_mtime_ns, status.st_size)
        if self._store is None or state != self._read:
            self._store = None
            self._store = Store(x509.load_pem_x509_certificates(self._settings.ca.read_bytes()))
            self._read = state
        return self._store

    def subject(self, path: str) -> Subject:
        """Who has the name of this path in the domain."""
        under, slash, own = path.rpartition("/")
        rule = self._rule(under + slash)
        if len(own) > _LONGEST_ID:
            raise AuthenticationFailed("the certificate's name is too long")
        return Subject(rule.type, own, rule.groups, issuer=f"spiffe://{self._settings.domain}", method="certificate")

    def _rule(self, under: str) -> CertificateSubject:
        for each in self._settings.subjects:
            if each.under == under:
                return each
        raise AuthenticationFailed("the configuration does not say who has names of that part of the trust domain")


def _certificates(chain: Sequence[bytes]) -> list[x509.Certificate]:
    if not 0 < len(chain) <= _LONGEST_CHAIN or any(len(each) > _LARGEST for each in chain):
        raise AuthenticationFailed("not a chain of certificates, or too long a one")
    try:
        return [x509.load_der_x509_certificate(each) for each in chain]
    except ValueError as error:
        raise AuthenticationFailed("not a certificate") from error


def _name(leaf: x509.Certificate) -> str:
    """X.509-SVID, section 2: exactly one URI."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError) as error:
        raise AuthenticationFailed("the certificate has no name") from error
    if len(uris) != 1:
        raise AuthenticationFailed("the certificate has not one name but several")
    return uris[0]
