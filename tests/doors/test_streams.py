"""Streams outlive what was true when they began: they are held against the doors again while they are open."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pdp.service.judged import judged
from pdp.v1 import approval_service_pb2 as pb
from pep.core.decision_client import ApprovalRequest, Bearer, Login
from tests.doors.calling import PATIENCE, Guard
from tests.doors.test_rotation import URI, Front, Outside, statement
from tests.doors.test_rotation import _digest as digest_at
from tests.pdp.serving import AGENT, Clock, Proxy, action, folder, serving, status_of

SHORT = "  session_tokens: {ttl: 30s}\n"
OUT = grpc.StatusCode.UNAUTHENTICATED


async def awaiting(proxy: Proxy, token: str, approval: str) -> Any:
    """An open stream that has said how the approval stands."""
    call = proxy.approvals.AwaitApproval(pb.AwaitApprovalRequest(token=token, approval_id=approval))
    async with asyncio.timeout(PATIENCE):
        assert (await call.read()).state == pb.APPROVAL_STATE_PENDING
    return call


async def end_of(call: Any) -> tuple[grpc.StatusCode, str]:
    async def rest() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    async with asyncio.timeout(PATIENCE):
        return await status_of(rest())


def test_a_wait_for_an_approval_ends_with_the_token_that_it_began_with():
    async def scenario():
        with folder() as path:
            async with serving(path, more=SHORT) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                call = await awaiting(proxy, opened.token, asked.approval_id)
                service.clock.pass_(seconds=31)
                assert await end_of(call) == (OUT, "the session's token has run out")

    asyncio.run(scenario())


def test_a_wait_for_an_approval_ends_when_the_proxys_certificate_is_revoked():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                call = await awaiting(proxy, opened.token, asked.approval_id)
                shown = x509.load_pem_x509_certificate(service.authority.issue("shop").certificate.read_bytes())
                await guard.revoke("certificate", shown.fingerprint(hashes.SHA256()).hex())
                code, words = await end_of(call)
                assert (code, "the certificate has been revoked" in words) == (OUT, True)

    asyncio.run(scenario())


def test_news_ends_with_the_certificate_that_it_began_with(tmp_path: Path):
    async def scenario():
        outside, clock = Outside(tmp_path), Clock()
        presented = outside.authority.issue("z", uris=[URI], valid=datetime.timedelta(hours=2))
        async with outside.serving(clock) as address, outside.caller(address, presented) as stub:
            call = stub.Watch()
            async with asyncio.timeout(PATIENCE):
                assert (await call.read()).WhichOneof("event") == "snapshot"
            clock.pass_(hours=3)
            assert await end_of(call) == (OUT, "the certificate has run out")

    asyncio.run(scenario())


def test_nothing_is_told_to_whom_it_is_too_late_to_tell():
    async def scenario():
        told: list[int] = []

        async def two():
            yield 1
            yield 2

        async for each in judged(two(), lambda: told.append(len(told))):
            # Judged before each answer, not only while nothing comes.
            assert len(told) >= each

    asyncio.run(scenario())


def test_a_proxy_goes_on_waiting_with_the_token_that_it_has_by_then():
    async def scenario():
        with folder() as path:
            async with serving(path, more=SHORT) as service:
                front = Front(service, path)
                try:
                    login = Login(Bearer(service.token(AGENT)), "shop", "postgres", "here", ())
                    handle = await front.client.open_session(login)
                    (held,) = await front.client.decide(handle, [statement("delete")])
                    asked = await front.client.request_approval(
                        handle,
                        ApprovalRequest(held.decision_id, "k", statement("delete"), digest_at(handle), False, None),
                    )
                    updates = front.client.await_approval(handle, asked.approval_id)
                    async with asyncio.timeout(PATIENCE):
                        assert (await anext(updates)).state == "pending"
                        service.clock.pass_(seconds=20)
                        renewed = await front.client.refresh_session(handle)
                        assert not isinstance(renewed, str)
                        handle.renewed(renewed)
                        service.clock.pass_(seconds=15)
                        # The stream has ended by the time that this is told, or before it: either way it is told anew.
                        await service.inside.approvals.cancel(asked.approval_id, "enough")
                        assert [each.state async for each in updates][-1] == "cancelled"
                finally:
                    await front.client.close()

    asyncio.run(scenario())
