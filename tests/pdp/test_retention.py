"""Bodies and sessions that are erased: by people, or because their time is over. The records still prove themselves."""

import asyncio
import contextlib
import datetime
import os
from typing import Any

import grpc
import pytest
from cryptography import x509
from sqlalchemy import func, select, update

from pdp.commands.copies import StoreCopy
from pdp.commands.proof import Finding
from pdp.commands.recorded import read
from pdp.commands.records import Found, Trusted, prove
from pdp.identity.subject import Party
from pdp.service.recorded_event import event_message
from pdp.store import records, tables
from pdp.store.checkpoints import chain_names
from pdp.v1 import archive_service_pb2 as pb
from pdp.v1.archive_service_pb2_grpc import ArchiveServiceStub
from pdp.v1.decision_service_pb2 import CloseSessionRequest
from tests.pdp.commanding import as_, record
from tests.pdp.serving import AGENT, Clock, Proxy, Script, Service, action, folder, result, serving, status_of
from tests.pdp.test_cli_sessions import STORY

pytestmark = pytest.mark.usefixtures("each_store")

RETAIN = "\n  records: {retain: {bodies: 30d, index: 60d}}"
BODIES = 5
"""How many the story has."""
ANA = Party("user", "ana", ("staff",))


async def over(proxy: Proxy, **more: Any) -> str:
    """A session with its whole record, and its end."""
    opened = await proxy.open(**more)
    await record(proxy, opened.session_id, STORY)
    await proxy.decisions.CloseSession(CloseSessionRequest(token=opened.token, reason="done", last_seq=len(STORY) - 1))
    return opened.session_id


async def proved(service: Service, only: str = "") -> tuple[Found, list[Finding]]:
    """What an auditor finds in the store, with nothing but its file or its URL."""
    findings: list[Finding] = []
    authority = service.authority.issue("shop").authority
    trusted = Trusted(None, [], x509.load_pem_x509_certificates(authority.read_bytes()))
    with contextlib.closing(StoreCopy(service.config.store_url(), service.clock())) as copy:
        return await prove(copy, trusted, findings.append, only), findings


async def kept(service: Service, session: str) -> int:
    column = tables.bodies.c
    wanted = select(func.count()).where(column.session_id == session, column.at.is_not(None))
    return await service.inside.database.short.run(lambda connection: connection.execute(wanted).scalar_one())


async def retain(service: Service) -> None:
    await service.inside.notary.round()
    await service.inside.retention.round()


async def service_events(service: Service, type: str) -> list[Any]:
    found = await service.inside.database.short.run(
        lambda connection: records.page(connection, service.inside.chain.id, 0, 1000)
    )
    return [event for event in (read(event_message(each)) for each in found) if event.type == type]


async def archive(service: Service) -> Any:
    proxy = await service.proxy()
    return ArchiveServiceStub(proxy.channel)


def bearer(service: Service, who: Party) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {service.token(who, audience='checkrein')}"),)


def test_bodies_go_when_their_time_is_over_and_the_records_still_prove_themselves():
    async def scenario() -> None:
        clock = Clock()
        with folder() as path:
            async with serving(path, more=RETAIN, clock=clock) as service:
                proxy = await service.proxy()
                old = await over(proxy)
                clock.pass_(days=29)
                await retain(service)
                assert await kept(service, old) == BODIES
                young = await over(proxy)
                clock.pass_(days=2)
                await retain(service)
                assert (await kept(service, old), await kept(service, young)) == (0, BODIES)
                (event,) = await service_events(service, "records.erased")
                assert event.facts["bodies"] == BODIES
                assert event.facts["chains"] == {old: BODIES}
                found, findings = await proved(service)
                assert findings == []
                assert (found.erased, found.absent) == (BODIES, 0)
                assert found.bodies >= BODIES
                # Nothing is left of them, not even what a guess could be tried against.
                column = tables.bodies.c
                rows = await service.inside.database.short.run(
                    lambda connection: connection.execute(
                        select(column.salt, column.content).where(column.session_id == old)
                    ).all()
                )
                assert {(bytes(row.salt), bytes(row.content)) for row in rows} == {(b"", b"")}

    asyncio.run(scenario())


