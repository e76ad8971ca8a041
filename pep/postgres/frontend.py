"""The messages a client sends (PostgreSQL documentation, "Message Formats", those marked F).

Values with `decode(payload)` and `encode()`; a payload that is not exactly one message of the type raises
`ClientProtocolError`. What a message means, and whether it may pass, is decided elsewhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pep.core.errors import ClientProtocolError, ProtocolError
from pep.postgres.frames import (
    FEATURE_NOT_SUPPORTED,
    PROTOCOL_VIOLATION,
    Fields,
    Frame,
    FrontendTag,
    c_string,
    counted,
    frame,
    int16,
    int16s,
    int32,
    oid,
    oids,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

PROTOCOL_3_0: Final = 3 << 16

_CANCEL_REQUEST: Final = 80877102
_SSL_REQUEST: Final = 80877103
_GSSENC_REQUEST: Final = 80877104

# A cancel key has 4 bytes in protocol 3.0 and up to 256 from 3.2 on.
_LONGEST_KEY: Final = 256


def _fields(payload: bytes, what: str) -> Fields:
    return Fields(payload, ClientProtocolError, what)


def _packet(*parts: bytes) -> bytes:
    """A start-up packet: no type byte, and a length that includes itself."""
    body = b"".join(parts)
    return int32(len(body) + 4) + body


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Opens a session. `version` is major in the upper 16 bits, minor in the lower."""

    version: int
    parameters: dict[str, str]

    @property
    def minor(self) -> int:
        return self.version & 0xFFFF

    @property
    def protocol_options(self) -> tuple[str, ...]:
        """Names of requested protocol extensions; a server that knows none of them says so and goes on."""
        return tuple(name for name in self.parameters if name.startswith("_pq_."))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "start-up")
        version = fields.int32()
        if version >> 16 != PROTOCOL_3_0 >> 16:
            asked = f"{version >> 16 & 0xFFFF}.{version & 0xFFFF}"
            raise ClientProtocolError(
                FEATURE_NOT_SUPPORTED, f"unsupported frontend protocol {asked}: this server speaks 3.0"
            )
        parameters = {}
        while name := fields.string():
            # As at the server, the last one of a name counts.
            parameters[name] = fields.string()
        fields.end()
        return cls(version, parameters)

    def encode(self) -> bytes:
        pairs = (c_string(name) + c_string(value) for name, value in self.parameters.items())
        return _packet(int32(self.version), *pairs, b"\0")


@dataclass(frozen=True, slots=True)
class SSLRequest:
    def encode(self) -> bytes:
        return _packet(int32(_SSL_REQUEST))


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    def encode(self) -> bytes:
        return _packet(int32(_GSSENC_REQUEST))


@dataclass(frozen=True, slots=True)
class CancelRequest:
    pid: int
    key: bytes = field(repr=False)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "cancel request")
        fields.int32()
        pid, key = fields.int32(), fields.rest()
        if not 1 <= len(key) <= _LONGEST_KEY:
            raise fields.malformed("a key has 1 to 256 bytes")
        return cls(pid, key)

    def encode(self) -> bytes:
        return _packet(int32(_CANCEL_REQUEST), int32(self.pid), self.key)


Startup = StartupMessage | SSLRequest | GSSENCRequest | CancelRequest


def decode_startup(payload: bytes) -> Startup:
    """The start-up packet with this payload (all but the length)."""
    fields = _fields(payload, "start-up")
    match fields.int32():
        case code if code == _CANCEL_REQUEST:
            return CancelRequest.decode(payload)
        case code if code == _SSL_REQUEST:
            fields.end()
            return SSLRequest()
        case code if code == _GSSENC_REQUEST:
            fields.end()
            return GSSENCRequest()
        case _:
            return StartupMessage.decode(payload)


@dataclass(frozen=True, slots=True)
class Query:
    text: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Query")
        message = cls(fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.QUERY, c_string(self.text))


@dataclass(frozen=True, slots=True)
class Parse:
    name: str
    text: str
    parameter_oids: tuple[int, ...] = ()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Parse")
        message = cls(fields.string(), fields.string(), fields.oids(fields.count()))
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.PARSE, c_string(self.name), c_string(self.text), oids(self.parameter_oids))


