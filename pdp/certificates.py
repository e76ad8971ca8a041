"""The local authority: certificates for the service, its proxies and the command line of one machine.

Made on first start in the state folder, for installations that have no authority of their own. A proxy's certificate
carries one SAN URI, `spiffe://checkrein/pep/<name>`; which resources that name may serve is configuration. Two
processes that start at once make one authority between them (a lock in the folder). This is not a general CA: it
revokes nothing, its certificates are short.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pdp.config import Config
from pdp.v1.addresses import SocketAddress, UnixAddress
from pdp.v1.strict_yaml import ConfigError

DOMAIN: Final = "checkrein"
COMMAND_LINE: Final = f"spiffe://{DOMAIN}/cli"
# The name that callers verify; over a unix socket there is no host name to verify.
SERVER_NAME: Final = "pdp.checkrein.internal"

_AUTHORITY_LIFE: Final = datetime.timedelta(days=3650)
_LIFE: Final = datetime.timedelta(days=90)
_RENEW_BEFORE: Final = datetime.timedelta(days=30)
# Clocks of two machines differ.
_BACKDATED: Final = datetime.timedelta(minutes=5)
log = structlog.get_logger("pdp.certificates")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

# A stopped service leaves a stream hanging; keepalive finds out. Both sides permit pings without a call.
CLIENT_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: a certificate, its key, and the authority that both sides trust."""

    certificate: Path
    key: Path
    authority: Path


def proxy_uri(name: str) -> str:
    """The SAN URI of a proxy's certificate; where the configuration gives it in full, that one."""
    if "://" in name:
        return name
    return f"spiffe://{DOMAIN}/pep/{name}"


