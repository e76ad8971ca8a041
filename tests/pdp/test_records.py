"""Records over a real channel: in order, byte for byte, acknowledged when stored."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog
from sqlalchemy import func, select

from pdp.audit.intake import ShippedEvent, ShippedSignature
from pdp.service.audit_service import Inbox
from pdp.store import tables
from pdp.v1 import audit_service_pb2 as pb
from pdp.v1.digests import GENESIS, body_digest, canonical_json, chain_hash
from tests.pdp.serving import AGENT, BEGINNINGS, Proxy, folder, serving, status_of

pytestmark = pytest.mark.usefixtures("each_store")

NOT_OURS = "the record is of a session that is not this proxy's"


@dataclass(frozen=True, slots=True)
class Event:
    session: str
    seq: int
    data: bytes
    hash: bytes
    salt: bytes
    body: bytes


def sealed(session: str, count: int, *, said: str = "x", size: int = 0) -> list[Event]:
    """Events as a proxy's spool holds them, with one body each."""
    events, digest = [], GENESIS
    for seq in range(count):
        salt, body = bytes([seq]) * 32, f"body {seq}".encode().ljust(size)
        document = {
            "v": 1,
            "session": session,
            "seq": seq,
            "type": "decision",
            "facts": {"said": said},
            "bodies": [{"kind": "statement", "size": len(body), "sha256": body_digest(salt, body).hex()}],
        }
        if seq == 0 and session in BEGINNINGS:
            document |= {"type": "session.opened", **BEGINNINGS[session]}
        data = canonical_json(document)
        digest = chain_hash(digest, session, seq, data)
        events.append(Event(session, seq, data, digest, salt, body))
    return events


def event_of(event: Event) -> pb.RecordRequest:
    return pb.RecordRequest(session_id=event.session, seq=event.seq, event=event.data)


def body_of(event: Event, **more: Any) -> pb.RecordRequest:
    body = pb.Body(**({"index": 0, "salt": event.salt, "content": event.body} | more))
    return pb.RecordRequest(session_id=event.session, seq=event.seq, body=body)


def shipped(events: Sequence[Event]) -> list[pb.RecordRequest]:
    return [each for event in events for each in (event_of(event), body_of(event))]


async def ship(proxy: Proxy, requests: Sequence[pb.RecordRequest]) -> list[pb.RecordResponse]:
    return [each async for each in proxy.audit.Record(iter(requests))]


def last(responses: Sequence[pb.RecordResponse]) -> int:
    return [each.acknowledged_seq for each in responses if not each.refused][-1]


def refusals(responses: Sequence[pb.RecordResponse]) -> list[str]:
    return [each.refused for each in responses if each.refused]


def test_a_repeat_is_no_matter_and_a_fork_is_refused():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                events = sealed(session, 4)
                assert last(await ship(proxy, shipped(events))) == 3
                again = await ship(proxy, shipped(events))
                assert (last(again), refusals(again)) == (3, [])
                forged = await ship(proxy, [event_of(sealed(session, 3, said="y")[2])])
                assert refusals(forged) == ["another event with this number is stored"]
                assert last(forged) == 3
                kept = await service.inside.database.short.run(
                    lambda connection: connection.execute(
                        select(tables.records.c.event, tables.records.c.hash)
                        .where(tables.records.c.session_id == session)
                        .order_by(tables.records.c.seq)
                    ).all()
                )
                assert [tuple(row) for row in kept] == [(each.data, each.hash) for each in events]

    asyncio.run(scenario())


def test_an_event_is_acknowledged_only_with_its_bodies():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                events = sealed((await proxy.open()).session_id, 2)
                assert last(await ship(proxy, [*shipped(events[:1]), event_of(events[1])])) == 0
                # The stream broke there; the next one sends the event again and goes on.
                assert last(await ship(proxy, shipped(events[1:]))) == 1

    asyncio.run(scenario())


def test_what_does_not_fit_its_place_is_refused():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                events = sealed(session, 3)
                moved = pb.RecordRequest(session_id=session, seq=0, event=events[1].data)
                torn = pb.RecordRequest(session_id=session, seq=0, event=events[0].data[:-7])
                assert refusals(await ship(proxy, [event_of(events[1])])) == ["the event with number 0 has not come"]
                assert refusals(await ship(proxy, [moved])) == ["the event says that it stands elsewhere"]
                assert refusals(await ship(proxy, [torn])) == ["the event is torn or not of the agreed form"]
                assert refusals(await ship(proxy, [body_of(events[0])])) == [
                    "the event that names the body has not come"
                ]
                begun = [event_of(events[0])]
                assert refusals(await ship(proxy, [*begun, body_of(events[0], content=b"other")])) == [
                    "the body is not the one that its event names"
                ]
                assert refusals(await ship(proxy, [*begun, body_of(events[0], index=1)])) == [
                    "the event names no such body"
                ]
                assert refusals(await ship(proxy, [*begun, event_of(events[1])])) == [
                    "bodies of the event with number 0 have not come"
                ]
                assert last(await ship(proxy, shipped(events))) == 2

    asyncio.run(scenario())


