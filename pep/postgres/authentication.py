"""The messages of a login: the server's requests and the client's answers.

Implements the authentication part of "Message Formats" (PostgreSQL documentation). The client's answers share one type
byte, so only whoever runs the login can tell which of them a frame holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pep.core.errors import ClientProtocolError, UpstreamProtocolError
from pep.postgres.frames import BackendTag, Fields, FrontendTag, c_string, frame, int32, values

if TYPE_CHECKING:
    from typing import Self


def _authentication(code: int, *parts: bytes) -> bytes:
    return frame(BackendTag.AUTHENTICATION, int32(code), *parts)


@dataclass(frozen=True, slots=True)
class AuthenticationOk:
    def encode(self) -> bytes:
        return _authentication(0)


@dataclass(frozen=True, slots=True)
class AuthenticationCleartextPassword:
    def encode(self) -> bytes:
        return _authentication(3)


@dataclass(frozen=True, slots=True)
class AuthenticationMD5Password:
    salt: bytes

    def encode(self) -> bytes:
        return _authentication(5, self.salt)


@dataclass(frozen=True, slots=True)
class AuthenticationSASL:
    mechanisms: tuple[str, ...]

    def encode(self) -> bytes:
        return _authentication(10, *map(c_string, self.mechanisms), b"\0")


@dataclass(frozen=True, slots=True)
class AuthenticationSASLContinue:
    response: bytes = field(repr=False)

    def encode(self) -> bytes:
        return _authentication(11, self.response)


@dataclass(frozen=True, slots=True)
class AuthenticationSASLFinal:
    response: bytes = field(repr=False)

    def encode(self) -> bytes:
        return _authentication(12, self.response)


@dataclass(frozen=True, slots=True)
class AuthenticationOther:
    """A way of logging in that this proxy does not speak (Kerberos, GSSAPI, SSPI, or one that is new)."""

    code: int
    payload: bytes

    def encode(self) -> bytes:
        return _authentication(self.code, self.payload)


Authentication = (
    AuthenticationOk | AuthenticationCleartextPassword | AuthenticationMD5Password | AuthenticationSASL
    | AuthenticationSASLContinue | AuthenticationSASLFinal | AuthenticationOther
)  # fmt: skip


def decode_authentication(payload: bytes) -> Authentication:
    fields = Fields(payload, UpstreamProtocolError, "Authentication")
    message: Authentication
    match code := fields.int32():
        case 0:
            message = AuthenticationOk()
        case 3:
            message = AuthenticationCleartextPassword()
        case 5:
            message = AuthenticationMD5Password(fields.take(4))
        case 10:
            mechanisms = []
            while mechanism := fields.string():
                mechanisms.append(mechanism)
            message = AuthenticationSASL(tuple(mechanisms))
        case 11:
            message = AuthenticationSASLContinue(fields.rest())
        case 12:
            message = AuthenticationSASLFinal(fields.rest())
        case _:
            message = AuthenticationOther(code, fields.rest())
    fields.end()
    return message


@dataclass(frozen=True, slots=True)
class PasswordMessage:
    password: str = field(repr=False)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = Fields(payload, ClientProtocolError, "Password")
        message = cls(fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.PASSWORD, c_string(self.password))


@dataclass(frozen=True, slots=True)
class SASLInitialResponse:
    mechanism: str
    response: bytes | None = field(repr=False)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = Fields(payload, ClientProtocolError, "SASLInitialResponse")
        mechanism = fields.string()
        (response,) = fields.values(1)
        fields.end()
        return cls(mechanism, response)

    def encode(self) -> bytes:
        return frame(FrontendTag.PASSWORD, c_string(self.mechanism), values((self.response,)))


@dataclass(frozen=True, slots=True)
class SASLResponse:
    response: bytes = field(repr=False)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload)

    def encode(self) -> bytes:
        return frame(FrontendTag.PASSWORD, self.response)