def test_a_session_goes_when_its_time_is_over_and_the_log_says_so():
    async def scenario() -> None:
        clock = Clock()
        with folder() as path:
            async with serving(path, more=RETAIN, clock=clock) as service:
                proxy = await service.proxy()
                old = await over(proxy)
                left_open = (await proxy.open()).session_id
                await record(proxy, left_open, STORY[:3])
                clock.pass_(days=59)
                young = await over(proxy)
                await retain(service)
                assert (await proved(service))[0].removed == 0
                clock.pass_(days=2)
                await retain(service)
                found, findings = await proved(service)
                # Nobody keeps the open one for so long: whether it is lost already is not what this is about.
                assert [each for each in findings if each.chain != left_open] == []
                assert found.removed == 1
                names = await service.inside.database.bulk.run(lambda connection: list(chain_names(connection)))
                assert old not in names
                assert {young, left_open} <= set(names)
                (event,) = await service_events(service, "records.removed")
                assert event.facts["sessions"] == [old]
                only, findings = await proved(service, old)
                assert (findings, only.removed, only.events) == ([], 1, 0)

    asyncio.run(scenario())


def test_a_session_whose_end_is_not_signed_or_that_was_changed_stays():
    async def scenario() -> None:
        clock = Clock()
        with folder() as path:
            async with serving(path, more=RETAIN, clock=clock) as service:
                proxy = await service.proxy()
                session = await over(proxy)
                await service.inside.notary.round()
                cut = tables.records.delete().where(
                    tables.records.c.session_id == session, tables.records.c.seq == len(STORY) - 1
                )
                await service.inside.database.short.run(lambda connection: connection.execute(cut))
                clock.pass_(days=80)
                await service.inside.retention.round()
                found, findings = await proved(service)
                assert found.removed == 0
                assert any(each.chain == session for each in findings)

    asyncio.run(scenario())


def test_a_session_that_came_back_after_it_was_taken_out_is_found():
    async def scenario() -> None:
        clock = Clock()
        with folder() as path:
            async with serving(path, more=RETAIN, clock=clock) as service:
                session = await over(await service.proxy())
                rows = await service.inside.database.short.run(
                    lambda connection: records.page(connection, session, 0, 100)
                )
                await service.inside.notary.round()
                clock.pass_(days=80)
                await service.inside.retention.round()
                assert (await proved(service))[1] == []
                first = rows[0]
                await service.inside.database.short.run(
                    lambda connection: records.add(connection, session, first.seq, first.event, first.hash)
                )
                assert any("is here" in each.why for each in (await proved(service))[1])

    asyncio.run(scenario())


def test_people_erase_one_session_or_everything_of_a_person():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                hers = await over(proxy, bearer=service.token(AGENT, on_behalf_of=ANA))
                another = await over(proxy, bearer=service.token(AGENT, on_behalf_of=ANA))
                others = await over(proxy)
                running = await proxy.open(service.token(ANA))
                await record(proxy, running.session_id, STORY[:3])
                stub, root = await archive(service), Party("user", "root", ())
                code, text = await status_of(
                    stub.EraseRecords(
                        pb.EraseRecordsRequest(session_id=running.session_id), metadata=bearer(service, root)
                    )
                )
                assert (code, "open" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
                answer = await stub.EraseRecords(
                    pb.EraseRecordsRequest(session_id=hers), metadata=bearer(service, root)
                )
                assert (answer.sessions, answer.bodies) == (1, BODIES)
                assert await kept(service, hers) == 0
                answer = await stub.EraseRecords(
                    pb.EraseRecordsRequest(subject="user:Ana"), metadata=bearer(service, root)
                )
                assert (answer.sessions, answer.bodies) == (1, BODIES)
                assert list(answer.open) == [running.session_id]
                assert await kept(service, another) == 0
                assert await kept(service, others) == BODIES
                events = await service_events(service, "records.erased")
                assert {(each.facts["session"], each.facts["by"]) for each in events} >= {
                    (hers, "user:root"),
                    (another, "user:root"),
                }
                assert all(each.decision_id for each in events)
                found, findings = await proved(service)
                assert findings == []
                assert found.erased == 2 * BODIES

    asyncio.run(scenario())


def test_what_decisions_and_approvals_held_of_a_session_goes_too():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action(text="delete from orders where note = 'told'"))
                await record(proxy, opened.session_id, STORY)
                await proxy.decisions.CloseSession(
                    CloseSessionRequest(token=opened.token, reason="done", last_seq=len(STORY) - 1)
                )
                await service.inside.decisions.stored()
                stub, who = await archive(service), bearer(service, Party("user", "root", ()))
                await stub.EraseRecords(pb.EraseRecordsRequest(session_id=opened.session_id), metadata=who)
                inputs = (
                    select(func.count())
                    .select_from(tables.decision_inputs)
                    .join(tables.decisions, tables.decisions.c.id == tables.decision_inputs.c.decision_id)
                    .where(tables.decisions.c.session_id == opened.session_id)
                )
                told = select(tables.approvals.c.action).where(tables.approvals.c.id == asked.approval_id)
                assert await service.inside.database.short.run(
                    lambda connection: (
                        connection.execute(inputs).scalar_one(),
                        bytes(connection.execute(told).scalar_one()),
                    )
                ) == (0, b"")

    asyncio.run(scenario())


