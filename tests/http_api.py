"""A small real API for the HTTP proxy's tests: aiohttp's server in a thread of its own, in clear and by TLS.

It answers in every framing and coding, reflects whatever it was sent, and remembers what reached it.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import ssl
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import brotli
import zstandard
from aiohttp import WSMsgType, web

from tests.certificates import Authority, make_authority

CUSTOMERS = [
    {"id": 1, "name": "Ada", "email": "ada@example.org", "ssn": "111-22-3333"},
    {"id": 2, "name": "Bob", "email": "bob@example.org", "ssn": "222-33-4444"},
    {"id": 3, "name": "Cyd", "email": None, "ssn": None},
]
ORDERS = [{"id": number, "customer": number % 3 + 1, "total": number * 10.5} for number in range(1, 21)]
FILE = bytes(range(256)) * 16
BLOCK = bytes(range(256)) * 256

_CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@dataclass(frozen=True)
class Seen:
    """A request as it arrived. Its body is as far as the route has read it."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    peer: int

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given.lower() == name.lower()]


class HttpApi:
    """The running API. `open()` lets go of everything that waits at the gate."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.port = self.tls_port = 0
        self.seen: list[Seen] = []
        self.bodies = 0
        self.left = threading.Event()  # a client has gone in the middle of a stream
        self._gate: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self.tls_port}"

    @property
    def ca(self) -> str:
        return str(self.authority.certificate)

    def clear(self) -> None:
        self.seen.clear()
        self.left.clear()

    def targets(self) -> list[str]:
        return [f"{seen.method} {seen.target}" for seen in self.seen]

    def open(self) -> None:
        """Whoever waits at the gate goes on; who comes later waits again."""

        def swing() -> None:
            assert self._gate is not None
            self._gate.set()
            self._gate = asyncio.Event()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(swing)

    # --- serving ------------------------------------------------------------------------------------------------------

    async def serve(self, ready: Callable[[], None], stopping: asyncio.Event, identity: tuple[Path, Path]) -> None:
        self._loop, self._gate = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(
            self._app(), access_log=None, keepalive_timeout=30.0, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*identity)
        sites = [
            web.TCPSite(runner, "127.0.0.1", 0),
            web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls),
        ]
        for site in sites:
            await site.start()
        self.port, self.tls_port = (address[1] for address in runner.addresses)
        ready()
        await stopping.wait()
        await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._remember], client_max_size=1 << 28)
        routes: dict[str, Callable[[web.Request], object]] = {
            "/orders": self.orders,
            "/orders/{id}": self.orders,
            "/refunds": self.orders,
            "/customers": self.customers,
            "/customers/{id}": self.customers,
            "/ndjson": self.ndjson,
            "/reflect": self.reflect,
            "/echo": self.echo,
            "/status/{code}": self.status,
            "/redirect/{count}": self.redirect,
            "/chunked": self.chunked,
            "/encoded/{coding}": self.encoded,
            "/events": self.events,
            "/socket": self.socket,
            "/large/{size}": self.large,
            "/swallow": self.swallow,
            "/file": self.file,
            "/cookies": self.cookies,
            "/early": self.early,
            "/hints": self.hints,
            "/gate": self.gate,
            "/halfway": self.halfway,
            "/cut": self.cut,
            "/silent": self.silent,
            "/open": self.to_everybody,
        }
        for path, handler in routes.items():
            app.router.add_route("*", path, handler)  # type: ignore[arg-type]
        return app

    @web.middleware
    async def _remember(self, request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername")[1] if request.transport is not None else 0
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
        route = request.match_info.route.resource
        whole = route is None or route.canonical not in {"/early", "/swallow", "/socket"}
        # Remembered at once: what is denied must not even have begun to arrive.
        place = len(self.seen)
        self.seen.append(Seen(request.method, request.raw_path, fields, b"", peer))
        if whole and (body := await request.read()) and place < len(self.seen):
            self.seen[place] = Seen(request.method, request.raw_path, fields, body, peer)
        return await handler(request)  # type: ignore[misc]

    # --- documents ----------------------------------------------------------------------------------------------------

    async def orders(self, request: web.Request) -> web.Response:
        match request.method:
            case "OPTIONS":
                return web.Response(status=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})
            case "POST" | "PUT" | "PATCH":
                made = {"id": 21, "made": await request.json()}
                return web.json_response(made, status=201, headers={"Location": "/orders/21"})
            case "DELETE":
                return web.Response(status=204)
        if "id" in request.match_info:
            return web.json_response(ORDERS[int(request.match_info["id"]) - 1])
        return web.json_response(ORDERS, headers={"ETag": '"orders-1"', "X-Total": str(len(ORDERS))})

    async def customers(self, request: web.Request) -> web.Response:
        headers = {"ETag": '"customers-1"', "Cache-Control": "max-age=5"}
        if "id" in request.match_info:
            return web.json_response(CUSTOMERS[int(request.match_info["id"]) - 1], headers=headers)
        return web.json_response(CUSTOMERS, headers=headers)

    async def ndjson(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, "application/x-ndjson", _lines())

    # --- reflection ---------------------------------------------------------------------------------------------------

    async def reflect(self, request: web.Request) -> web.Response:
        """Everything that came, shown back: `as` json, text, html, base64, escaped, percent; `coding`."""
        shown: dict[str, object] = dict(request.headers.items())
        shown |= {"target": request.raw_path, "sent": (await request.read()).decode("latin-1")}
        text = json.dumps(shown)
        kind = "application/json"
        match request.query.get("as", "json"):
            case "text":
                text, kind = "\n".join(f"{name}: {value}" for name, value in shown.items()), "text/plain"
            case "base64":
                text = json.dumps({"all": base64.b64encode(text.encode()).decode()})
            case "percent":
                text, kind = urllib.parse.quote("".join(map(str, shown.values())), safe=""), "text/plain"
            case "escaped":
                text = "".join(f"\\u{ord(character):04x}" for character in request.headers.get("Authorization", ""))
                text = f'{{"authorization":"{text}"}}'
            case "chunks":
                return await _stream(request, kind, _bytewise(text.encode()))  # type: ignore[return-value]
        data = _CODINGS[request.query.get("coding", "identity")](text.encode())
        headers = {"X-Reflected": request.headers.get("Authorization", ""), "Content-Type": kind}
        if "coding" in request.query:
            headers["Content-Encoding"] = request.query["coding"]
        return web.Response(body=data, headers=headers)

    async def echo(self, request: web.Request) -> web.Response:
        """The body alone, as it came."""
        kind = request.headers.get("Content-Type", "application/octet-stream")
        return web.Response(body=await request.read(), headers={"Content-Type": kind, "X-Method": request.method})

    # --- statuses -----------------------------------------------------------------------------------------------------

    async def status(self, request: web.Request) -> web.Response:
        return web.json_response({"status": request.match_info["code"]}, status=int(request.match_info["code"]))

    async def redirect(self, request: web.Request) -> web.Response:
        left = int(request.match_info["count"])
        return web.Response(status=302, headers={"Location": f"/redirect/{left - 1}" if left > 1 else "/orders"})

    async def to_everybody(self, request: web.Request) -> web.Response:
        """It lets pages of every origin read it, with credentials."""
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}
        return web.json_response({}, headers=headers)

    async def cookies(self, request: web.Request) -> web.Response:
        response = web.json_response(dict(request.cookies))
        response.set_cookie("one", "1", path="/")
        response.set_cookie("two", "2", path="/", httponly=True)
        return response

    async def early(self, request: web.Request) -> web.Response:
        """An answer before the body, which is not read."""
        return web.json_response({"error": "too large"}, status=413, headers={"Connection": "close"})

    async def hints(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        return web.json_response({"hinted": True})

    # --- streams ------------------------------------------------------------------------------------------------------

    async def chunked(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, "text/plain", _pieces(b"one ", b"two ", b"three"))

    async def encoded(self, request: web.Request) -> web.Response:
        """Customers in a content coding, whatever the client asked for."""
        coding = request.match_info["coding"]
        data = _CODINGS[coding](json.dumps(CUSTOMERS).encode())
        return web.Response(body=data, headers={"Content-Type": "application/json", "Content-Encoding": coding})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`count` events; without it they never end."""
        count = request.query.get("count")
        return await _stream(request, "text/event-stream", self._events(None if count is None else int(count)))

    async def _events(self, count: int | None) -> AsyncIterator[bytes]:
        number = 0
        while count is None or number < count:
            number += 1
            document = json.dumps({"n": number, "email": f"user{number}@example.org"})
            yield f"id: {number}\nevent: tick\ndata: {document}\n\n".encode()
            if count is None:
                await asyncio.sleep(0.02)

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("echo",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                if message.data == "reflect":
                    await socket.send_str(request.headers.get("Authorization", ""))
                    continue
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    async def large(self, request: web.Request) -> web.StreamResponse:
        size = int(request.match_info["size"])
        return await _stream(request, "application/octet-stream", _blocks(size), size)

    async def swallow(self, request: web.Request) -> web.Response:
        """The body's size, counted as it arrives."""
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
            self.bodies += len(piece)
        return web.json_response({"size": size})

    async def file(self, request: web.Request) -> web.Response:
        """Bytes with Range (RFC 9110, section 14), for one range from a first to a last byte."""
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": '"file-1"'}
        asked = request.headers.get("Range")
        if asked is None:
            return web.Response(body=FILE, headers=headers)
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(FILE)}"
        return web.Response(status=206, body=FILE[first : last + 1], headers=headers)

    # --- what does not come -------------------------------------------------------------------------------------------

    async def gate(self, request: web.Request) -> web.Response:
        """Answers once the gate opens."""
        assert self._gate is not None
        await self._gate.wait()
        return web.json_response({"passed": True})

    async def halfway(self, request: web.Request) -> web.StreamResponse:
        """The beginning of a body at once, and its end once the gate opens."""
        return await _stream(request, "text/plain", self._halfway())

    async def _halfway(self) -> AsyncIterator[bytes]:
        assert self._gate is not None
        yield b"the beginning"
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        yield b", the end"

    async def cut(self, request: web.Request) -> web.StreamResponse:
        """Less than was promised."""
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        if request.query.get("chunked"):
            response.enable_chunked_encoding()
        else:
            response.content_length = 1000
        await response.prepare(request)
        await response.write(b"a part")
        assert request.transport is not None
        request.transport.close()
        return response

    async def silent(self, request: web.Request) -> web.Response:
        """No answer at all: the connection closes."""
        assert request.transport is not None
        request.transport.close()
        return web.Response()


async def _stream(
    request: web.Request, kind: str, pieces: AsyncIterator[bytes], size: int | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind})
    if size is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = size
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    return response


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _lines() -> AsyncIterator[bytes]:
    for customer in CUSTOMERS:
        yield json.dumps(customer).encode() + b"\n"


async def _bytewise(data: bytes) -> AsyncIterator[bytes]:
    for value in data:
        yield bytes((value,))


async def _blocks(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)


@contextlib.contextmanager
def http_api(folder: Path) -> Iterator[HttpApi]:
    """The API, from its own thread, until the end of the block."""
    authority = make_authority(folder, "http-test-ca")
    certificate = authority.issue("localhost", dns=["localhost"], addresses=["127.0.0.1"])
    api = HttpApi(authority)
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        await api.serve(ready.set, stopping, (certificate.certificate, certificate.key))

    runner = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    runner.start()
    assert ready.wait(10), "the API does not start"
    try:
        yield api
    finally:
        stop[0]()
        runner.join(10)
