"""What proxies are told unasked, and when a revision is in force."""

import asyncio
import datetime
import time
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from pdp.commands.status import in_words
from pdp.service import watch
from pdp.service.peers import Peer
from pdp.service.watch import Watchers
from pdp.v1 import admin_service_pb2
from pdp.v1 import decision_service_pb2 as pb
from tests.pdp.commanding import OWNER, as_
from tests.pdp.serving import SELECT, Clock, Proxy, Script, action, folder, serving, status_of

PATIENCE = 60.0

pytestmark = pytest.mark.usefixtures("each_store")


class Watching:
    """A proxy's stream; acknowledges only when told to."""

    def __init__(self, proxy: Proxy) -> None:
        self.call = proxy.decisions.Watch()

    async def acknowledge(self, number: int) -> None:
        await self.call.write(pb.WatchRequest(acknowledged=number))

    async def next(self, kind: str) -> pb.WatchResponse:
        while True:
            message = await self.call.read()
            if message.WhichOneof("event") == kind:
                return message


def test_a_snapshot_comes_first_and_messages_are_numbered():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                watching = Watching(await service.proxy())
                await watching.acknowledge(0)
                first, second = await watching.call.read(), await watching.call.read()
                assert (first.number, first.snapshot.policy_revision) == (1, "r1")
                assert (second.number, second.WhichOneof("event")) == (2, "heartbeat")

    asyncio.run(scenario())


def test_a_killed_session_is_announced_at_once_and_decides_nothing_more():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, other = await service.proxy(), await service.proxy("pay")
                opened = await proxy.open()
                watching, elsewhere = Watching(proxy), Watching(other)
                for each in (watching, elsewhere):
                    await each.acknowledge(0)
                    await each.next("snapshot")
                operator = await service.person("olga", "operators")
                started = time.monotonic()
                request = admin_service_pb2.KillSessionRequest(session_id=opened.session_id, reason="looks wrong")
                await operator.call("KillSession", request)
                ended = (await watching.next("session_ended")).session_ended
                assert time.monotonic() - started < 1
                assert (ended.session_id, ended.reason) == (opened.session_id, "looks wrong")
                code, text = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert (code, text) == (
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "the session has ended: looks wrong",
                )
                # A proxy learns only of its own sessions.
                assert (await elsewhere.call.read()).WhichOneof("event") == "heartbeat"
                # Whoever watches later finds it in the snapshot.
                late = Watching(proxy)
                await late.acknowledge(0)
                snapshot = (await late.next("snapshot")).snapshot
                assert [each.session_id for each in snapshot.sessions_ended] == [opened.session_id]
                # And it cannot be killed twice.
                code, _ = await status_of(operator.call("KillSession", request))
                assert code is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(scenario())


def test_a_revision_is_in_force_when_every_leased_proxy_has_it():
    async def scenario():
        engine = Script()
        engine.announced = asyncio.Queue()
        clock = Clock()
        with folder() as path:
            async with serving(path, engine, clock=clock) as service:
                operator = await service.person("olga")

                async def status() -> admin_service_pb2.GetStatusResponse:
                    return await operator.call("GetStatus", admin_service_pb2.GetStatusRequest())

                assert (await status()).in_force  # nobody holds an older one
                shop, pay = Watching(await service.proxy()), Watching(await service.proxy("pay"))
                for each in (shop, pay):
                    await each.acknowledge(0)
                    await each.acknowledge((await each.next("snapshot")).number)
                await engine.announced.put("r2")
                numbers = [(await each.next("policy_revision")).number for each in (shop, pay)]
                got = await status()
                assert (got.policy_revision, got.in_force) == ("r2", False)
                await shop.acknowledge(numbers[0])
                while {each.name: each.policy_revision for each in (await status()).proxies}["shop"] != "r2":
                    pass
                assert not (await status()).in_force
                # The other says nothing until its lease has run out.
                clock.pass_(seconds=4)
                await shop.acknowledge(numbers[0])
                while not (got := await status()).proxies:
                    pass
                assert [each.name for each in got.proxies] == ["shop"]
                assert got.in_force

    asyncio.run(scenario())


def test_a_proxy_says_how_its_records_stand_and_status_shows_what_is_wrong(monkeypatch: pytest.MonkeyPatch):
    # Nobody acknowledges in this test's place while it looks.
    monkeypatch.setattr(watch, "LEASE", datetime.timedelta(minutes=10))
    full = "the spool could not be written: the disk is full \x1b[2J" + " x" * 250
    mib = 1 << 20

    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                watching = Watching(await service.proxy())
                operator = await service.person("olga")

                async def told(**spool: Any) -> pb.SpoolState:
                    state = pb.SpoolState(limit=100 * mib, age=Duration(seconds=spool.pop("age", 0)), **spool)
                    await watching.call.write(pb.WatchRequest(acknowledged=0, spool=state))
                    async with asyncio.timeout(PATIENCE):
                        while True:
                            answer = await operator.call("GetStatus", admin_service_pb2.GetStatusRequest())
                            if [each.spool.bytes for each in answer.proxies] == [state.bytes]:
                                return answer.proxies[0].spool
                            await asyncio.sleep(0.01)

                for spool, words in (
                    ({"bytes": mib}, None),
                    ({"bytes": 2 * mib, "age": 50}, None),
                    (
                        {"bytes": 3 * mib, "age": 200},
                        "its records are behind: 3.0 of 100.0 MiB in its spool, the oldest for 3m 20s",
                    ),
                    ({"bytes": 90 * mib}, "its spool is nearly full"),
                    ({"bytes": 4 * mib, "trouble": full}, "could not write its last record: the spool could not be"),
                    ({"bytes": 5 * mib, "trouble": "x", "failed": True}, "nothing on record until it is restarted: x"),
                ):
                    line = in_words(await told(**spool))
                    assert (line is None) if words is None else (words in str(line))
                assert len((await told(bytes=6 * mib, trouble=full)).trouble) == 200
                shown = await as_(service, OWNER, "status")
                assert shown.status == 1
                words = " ".join(shown.out.split())
                assert "the disk is full" in words
                assert "6.0 of 100.0 MiB" in words
                assert "\x1b" not in shown.out

    asyncio.run(scenario())


def test_the_service_stops_while_proxies_watch():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                watching = Watching(await service.proxy())
                await watching.acknowledge(0)
                await watching.next("snapshot")

    asyncio.run(scenario())


def test_a_proxy_that_reads_nothing_is_cut_off_and_finds_all_of_it_in_the_next_snapshot():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                watching = Watching(proxy)
                await watching.acknowledge(0)
                await watching.next("snapshot")
                for number in range(5000):
                    service.inside.watchers.session_ended("spiffe://checkrein/pep/shop", f"s-{number}", "x")
                code, _ = await status_of(watching.next("no such"))
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
                again = Watching(proxy)
                await again.acknowledge(0)
                assert (await again.next("snapshot")).snapshot.policy_revision == "r1"

    asyncio.run(scenario())


def test_streams_that_ended_are_forgotten_with_their_leases():
    clock = Clock()
    watchers = Watchers(clock)
    peer = Peer("spiffe://checkrein/pep/shop", "shop", ("shop",))
    for _ in range(100):
        watchers.add(peer).connected = False
        clock.pass_(seconds=1)
    assert len(watchers._watchers) <= 4
