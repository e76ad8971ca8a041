"""A token for one use has one: after a restart, across replicas, and for the call that got no answer."""

import asyncio
from pathlib import Path

import grpc

from pdp.identity.subject import OneTime
from pdp.service.doors import Doors
from pdp.store import used_tokens
from pdp.store.database import Database
from pdp.v1 import admin_service_pb2, decision_service_pb2
from tests.pdp.serving import AGENT, Clock, folder, serving, status_of


def meta(request: str) -> decision_service_pb2.RequestMeta:
    return decision_service_pb2.RequestMeta(request_id=request)


def test_it_opens_one_session_also_after_a_restart():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                token = service.token(AGENT, once=True)
                proxy = await service.proxy()
                assert (await proxy.open(token, meta=meta("r1"))).session_id
                assert not (await proxy.open(token, meta=meta("r2"))).session_id
                # The proxy that asks the same again, because the answer was lost, is answered.
                assert (await proxy.open(token, meta=meta("r1"))).session_id
                # Another proxy does not get at it by asking with the same number.
                other = await service.proxy("pay")
                for_pay = service.token(AGENT, "pay", once=True)
                assert (await other.open(for_pay, resource="pay", meta=meta("r1"))).session_id
                assert not (await other.open(for_pay, resource="pay", meta=meta(""))).session_id
            async with serving(path, clock=clock) as service:
                assert not (await (await service.proxy()).open(token, meta=meta("r3"))).session_id

    asyncio.run(scenario())


def test_without_a_number_no_call_is_the_same_again():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, token = await service.proxy(), service.token(AGENT, once=True)
                assert (await proxy.open(token)).session_id
                assert not (await proxy.open(token)).session_id

    asyncio.run(scenario())


def test_of_two_replicas_one_lets_it_in(tmp_path: Path):
    async def scenario():
        url, clock = f"sqlite:///{tmp_path / 'store.db'}", Clock()
        async with Database(url) as one, Database(url) as two:
            for number in range(5):
                once = OneTime("corp", f"j{number}", clock())
                took = await asyncio.gather(*(Doors(each, clock).spend(once, "") for each in (one, two, one, two)))
                assert sorted(took) == [False, False, False, True]

    asyncio.run(scenario())


def test_it_is_forgotten_only_when_it_has_run_out(tmp_path: Path):
    async def scenario():
        clock = Clock()
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
            doors = Doors(database, clock)
            once = OneTime("corp", "j", clock())
            clock.pass_(seconds=-5)
            assert await doors.spend(once, "")
            await doors.forget()
            assert not await doors.spend(once, "")
            # The clock of another replica may be behind.
            clock.pass_(seconds=10)
            await doors.forget()
            clock.pass_(seconds=-7)
            assert not await doors.spend(once, "")
            clock.pass_(minutes=11)
            await doors.forget()
            assert await database.short.run(lambda c: used_tokens.take(c, "corp", "j", "x", clock())) == "x"

    asyncio.run(scenario())


def test_it_does_one_thing_at_the_service_itself():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                person = await service.person("olga", once=True)
                request = admin_service_pb2.ListApprovalsRequest()
                await person.call("ListApprovals", request)
                assert (await status_of(person.call("ListApprovals", request)))[0] is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(scenario())