def private_folder(path: Path) -> Path:
    """The folder, made for this user alone; ConfigError if others can enter it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"others can enter {path}, which holds keys; run: chmod 700 {path}")
    return path


@contextmanager
def locked(state: Path, name: str) -> Iterator[None]:
    """Holds the lock of that name in the state folder."""
    descriptor = os.open(private_folder(state) / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Writes the file as a whole or not at all, for this user alone."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


class Authority:
    """Signs for one state folder."""

    def __init__(self, state: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._state = state
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, state: Path) -> Authority:
        """The folder's authority, made if there is none."""
        with locked(state, "certificates"):
            key_file, certificate_file = state / "ca.key", state / "ca.crt"
            if not (key_file.exists() and certificate_file.exists()):
                key = ec.generate_private_key(ec.SECP256R1())
                name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "checkrein local authority")])
                certificate = (
                    _builder(name, name, key.public_key(), _AUTHORITY_LIFE)
                    .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                    .add_extension(_usage(signs=True), critical=True)
                    .sign(key, hashes.SHA256())
                )
                write_private(key_file, _key_bytes(key))
                write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
            loaded = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ConfigError(f"{key_file} is not a key of this authority; remove the state folder's ca.* files")
            return cls(state, loaded, x509.load_pem_x509_certificate(certificate_file.read_bytes()))

    def server(self, hosts: tuple[str, ...] = ()) -> Certificate:
        """The service's own certificate."""
        names = [x509.DNSName(name) for name in (SERVER_NAME, "localhost", *hosts)]
        return self._certificate_for("server", names, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue(self, name: str) -> Certificate:
        """A certificate for the proxy of that name; the one at hand until it nears its end."""
        if _NAME.fullmatch(name) is None:
            raise ConfigError(f"{name!r} cannot be a proxy's name: use letters, digits, dot, dash and underscore")
        uri = x509.UniformResourceIdentifier(proxy_uri(name))
        return self._certificate_for(f"pep-{name}", [uri], ExtendedKeyUsageOID.CLIENT_AUTH)

    def command_line(self) -> Certificate:
        """The certificate that the commands of this machine connect with."""
        uri = x509.UniformResourceIdentifier(COMMAND_LINE)
        return self._certificate_for("cli", [uri], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _certificate_for(
        self,
        name: str,
        alternatives: list[x509.DNSName] | list[x509.UniformResourceIdentifier],
        usage: x509.ObjectIdentifier,
    ) -> Certificate:
        folder = private_folder(self._state / "certificates")
        files = Certificate(folder / f"{name}.crt", folder / f"{name}.key", self._state / "ca.crt")
        with locked(self._state, "certificates"):
            if not self._still_good(files, alternatives):
                key = ec.generate_private_key(ec.SECP256R1())
                subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
                signed = (
                    _builder(subject, self._certificate.subject, key.public_key(), _LIFE)
                    .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                    .add_extension(_usage(signs=False), critical=True)
                    .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
                    .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
                    .sign(self._key, hashes.SHA256())
                )
                # The key first: a crash in between leaves a pair that does not fit, which the next start replaces.
                write_private(files.key, _key_bytes(key))
                write_private(files.certificate, signed.public_bytes(serialization.Encoding.PEM))
        return files

    def _still_good(
        self, files: Certificate, alternatives: list[x509.DNSName] | list[x509.UniformResourceIdentifier]
    ) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # noqa: BLE001 - whatever is wrong with a file of ours, it is made anew
            return False
        ends = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        return ends > _RENEW_BEFORE and list(names) == alternatives and certificate.public_key() == key.public_key()


def certificate_of(config: Config) -> Certificate:
    """The service's certificate: the configured one, or one of the local authority, made with those of its proxies."""
    private_folder(config.state)
    if config.pdp.tls is not None:
        return Certificate(config.pdp.tls.cert, config.pdp.tls.key, config.pdp.tls.client_ca)
    authority = Authority.open(config.state)
    for proxy in config.proxies:
        authority.issue(proxy.name)
    authority.command_line()
    listen = config.listen
    return authority.server(() if isinstance(listen, UnixAddress) else (listen.host,))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class ServerCertificate:
    """What callers are shown. The files are read again when they change, so that a renewed certificate serves the next
    connection; where they do not make a pair, what is in use stays in use.

    Raises OSError or ValueError where they are no good to begin with.
    """

    def __init__(self, files: Certificate) -> None:
        self._used = files
        self._read = _state(files)
        self._first = _configuration(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Mutual TLS, over a unix socket as well: who shows no certificate of the authority gets no connection."""
        # The stubs say that the function never answers None, the documentation that None means no change.
        return grpc.dynamic_ssl_server_credentials(self._first, self.look, require_client_authentication=True)  # type: ignore[arg-type]

    def look(self) -> grpc.ServerCertificateConfiguration | None:
        """What has changed, or None; asked at each connection."""
        try:
            state = _state(self._used)
            if state == self._read:
                return None
            fresh = _configuration(self._used)
        except (OSError, ValueError):
            # Files that are being replaced.
            log.warning("certificate not read again", file=str(self._used.certificate))
            return None
        self._read = state
        return fresh

    def why_not_used(self) -> str:
        """What is wrong with the files as they are now, or ""."""
        try:
            if _state(self._used) != self._read:
                _configuration(self._used)
        except OSError as error:
            return error.strerror or type(error).__name__
        except ValueError as error:
            return str(error)
        return ""


def _state(files: Certificate) -> tuple[tuple[int, int], ...]:
    return tuple((each.st_mtime_ns, each.st_ino) for each in (path.stat() for path in _files(files)))


def _files(certificate: Certificate) -> tuple[Path, ...]:
    return certificate.certificate, certificate.key, certificate.authority


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    """ValueError if key and certificate do not fit, which is what a half-replaced pair looks like."""
    chain, key, authority = (path.read_bytes() for path in _files(certificate))
    public = serialization.load_pem_private_key(key, None).public_key()
    if x509.load_pem_x509_certificate(chain).public_key() != public:
        raise ValueError("the key is not the certificate's")
    return grpc.ssl_server_certificate_configuration([(key, chain)], authority)


def client_channel(
    address: SocketAddress, certificate: Certificate, *, server_name: str = SERVER_NAME
) -> grpc.aio.Channel:
    """A channel to the service, presenting the certificate."""
    credentials = grpc.ssl_channel_credentials(
        certificate.authority.read_bytes(), certificate.key.read_bytes(), certificate.certificate.read_bytes()
    )
    options = (*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(str(address), credentials, options)
