"""Connections to a real server: who gets which, what is reported, and what becomes of those at rest."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pep.core.config import UpstreamTls, seconds
from pep.core.leg import Leg
from pep.http.config import HttpUpstream, Origin
from pep.http.upstream import UpstreamPool, UpstreamSide
from tests.certificates import make_authority


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def on_loop(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(work, 10))

    return on_loop


@dataclass
class Reported:
    """What the driver would have been told; every report can be waited for."""

    reports: asyncio.Queue[bytes | str] = field(default_factory=asyncio.Queue)

    def received(self, data: bytes) -> None:
        self.reports.put_nowait(data)

    def ended(self) -> None:
        self.reports.put_nowait("ended")

    def writable(self, *, yes: bool) -> None:
        self.reports.put_nowait("writable" if yes else "full")


@dataclass
class Target:
    """A server that does nothing by itself: the test holds its connections."""

    port: int
    accepted: asyncio.Queue[Leg]
    pool: UpstreamPool

    def side(self) -> tuple[UpstreamSide, Reported]:
        side, reported = UpstreamSide(self.pool), Reported()
        side.attach(reported)
        return side, reported


def upstream(*ports: int, tls: UpstreamTls | None = None, timeout: float = 5) -> HttpUpstream:
    scheme: Any = "http" if tls is None else "https"
    addresses = tuple(Origin("localhost" if tls else "127.0.0.1", port, scheme) for port in ports)
    if tls is None:
        return HttpUpstream(addresses=addresses, connect_timeout=seconds(timeout))
    return HttpUpstream(addresses=addresses, connect_timeout=seconds(timeout), tls=tls)


@asynccontextmanager
async def target(**limits: Any) -> AsyncIterator[Target]:
    accepted: asyncio.Queue[Leg] = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(lambda: Leg(accepted=accepted.put_nowait), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = UpstreamPool(upstream(port), **limits)
    try:
        yield Target(port, accepted, pool)
    finally:
        await pool.close()
        server.close()


def test_bytes_go_both_ways(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            await side.connect("alice")
            server = await there.accepted.get()
            side.write(b"GET")
            assert await server.read() == b"GET"
            server.write(b"200")
            assert await reported.reports.get() == b"200"
            server.close()
            assert await reported.reports.get() == "ended"
            await side.finish()

    run(conversation())


def test_a_connection_serves_the_next_exchange_of_the_same_session_only(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            first, _ = there.side()
            await first.connect("alice")
            server = await there.accepted.get()
            first.release(reusable=True)
            assert there.pool.idle == 1
            other, _ = there.side()
            await other.connect("bob")
            bobs = await there.accepted.get()
            assert there.pool.idle == 1
            # Another client connection of the same session may have it.
            second, _ = there.side()
            await second.connect("alice")
            second.write(b"hers")
            other.write(b"his")
            assert await server.read() == b"hers"
            assert await bobs.read() == b"his"
            assert there.accepted.empty()
            await asyncio.gather(first.finish(), second.finish(), other.finish())

    run(conversation())


def test_between_exchanges_nothing_is_written_and_nothing_reported(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            with pytest.raises(AssertionError, match="between exchanges"):
                side.write(b"early")
            await side.connect("alice")
            server = await there.accepted.get()
            side.release(reusable=False)
            with pytest.raises(AssertionError, match="between exchanges"):
                side.write(b"late")
            assert await server.read() == b""
            assert reported.reports.empty()
            assert there.pool.idle == 0
            side.release(reusable=True)
            await side.finish()

    run(conversation())


@pytest.mark.parametrize("late", [b"more than the response", b""])
def test_what_arrives_at_rest_discards_the_connection(run: Callable[[Any], Any], late: bytes) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            await side.connect("alice")
            server = await there.accepted.get()
            side.release(reusable=True)
            if late:
                server.write(late)
                # It is cut at once, and so the server sees the end.
                assert await server.read() == b""
            else:
                await server.finish()
            await side.connect("alice")
            fresh = await there.accepted.get()
            fresh.write(b"the response")
            assert await reported.reports.get() == b"the response"
            assert reported.reports.empty()
            await side.finish()

    run(conversation())


def test_rest_ends_after_a_while(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target(idle_seconds=0.01) as there:
            side, _ = there.side()
            await side.connect("alice")
            server = await there.accepted.get()
            side.release(reusable=True)
            assert await server.read() == b""
            assert there.pool.idle == 0

    run(conversation())


def test_only_so_many_rest(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target(per_key=2, in_all=3) as there:
            for key, count in (("alice", 3), ("bob", 2)):
                sides = [there.side()[0] for _ in range(count)]
                for side in sides:
                    await side.connect(key)
                for side in sides:
                    side.release(reusable=True)
            # Of alice's three the first had to go, and her second for bob's second.
            assert there.pool.idle == 3
            legs = [await there.accepted.get() for _ in range(5)]
            assert await legs[0].read() == b""
            assert await legs[1].read() == b""
            assert not any(leg.gone() for leg in legs[2:])

    run(conversation())


def test_a_pause_holds_for_the_next_connection(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            side.pause("peer")
            assert side.paused_for("peer")
            await side.connect("alice")
            server = await there.accepted.get()
            server.write(b"wait")
            # A round trip on another connection, so that the bytes have had their time.
            other, other_reported = there.side()
            await other.connect("bob")
            (await there.accepted.get()).write(b"go")
            assert await other_reported.reports.get() == b"go"
            assert reported.reports.empty()
            side.resume("peer")
            assert await reported.reports.get() == b"wait"
            await asyncio.gather(side.finish(), other.finish())

    run(conversation())


def test_a_connection_at_rest_is_read_though_the_session_is_paused(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, _ = there.side()
            await side.connect("alice")
            server = await there.accepted.get()
            side.pause("session")
            side.release(reusable=True)
            server.write(b"unasked")
            assert await server.read() == b""
            assert there.pool.idle == 0

    run(conversation())


def test_a_client_that_waits_for_the_target_is_read_again_after_release(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            await side.connect("alice")
            server = await there.accepted.get()
            server.pause("never read")
            side.write(bytes(16 << 20))
            assert await reported.reports.get() == "full"
            side.release(reusable=True)
            assert await reported.reports.get() == "writable"
            assert there.pool.idle == 0
            server.abort()
            await server.finish()

    run(conversation())


def test_an_abort_is_reported_while_the_connection_serves(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, reported = there.side()
            side.abort()
            await side.connect("alice")
            side.abort()
            assert await reported.reports.get() == "ended"
            side.release(reusable=True)
            assert there.pool.idle == 0

    run(conversation())


def test_after_its_end_a_session_gets_no_connection(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there:
            side, _ = there.side()
            await side.finish()
            with pytest.raises(ConnectionError):
                await side.connect("alice")
            assert await (await there.accepted.get()).read() == b""

    run(conversation())


def test_addresses_are_tried_in_order(run: Callable[[Any], Any]) -> None:
    async def conversation() -> None:
        async with target() as there, target() as gone:
            pass_on = UpstreamPool(upstream(gone.port, there.port))
            await (await pass_on.take("alice")).finish()
            assert (await gone.accepted.get()).peer
            assert there.accepted.empty()
        unused = gone.port
        async with target() as there:
            pool = UpstreamPool(upstream(unused, there.port))
            leg = await pool.take("alice")
            assert (await there.accepted.get()).peer
            await leg.finish()
            await pool.close()
        with pytest.raises(ConnectionRefusedError):
            await UpstreamPool(upstream(unused)).take("alice")

    run(conversation())


@asynccontextmanager
async def tls_target(folder: Path, name: str, *, ask: bool) -> AsyncIterator[tuple[int, asyncio.Queue[Leg]]]:
    authority = make_authority(folder)
    certificate = authority.issue("server", dns=[name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if ask:
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue("client", dns=["proxy"])
    assert client.key.exists()
    accepted: asyncio.Queue[Leg] = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(
        lambda: Leg(accepted=accepted.put_nowait), "127.0.0.1", 0, ssl=context
    )
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()


def test_the_certificate_must_be_for_the_host_of_the_url(run: Callable[[Any], Any], tmp_path: Path) -> None:
    async def conversation() -> None:
        tls = UpstreamTls(ca=tmp_path / "test-ca.crt")
        async with tls_target(tmp_path, "localhost", ask=False) as (port, accepted):
            pool = UpstreamPool(upstream(port, tls=tls))
            leg = await pool.take("alice")
            server = await accepted.get()
            assert leg.encrypted
            leg.write(b"hello")
            assert await server.read() == b"hello"
            await asyncio.gather(leg.finish(), server.finish())
        async with tls_target(tmp_path, "other.example", ask=False) as (port, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await UpstreamPool(upstream(port, tls=tls)).take("alice")

    run(conversation())


def test_a_client_certificate_is_shown_where_there_is_one(run: Callable[[Any], Any], tmp_path: Path) -> None:
    async def conversation() -> None:
        async with tls_target(tmp_path, "localhost", ask=True) as (port, accepted):
            own = UpstreamTls(ca=tmp_path / "test-ca.crt", cert=tmp_path / "client.crt", key=tmp_path / "client.key")
            leg = await UpstreamPool(upstream(port, tls=own)).take("alice")
            server = await accepted.get()
            leg.write(b"hello")
            assert await server.read() == b"hello"
            await asyncio.gather(leg.finish(), server.finish())

    run(conversation())
