"""A client of HTTP/2 made of frames, that can send what no library would: any bytes as a field, any frame."""

import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http_relay import PASSWORD

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = Iterable[tuple[str | bytes, str | bytes]]
# A test that waits this long waits in vain; a quick machine does not wait.
PATIENCE = 45.0


def request(path: str = "/orders/1", *more: tuple[str, str], method: str = "GET", token: str = PASSWORD) -> Fields:
    pseudo = [(":method", method), (":scheme", "http"), (":authority", "api.test"), (":path", path)]
    return [*pseudo, ("authorization", f"Bearer {token}"), *more]


@dataclass
class Answer:
    """What came on one stream."""

    heads: list[dict[str, str]] = field(default_factory=list)
    sections: list[list[tuple[str, str]]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.heads[0][":status"]) if self.heads else 0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def text(self) -> bytes:
        """All that came, as HTTP/1.1 would have written it."""
        lines = [f"{name}: {value}" for section in self.sections for name, value in section]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Frames:
    """One connection. Windows are opened for what has arrived unless `greedy` is False."""

    def __init__(self, port: int, *, greedy: bool = True, settings: dict[int, int] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 1 << 24
        self._buffer = b""
        self._greedy = greedy
        self._next = 1
        self._sent: dict[int, int] = {}
        self.answers: dict[int, Answer] = {}
        self.settings: dict[int, int] = {}
        self.windows: dict[int, int] = {}
        self.pings = 0
        self.goaway: tuple[int, int] | None = None
        self.closed = False
        self.raw(PREFACE)
        self.send(SettingsFrame(0, settings=settings or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def table_size(self) -> int:
        """Bytes of the table of fields, as the proxy has set it."""
        return self._decoder.header_table_size

    # --- sending ------------------------------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def send(self, *frames: Frame) -> None:
        self.raw(b"".join(frame.serialize() for frame in frames))

    def block(self, fields: Fields) -> bytes:
        return self._encoder.encode(list(fields))

    def open(self, fields: Fields, *, end: bool = True, flags: Iterable[str] = ("END_HEADERS",)) -> int:
        number, self._next = self._next, self._next + 2
        self.answers[number] = Answer()
        self.send(HeadersFrame(number, self.block(fields), flags=[*flags, *(["END_STREAM"] if end else [])]))
        return number

    def data(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.send(DataFrame(number, data, flags=["END_STREAM"] if end else []))
        self._sent[number] = self._sent.get(number, 0) + len(data)

    def trailers(self, number: int, fields: Fields) -> None:
        self.send(HeadersFrame(number, self.block(fields), flags=["END_HEADERS", "END_STREAM"]))

    def reset(self, number: int, code: int = 8) -> None:
        self.send(RstStreamFrame(number, error_code=code))

    def room(self, number: int) -> int:
        """What may be sent on that stream by what has been received of windows."""
        sent = sum(self._sent.values())
        mine = 65_535 + self.windows.get(number, 0) - self._sent.get(number, 0)
        return min(mine, 65_535 + self.windows.get(0, 0) - sent)

    def window(self, number: int, size: int) -> None:
        self.send(WindowUpdateFrame(number, window_increment=size))

    # --- receiving ----------------------------------------------------------------------------------------------------

    def until(self, happened: Callable[[], bool]) -> None:
        """Reads frames until that is so."""
        while not happened():
            assert not self.closed, f"the proxy closed: {self.goaway}, {self.answers}"
            self._receive()

    def finish(self) -> None:
        """Reads until the proxy closes."""
        while not self.closed:
            self._receive()

    def answer(self, fields: Fields, body: bytes | None = None) -> Answer:
        """A request on a stream of its own, and what came of it."""
        number = self.open(fields, end=body is None)
        if body is not None:
            self.data(number, body, end=True)
        return self.wait(number)

    def wait(self, number: int) -> Answer:
        answer = self.answers[number]
        self.until(lambda: answer.over or self.closed)
        return answer

    def settle(self) -> None:
        """Everything that was sent until now has been read at the other end."""
        before = self.pings
        self.send(PingFrame(0, opaque_data=b"12345678"))
        self.until(lambda: self.pings > before)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        self._buffer += data
        while len(self._buffer) >= 9:
            frame, size = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + size:
                return
            frame.parse_body(memoryview(self._buffer[9 : 9 + size]))
            self._buffer = self._buffer[9 + size :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        answer = self.answers.get(frame.stream_id, Answer())
        match frame:
            case HeadersFrame():
                decoded = self._decoder.decode(frame.data, raw=True)
                fields = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in decoded]
                answer.sections.append(fields)
                answer.heads.append(dict(fields))
                answer.ended = answer.ended or "END_STREAM" in frame.flags
            case DataFrame():
                answer.pieces.append(frame.data)
                answer.size += len(frame.data)
                answer.ended = answer.ended or "END_STREAM" in frame.flags
                if self._greedy and frame.data:
                    self.window(0, len(frame.data))
                    if not answer.ended:
                        self.window(frame.stream_id, len(frame.data))
            case RstStreamFrame():
                answer.reset = frame.error_code
            case SettingsFrame():
                self.settings |= frame.settings
                if "ACK" not in frame.flags:
                    self.send(SettingsFrame(0, flags=["ACK"]))
            case WindowUpdateFrame():
                self.windows[frame.stream_id] = self.windows.get(frame.stream_id, 0) + frame.window_increment
            case PingFrame():
                self.pings += "ACK" in frame.flags
            case GoAwayFrame():
                self.goaway = (frame.error_code, frame.last_stream_id)
            case _:
                raise AssertionError(frame)
