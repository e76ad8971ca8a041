"""A PostgreSQL client of bare frames: it sends what no driver would send, at moments of its own choosing."""

import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from pep.postgres.messages import (
    PROTOCOL_3_0,
    BackendKeyData,
    BackendTag,
    DataRow,
    ErrorResponse,
    Frame,
    ParameterStatus,
    PasswordMessage,
    StartupMessage,
)
from tests.relay import PASSWORD


class Encodable(Protocol):
    def encode(self) -> bytes: ...


class Wire:
    """One connection; whatever it waits for comes within ten seconds or fails the test."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pid = 0
        self.key = b""
        self.parameters: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *messages: Encodable | bytes) -> None:
        self.socket.sendall(joined(messages))

    def trickle(self, data: bytes) -> None:
        """Every byte in a segment of its own."""
        for position in range(len(data)):
            self.socket.sendall(data[position : position + 1])

    def raw(self, size: int) -> bytes:
        """Exactly so many bytes, fewer only where the connection ends."""
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                break
            data += more
        return data

    def frame(self) -> Frame | None:
        """The next message; None at the end of the connection."""
        header = self.raw(5)
        if not header:
            return None
        assert len(header) == 5
        return Frame(header[0], self.raw(int.from_bytes(header[1:], "big") - 4))

    def until(self, tag: int = BackendTag.READY_FOR_QUERY) -> list[Frame]:
        """Messages up to and with the next of this type."""
        frames = []
        while True:
            frame = self.frame()
            assert frame is not None, f"the connection ended after {shape(frames)}: {[errors(frames)]}"
            frames.append(frame)
            if frame.tag == tag:
                return frames

    def rest(self) -> list[Frame]:
        """Messages up to the end of the connection."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def ask(self, *messages: Encodable | bytes) -> list[Frame]:
        """Send, and read up to ReadyForQuery."""
        self.send(*messages)
        return self.until()

    def hello(self, database: str, version: int = PROTOCOL_3_0, **parameters: str) -> None:
        self.send(StartupMessage(version, {"user": "anybody", "database": database, **parameters}))

    def login(
        self, database: str, *, password: str | None = PASSWORD, user: str = "anybody", **parameters: str
    ) -> Self:
        """Start-up and password, up to the first ReadyForQuery; without a password the server must trust the user."""
        self.hello(database, **{"user": user, **parameters})
        if password is not None:
            self.until(BackendTag.AUTHENTICATION)
            self.send(PasswordMessage(password))
        for frame in self.until():
            if frame.tag == BackendTag.BACKEND_KEY_DATA:
                key = BackendKeyData.decode(frame.payload)
                self.pid, self.key = key.pid, key.key
            elif frame.tag == BackendTag.PARAMETER_STATUS:
                status = ParameterStatus.decode(frame.payload)
                self.parameters[status.name] = status.value
        return self


def joined(messages: Iterable[Encodable | bytes]) -> bytes:
    return b"".join(message if isinstance(message, bytes) else message.encode() for message in messages)


def shape(frames: Iterable[Frame]) -> str:
    """The type bytes."""
    return "".join(chr(frame.tag) for frame in frames)


def errors(frames: Iterable[Frame]) -> list[dict[str, str]]:
    return [ErrorResponse.decode(frame.payload).fields for frame in frames if frame.tag == BackendTag.ERROR_RESPONSE]


def codes(frames: Iterable[Frame]) -> list[str]:
    """Severity and SQLSTATE of every error."""
    return [f"{fields['V']} {fields['C']}" for fields in errors(frames)]


def rows(frames: Iterable[Frame]) -> list[tuple[bytes | None, ...]]:
    return [DataRow.decode(frame.payload).values for frame in frames if frame.tag == BackendTag.DATA_ROW]


def plain(frames: Iterable[Frame]) -> list[object]:
    """What can be compared: an error without its place in the server's source."""
    return [
        {key: value for key, value in errors([frame])[0].items() if key not in "FLR"}
        if frame.tag == BackendTag.ERROR_RESPONSE
        else (chr(frame.tag), frame.payload)
        for frame in frames
    ]
