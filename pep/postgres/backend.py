"""The messages a server sends (PostgreSQL documentation, "Message Formats", those marked B).

Values with `decode(payload)` and `encode()`; a payload that is not exactly one message of the type raises
`UpstreamProtocolError`. DataRow is decoded here for tests and small uses; `masks` rewrites rows without this.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pep.core.errors import UpstreamProtocolError
from pep.postgres.authentication import Authentication, decode_authentication
from pep.postgres.frames import (
    PROTOCOL_VIOLATION,
    BackendTag,
    Fields,
    Frame,
    c_string,
    counted,
    frame,
    int16,
    int16s,
    int32,
    oid,
    values,
)
from pep.postgres.frontend import PROTOCOL_3_0, CopyData, CopyDone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self


def _fields(payload: bytes, what: str) -> Fields:
    return Fields(payload, UpstreamProtocolError, what)


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    name: str
    value: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "ParameterStatus")
        message = cls(fields.string(), fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(BackendTag.PARAMETER_STATUS, c_string(self.name), c_string(self.value))


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    pid: int
    key: bytes = field(repr=False)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "BackendKeyData")
        pid, key = fields.int32(), fields.rest()
        if not 4 <= len(key) <= 256:
            raise fields.malformed("a key has 4 to 256 bytes")
        return cls(pid, key)

    def encode(self) -> bytes:
        return frame(BackendTag.BACKEND_KEY_DATA, int32(self.pid), self.key)


class TransactionStatus(enum.StrEnum):
    IDLE = "I"
    IN_TRANSACTION = "T"
    FAILED = "E"


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    status: TransactionStatus

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "ReadyForQuery")
        code = fields.byte()
        fields.end()
        if code not in b"ITE":
            raise fields.malformed("unknown transaction status")
        return cls(TransactionStatus(chr(code)))

    def encode(self) -> bytes:
        return frame(BackendTag.READY_FOR_QUERY, self.status.encode())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result. A table OID or attribute of 0: the server names no single origin."""

    name: str
    table_oid: int
    attribute: int
    type_oid: int
    type_size: int
    type_modifier: int
    format: int


@dataclass(frozen=True, slots=True)
class RowDescription:
    columns: tuple[Column, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "RowDescription")
        columns = tuple(_column(fields) for _ in range(fields.count()))
        fields.end()
        return cls(columns)

    def encode(self) -> bytes:
        return frame(BackendTag.ROW_DESCRIPTION, counted(len(self.columns)), *map(_encode_column, self.columns))


def _column(fields: Fields) -> Column:
    return Column(
        fields.string(), fields.oid(), fields.int16(), fields.oid(), fields.int16(), fields.int32(), fields.int16()
    )


def _encode_column(column: Column) -> bytes:
    origin = oid(column.table_oid) + int16(column.attribute)
    kind = oid(column.type_oid) + int16(column.type_size) + int32(column.type_modifier)
    return c_string(column.name) + origin + kind + int16(column.format)


@dataclass(frozen=True, slots=True)
class DataRow:
    values: tuple[bytes | None, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "DataRow")
        message = cls(fields.values(fields.count()))
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(BackendTag.DATA_ROW, counted(len(self.values)), values(self.values))


@dataclass(frozen=True, slots=True)
class FunctionCallResponse:
    """The value that a function call returned; None is NULL."""

    value: bytes | None

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "FunctionCallResponse")
        (value,) = fields.values(1)
        fields.end()
        return cls(value)

    def encode(self) -> bytes:
        return frame(BackendTag.FUNCTION_CALL_RESPONSE, values((self.value,)))


@dataclass(frozen=True, slots=True)
class CommandComplete:
    tag: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "CommandComplete")
        message = cls(fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(BackendTag.COMMAND_COMPLETE, c_string(self.tag))


@dataclass(frozen=True, slots=True)
class EmptyQueryResponse:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "EmptyQueryResponse").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.EMPTY_QUERY_RESPONSE)


@dataclass(frozen=True, slots=True)
class ParseComplete:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "ParseComplete").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.PARSE_COMPLETE)


@dataclass(frozen=True, slots=True)
class BindComplete:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "BindComplete").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.BIND_COMPLETE)


@dataclass(frozen=True, slots=True)
class CloseComplete:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "CloseComplete").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.CLOSE_COMPLETE)


@dataclass(frozen=True, slots=True)
class NoData:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "NoData").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.NO_DATA)


