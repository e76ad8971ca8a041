import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pep.core.config import ConfigError, ListenTls, UpstreamTls
from pep.core.leg import Leg, LegClosed
from pep.core.tls import listener_context, upstream_context
from tests.certificates import Certificate, make_authority
from tests.pep.core.scripted import until


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def on_loop(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(work, 5))

    return on_loop


async def pair(limit: int = 65536) -> tuple[asyncio.Server, Leg, Leg]:
    accepted: asyncio.Queue[Leg] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Leg(accepted=accepted.put_nowait, limit=limit), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    there = await Leg.connect("127.0.0.1", port)
    return server, await accepted.get(), there


async def over(server: asyncio.Server, *legs: Leg) -> None:
    for leg in legs:
        await leg.finish()
    server.close()
    await server.wait_closed()


async def read_all(leg: Leg, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await leg.read()
    return data


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = make_authority(folder)
    issued = authority.issue("server", dns=["db.test"])
    context = upstream_context(UpstreamTls(ca=authority.certificate))
    assert context is not None
    return listener_context(ListenTls(cert=issued.certificate, key=issued.key)), context


def test_a_leg_is_read_written_and_closed(run):
    async def conversation() -> None:
        server, here, there = await pair()
        there.write(b"hello")
        assert await read_all(here, 5) == b"hello"
        here.unread(b"lo")
        assert await here.read() == b"lo"
        assert here.peer.startswith("127.0.0.1:")
        assert not here.gone()
        await there.finish()
        assert await here.read() == b""
        assert here.gone()
        await over(server, here)

    run(conversation())


def test_a_login_that_says_too_much_is_read_no_further(run):
    async def conversation() -> None:
        server, here, there = await pair(limit=1000)
        there.write(b"x" * 100_000)
        while not here.paused_for("unread"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(await read_all(here, 100_000)) == 100_000
        await over(server, here, there)

    run(conversation())


def test_both_sides_go_on_in_tls(run, tmp_path: Path):
    async def conversation() -> None:
        ours, theirs = contexts(tmp_path)
        server, here, there = await pair()
        there.write(b"?")
        assert await here.read() == b"?"

        async def accept() -> None:
            here.write(b"S")
            await here.start_tls(ours, server_side=True)

        async def connect() -> None:
            assert await there.read() == b"S"
            await there.start_tls(theirs, server_side=False, server_hostname="db.test")

        await asyncio.gather(accept(), connect())
        assert here.encrypted
        there.write(b"secret" * 100_000)
        assert await read_all(here, 600_000) == b"secret" * 100_000
        assert not here.gone()
        there.close()
        assert await here.read() == b""
        await over(server, here, there)

    run(conversation())


async def shaken(here: Leg, there: Leg, ours: ssl.SSLContext, theirs: ssl.SSLContext) -> None:
    """Both sides in TLS, and with a byte across: only then has a client of TLS 1.3 heard what is thought of it."""
    await asyncio.gather(
        here.start_tls(ours, server_side=True), there.start_tls(theirs, server_side=False, server_hostname="db.test")
    )
    here.write(b"?")
    assert await there.read() == b"?"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_may_show_a_certificate_where_an_authority_is_named(run, tmp_path: Path, version: ssl.TLSVersion):
    authority = make_authority(tmp_path)
    shown = authority.issue("client", uris=["spiffe://corp/agent/a"])
    stranger = make_authority(tmp_path, "other-ca").issue("stranger", uris=["spiffe://corp/agent/a"])
    server_files = authority.issue("server", dns=["db.test"])
    asking = listener_context(
        ListenTls(cert=server_files.certificate, key=server_files.key, client_ca=authority.certificate)
    )

    async def peer_of(ours: ssl.SSLContext, client: Certificate | None) -> bytes | None:
        files = {} if client is None else {"cert": client.certificate, "key": client.key}
        theirs = upstream_context(UpstreamTls(ca=authority.certificate, **files))
        assert theirs is not None
        theirs.minimum_version = theirs.maximum_version = version
        server, here, there = await pair()
        try:
            assert here.peer_certificate() is None
            await shaken(here, there, ours, theirs)
            return here.peer_certificate()
        finally:
            await over(server, here, there)

    async def conversation() -> None:
        der = ssl.PEM_cert_to_DER_cert(shown.certificate.read_text())
        assert await peer_of(asking, shown) == der
        assert await peer_of(asking, None) is None
        with pytest.raises(OSError, match=r"(?i)certificate|alert|closed|reset"):
            await peer_of(asking, stranger)
        unasking = listener_context(ListenTls(cert=server_files.certificate, key=server_files.key))
        assert await peer_of(unasking, shown) is None

    run(conversation())


def test_a_certificate_that_nobody_verified_is_none(run, tmp_path: Path):
    async def conversation() -> None:
        ours, verifying = contexts(tmp_path)
        trusting = upstream_context(UpstreamTls(mode="require"))
        assert trusting is not None
        for theirs, verified in ((verifying, True), (trusting, False)):
            server, here, there = await pair()
            await shaken(here, there, ours, theirs)
            assert (there.peer_certificate() is not None) is verified
            await over(server, here, there)

    run(conversation())


def test_an_authority_for_clients_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path):
    issued = make_authority(tmp_path).issue("server", dns=["db.test"])
    for wrong in (tmp_path / "none.crt", issued.key):
        with pytest.raises(ConfigError, match="cannot use the authority"):
            listener_context(ListenTls(cert=issued.certificate, key=issued.key, client_ca=wrong))


def test_bytes_in_clear_before_tls_are_refused(run, tmp_path: Path):
    async def conversation() -> None:
        ours, _ = contexts(tmp_path)
        server, here, there = await pair()
        there.write(b"?select 1")
        data = await read_all(here, 9)
        here.unread(data[1:])
        with pytest.raises(LegClosed):
            await here.start_tls(ours, server_side=True)
        await over(server, here, there)

    run(conversation())


@pytest.mark.parametrize(
    ("mode", "hostname", "accepted"),
    [("verify-full", "db.test", True), ("verify-full", "other.test", False), ("verify-ca", "other.test", True)],
)
def test_an_upstream_is_checked_as_its_mode_says(run, tmp_path: Path, mode: Any, hostname: str, accepted: bool):
    async def conversation() -> None:
        ours, _ = contexts(tmp_path)
        context = upstream_context(UpstreamTls(mode=mode, ca=tmp_path / "test-ca.crt"))
        server, here, there = await pair()
        results = await asyncio.gather(
            here.start_tls(ours, server_side=True),
            there.start_tls(context, server_side=False, server_hostname=hostname),
            return_exceptions=True,
        )
        assert isinstance(results[1], ssl.SSLCertVerificationError) is not accepted
        await over(server, here, there)

    run(conversation())


def test_without_an_authority_only_require_takes_any_certificate(tmp_path: Path):
    require = upstream_context(UpstreamTls(mode="require"))
    assert require is not None
    assert require.verify_mode == ssl.CERT_NONE
    for mode in ("verify-ca", "verify-full"):
        context = upstream_context(UpstreamTls(mode=mode))
        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert upstream_context(UpstreamTls(mode="disable")) is None


def test_an_upstream_that_asks_for_a_certificate_is_shown_the_configured_one(run, tmp_path: Path):
    """A TLS 1.3 client hears only with the first bytes after the handshake that its certificate was missed."""
    authority = make_authority(tmp_path)
    server_side, own = authority.issue("server", dns=["db.test"]), authority.issue("proxy", dns=["proxy.test"])

    async def conversation(tls: UpstreamTls) -> dict[str, Any] | None:
        asking = listener_context(ListenTls(cert=server_side.certificate, key=server_side.key))
        asking.verify_mode = ssl.CERT_REQUIRED
        asking.load_verify_locations(authority.certificate)
        context = upstream_context(tls)
        assert context is not None
        shown = asyncio.get_running_loop().create_future()

        def client(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            shown.set_result(writer.get_extra_info("peercert"))
            writer.write(b"welcome")
            writer.close()

        server = await asyncio.start_server(client, "127.0.0.1", 0, ssl=asking)
        try:
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=context, server_hostname="db.test"
            )
            try:
                await reader.readexactly(7)
            except (OSError, asyncio.IncompleteReadError):
                return None
            finally:
                writer.close()
            return await shown  # type: ignore[no-any-return]
        finally:
            server.close()

    told = run(conversation(UpstreamTls(ca=authority.certificate, cert=own.certificate, key=own.key)))
    assert told["subjectAltName"] == (("DNS", "proxy.test"),)
    assert run(conversation(UpstreamTls(ca=authority.certificate))) is None


def test_one_that_lingers_lets_the_other_end_read_and_takes_little_more_of_it(run):
    async def conversation() -> None:
        server, here, there = await pair()
        there.write(b"x" * (32 << 20))
        await here.read()
        here.write(b"no")
        here.linger()
        here.close()
        finishing = asyncio.create_task(here.finish())
        assert await there.read() == b"no"
        await until(lambda: here.paused_for("enough"))
        assert not finishing.done()
        there.abort()
        await finishing
        assert here.gone()
        await over(server, there)

    run(conversation())


def test_one_that_lingers_ends_as_soon_as_the_other_end_does(run):
    async def conversation() -> None:
        server, here, there = await pair()
        here.write(b"no")
        here.linger()
        here.close()
        finishing = asyncio.create_task(here.finish())
        assert await there.read() == b"no"
        there.close()
        await finishing
        assert here.gone()
        await over(server, there)

    run(conversation())


def test_one_that_lingers_where_nobody_is_left_is_simply_over(run):
    async def conversation() -> None:
        server, here, there = await pair()
        there.abort()
        await until(here.gone)
        here.linger()
        here.abort()
        await here.finish()
        assert here.gone()
        await over(server, there)

    run(conversation())
