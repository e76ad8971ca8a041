"""Calls to others have an end, also where the other side answers one byte at a time and never stops.

The receivers here go on until they are cut off: without an end of the whole call each of these tests would hang.
"""

import asyncio
import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import requests

from pdp.approvals.webhook import Hook, NotDelivered, post
from pdp.audit.anchors import NotAnchored, _post
from pdp.calls import Call, CallFailed, answered, status_of
from pdp.config import Issuer
from pdp.decisions.sinks import UploadFailed, UploadSink
from pdp.identity.device_flow import Client, LoginFailed, login
from pdp.identity.key_sets import KeySet
from pdp.identity.subject import AuthenticationFailed
from tests.certificates import make_authority

# For a whole call; a machine that is busy makes it longer, which changes nothing here.
SHORT = 0.5
OK = b"HTTP/1.1 200 OK\r\n"


class Trickling:
    """A receiver that sends a beginning at once and then one byte at a time, oftener than any time-out for a read."""

    def __init__(self, beginning: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._beginning = beginning
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # What waits in accept is woken by one more connection.
        socket.create_connection(self._listener.getsockname()).close()
        for each in self._threads:
            each.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ended.is_set():
                connection.close()
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_:
            open_.enter_context(connection)
            if self._tls is not None:
                connection = open_.enter_context(self._tls.wrap_socket(connection, server_side=True))
            asked = b""
            while b"\r\n\r\n" not in asked and (more := connection.recv(1 << 16)):
                asked += more
            connection.sendall(self._beginning)
            while not self._ended.wait(0.02):
                if select.select([connection], [], [], 0)[0] and not connection.recv(1 << 16):
                    break
                connection.sendall(b"1")
        self.cut += 1


@contextlib.contextmanager
def ended(site: Trickling) -> Iterator[None]:
    """The connection is given up, not left to a thread: the other side sees it end."""
    before = site.cut
    yield
    end = time.monotonic() + 40
    while site.cut == before:
        assert time.monotonic() < end, "the connection is still open"
        time.sleep(0.01)


BEGINNINGS = {
    "the status": b"HTTP/1.1 200 ",
    "a header": OK + b"X: ",
    "a body of no length": OK + b"\r\n",
    "a body of a length": OK + b"Content-Length: 100000\r\n\r\n",
    "a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
    "the size of a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_an_answer_that_trickles_is_cut_off(beginning: bytes):
    with Trickling(beginning) as site, ended(site), pytest.raises(CallFailed):
        answered(Call("GET", site.url, SHORT), 1 << 20)


def test_also_under_tls(tmp_path: Path):
    authority = make_authority(tmp_path)
    issued = authority.issue("site", dns=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    for beginning in (OK + b"X: ", OK + b"Content-Length: 100000\r\n\r\n"):
        with Trickling(beginning, context) as site:
            call = Call("GET", site.url.replace("127.0.0.1", "localhost"), SHORT, ca=authority.certificate)
            with ended(site), pytest.raises(CallFailed):
                answered(call, 1 << 20)


def test_a_status_that_has_come_counts_whatever_becomes_of_the_rest():
    def status(site: Trickling, seconds: float) -> int:
        """Where the machine is so busy that it did not come in time, with more of it."""
        try:
            return status_of(Call("POST", site.url, seconds, b"{}"))
        except CallFailed:
            return status(site, 4 * seconds) if seconds < 60 else 0

    with Trickling(OK + b"\r\n") as site, ended(site):
        assert status(site, SHORT) == 200


def test_the_keys_of_an_issuer_that_trickles_are_not_waited_for():
    async def scenario(url: str) -> None:
        document = {
            "name": "corp",
            "issuer": url,
            "algorithms": ["ES256"],
            "jwks": {"url": f"{url}/keys", "refresh": "5m", "stale": "1h"},
            "subject": {"type": "user"},
        }
        keys = KeySet(Issuer.model_validate_json(json.dumps(document)), patience=SHORT)
        # Two at once: who waits for the other's try is not held either.
        got = await asyncio.gather(keys.key("k1", "ES256"), keys.key("k2", "ES256"), return_exceptions=True)
        assert [(type(each), getattr(each, "retry", None)) for each in got] == [(AuthenticationFailed, True)] * 2

    with Trickling(OK + b"X: ") as site, ended(site):
        asyncio.run(scenario(site.url))


def test_neither_are_webhooks_anchors_receivers_of_decisions_and_a_login():
    with Trickling(b"HTTP/1.1 200 ") as site:
        with ended(site), pytest.raises(NotDelivered, match="no answer"):
            post(Hook(site.url, b"secret", patience=SHORT), "n-1", "1", b"{}")
        with ended(site), pytest.raises(NotAnchored):
            _post(site.url, b"{}\n", SHORT)
        sink = UploadSink(site.url, token=None, authority=None, patience=SHORT)
        with ended(site), pytest.raises(UploadFailed, match="cannot be reached"):
            asyncio.run(sink.deliver([b"{}"]))
        client = Client(site.url, "pdp-cli", "openid", "id_token", patience=SHORT)
        with ended(site), pytest.raises(LoginFailed, match="does not answer"):
            login(client, lambda _: None)


def test_nobody_is_shown_a_password_of_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password S3cret-of-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    came: list[bytes] = []

    def take(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while b"\r\n\r\n" not in b"".join(came):
                came.append(connection.recv(1 << 16))
            connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")

    for proxies in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taking = threading.Thread(target=take, args=(listener,))
            taking.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
            # That it would be shown otherwise.
            assert requests.utils.get_netrc_auth(url) == ("me", "S3cret-of-netrc")
            assert answered(Call("GET", url, 30, proxies=proxies), 100) == (200, b"{}")
            taking.join()
        assert b"GET /keys" in b"".join(came)
        assert b"uthorization" not in b"".join(came)
        came.clear()
