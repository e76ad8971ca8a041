"""Callers of a service in process, as the door tests need them beside those of `tests.pdp.serving`."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from pdp.certificates import client_channel
from pdp.identity.subject import Party
from pdp.v1 import decision_service_pb2
from pdp.v1 import revocation_service_pb2 as pb
from pdp.v1.revocation_service_pb2_grpc import RevocationServiceStub
from tests.pdp.serving import Proxy, Service

# Generous: a machine that runs much else must not fail a test. What is promised is half a second and the way there.
PATIENCE = 30.0


class Guard:
    """Somebody who may revoke."""

    def __init__(self, service: Service, channel: grpc.aio.Channel) -> None:
        token = service.token(Party("user", "olga", ("operators",)), audience="checkrein")
        self._stub: Any = RevocationServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    @classmethod
    async def of(cls, service: Service) -> "Guard":
        channel = client_channel(service.config.listen, service.authority.command_line())
        return cls(service, await service.stack.enter_async_context(channel))

    async def revoke(self, kind: str, name: str, **more: Any) -> int:
        request = pb.RevokeRequest(revoked=pb.Revoked(kind=kind, name=name), reason="seen in a log", **more)
        return int((await self._stub.Revoke(request, metadata=self._metadata)).sessions_ended)

    async def restore(self, kind: str, name: str) -> None:
        await self._stub.Restore(pb.RestoreRequest(revoked=pb.Revoked(kind=kind, name=name)), metadata=self._metadata)

    async def list(self) -> list[tuple[str, str, str]]:
        answer = await self._stub.ListRevocations(pb.ListRevocationsRequest(), metadata=self._metadata)
        return [(each.revoked.kind, each.revoked.name, each.revoked_by) for each in answer.revocations]

    async def rotate(self) -> Any:
        return await self._stub.RotateSessionKeys(pb.RotateSessionKeysRequest(), metadata=self._metadata)


class Watching:
    """A proxy's stream of news, which acknowledges each."""

    def __init__(self, proxy: Proxy) -> None:
        self.call = proxy.decisions.Watch()

    async def begin(self) -> decision_service_pb2.Snapshot:
        await self.call.write(decision_service_pb2.WatchRequest(acknowledged=0))
        return (await self.next("snapshot")).snapshot

    async def next(self, kind: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF
                await self.call.write(decision_service_pb2.WatchRequest(acknowledged=message.number))
                if message.WhichOneof("event") == kind:
                    return message


async def until(true: Callable[[], bool]) -> None:
    """Waits for what nothing announces."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