@dataclass(frozen=True, slots=True)
class PortalSuspended:
    @classmethod
    def decode(cls, payload: bytes) -> Self:
        _fields(payload, "PortalSuspended").end()
        return cls()

    def encode(self) -> bytes:
        return frame(BackendTag.PORTAL_SUSPENDED)


_COUNT_SIZE: Final = 2
_COUNT_MASK: Final = 0xFFFF
_OID_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """The types of a statement's parameters. A text may have more of them than can be counted in 16 bits.

    No Bind can give them values, but the server describes them, with the count's lower bits before them.
    """

    oids: tuple[int, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "ParameterDescription")
        count = (len(payload) - _COUNT_SIZE) // _OID_SIZE
        if fields.count() != count & _COUNT_MASK:
            raise fields.malformed("the number of types is another than it says")
        message = cls(fields.oids(count))
        fields.end()
        return message

    def encode(self) -> bytes:
        described = b"".join(map(oid, self.oids))
        return frame(BackendTag.PARAMETER_DESCRIPTION, counted(len(self.oids) & _COUNT_MASK), described)


class ErrorField(enum.StrEnum):
    """Codes of the fields of ErrorResponse and NoticeResponse ("Error and Notice Message Fields")."""

    SEVERITY = "S"
    SEVERITY_NONLOCALIZED = "V"
    CODE = "C"
    MESSAGE = "M"
    DETAIL = "D"
    HINT = "H"
    POSITION = "P"
    INTERNAL_POSITION = "p"
    INTERNAL_QUERY = "q"
    WHERE = "W"
    SCHEMA = "s"
    TABLE = "t"
    COLUMN = "c"
    DATATYPE = "d"
    CONSTRAINT = "n"
    FILE = "F"
    LINE = "L"
    ROUTINE = "R"


def _error_fields(payload: bytes, what: str) -> dict[str, str]:
    fields = _fields(payload, what)
    found: dict[str, str] = {}
    while code := fields.byte():
        name = chr(code)
        if not name.isascii() or name in found:
            raise fields.malformed("a field code is not ASCII, or occurs twice")
        found[name] = fields.string()
    fields.end()
    return found


