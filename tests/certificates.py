"""A certificate authority for tests, apart from the product's own, so that neither vouches for the other."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = datetime.timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two PEM files: the certificate and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs whatever a test asks for. `certificate` is the file that a client is told to trust."""

    directory: Path
    certificate: Path
    _key: ec.EllipticCurvePrivateKey
    _subject: x509.Certificate

    def issue(
        self,
        name: str,
        *,
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
        uris: Sequence[str] = (),
        valid: datetime.timedelta = _VALID,
    ) -> Certificate:
        """For a server or a client: the alternatives go into subjectAltName, `name` into CN and the file names."""
        alternatives: list[x509.GeneralName] = [x509.DNSName(value) for value in dns]
        alternatives += [x509.IPAddress(ipaddress.ip_address(value)) for value in addresses]
        alternatives += [x509.UniformResourceIdentifier(value) for value in uris]
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self._subject.subject, key, valid).add_extension(
            x509.BasicConstraints(False, None), critical=True
        )
        builder = builder.add_extension(_usage(signs=False), critical=True).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return Certificate(
            _write_certificate(self.directory / f"{name}.crt", signed), _write_key(self.directory / f"{name}.key", key)
        )


def make_authority(directory: Path, name: str = "test-ca") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(directory, _write_certificate(directory / f"{name}.crt", certificate), key, certificate)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: datetime.timedelta = _VALID
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)


def _write_certificate(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
