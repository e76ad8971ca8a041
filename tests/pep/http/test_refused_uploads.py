"""A client whose upload is refused while it is sending reads why, and not a reset.

What it sends beyond the little that is still read can end in a reset all the same; by then the answer has arrived.
"""

import contextlib
import json
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pep.core.model import Action, Decision
from tests.http_api import HttpApi
from tests.http_relay import PASSWORD, HttpRelay, deny, http_relay

SIZES = {"200 KB": 200_000, "10 MB": 10_000_000}


def policy(_action: Action) -> Decision:
    return deny("not on my watch", "no_uploads")


@pytest.fixture(params=["clear", "tls"])
def relay(request: pytest.FixtureRequest, api: HttpApi) -> Iterator[tuple[HttpRelay, str, str]]:
    """The proxy, its address, and what its certificate is signed by."""
    settings: dict[str, object] = {}
    if request.param == "tls":
        own = api.authority.issue("proxy", dns=["localhost"])
        settings["listen"] = {"address": "127.0.0.1:0", "tls": {"cert": str(own.certificate), "key": str(own.key)}}
    with http_relay(api.url, policy, **settings) as running:
        tls = request.param == "tls"
        yield running, f"https://localhost:{running.port}" if tls else running.url, api.ca if tls else ""


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> int:
    return SIZES[request.param]


def test_curl_reads_why(relay: tuple[HttpRelay, str, str], size: int, tmp_path: Path) -> None:
    _, url, ca = relay
    (tmp_path / "upload").write_bytes(b"x" * size)
    command = [
        "curl", "-sS", "-m", "30", "-X", "PUT", "--noproxy", "*", "-w", "\n%{http_code}",
        "-H", f"Authorization: Bearer {PASSWORD}", "-H", "Expect:", "-H", "Content-Type: text/x",
        "--data-binary", f"@{tmp_path / 'upload'}", *(("--cacert", ca) if ca else ()), f"{url}/orders/1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    document, _, status = done.stdout.rpartition(b"\n")
    assert status == b"403", done
    assert json.loads(document)["checkrein"]["code"] == "no_uploads"


def test_requests_reads_why(relay: tuple[HttpRelay, str, str], size: int) -> None:
    running, url, ca = relay
    headers = {**running.headers, "Content-Type": "text/x"}
    with requests.Session() as session:
        session.trust_env = False
        refused = session.put(f"{url}/orders/1", b"x" * size, headers=headers, timeout=30, verify=ca or True)
    assert refused.status_code == 403
    assert refused.json()["checkrein"]["code"] == "no_uploads"


def test_one_that_sends_everything_before_it_reads_reads_why(relay: tuple[HttpRelay, str, str], size: int) -> None:
    running, _, ca = relay
    head = f"PUT /orders/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PASSWORD}\r\nContent-Type: text/x\r\n"
    plain = socket.create_connection(("127.0.0.1", running.port), timeout=30)
    context = ssl.create_default_context(cafile=ca) if ca else None
    wire = context.wrap_socket(plain, server_hostname="localhost") if context else plain
    received = b""
    with contextlib.closing(wire):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            wire.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * size)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := wire.recv(65536):
                received += data
    head_of_answer, _, document = received.partition(b"\r\n\r\n")
    assert head_of_answer.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in head_of_answer
    assert json.loads(document)["checkrein"]["code"] == "no_uploads"


def told_while_sending(running: HttpRelay, size: int) -> bytes:
    """What a client hears that reads while it sends, up to the end of the connection, which is no reset."""
    head = f"PUT /orders/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PASSWORD}\r\nContent-Type: text/x\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as wire:
        wire.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        wire.setblocking(False)
        received = b""
        while True:
            readable, writable, _ = select.select([wire], [] if b"\r\n\r\n" in received else [wire], [], 60)
            assert readable or writable
            if readable:
                if not (data := wire.recv(65536)):
                    return received
                received += data
            elif writable:
                wire.send(b"x" * 65536)


def test_the_end_of_the_answer_is_an_end_and_no_reset(api: HttpApi) -> None:
    """A client that hears of a reset may throw away what it has not read yet."""
    with http_relay(api.url, policy) as running:
        assert told_while_sending(running, 10_000_000).startswith(b"HTTP/1.1 403 ")


def test_a_target_that_does_not_take_an_upload_is_named_as_the_one_that_stalls(api: HttpApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        settings = {"limits": {"stalled": "300ms"}}
        with http_relay(f"http://127.0.0.1:{target.getsockname()[1]}", **settings) as running:
            answer = told_while_sending(running, 100_000_000)
    assert answer.startswith(b"HTTP/1.1 504 "), answer[:200]
