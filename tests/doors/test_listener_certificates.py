"""What clients are shown changes while both proxies serve: a whole pair is taken up, anything else changes nothing."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pep.core.runtime import Runtime
from tests.certificates import Authority, Certificate, make_authority
from tests.doors.calling import PATIENCE
from tests.fix_postgres import PostgresServer
from tests.http_relay import http_relay
from tests.relay import relay
from tests.stub_service import eventually

SSL_REQUEST = struct.pack(">II", 8, 80877103)
DATABASE = "listener_certificates"


class Listening:
    """A proxy whose listener has the certificate of these files."""

    def __init__(self, port: int, runtime: Runtime, loop: asyncio.AbstractEventLoop, invited: bytes) -> None:
        self.port = port
        self._runtime = runtime
        self._loop = loop
        self._invited = invited

    def warnings(self) -> tuple[str, ...]:
        asked = asyncio.run_coroutine_threadsafe(self._runtime.readiness(), self._loop)
        return tuple(each for each in asked.result(PATIENCE).warnings if "certificate" in each)

    def connect(self, context: ssl.SSLContext, name: str | None = "localhost") -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        if self._invited:
            plain.sendall(self._invited)
            assert plain.recv(1) == b"S"
        return context.wrap_socket(plain, server_hostname=name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Certificate:
    """The files that the listener reads."""
    issued = authority.issue("first", dns=["localhost"])
    return Certificate(
        copied(issued.certificate, tmp_path / "listener.crt"), copied(issued.key, tmp_path / "listener.key")
    )


@pytest.fixture(params=["postgres", "http"])
def listening(
    request: pytest.FixtureRequest, files: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listening]:
    monkeypatch.setattr("pep.core.listener_tls.LOOK_SECONDS", 0.02)
    listen = {"address": "127.0.0.1:0", "tls": {"cert": str(files.certificate), "key": str(files.key)}}
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres18")
        server.create_database(DATABASE)
        with relay(server, DATABASE, listen=listen) as running:
            yield Listening(running.port, running.runtime, running.loop, SSL_REQUEST)
    else:
        monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", "upstream")
        with http_relay("http://127.0.0.1:1", listen=listen) as web:
            yield Listening(web.port, web.runtime, web.loop, b"")


def copied(source: Path, target: Path) -> Path:
    """Replaced as a whole, as whoever renews a certificate does it."""
    fresh = target.with_suffix(".new")
    fresh.write_bytes(source.read_bytes())
    fresh.replace(target)
    return target


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def shown(listening: Listening, authority: Authority, name: str | None = "localhost") -> str:
    context = trusting(authority)
    context.check_hostname = name is not None
    with listening.connect(context, name) as connection:
        leaf = connection.getpeercert(binary_form=True)
        assert leaf is not None
        return ssl.DER_cert_to_PEM_cert(leaf)


def pem(issued: Certificate) -> str:
    return issued.certificate.read_text()


def test_a_renewed_pair_is_shown_and_whatever_is_none_changes_nothing(
    listening: Listening, files: Certificate, authority: Authority, tmp_path: Path
) -> None:
    first, second = pem(files), authority.issue("second", dns=["localhost"])
    assert shown(listening, authority) == first
    with listening.connect(trusting(authority)) as before:
        # Half of it: the certificate of another key.
        copied(second.certificate, files.certificate)
        eventually(lambda: bool(listening.warnings()), PATIENCE)
        assert listening.warnings()[0].startswith("the new certificate for clients is not used")
        assert shown(listening, authority) == shown(listening, authority, None) == first
        copied(second.key, files.key)
        eventually(lambda: not listening.warnings(), PATIENCE)
        # Also to a client that names no server.
        assert shown(listening, authority) == shown(listening, authority, None) == pem(second)
        # A connection that began before goes on with what it was shown.
        old = before.getpeercert(binary_form=True)
        assert old is not None
        assert ssl.DER_cert_to_PEM_cert(old) == first
    for broken in (lambda: files.certificate.write_bytes(b"none"), files.key.unlink):
        broken()
        eventually(lambda: bool(listening.warnings()), PATIENCE)
        assert shown(listening, authority) == pem(second)
    copied(second.certificate, files.certificate)
    copied(second.key, files.key)
    eventually(lambda: not listening.warnings(), PATIENCE)
    assert shown(listening, authority) == pem(second)


def test_whose_certificates_clients_may_show_changes_too(
    files: Certificate, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pep.core.listener_tls.LOOK_SECONDS", 0.02)
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", "upstream")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fresh = make_authority(elsewhere, "fresh")
    known = copied(authority.certificate, tmp_path / "clients.crt")
    tls = {"cert": str(files.certificate), "key": str(files.key), "client_ca": str(known)}

    def answered(port: int, presented: Certificate) -> bool:
        context = trusting(authority)
        context.load_cert_chain(presented.certificate, presented.key)
        try:
            plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return connection.recv(8) == b"HTTP/1.1"
        except OSError:
            return False

    client, stranger = fresh.issue("client", dns=["client"]), authority.issue("stranger", dns=["client"])
    with http_relay("http://127.0.0.1:1", listen={"address": "127.0.0.1:0", "tls": tls}) as web:
        assert (answered(web.port, stranger), answered(web.port, client)) == (True, False)
        copied(fresh.certificate, known)
        eventually(lambda: answered(web.port, client), PATIENCE)
        assert not answered(web.port, stranger)
