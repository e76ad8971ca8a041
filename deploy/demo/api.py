"""The API of the demonstration, `pay`: a real one, of the standard library, over the rows of the shop.

It takes requests with its own token alone, which the proxy holds and no agent has, and knows nothing of policies. It
would delete a customer if it were asked to.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from target import HOST, Target

PREFERRED_PORT = 8081
_MOST = 100
_READS = {
    "/orders": ("orders", "select id, status, total::float8 from orders order by id limit {}"),
    "/customers": ("customers", "select id, name, email, ssn from customers order by id limit {}"),
}
_FIELDS = {"orders": ("id", "status", "total"), "customers": ("id", "name", "email", "ssn")}


@dataclass(frozen=True)
class Api:
    """What it was asked, and what it did: the truth, to compare with what came through the proxy."""

    shop: Target
    token: str = field(repr=False)
    asked: list[str] = field(default_factory=list)
    refunds: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def read(self, path: str, limit: int) -> dict[str, Any]:
        name, query = _READS[path]
        rows = self.shop.ask(query.format(min(max(limit, 1), _MOST)))
        return {name: [dict(zip(_FIELDS[name], row, strict=True)) for row in rows]}


@contextlib.contextmanager
def running(shop: Target, port: int, token: str) -> Iterator[Api]:
    """The API, on loopback, in a thread of this process."""
    api = Api(shop, token)

    class Conversation(_Conversation):
        pass

    Conversation.api = api
    with ThreadingHTTPServer((HOST, port), Conversation) as server:
        # Connections that are kept open end with the process.
        server.daemon_threads = True
        server.block_on_close = False
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield api
        finally:
            server.shutdown()
            serving.join()


class _Conversation(BaseHTTPRequestHandler):
    """One connection."""

    api: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._may():
            return
        url = urlsplit(self.path)
        limit = parse_qs(url.query).get("limit", ["10"])[0]
        if url.path not in _READS or not limit.isdecimal():
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such thing"})
            return
        self._answer(HTTPStatus.OK, self.api.read(url.path, int(limit)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._may():
            return
        if self.path != "/refunds":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such thing"})
            return
        refund = {"id": len(self.api.refunds) + 1, **json.loads(body)}
        self.api.refunds.append(refund)
        self._answer(HTTPStatus.CREATED, refund)

    def do_DELETE(self) -> None:
        if not self._may():
            return
        self.api.deleted.append(self.path)
        self._answer(HTTPStatus.OK, {"deleted": self.path})

    def log_message(self, format: str, *args: Any) -> None:
        """What it was asked is in `asked`; the terminal is for the demonstration."""

    def _may(self) -> bool:
        self.api.asked.append(f"{self.command} {self.path}")
        if secrets.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {self.api.token}".encode()):
            return True
        self._answer(HTTPStatus.UNAUTHORIZED, {"error": "this API wants its own token"})
        return False

    def _answer(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
