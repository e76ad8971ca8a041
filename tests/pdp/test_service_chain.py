"""The service's own chain: one for each process, in the format of all records, together with what it tells of."""

import asyncio
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from pdp.audit.service_chain import PREFIX, Body, ServiceChain
from pdp.commands.chain import verify
from pdp.commands.recorded import Recorded, read
from pdp.store import records, tables
from pdp.store.database import Database
from pdp.v1.admin_service_pb2 import RecordedEvent
from tests.pdp.serving import folder, serving

pytestmark = pytest.mark.usefixtures("each_store")

NOW = datetime.datetime(2030, 1, 2, 3, 4, 5, 678901, datetime.UTC)


def store(path: Path) -> Database:
    return Database(f"sqlite:///{path}/pdp.db")


async def recorded(database: Database, chain: str) -> list[Recorded]:
    page = await database.bulk.run(lambda connection: records.page(connection, chain, 0, 1000))
    return [
        read(RecordedEvent(seq=each.seq, event=each.event, hash=each.hash, bodies=each.bodies, salts=each.salts))
        for each in page
    ]


async def chains(database: Database) -> list[str]:
    def work(connection: Connection) -> list[str]:
        return list(connection.execute(select(tables.records.c.session_id).distinct()).scalars())

    return sorted(await database.bulk.run(work))


def test_its_events_verify_as_every_record_does(tmp_path: Path):
    async def scenario() -> None:
        async with store(tmp_path) as database:
            chain = ServiceChain(database, lambda: NOW)
            await chain.begin()
            await chain.append("records.read", {"by": "user:ada"}, decision_id="d1", policy_revision="r1")
            await chain.append("records.read", {}, [Body("comment", b"\xff words"), Body.of_json("query", {"a": [1]})])
            events = await recorded(database, chain.id)
            verdict = verify(chain.id, events, over=False)
            assert verdict.whole
            assert (verdict.events, verdict.bodies) == (3, 2)
            assert [each.type for each in events] == ["service.started", "records.read", "records.read"]
            assert (events[1].decision_id, events[1].policy_revision) == ("d1", "r1")
            assert events[1].facts == {"by": "user:ada"}
            assert events[1].time == NOW
            assert [(each.kind, each.content) for each in events[2].bodies] == [
                ("comment", b"\xff words"),
                ("query", b'{"a":[1]}'),
            ]

    asyncio.run(scenario())


def test_what_fails_is_not_on_record_and_what_is_not_on_record_does_not_happen(tmp_path: Path):
    async def scenario() -> None:
        async with store(tmp_path) as database:
            chain = ServiceChain(database, lambda: NOW)
            await chain.begin()

            def fails(connection: Connection) -> None:
                chain.write(connection, "approval.approved", {})
                raise RuntimeError

            with pytest.raises(RuntimeError):
                await database.short.run(fails)
            assert [each.type for each in await recorded(database, chain.id)] == ["service.started"]
            # Whoever may not write the record may not go on.
            with pytest.raises(TypeError):
                await chain.append("odd", {"no": object()})
            await chain.append("records.read", {})
            assert verify(chain.id, await recorded(database, chain.id), over=False).events == 2

    asyncio.run(scenario())


def test_many_at_once_make_one_chain(tmp_path: Path):
    async def scenario() -> None:
        async with store(tmp_path) as database:
            chain = ServiceChain(database, lambda: NOW)
            await chain.begin()
            lanes = (database.short, database.bulk)

            def write(number: int) -> Any:
                return lambda connection: chain.write(connection, "records.read", {"number": number})

            await asyncio.gather(*(lanes[number % 2].run(write(number)) for number in range(40)))
            events = await recorded(database, chain.id)
            assert verify(chain.id, events, over=False).whole
            assert {each.facts["number"] for each in events[1:]} == set(range(40))

    asyncio.run(scenario())


def test_each_process_has_a_chain_that_names_the_end_of_the_one_before():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                first = service.inside.chain.id
            async with serving(path) as service:
                database, second = service.inside.database, service.inside.chain.id
                assert await chains(database) == [first, second]
                assert first.startswith(PREFIX)
                (*_, stopped), (started, *_) = await recorded(database, first), await recorded(database, second)
                assert (stopped.type, started.type) == ("service.stopped", "service.started")
                assert started.facts["previous"] == {"chain": first, "seq": stopped.seq, "hash": stopped.hash.hex()}
                assert json.loads(stopped.data)["session"] == first

    asyncio.run(scenario())
