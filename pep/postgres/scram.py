"""The proxy's own login at an upstream: trust, a password over TLS, SCRAM-SHA-256; sans-I/O.

Implements the client's part of "SASL Authentication" (PostgreSQL documentation), RFC 5802 and RFC 7677 by scramp.
A server that asks for anything else is refused by name, as is one that is content before it has proved that it knows
the password, once SCRAM has begun. Errors of the server during a login are not handled here.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, assert_never

from scramp import ScramClient, ScramException  # type: ignore[import-untyped]

from pep.core.errors import UpstreamProtocolError
from pep.postgres.authentication import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationOther,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    PasswordMessage,
    SASLInitialResponse,
    SASLResponse,
)
from pep.postgres.frames import PROTOCOL_VIOLATION

if TYPE_CHECKING:
    from pep.postgres.authentication import Authentication

MECHANISM: Final = "SCRAM-SHA-256"

# Errors of a login are of class 28; 28P01 is said where a password is needed or did not match.
_REFUSED: Final = "28000"
_INVALID_PASSWORD: Final = "28P01"

# Work that a server may ask for. Its default is 4,096; a million takes about half a second, in which nothing else runs.
_MOST_ITERATIONS: Final = 1_000_000
_ITERATIONS: Final = re.compile(r",i=(\d{1,9})(?:,|$)", re.ASCII)


class _State(enum.Enum):
    BEGIN = enum.auto()
    PASSWORD_SENT = enum.auto()
    SCRAM_BEGUN = enum.auto()
    PROOF_SENT = enum.auto()
    SERVER_PROVED = enum.auto()
    DONE = enum.auto()


class UpstreamLogin:
    """One login. Feed it the server's authentication messages in order; send what it answers.

    `password` None means that there is none, so that only a server which asks for none lets the proxy in. `tls` says
    whether the connection is encrypted: a password in the clear travels in no other.
    """

    __slots__ = ("_password", "_scram", "_state", "_tls", "_user")

    def __init__(self, user: str, password: str | None, *, tls: bool) -> None:
        self._user = user
        self._password = password
        self._tls = tls
        self._state = _State.BEGIN
        self._scram: ScramClient | None = None

    @property
    def done(self) -> bool:
        """Whether the server has let the proxy in."""
        return self._state is _State.DONE

    def receive(self, message: Authentication) -> bytes | None:
        """The bytes to answer with, or None if there is nothing to say. Raises UpstreamProtocolError."""
        match message:
            case AuthenticationOk():
                self._accept()
                return None
            case AuthenticationCleartextPassword():
                return self._cleartext()
            case AuthenticationSASL(mechanisms):
                return self._begin_scram(mechanisms)
            case AuthenticationSASLContinue(response):
                return self._prove(response)
            case AuthenticationSASLFinal(response):
                self._check_server(response)
                return None
            case AuthenticationMD5Password():
                raise _refusal("md5, which is not supported; use scram-sha-256")
            case AuthenticationOther(code):
                raise _refusal(f"method {code}, which is not supported; use scram-sha-256")
            case never:
                assert_never(never)

    def _expect(self, state: _State) -> None:
        if self._state is not state:
            raise UpstreamProtocolError(PROTOCOL_VIOLATION, "the upstream's authentication messages are out of order")

    def _accept(self) -> None:
        if self._state not in (_State.BEGIN, _State.PASSWORD_SENT, _State.SERVER_PROVED):
            raise UpstreamProtocolError(
                PROTOCOL_VIOLATION, "the upstream accepted the login before it proved that it knows the password"
            )
        self._state = _State.DONE

    def _needed_password(self) -> str:
        if not self._password:
            raise UpstreamProtocolError(_INVALID_PASSWORD, "the upstream asks for a password and none is configured")
        return self._password

    def _cleartext(self) -> bytes:
        self._expect(_State.BEGIN)
        if not self._tls:
            raise _refusal("the password in the clear, which is not sent without TLS")
        password = self._needed_password()
        self._state = _State.PASSWORD_SENT
        return PasswordMessage(password).encode()

    def _begin_scram(self, mechanisms: tuple[str, ...]) -> bytes:
        self._expect(_State.BEGIN)
        if MECHANISM not in mechanisms:
            raise _refusal(f"a SASL mechanism other than {MECHANISM}")
        password = self._needed_password()
        try:
            scram = ScramClient([MECHANISM], self._user, password)
            first = scram.get_client_first()
        except ScramException as cause:
            raise UpstreamProtocolError(_REFUSED, f"the upstream credential cannot be used with {MECHANISM}") from cause
        self._scram, self._state = scram, _State.SCRAM_BEGUN
        return SASLInitialResponse(MECHANISM, first.encode()).encode()

    def _prove(self, response: bytes) -> bytes:
        self._expect(_State.SCRAM_BEGUN)
        assert self._scram is not None
        try:
            text = response.decode()
            asked = _ITERATIONS.search(text)
            if asked is None or int(asked[1]) > _MOST_ITERATIONS:
                raise _refusal(f"more than {_MOST_ITERATIONS} SCRAM iterations, or does not say how many")
            self._scram.set_server_first(text)
            final = self._scram.get_client_final()
        except (ScramException, UnicodeDecodeError) as cause:
            raise UpstreamProtocolError(PROTOCOL_VIOLATION, "the upstream's SCRAM challenge is malformed") from cause
        self._state = _State.PROOF_SENT
        return SASLResponse(final.encode()).encode()

    def _check_server(self, response: bytes) -> None:
        self._expect(_State.PROOF_SENT)
        assert self._scram is not None
        try:
            self._scram.set_server_final(response.decode())
        except (ScramException, UnicodeDecodeError) as cause:
            raise UpstreamProtocolError(_REFUSED, "the upstream could not prove that it knows the password") from cause
        self._state = _State.SERVER_PROVED


def _refusal(what: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(_REFUSED, f"the upstream asks for {what}")
