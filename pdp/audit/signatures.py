"""Certificates of proxies, as far as they stand behind signatures of chains. Pure but for reading the authority's file.

Issued by an authority that is trusted for callers, or by one that such an authority made one, and with exactly one
name. Whether it is valid is asked when a signature comes; later it may have run out, and what it signed still stands.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import Certificate

_LONGEST_CHAIN: Final = 8
_LARGEST: Final = 16 << 10


class NotTrusted(Exception):
    """The certificate does not stand behind a signature of this proxy."""


def certificates(chain: Sequence[bytes]) -> list[Certificate]:
    """A chain in DER, its own first. NotTrusted if it is none."""
    if not 0 < len(chain) <= _LONGEST_CHAIN or any(len(each) > _LARGEST for each in chain):
        raise NotTrusted("not a chain of certificates, or too long a one")
    try:
        return [x509.load_der_x509_certificate(each) for each in chain]
    except ValueError:
        raise NotTrusted("not a certificate") from None


def pem(chain: Sequence[Certificate]) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)


def fingerprint(certificate: Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def name_of(certificate: Certificate) -> str:
    """The one URI that a proxy's certificate carries; NotTrusted for none or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        uris = []
    if len(uris) != 1:
        raise NotTrusted("the certificate does not carry one name")
    return uris[0]


def trust(
    chain: Sequence[Certificate], authorities: Sequence[Certificate], at: datetime.datetime | None = None
) -> None:
    """NotTrusted unless the chain leads to one of the authorities, all of it valid at that time, if one is given."""
    below, *between = chain
    _valid(below, at)
    for _ in range(_LONGEST_CHAIN):
        if any(below == each or _issued(below, each, at) for each in authorities):
            return
        issuer = next((each for each in between if _issued(below, each, at)), None)
        if issuer is None:
            break
        below = issuer
    raise NotTrusted("the certificate is from no authority that is trusted")


def _issued(below: Certificate, issuer: Certificate, at: datetime.datetime | None) -> bool:
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        below.verify_directly_issued_by(issuer)
        _valid(issuer, at)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature, ValueError, TypeError, NotTrusted):
        return False
    return True


def _valid(certificate: Certificate, at: datetime.datetime | None) -> None:
    if at is not None and not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise NotTrusted("the certificate was not valid then")
