"""Certificates between proxies and the service: who is refused, and that they change while statements go on."""

import asyncio
import contextlib
import datetime
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pdp.server import running
from pdp.v1.decision_service_pb2 import KeepSessionsRequest
from pdp.v1.decision_service_pb2_grpc import DecisionServiceStub
from pep.core.config import DecisionsTls
from pep.core.decision_client import ApprovalRequest, Bearer, Login
from pep.core.grpc_client import GrpcDecisionClient
from pep.core.model import Action, Allow, Statement, digest_of
from pep.core.renewal import Renewal
from pep.core.tls import channel_credentials
from tests.certificates import Authority, make_authority
from tests.certificates import Certificate as Issued
from tests.doors.calling import PATIENCE, Guard, until
from tests.pdp.serving import AGENT, DELETE, SELECT, Clock, Script, Service, configure, folder, serving, status_of

DENIED, GONE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
URI = "spiffe://corp/pep/front"
GRANTS = f"  proxies: [{{certificate: '{URI}', resources: [shop]}}]\n"


def tls_of(server: Issued, client_ca: Path) -> str:
    return f"  tls: {{cert: {server.certificate}, key: {server.key}, client_ca: {client_ca}}}\n"


class Outside:
    """A service whose certificates somebody else issues, and callers with whatever certificate a test makes."""

    def __init__(self, path: Path) -> None:
        self.authority = make_authority(path)
        self.server = self.authority.issue("pdp", dns=["pdp.corp"])
        self.client_ca = path / "clients.crt"
        self.trust(self.authority)

    def trust(self, *authorities: Authority) -> None:
        fresh = self.client_ca.with_suffix(".new")
        fresh.write_bytes(b"".join(each.certificate.read_bytes() for each in authorities))
        fresh.replace(self.client_ca)

    @contextlib.asynccontextmanager
    async def serving(self, clock: Clock | None = None) -> AsyncIterator[str]:
        with folder() as path:
            config = configure(path, more=tls_of(self.server, self.client_ca) + GRANTS)
            async with running(config, Script(), clock or Clock()) as service:
                yield f"unix:{service.address}" if not service.address.startswith("unix:") else service.address

    @contextlib.asynccontextmanager
    async def caller(self, address: str, presented: Issued) -> AsyncIterator[DecisionServiceStub]:
        credentials = grpc.ssl_channel_credentials(
            self.authority.certificate.read_bytes(), presented.key.read_bytes(), presented.certificate.read_bytes()
        )
        options = (("grpc.ssl_target_name_override", "pdp.corp"), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.secure_channel(address, credentials, options) as channel:
            yield DecisionServiceStub(channel)


async def keep(stub: DecisionServiceStub) -> None:
    await stub.KeepSessions(KeepSessionsRequest(), timeout=PATIENCE)


REFUSED = {
    # At the handshake: nothing of it is a call.
    "of a foreign authority": (lambda own, foreign: foreign.issue("a", uris=[URI]), GONE),
    "expired": (lambda own, foreign: own.issue("b", uris=[URI], valid=datetime.timedelta(seconds=-1)), GONE),
    "self-signed": (lambda own, foreign: Issued(foreign.certificate, _key_of(foreign)), GONE),
    # At the call.
    "another name": (lambda own, foreign: own.issue("c", uris=["spiffe://corp/pep/other"]), DENIED),
    "a name that begins alike": (lambda own, foreign: own.issue("d", uris=[URI + "2"]), DENIED),
    "a part of the name": (lambda own, foreign: own.issue("e", uris=[URI[:-1]]), DENIED),
    "another case": (lambda own, foreign: own.issue("f", uris=["spiffe://corp/pep/FRONT"]), DENIED),
    "another domain": (lambda own, foreign: own.issue("g", uris=["spiffe://corp2/pep/front"]), DENIED),
    "another path": (lambda own, foreign: own.issue("h", uris=["spiffe://corp/x/pep/front"]), DENIED),
    "a query": (lambda own, foreign: own.issue("i", uris=[URI + "?x"]), DENIED),
    "two names": (lambda own, foreign: own.issue("j", uris=[URI, "spiffe://corp/pep/other"]), DENIED),
    "the name as a host's": (lambda own, foreign: own.issue("k", dns=[URI]), DENIED),
    "the short name as a host's": (lambda own, foreign: own.issue("l", dns=["front"]), DENIED),
    "no name": (lambda own, foreign: own.issue("front"), DENIED),
}


def _key_of(authority: Authority) -> Path:
    from cryptography.hazmat.primitives import serialization

    path = authority.directory / "authority.key"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(authority._key.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


def test_the_certificate_that_the_others_differ_from_is_accepted(tmp_path: Path):
    async def scenario():
        outside = Outside(tmp_path)
        presented = outside.authority.issue("z", uris=[URI])
        async with outside.serving() as address, outside.caller(address, presented) as stub:
            await keep(stub)

    asyncio.run(scenario())


@pytest.mark.parametrize("which", REFUSED)
def test_a_certificate_is_refused_that_is(tmp_path: Path, which: str):
    make, expected = REFUSED[which]

    async def scenario():
        outside = Outside(tmp_path)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        presented = make(outside.authority, make_authority(elsewhere, "foreign"))
        async with outside.serving() as address, outside.caller(address, presented) as stub:
            assert (await status_of(keep(stub)))[0] is expected

    asyncio.run(scenario())


def test_a_certificate_that_runs_out_is_refused_on_the_connection_that_it_made(tmp_path: Path):
    async def scenario():
        outside, clock = Outside(tmp_path), Clock()
        presented = outside.authority.issue("z", uris=[URI])
        async with outside.serving(clock) as address, outside.caller(address, presented) as stub:
            await keep(stub)
            clock.pass_(hours=13)
            assert await status_of(keep(stub)) == (DENIED, "the certificate has run out")

    asyncio.run(scenario())


def test_the_authority_of_proxies_changes_while_the_service_runs(tmp_path: Path):
    async def scenario():
        outside = Outside(tmp_path)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        next_one = make_authority(elsewhere, "next")
        old, new = outside.authority.issue("old", uris=[URI]), next_one.issue("new", uris=[URI])
        async with outside.serving() as address, outside.caller(address, old) as before:
            await keep(before)
            async with outside.caller(address, new) as early:
                assert (await status_of(keep(early)))[0] is GONE
            outside.trust(outside.authority, next_one)
            async with outside.caller(address, new) as after:
                await keep(after)
                await keep(before)
                outside.trust(next_one)
                # Also on the connection that it made while it was trusted.
                code, text = await status_of(keep(before))
                assert (code, text) == (DENIED, "the certificate is of an authority that is no longer trusted")
                async with outside.caller(address, old) as late:
                    assert (await status_of(keep(late)))[0] is GONE
                await keep(after)
                # A file that is being written is no reason to trust nobody.
                outside.client_ca.write_bytes(b"")
                await keep(after)

    asyncio.run(scenario())


def statement(kind: str = "select") -> Action:
    properties = SELECT if kind == "select" else DELETE
    return Action("query", "postgres", dict(properties), Statement(f"{kind} from orders", ()))


class Front:
    """A proxy's client of the service with its certificate in files of its own, as `pep` keeps it."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self.tls = DecisionsTls(
            cert=path / "pep.crt", key=path / "pep.key", ca=path / "ca.crt", server_name="pdp.checkrein.internal"
        )
        self.fingerprint = self.put()
        self.client = GrpcDecisionClient(
            [f"unix:{service.config.listen.path}"],
            channel_credentials(self.tls),
            server_name=self.tls.server_name,
            open_timeout=PATIENCE,
            decide_timeout=PATIENCE,
        )
        self.renewal = Renewal(self.tls, self.client.renew)

    def put(self) -> str:
        """A new certificate of the same name, in the same files."""
        issued = self.service.authority.issue("shop")
        for source, target in zip(
            (issued.key, issued.certificate, issued.authority), (self.tls.key, self.tls.cert, self.tls.ca), strict=True
        ):
            fresh = target.with_suffix(".new")
            shutil.copy(source, fresh)
            fresh.replace(target)
        certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
        # The next one is another.
        issued.certificate.unlink()
        return certificate.fingerprint(hashes.SHA256()).hex()


def test_a_proxys_certificate_changes_under_a_load_of_statements_and_its_streams_move_over():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                front, guard = Front(service, path), await Guard.of(service)
                token = service.token(AGENT)
                handle = await front.client.open_session(Login(Bearer(token), "shop", "postgres", "here", ()))
                loads, news, stop = ([], []), [], asyncio.Event()

                async def load(decided: list[bool]) -> None:
                    while not stop.is_set():
                        (decision,) = await front.client.decide(handle, [statement()])
                        decided.append(isinstance(decision, Allow))

                async def watch() -> None:
                    async for each in front.client.watch():
                        news.append(each)  # noqa: PERF401 - it is read while it grows

                async def more() -> None:
                    """Each of them has had an answer to what it asked since now."""
                    wanted = [(each, len(each) + 2) for each in (*loads, news)]
                    await until(lambda: all(len(each) >= number for each, number in wanted))

                (held,) = await front.client.decide(handle, [statement("delete")])
                asked = await front.client.request_approval(
                    handle, ApprovalRequest(held.decision_id, "k", statement("delete"), _digest(handle), False, None)
                )
                waiting = asyncio.create_task(_last(front.client.await_approval(handle, asked.approval_id)))
                work = [asyncio.create_task(each) for each in (*map(load, loads), watch())]
                try:
                    for _ in range(2):
                        await more()
                        old, before = front.fingerprint, front.client._connections
                        front.fingerprint = front.put()
                        renewing = asyncio.create_task(front.renewal.look())
                        await until(lambda before=before: front.client._connections is not before)
                        await more()
                        # Nothing is left that needs the old one: it is refused from here on, on every connection.
                        await guard.revoke("certificate", old)
                        await more()
                        renewing.cancel()
                        await asyncio.gather(renewing, return_exceptions=True)
                        front.renewal = Renewal(front.tls, front.client.renew)
                    assert not waiting.done()
                    await service.inside.approvals.cancel(asked.approval_id, "enough")
                    async with asyncio.timeout(PATIENCE):
                        assert (await waiting).state == "cancelled"
                    stop.set()
                    await asyncio.gather(*work[:2])
                    assert all(loads[0] + loads[1])
                    assert not work[2].done()
                finally:
                    for task in (*work, waiting):
                        task.cancel()
                    await asyncio.gather(*work, waiting, return_exceptions=True)
                    await front.client.close()

    asyncio.run(scenario())


async def _last(updates):
    last = None
    async for each in updates:
        last = each
    return last


def _digest(handle) -> bytes:
    return digest_of(statement("delete"), handle.subject.name, handle.resource)


def test_a_certificate_that_does_not_work_is_not_taken():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                front = Front(service, path)
                try:
                    handle = await front.client.open_session(
                        Login(Bearer(service.token(AGENT)), "shop", "postgres", "here", ())
                    )
                    kept = front.tls.cert.read_bytes()
                    before = front.client._connections
                    # Half replaced: the certificate of another key.
                    stranger = service.authority.issue("stranger")
                    shutil.copy(stranger.certificate, front.tls.cert)
                    await front.renewal.look()
                    # A pair, but of a proxy that the service does not know.
                    shutil.copy(stranger.key, front.tls.key)
                    await front.renewal.look()
                    front.tls.cert.unlink()
                    await front.renewal.look()
                    front.tls.cert.write_bytes(kept)
                    assert front.client._connections is before
                    await front.client.decide(handle, [statement()])
                finally:
                    await front.client.close()

    asyncio.run(scenario())