def _encode_error_fields(tag: BackendTag, fields: Mapping[str, str]) -> bytes:
    for code in fields:
        if len(code) != 1 or not code.isascii() or code == "\0":
            raise ValueError("a field code is one ASCII character other than NUL")
    return frame(tag, *(code.encode() + c_string(text) for code, text in fields.items()), b"\0")


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Fields by their one-letter code, in the order of the wire; codes may be new ones without a name here."""

    fields: dict[str, str]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(_error_fields(payload, "ErrorResponse"))

    def encode(self) -> bytes:
        return _encode_error_fields(BackendTag.ERROR_RESPONSE, self.fields)


@dataclass(frozen=True, slots=True)
class NoticeResponse:
    fields: dict[str, str]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(_error_fields(payload, "NoticeResponse"))

    def encode(self) -> bytes:
        return _encode_error_fields(BackendTag.NOTICE_RESPONSE, self.fields)


@dataclass(frozen=True, slots=True)
class NotificationResponse:
    pid: int
    channel: str
    payload: str

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "NotificationResponse")
        message = cls(fields.int32(), fields.string(), fields.string())
        fields.end()
        return message

    def encode(self) -> bytes:
        return frame(BackendTag.NOTIFICATION_RESPONSE, int32(self.pid), c_string(self.channel), c_string(self.payload))


def _copy_formats(payload: bytes, what: str) -> tuple[int, tuple[int, ...]]:
    fields = _fields(payload, what)
    overall = fields.byte()
    if overall > 1:
        raise fields.malformed("the format is neither text nor binary")
    columns = fields.int16s(fields.count())
    fields.end()
    return overall, columns


@dataclass(frozen=True, slots=True)
class CopyInResponse:
    """The server expects COPY data; `format` is 0 for text (CSV too), 1 for binary."""

    format: int
    column_formats: tuple[int, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(*_copy_formats(payload, "CopyInResponse"))

    def encode(self) -> bytes:
        return frame(BackendTag.COPY_IN_RESPONSE, bytes((self.format,)), int16s(self.column_formats))


@dataclass(frozen=True, slots=True)
class CopyOutResponse:
    format: int
    column_formats: tuple[int, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(*_copy_formats(payload, "CopyOutResponse"))

    def encode(self) -> bytes:
        return frame(BackendTag.COPY_OUT_RESPONSE, bytes((self.format,)), int16s(self.column_formats))


@dataclass(frozen=True, slots=True)
class CopyBothResponse:
    format: int
    column_formats: tuple[int, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(*_copy_formats(payload, "CopyBothResponse"))

    def encode(self) -> bytes:
        return frame(BackendTag.COPY_BOTH_RESPONSE, bytes((self.format,)), int16s(self.column_formats))


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """The newest minor version of protocol 3 that the server speaks, and the options it does not know.

    On the wire servers write the whole version (3 << 16 | minor) although the documentation says "minor", and
    clients compare it as a whole; so does `encode`.
    """

    newest_minor: int
    unrecognised: tuple[str, ...]

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _fields(payload, "NegotiateProtocolVersion")
        newest, count = fields.int32(), fields.int32()
        if newest >> 16 not in (0, PROTOCOL_3_0 >> 16):
            raise fields.malformed("another major version")
        if not 0 <= count <= len(payload):
            raise fields.malformed("more options than bytes")
        message = cls(newest & 0xFFFF, tuple(fields.string() for _ in range(count)))
        fields.end()
        return message

    def encode(self) -> bytes:
        options = (c_string(name) for name in self.unrecognised)
        version = int32(PROTOCOL_3_0 | self.newest_minor)
        return frame(BackendTag.NEGOTIATE_PROTOCOL_VERSION, version, int32(len(self.unrecognised)), *options)


BackendMessage = (
    Authentication | ParameterStatus | BackendKeyData | ReadyForQuery | RowDescription | DataRow | CommandComplete
    | EmptyQueryResponse | ParseComplete | BindComplete | CloseComplete | NoData | PortalSuspended
    | ParameterDescription | ErrorResponse | NoticeResponse | NotificationResponse | CopyInResponse
    | CopyOutResponse | CopyBothResponse | CopyData | CopyDone | FunctionCallResponse | NegotiateProtocolVersion
)  # fmt: skip

_DECODERS: Final[Mapping[int, Callable[[bytes], BackendMessage]]] = {
    BackendTag.AUTHENTICATION: decode_authentication,
    BackendTag.BACKEND_KEY_DATA: BackendKeyData.decode,
    BackendTag.BIND_COMPLETE: BindComplete.decode,
    BackendTag.CLOSE_COMPLETE: CloseComplete.decode,
    BackendTag.COMMAND_COMPLETE: CommandComplete.decode,
    BackendTag.COPY_BOTH_RESPONSE: CopyBothResponse.decode,
    BackendTag.COPY_DATA: CopyData.decode,
    BackendTag.COPY_DONE: lambda payload: CopyDone.decode(payload, UpstreamProtocolError),
    BackendTag.COPY_IN_RESPONSE: CopyInResponse.decode,
    BackendTag.COPY_OUT_RESPONSE: CopyOutResponse.decode,
    BackendTag.DATA_ROW: DataRow.decode,
    BackendTag.EMPTY_QUERY_RESPONSE: EmptyQueryResponse.decode,
    BackendTag.ERROR_RESPONSE: ErrorResponse.decode,
    BackendTag.FUNCTION_CALL_RESPONSE: FunctionCallResponse.decode,
    BackendTag.NEGOTIATE_PROTOCOL_VERSION: NegotiateProtocolVersion.decode,
    BackendTag.NO_DATA: NoData.decode,
    BackendTag.NOTICE_RESPONSE: NoticeResponse.decode,
    BackendTag.NOTIFICATION_RESPONSE: NotificationResponse.decode,
    BackendTag.PARAMETER_DESCRIPTION: ParameterDescription.decode,
    BackendTag.PARAMETER_STATUS: ParameterStatus.decode,
    BackendTag.PARSE_COMPLETE: ParseComplete.decode,
    BackendTag.PORTAL_SUSPENDED: PortalSuspended.decode,
    BackendTag.READY_FOR_QUERY: ReadyForQuery.decode,
    BackendTag.ROW_DESCRIPTION: RowDescription.decode,
}


def decode_backend(received: Frame) -> BackendMessage:
    """The message in a server's frame. An unknown type raises `UpstreamProtocolError`."""
    decoder = _DECODERS.get(received.tag)
    if decoder is None:
        raise UpstreamProtocolError(PROTOCOL_VIOLATION, f"unexpected backend message type {received.tag}")
    return decoder(received.payload)
