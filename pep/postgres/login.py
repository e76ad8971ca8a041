"""A client's way in: TLS, the start-up packet, its password message.

Does I/O, over `pep.core.leg`. Implements "Start-up" and "SSL Session Encryption" of the PostgreSQL documentation for a
server that speaks 3.0. What a start-up packet asks for is checked here; who the client is, is not.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pep.core.errors import ClientProtocolError
from pep.core.leg import Leg
from pep.postgres import denial, settings
from pep.postgres.authentication import AuthenticationCleartextPassword, PasswordMessage
from pep.postgres.backend import NegotiateProtocolVersion
from pep.postgres.codec import FrontendCodec, StartupCodec
from pep.postgres.frames import Frame, FrontendTag
from pep.postgres.frontend import CancelRequest, GSSENCRequest, SSLRequest, StartupMessage

# What a client that begins with its TLS handshake has to name in it (ALPN): no client of another protocol does.
ALPN: Final = "postgresql"
_HANDSHAKE: Final = 0x16  # the first byte of a TLS record; a start-up packet of that length does not exist
INVALID_AUTHORIZATION: Final = "28000"
INVALID_PASSWORD: Final = "28P01"
INVALID_CATALOG_NAME: Final = "3D000"
# Start-up parameters that are no settings.
_NAMES: Final = frozenset({"user", "database", "options", "replication"})


class ClientGone(Exception):
    """The client left during its login."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A client that has said who it claims to be: its settings are labels, its password is not verified yet."""

    user: str
    database: str
    settings: Mapping[str, str]
    password: str = field(repr=False)


async def greet(leg: Leg, tls: ssl.SSLContext | None, *, plaintext: bool, limit: int) -> Hello | CancelRequest:
    """Everything up to the password. Raises ClientProtocolError, ClientGone; the caller bounds the time."""
    startup = await _startup(leg, tls)
    if isinstance(startup, CancelRequest):
        return startup
    if tls is not None and not leg.encrypted and not plaintext:
        raise ClientProtocolError(INVALID_AUTHORIZATION, "this proxy takes encrypted connections only: use sslmode")
    parameters = startup.parameters
    if parameters.get("replication", "false").lower() not in ("false", "off", "no", "0"):
        raise ClientProtocolError(denial.FEATURE_NOT_SUPPORTED, "replication connections are refused")
    user = parameters.get("user", "")
    if not user:
        raise ClientProtocolError(INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
    chosen = dict(_settings(parameters))
    if startup.minor > 0 or startup.protocol_options:
        leg.write(NegotiateProtocolVersion(0, startup.protocol_options).encode())
    leg.write(AuthenticationCleartextPassword().encode())
    password = await _password(leg, FrontendCodec(max_statement=limit))
    return Hello(user, parameters.get("database", "") or user, chosen, password)


async def _startup(leg: Leg, tls: ssl.SSLContext | None) -> StartupMessage | CancelRequest:
    if tls is not None:
        await _direct_tls(leg, tls)
    codec = StartupCodec()
    while True:
        packet = codec.feed(b"")
        while packet is None:
            packet = codec.feed(await _read(leg))
        match packet:
            case SSLRequest() if tls is not None and not leg.encrypted:
                if codec.rest:
                    raise ClientProtocolError(denial.PROTOCOL_VIOLATION, "received unencrypted data after SSL request")
                leg.write(b"S")
                await leg.start_tls(tls, server_side=True)
                codec = StartupCodec()
            case SSLRequest() | GSSENCRequest():
                leg.write(b"N")
            case StartupMessage() | CancelRequest():
                leg.unread(codec.rest)
                return packet


async def _direct_tls(leg: Leg, tls: ssl.SSLContext) -> None:
    """A client may begin with the handshake and save the request for it."""
    begun = await _read(leg)
    leg.unread(begun)
    if begun[0] != _HANDSHAKE:
        return
    await leg.accept_tls(tls)
    if leg.alpn != ALPN:
        raise ClientProtocolError(
            denial.PROTOCOL_VIOLATION,
            "received direct SSL connection request without ALPN protocol negotiation extension",
        )


async def _password(leg: Leg, codec: FrontendCodec) -> str:
    while True:
        for frame in codec.feed(await _read(leg)):
            if not isinstance(frame, Frame) or frame.tag != FrontendTag.PASSWORD:
                raise ClientProtocolError(denial.PROTOCOL_VIOLATION, "expected password response")
            leg.unread(codec.rest)
            return PasswordMessage.decode(frame.payload).password


async def _read(leg: Leg) -> bytes:
    data = await leg.read()
    if not data:
        raise ClientGone
    return data


def _settings(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The settings that a start-up packet asks for, those inside `options` included."""
    for name, value in (*_options(parameters.get("options", "")), *parameters.items()):
        if name in _NAMES or name.startswith("_pq_."):
            continue
        refusal = settings.refusal(name, value, at_start=True)
        if refusal is not None:
            raise ClientProtocolError(refusal.sqlstate, refusal.message)
        if not settings.harmless(name):
            raise ClientProtocolError(
                denial.INSUFFICIENT_PRIVILEGE, f'the start-up packet must not set "{name[:63]}" here'
            )
        yield name, value


def _options(text: str) -> Iterator[tuple[str, str]]:
    """`-c name=value` and `--name=value`, split as the server does: blanks separate, a backslash keeps one."""
    words = iter(_words(text))
    for word in words:
        if word == "-c":
            setting = next(words, "")
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        else:
            raise ClientProtocolError(denial.FEATURE_NOT_SUPPORTED, "options other than -c and --name are refused")
        name, equals, value = setting.partition("=")
        if not equals:
            raise ClientProtocolError(denial.SYNTAX_ERROR, "an option in the start-up packet needs a value")
        yield name.replace("-", "_"), value


def _words(text: str) -> Iterator[str]:
    word: list[str] = []
    begun = escaped = False
    for character in text:
        if escaped or not (character.isspace() or character == "\\"):
            word.append(character)
            begun, escaped = True, False
        elif character == "\\":
            begun = escaped = True
        elif begun:
            yield "".join(word)
            word, begun = [], False
    if begun:
        yield "".join(word)
