"""TLS contexts and gRPC credentials from files: for clients, for upstreams, for the decision service.

Read while starting, so a wrong file is a start-up error.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

import grpc

from pdp.v1.strict_yaml import ConfigError
from pep.core.config import DecisionsTls, ListenTls, UpstreamTls


def listener_context(tls: ListenTls, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """What clients are shown. TLS 1.2 at least. `alpn`: the protocols that are offered, the preferred one first.

    With `client_ca` a client may show a certificate; one of another authority ends the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, tls.cert, tls.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use the authority {tls.client_ca}: {_said(error)}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def upstream_context(tls: UpstreamTls) -> ssl.SSLContext | None:
    """How an upstream is checked, in libpq's sense of the modes; None where TLS is disabled."""
    match tls.mode:
        case "disable":
            return None
        case "require":
            context = _trusting(tls.ca)
            context.check_hostname = False
            # As in libpq: a given authority is checked also under `require`.
            context.verify_mode = ssl.CERT_NONE if tls.ca is None else ssl.CERT_REQUIRED
        case "verify-ca":
            context = _trusting(tls.ca)
            context.check_hostname = False
        case "verify-full":
            context = _trusting(tls.ca)
        case never:
            assert_never(never)
    if tls.cert is not None and tls.key is not None:
        _show(context, tls.cert, tls.key)
    return context


def channel_credentials(tls: DecisionsTls) -> grpc.ChannelCredentials:
    """The proxy's own certificate and the authority of the decision service's."""
    return grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.cert))


def _trusting(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the authority {ca}: {_said(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the certificate {certificate} with the key {key}: {_said(error)}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _said(error: OSError) -> str:
    return error.strerror or type(error).__name__