@dataclass(frozen=True, slots=True)
class Bind:
    """`parameter_formats` and `result_formats` hold none (all text), one (for all) or one code for each."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...] = ()
    parameters: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Bind")
        portal, statement = fields.string(), fields.string()
        formats = fields.int16s(fields.count())
        parameters = fields.values(fields.count())
        if len(formats) > 1 and len(formats) != len(parameters):
            raise fields.malformed("the number of formats is not the number of parameters")
        results = fields.int16s(fields.count())
        fields.end()
        return cls(portal, statement, formats, parameters, results)

    def encode(self) -> bytes:
        return frame(
            FrontendTag.BIND,
            c_string(self.portal),
            c_string(self.statement),
            int16s(self.parameter_formats),
            counted(len(self.parameters)),
            values(self.parameters),
            int16s(self.result_formats),
        )


class Kind(enum.StrEnum):
    """What Describe and Close name."""

    STATEMENT = "S"
    PORTAL = "P"


def _kind(fields: Fields) -> Kind:
    code = fields.byte()
    if code not in (ord("S"), ord("P")):
        raise fields.malformed("neither a statement nor a portal is named")
    return Kind(chr(code))


@dataclass(frozen=True, slots=True)
class Describe:
    kind: Kind
    name: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Describe")
        message = cls(_kind(fields), fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.DESCRIBE, self.kind.encode(), c_string(self.name))


@dataclass(frozen=True, slots=True)
class Execute:
    """`max_rows` of zero or less means all rows."""

    portal: str
    max_rows: int = 0

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Execute")
        message = cls(fields.string(), fields.int32())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.EXECUTE, c_string(self.portal), int32(self.max_rows))


@dataclass(frozen=True, slots=True)
class Close:
    kind: Kind
    name: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "Close")
        message = cls(_kind(fields), fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.CLOSE, self.kind.encode(), c_string(self.name))


@dataclass(frozen=True, slots=True)
class Flush:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "Flush").end()
        return cls()

    def encode(self) -> bytes:
        return frame(FrontendTag.FLUSH)


@dataclass(frozen=True, slots=True)
class Sync:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "Sync").end()
        return cls()

    def encode(self) -> bytes:
        return frame(FrontendTag.SYNC)


@dataclass(frozen=True, slots=True)
class Terminate:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "Terminate").end()
        return cls()

    def encode(self) -> bytes:
        return frame(FrontendTag.TERMINATE)


@dataclass(frozen=True, slots=True)
class CopyData:
    """A piece of a COPY stream; both sides send it, and its borders mean nothing."""

    data: bytes

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload)

    def encode(self) -> bytes:
        return frame(FrontendTag.COPY_DATA, self.data)


@dataclass(frozen=True, slots=True)
class CopyDone:
    """The end of a COPY stream, from either side; `error` is the leaf of the side that sent it."""

    @classmethod
    def decode(cls, payload: bytes, error: type[ProtocolError] = ClientProtocolError) -> Self:
        Fields(payload, error, "CopyDone").end()
        return cls()

    def encode(self) -> bytes:
        return frame(FrontendTag.COPY_DONE)


@dataclass(frozen=True, slots=True)
class CopyFail:
    reason: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "CopyFail")
        message = cls(fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(FrontendTag.COPY_FAIL, c_string(self.reason))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The fast path: a function by its OID. `formats` hold none (all text), one (for all) or one code for each."""

    oid: int
    formats: tuple[int, ...] = ()
    arguments: tuple[bytes | None, ...] = ()
    result_format: int = 0

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "FunctionCall")
        function = fields.oid()
        formats = fields.int16s(fields.count())
        arguments = fields.values(fields.count())
        if len(formats) > 1 and len(formats) != len(arguments):
            raise fields.malformed("the number of formats is not the number of arguments")
        message = cls(function, formats, arguments, fields.int16())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(
            FrontendTag.FUNCTION_CALL,
            oid(self.oid),
            int16s(self.formats),
            counted(len(self.arguments)),
            values(self.arguments),
            int16(self.result_format),
        )


FrontendMessage = (
    Query | Parse | Bind | Describe | Execute | Close | Flush | Sync | Terminate
    | CopyData | CopyDone | CopyFail | FunctionCall
)  # fmt: skip

_DECODERS: Final[Mapping[int, Callable[[bytes], FrontendMessage]]] = {
    FrontendTag.BIND: Bind.decode,
    FrontendTag.CLOSE: Close.decode,
    FrontendTag.COPY_DATA: CopyData.decode,
    FrontendTag.COPY_DONE: CopyDone.decode,
    FrontendTag.COPY_FAIL: CopyFail.decode,
    FrontendTag.DESCRIBE: Describe.decode,
    FrontendTag.EXECUTE: Execute.decode,
    FrontendTag.FLUSH: Flush.decode,
    FrontendTag.FUNCTION_CALL: FunctionCall.decode,
    FrontendTag.PARSE: Parse.decode,
    FrontendTag.QUERY: Query.decode,
    FrontendTag.SYNC: Sync.decode,
    FrontendTag.TERMINATE: Terminate.decode,
}


def decode_frontend(received: Frame) -> FrontendMessage:
    """The message in a client's frame, after login.

    Authentication responses share one type and are decoded by their class, by whoever runs the login; here they,
    like every unknown type, raise `ClientProtocolError`.
    """
    decoder = _DECODERS.get(received.tag)
    if decoder is None:
        raise ClientProtocolError(PROTOCOL_VIOLATION, f"unexpected frontend message type {received.tag}")
    return decoder(received.payload)
