"""Both legs of the proxy: what its listener offers to clients, and how it logs in at its target."""

import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pep.postgres.messages import BackendTag, CancelRequest, PasswordMessage, Query, StartupMessage
from tests.certificates import make_authority
from tests.fix_postgres import (
    CLEARTEXT_PASSWORD,
    CLEARTEXT_ROLE,
    PROXY_PASSWORD,
    PROXY_ROLE,
    TRUST_ROLE,
    PostgresServer,
)
from tests.pep.postgres.wire import Wire, codes, errors, rows
from tests.relay import Relay, relay

DATABASE = "wire_tls"
SSL_REQUEST = struct.pack(">II", 8, 80877103)


@pytest.fixture(scope="module")
def target(postgres18: PostgresServer) -> PostgresServer:
    postgres18.create_database(DATABASE)
    return postgres18


@pytest.fixture(scope="module")
def target_tls(postgres15_tls: PostgresServer) -> PostgresServer:
    postgres15_tls.create_database(DATABASE)
    return postgres15_tls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def listening(target: PostgresServer, folder: Path) -> Iterator[Relay]:
    """A proxy whose listener has a certificate."""
    pair = make_authority(folder, "proxy-ca").issue("proxy", dns=["localhost"], addresses=["127.0.0.1"])
    tls = {"cert": str(pair.certificate), "key": str(pair.key)}
    with relay(target, DATABASE, listen={"address": "127.0.0.1:0", "tls": tls}) as running:
        yield running


def _row(dsn: str, query: str, **options: Any) -> Any:
    with psycopg.connect(dsn, **options) as connection:
        return connection.execute(query).fetchone()


# --- the listener -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_clients_over_tls(listening: Relay, folder: Path, mode: str) -> None:
    got = _row(listening.dsn, "select 1", sslmode=mode, sslrootcert=str(folder / "proxy-ca.crt"))
    assert got == (1,)


def test_a_client_that_trusts_another_authority_does_not_connect(listening: Relay, folder: Path) -> None:
    other = make_authority(folder, "other-ca")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        _row(listening.dsn, "select 1", sslmode="verify-full", sslrootcert=str(other.certificate))


def test_a_client_in_clear_text_is_refused(listening: Relay) -> None:
    with pytest.raises(psycopg.OperationalError, match="encrypted connections only"):
        _row(listening.dsn, "select 1", sslmode="disable")
    with Wire(listening.port) as wire:
        wire.hello(DATABASE)
        # Before any password is asked for.
        assert codes(wire.rest()) == ["FATAL 28000"]


def test_plaintext_behind_the_request_for_tls_is_refused(listening: Relay) -> None:
    startup = StartupMessage(3 << 16, {"user": "anybody", "database": DATABASE})
    with Wire(listening.port) as wire:
        wire.send(SSL_REQUEST, startup)
        frames = wire.rest()
        assert codes(frames) == ["FATAL 08P01"]
        assert errors(frames)[0]["M"] == "received unencrypted data after SSL request"


def test_tls_inside_tls_is_declined(listening: Relay, folder: Path) -> None:
    context = ssl.create_default_context(cafile=str(folder / "proxy-ca.crt"))
    with Wire(listening.port) as wire:
        wire.send(SSL_REQUEST)
        assert wire.raw(1) == b"S"
        wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
        wire.send(SSL_REQUEST)
        assert wire.raw(1) == b"N"
        assert wire.login(DATABASE).pid


def test_a_client_may_begin_with_the_handshake(listening: Relay, folder: Path) -> None:
    """What libpq calls sslnegotiation=direct."""
    with Wire(listening.port) as wire:
        wire.socket = _naming("h2", "postgresql", folder=folder).wrap_socket(wire.socket, server_hostname="localhost")
        assert wire.login(DATABASE).pid
        assert rows(wire.ask(Query("select 7"))) == [(b"7",)]
    assert psycopg.pq.version() >= 170_000, "a client that knows it"
    options = {"sslmode": "verify-full", "sslrootcert": str(folder / "proxy-ca.crt"), "sslnegotiation": "direct"}
    assert _row(listening.dsn, "select 8", **options) == (8,)


