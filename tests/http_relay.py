"""The HTTP proxy in this process, between real clients and a real server; see `stub_service` for what is real."""

import contextlib
import json
import socket
from collections.abc import Iterator

from pep.http.config import HttpProxy
from pep.http.server import serve
from tests.stub_service import (
    PASSWORD,
    Policy,
    Running,
    StubDecisions,
    allow,
    allow_everything,
    deny,
    mask,
    require_approval,
    running,
)

__all__ = ["PASSWORD", "HttpRelay", "allow", "deny", "http_relay", "mask", "require_approval"]

SECRET = "upstream-secret-4f9b1c7d2e"


class HttpRelay:
    """The running proxy."""

    def __init__(self, running: Running) -> None:
        self.decisions = running.decisions
        self.port = running.port
        self.resolve = running.resolve
        self.runtime = running.runtime
        self.loop = running.loop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {PASSWORD}"}

    def raw(self, *sent: bytes, until: bytes | None = None, timeout: float = 5.0) -> bytes:
        """What comes back for these bytes, until the other end closes, or `until` has arrived."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            for piece in sent:
                connection.sendall(piece)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while until is None or until not in received:
                    if not (data := connection.recv(65536)):
                        break
                    received += data
            return received


@contextlib.contextmanager
def http_relay(upstream: str, /, policy: Policy = allow_everything, **proxy: object) -> Iterator[HttpRelay]:
    """A proxy in a thread of its own, before the server at `upstream` ("http://127.0.0.1:8080")."""
    stub = StubDecisions(policy)
    stub.obligations = proxy.pop("obligations", ())  # type: ignore[assignment]
    stub.input_paths = frozenset(proxy.pop("input_paths", ()))  # type: ignore[call-overload]
    config = HttpProxy.model_validate_json(json.dumps(_config(upstream) | proxy))
    with running(config, serve, stub) as proxy_running:  # type: ignore[arg-type]
        yield HttpRelay(proxy_running)


def _config(upstream: str) -> dict[str, object]:
    return {
        "name": "test",
        "resource": "pay",
        "protocol": "http",
        "listen": {"address": "127.0.0.1:0", "login": ["bearer", "key", "basic"]},
        "upstream": {"addresses": [upstream]},
        "credentials": {"default": {"bearer": {"env": "CHECKREIN_TEST_UPSTREAM"}}},
        "shutdown": {"drain": "1s"},
    }
