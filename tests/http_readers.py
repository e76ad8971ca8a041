"""Targets that read HTTP in different ways, each telling what it took every request for.

`Recorder` keeps the bytes and reads them with llhttp, h11 and a reader that takes any line end for one; the others are
http.server, aiohttp and uvicorn with h11 as they come. A request is told of once its body is complete.
"""

import asyncio
import contextlib
import http
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11
import httptools
import uvicorn
from aiohttp import web

from tests.stub_service import eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nseen"


@dataclass(frozen=True)
class Request:
    """As a server took it. `disagreement` says where two readers of the same bytes did not agree."""

    method: str
    target: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    body: bytes
    fields: tuple[tuple[str, str], ...]
    disagreement: str = ""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


def read(method: str, target: str, fields: Any, body: bytes, disagreement: str = "") -> Request:
    """By a server that splits the target and decodes its parts, as most do."""
    path, _, query = target.partition("?")
    named = tuple((_text(name).lower(), _text(value)) for name, value in fields)
    return Request(method, target, segments(unquote(path)), pairs(query), body, named, disagreement)


def segments(path: str) -> tuple[str, ...]:
    return () if path in {"/", "*"} else tuple(path.removeprefix("/").split("/"))


def pairs(query: str) -> tuple[tuple[str, str], ...]:
    return tuple(parse_qsl(query, keep_blank_values=True, max_num_fields=1000))


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("latin-1")


class Reader:
    """A running server, what it has read, and the bytes it got where it keeps them."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[Request] = []
        self.wire = bytearray()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


# --- bytes, and three readers of them ---------------------------------------------------------------------------------


class _Message:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.target, self.body, self.ends = b"", b"", 0
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, data: bytes) -> None:
        self.target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ends += 1


def both_readings(data: bytes) -> Request | None:
    """The one request in these bytes, None where it is not complete; all readers must find the same one and no more."""
    message = _Message()
    parser = httptools.HttpRequestParser(message)
    wrong = ""
    first, blank, others = data.partition(b" ")
    known = re.fullmatch(rb"[A-Z-]+", first) is None or first.decode() in http.HTTPMethod.__members__
    try:
        # llhttp knows a list of methods and reads nothing of a request with another one.
        parser.feed_data(data if known else b"PUT" + blank + others)
    except httptools.HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(data):
            wrong = "bytes behind an upgrade"
    except httptools.HttpParserError as error:
        wrong = f"llhttp: {error}"
    if not wrong and not message.ends:
        return None
    method = first.decode("latin-1") if message.target else "?"
    found = read(method, message.target.decode("latin-1"), message.fields, message.body, wrong)
    if not wrong:
        wrong = _other_readings(data, found, message.ends)
    return Request(found.method, found.target, found.segments, found.query, found.body, found.fields, wrong)


def _other_readings(data: bytes, found: Request, ends: int) -> str:
    if ends != 1:
        return f"llhttp finds {ends} requests"
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    body, head = b"", None
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return "h11 finds no whole request"
    except h11.RemoteProtocolError as error:
        return f"h11: {error}"
    assert head is not None
    other = read(head.method.decode(), head.target.decode("latin-1"), head.headers, body)
    if other != found:
        return f"h11 reads {other}, llhttp {found}"
    if connection.trailing_data[0]:
        return "h11 finds bytes behind the request"
    lines = re.split(rb"\r\n|[\r\n]", data.partition(b"\r\n\r\n")[0])
    if len(lines) != 1 + len(found.fields) or any(line[:1] in {b" ", b"\t", b""} for line in lines):
        return "a reader of other line ends finds other fields"
    return ""


class Recorder(Reader):
    """Keeps every byte. The proxy sends a request once the one before it is answered, so each stands by itself."""

    def __init__(self) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._ended = False

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                self.wire += data
                pending += data
                found = both_readings(pending)
                if found is None:
                    continue
                self.seen.append(found)
                pending = b""
                if found.disagreement:
                    return
                connection.sendall(ANSWER if found.method != "HEAD" else ANSWER[:-4])

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def recorder() -> Iterator[Reader]:
    server = Recorder()
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join(10)


# --- http.server ------------------------------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    reader: Reader

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self._sized()
        if body is None:
            self.close_connection = True
            return
        self.reader.seen.append(read(self.command, self.path, self.headers.items(), body))
        self.wfile.write(ANSWER if self.command != "HEAD" else ANSWER[:-4])

    def _sized(self) -> bytes | None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        return body if len(body) == size else None

    def _chunks(self) -> bytes | None:
        """Lenient: any line end, any extension."""
        body = b""
        while line := self.rfile.readline():
            size = int(line.partition(b";")[0].strip() or b"0", 16)
            if not size:
                while (line := self.rfile.readline()).strip():
                    pass
                return body if line else None
            body += self.rfile.read(size)
            self.rfile.readline()
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        line = self.raw_requestline.decode("latin-1")
        self.reader.seen.append(Request("?", line, (), (), b"", (), f"http.server: {code}"))
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a connection that was cut


@contextlib.contextmanager
def http_server() -> Iterator[Reader]:
    reader = Reader()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"reader": reader}))
    reader.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield reader
    server.shutdown()
    server.server_close()
    thread.join(10)


# --- aiohttp ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def aiohttp_server() -> Iterator[Reader]:
    """aiohttp's own reading of path and query; its parser is llhttp, in its lenient setting for a server."""
    reader, ready, stop = Reader(), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        fields = tuple((name.lower(), value) for name, value in request.headers.items())
        path = segments(request.rel_url.path)
        asked = tuple(request.rel_url.query.items())
        reader.seen.append(Request(request.method, request.raw_path, path, asked, body, fields))
        return web.Response(text="seen")

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader.port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    yield reader
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(10)


# --- uvicorn with h11 -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def uvicorn_server() -> Iterator[Reader]:
    reader = Reader()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message.get("more_body"):
                break
        target = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        reader.seen.append(
            Request(scope["method"], target, segments(scope["path"]), pairs(query), body, fields),
        )
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"seen"})

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        timeout_graceful_shutdown=1, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, 10)
    reader.port = server.servers[0].sockets[0].getsockname()[1]
    yield reader
    server.should_exit = True
    thread.join(10)


READERS = {
    "recorder": recorder,
    "http.server": http_server,
    "aiohttp": aiohttp_server,
    "uvicorn": uvicorn_server,
}