def test_what_policies_protect_stays_also_when_all_of_a_subject_is_erased():
    async def scenario() -> None:
        held: list[str] = []

        def policy(document: dict[str, Any]) -> Any:
            properties = document["action"]["properties"].get("checkrein", {})
            return result("deny" if properties.get("target") in held else "allow")

        with folder() as path:
            async with serving(path, Script(policy=policy)) as service:
                proxy = await service.proxy()
                first, second = [await over(proxy) for _ in range(2)]
                held.append(first)
                stub, who = await archive(service), bearer(service, Party("user", "root", ()))
                answer = await stub.EraseRecords(pb.EraseRecordsRequest(subject="agent:planner"), metadata=who)
                assert list(answer.refused) == [first]
                assert (await kept(service, first), await kept(service, second)) == (BODIES, 0)
                code, _ = await status_of(stub.EraseRecords(pb.EraseRecordsRequest(session_id=first), metadata=who))
                assert code is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(scenario())


def test_the_command_asks_first_and_says_what_it_did():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                session = await over(await service.proxy())
                await service.inside.notary.round()
                root = Party("user", "root", ())
                done = await as_(service, root, "records", "erase", session, stdin="y\n")
                assert done.status == 0
                assert f"erased {BODIES} bodies" in done.out

    asyncio.run(scenario())


def test_bodies_are_kept_smaller_and_come_out_as_they_came():
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    rows = b'{"rows":[' + b",".join(b'["customer %d","city","2029-12-31"]' % n for n in range(2000)) + b"]}"
    noise = os.urandom(4096)

    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                run = service.inside.database.bulk.run

                def add(connection: Any) -> None:
                    records.add(connection, "c", 0, b"{}", b"h")
                    for index, content in enumerate((rows, noise, b"select 1", b"")):
                        records.add_body(connection, "c", 0, index, b"s" * 32, content, now)

                await run(add)
                (event,) = await run(lambda connection: records.page(connection, "c", 0, 10))
                assert event.bodies == {0: rows, 1: noise, 2: b"select 1", 3: b""}
                column = tables.bodies.c
                sizes = select(func.length(column.content)).where(column.session_id == "c").order_by(column.index)
                kept_sizes = await run(lambda connection: list(connection.execute(sizes).scalars()))
                assert kept_sizes[0] < len(rows) // 5
                assert kept_sizes[1:] == [len(noise), 8, 0]
                # What is no frame, or one that would fill the memory, comes out as it is: it is then found wrong.
                harm = update(tables.bodies).where(column.session_id == "c", column.index == 0)
                await run(lambda connection: connection.execute(harm.values(content=b"no frame")))
                (event,) = await run(lambda connection: records.page(connection, "c", 0, 10))
                assert event.bodies[0] == b"no frame"

    asyncio.run(scenario())