def test_a_proxy_has_a_chain_of_its_own_and_no_other():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                shop, pay = await service.proxy("shop"), await service.proxy("pay")
                number = "0123456789abcdef" * 2
                assert last(await ship(shop, shipped(sealed(f"process-shop-{number}", 2)))) == 1
                others = [f"process-{name}-{number}" for name in ("shop", "pay-2", "pa", "", "pay-")]
                for chain in (*others, "process-pay", "process-pay-1", "s-made-up", "", "s" * 300):
                    answers = await ship(pay, shipped(sealed(chain, 1)))
                    assert [(each.session_id, each.refused) for each in answers] == [(chain, NOT_OURS)]
                code, _ = await status_of(ship(shop, [pb.RecordRequest(session_id=f"process-shop-{number}")]))
                assert code is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())


def test_a_chain_that_is_not_this_proxys_holds_up_no_other():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                shop, pay = await service.proxy("shop"), await service.proxy("pay")
                own, other = (await shop.open()).session_id, (await shop.open()).session_id
                credential = service.token(AGENT, audience="pay")
                foreign = (await pay.open(credential, resource="pay")).session_id
                await ship(pay, shipped(sealed(foreign, 1)))
                chains = [sealed(each, 3) for each in (own, "s-of-a-lost-store", foreign, other)]
                mixed = [each for together in zip(*map(shipped, chains), strict=True) for each in together]
                with structlog.testing.capture_logs() as logs:
                    answers = await ship(shop, mixed)
                refused = [(each.session_id, each.refused, each.acknowledged_seq) for each in answers if each.refused]
                # Once for each, and without a word about how far the other's chain goes.
                assert sorted(refused) == sorted([("s-of-a-lost-store", NOT_OURS, 0), (foreign, NOT_OURS, 0)])
                taken = {each.session_id: each.acknowledged_seq for each in answers if not each.refused}
                assert taken == {own: 2, other: 2}
                alarms = [each["session"] for each in logs if each["event"] == "chain refused" and each["alarm"]]
                assert sorted(alarms) == sorted(["s-of-a-lost-store", foreign])
                assert last(await ship(pay, [event_of(sealed(foreign, 1)[0])])) == 0

    asyncio.run(scenario())


def test_a_body_may_be_as_large_as_a_spool_holds():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                events = sealed(session, 3, size=12 << 20)
                assert last(await ship(proxy, shipped(events))) == 2

    asyncio.run(scenario())


def test_a_stream_that_breaks_off_leaves_what_was_acknowledged():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                session = (await proxy.open()).session_id
                events = sealed(session, 3)
                call = proxy.audit.Record()
                for request in shipped(events[:2]):
                    await call.write(request)
                while (await call.read()).acknowledged_seq != 1:
                    pass
                call.cancel()
                assert last(await ship(proxy, shipped(events[1:]))) == 2

    asyncio.run(scenario())


def test_records_of_a_session_that_has_ended_still_come():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                opened = await (await service.proxy()).open()
            async with serving(path) as service:
                proxy = await service.proxy()
                assert last(await ship(proxy, shipped(sealed(opened.session_id, 3)))) == 2

    asyncio.run(scenario())


def test_many_events_of_many_sessions_on_one_stream():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                sessions = [(await proxy.open()).session_id for _ in range(3)]
                chains = [shipped(sealed(session, 200)) for session in sessions]
                mixed = [each for together in zip(*chains, strict=True) for each in together]
                responses = await ship(proxy, mixed)
                assert refusals(responses) == []
                assert {each.session_id: each.acknowledged_seq for each in responses} == dict.fromkeys(sessions, 199)
                stored = select(func.count()).select_from(tables.bodies)
                count = await service.inside.database.short.run(lambda c: c.execute(stored).scalar_one())
                assert count == 600

    asyncio.run(scenario())


def test_certificates_that_come_along_count_as_what_waits():
    async def scenario():
        large = ShippedSignature("s-1", 0, b"", (bytes(9 << 20),), b"")
        for item in (large, ShippedEvent("s-1", 0, b"{}", large)):
            inbox = Inbox()
            await inbox.put(item)
            more = asyncio.create_task(inbox.put(ShippedEvent("s-1", 1, b"{}")))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not more.done()
            assert await inbox.take() == [item]
            await more

    asyncio.run(scenario())