def test_its_handshake_may_come_byte_by_byte(listening: Relay, folder: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _naming("postgresql", folder=folder).wrap_bio(incoming, outgoing, server_hostname="localhost")
    startup = StartupMessage(3 << 16, {"user": "anybody", "database": DATABASE}).encode()
    with Wire(listening.port) as wire:
        while True:
            try:
                tls.do_handshake()
                tls.write(startup)
                wire.trickle(outgoing.read())
                break
            except ssl.SSLWantReadError:
                wire.trickle(outgoing.read())
                incoming.write(wire.socket.recv(1 << 16))
        while True:
            try:
                assert tls.read(1) == b"R"
                break
            except ssl.SSLWantReadError:
                incoming.write(wire.socket.recv(1 << 16))


@pytest.mark.parametrize("names", [(), ("h2",)])
def test_it_has_to_say_that_it_wants_postgresql(listening: Relay, folder: Path, names: tuple[str, ...]) -> None:
    with Wire(listening.port) as wire:
        wire.socket = _naming(*names, folder=folder).wrap_socket(wire.socket, server_hostname="localhost")
        frames = wire.rest()
        assert codes(frames) == ["FATAL 08P01"]
        assert "without ALPN" in errors(frames)[0]["M"]


def test_garbage_that_begins_as_a_handshake(listening: Relay) -> None:
    with Wire(listening.port) as wire:
        wire.send(b"\x16\x03\x01\x00\x10" + b"no handshake at all" * 20)
        wire.socket.shutdown(1)
        assert b"E" not in wire.raw(1)
    assert _row(listening.dsn, "select 1", sslmode="require") == (1,)


def _naming(*protocols: str, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "proxy-ca.crt"))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_garbage_instead_of_a_handshake(listening: Relay, folder: Path) -> None:
    with Wire(listening.port) as wire:
        wire.send(SSL_REQUEST)
        assert wire.raw(1) == b"S"
        wire.send(b"this is no handshake" * 20)
        wire.socket.shutdown(1)
        assert b"E" not in wire.raw(1)
    assert _row(listening.dsn, "select 1", sslmode="require") == (1,)


# --- the upstream -----------------------------------------------------------------------------------------------------


def _credentials(user: str, folder: Path, password: str | None) -> dict[str, Any]:
    if password is None:
        return {"default": {"user": user}}
    file = folder / f"{user}.password"
    file.touch(mode=0o600)
    file.write_text(password)
    return {"default": {"user": user, "password": {"file": str(file)}}}


def test_scram_at_the_target(target: PostgresServer, tmp_path: Path) -> None:
    with relay(target, DATABASE, credentials=_credentials(PROXY_ROLE, tmp_path, PROXY_PASSWORD)) as running:
        assert _row(running.dsn, "select current_user") == (PROXY_ROLE,)


@pytest.mark.parametrize(
    ("role", "password"),
    [(PROXY_ROLE, PROXY_PASSWORD), (CLEARTEXT_ROLE, CLEARTEXT_PASSWORD), (TRUST_ROLE, None)],
)
def test_a_target_over_tls(target_tls: PostgresServer, tmp_path: Path, role: str, password: str | None) -> None:
    with relay(target_tls, DATABASE, credentials=_credentials(role, tmp_path, password)) as running:
        query = "select current_user::text, ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert _row(running.dsn, query) == (role, True)


def test_cancelling_over_tls(target_tls: PostgresServer, tmp_path: Path) -> None:
    credentials = _credentials(PROXY_ROLE, tmp_path, PROXY_PASSWORD)
    with (
        relay(target_tls, DATABASE, credentials=credentials) as running,
        Wire(running.port) as wire,
        psycopg.connect(target_tls.dsn(DATABASE), autocommit=True) as watcher,
    ):
        wire.login(DATABASE).send(Query("select pg_sleep(20)"))
        asleep = "select count(*) from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
        while watcher.execute(asleep, (wire.pid,)).fetchone() == (0,):
            watcher.execute("select pg_sleep(0.01)")
        with Wire(running.port) as messenger:
            messenger.send(CancelRequest(wire.pid, wire.key))
        assert codes(wire.until()) == ["ERROR 57014"]


def _refused(running: Relay) -> dict[str, str]:
    with Wire(running.port) as wire:
        wire.hello(DATABASE)
        wire.until(BackendTag.AUTHENTICATION)
        wire.send(PasswordMessage("token"))
        (error,) = errors(wire.rest())
        return error


def test_a_target_whose_certificate_nobody_vouches_for(target_tls: PostgresServer, folder: Path) -> None:
    other = make_authority(folder, "wrong-ca")
    upstream = {
        "addresses": [f"{target_tls.host}:{target_tls.port}"],
        "database": DATABASE,
        "tls": {"mode": "verify-full", "ca": str(other.certificate)},
    }
    position = target_tls.log_position()
    with relay(target_tls, DATABASE, upstream=upstream) as running:
        error = _refused(running)
    assert (error["V"], error["C"], error["M"]) == ("FATAL", "08006", "the target cannot be reached")
    assert "connection authorized" not in target_tls.log_after(position)


def test_a_target_that_has_no_tls(target: PostgresServer, folder: Path) -> None:
    upstream = {"addresses": [f"{target.host}:{target.port}"], "database": DATABASE, "tls": {"mode": "require"}}
    with relay(target, DATABASE, upstream=upstream) as running:
        assert _refused(running)["C"] == "08006"


def test_a_wrong_password_at_the_target_says_nothing_to_the_client(target: PostgresServer, tmp_path: Path) -> None:
    with relay(target, DATABASE, credentials=_credentials(PROXY_ROLE, tmp_path, "not the password")) as running:
        error = _refused(running)
    assert (error["C"], error["M"]) == ("08006", "the target cannot be reached")
    assert PROXY_ROLE not in str(error)
