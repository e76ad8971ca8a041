"""Who was shown a field: indexed as records come in, asked by an auditor, decided and on record like every reading."""

import asyncio
import datetime
import json
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from sqlalchemy import func, select

from pdp.identity.subject import Party
from pdp.service.labels import MOST, labels_of
from pdp.store import disclosures, tables
from pdp.v1 import disclosure_service_pb2 as pb
from pdp.v1.decision_service_pb2 import CloseSessionRequest
from pdp.v1.disclosure_service_pb2_grpc import DisclosureServiceStub
from pep.core.records import Event, EventType
from tests.pdp.commanding import as_, record
from tests.pdp.serving import DELETE, SELECT, Clock, Script, action, folder, result, serving, status_of
from tests.pdp.test_retention import bearer, retain, service_events

ROOT = Party("user", "root", ())
OPENED = Event(EventType.SESSION_OPENED, facts={})
CLOSED = Event(EventType.SESSION_CLOSED, facts={"reason": "done"})
EMAIL = "public.customers.email"
AT = datetime.datetime(2030, 1, 31, 10, 0, 0, 200_000, datetime.UTC)
API = "GET pay.example/customers/{}"


def response(rows: int = 2, **said: Any) -> Event:
    facts = {"execution_id": "e1", "rows": rows, "disclosed": {"rows": rows, **said}}
    return Event(EventType.RESPONSE, "d-1", "r1", facts)


STORY = [
    OPENED,
    response(clear={"public.customers": {"id": ["public"], "email": ["email", "pii"]}}),
    response(masked={"public.customers": {"email": ["email", "pii"]}}),
    response(0, clear={"public.customers": {"*": ["pii"]}}),
    response(clear={API: {"$.email": ["email"], "$.items[*].id": []}}),
    response(clear={"*": {"*": []}}),
    Event(EventType.RESPONSE, "d-1", "r1", {"execution_id": "e2", "rows": 0}),
    CLOSED,
]


@pytest.mark.usefixtures("each_store")
def test_a_field_or_a_label_is_asked_for_and_the_asking_is_on_record():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await record(proxy, opened.session_id, STORY)
                # The same once more: a proxy does not know whether its last answer was lost.
                await record(proxy, opened.session_id, STORY)

                stub = DisclosureServiceStub(proxy.channel)

                async def who(field: str = "", **more: Any) -> list[int]:
                    asked = pb.ListDisclosuresRequest(**({"field": field} if field else {}), **more)
                    answers = stub.ListDisclosures(asked, metadata=bearer(service, ROOT))
                    return [each.seq async for each in answers]

                assert await who(EMAIL) == [5, 3, 2, 1]
                assert await who(label="pii") == [3, 2, 1]
                assert await who(f"{API} $.email") == [5, 4]
                assert await who(EMAIL, since=AT, resource="shop") == [5, 3, 2]
                assert await who(EMAIL, until=AT) == [1]
                assert await who(EMAIL, resource="pay") == []
                assert await who(EMAIL, limit=1) == [5]
                (event, *_) = await service_events(service, "records.read")
                assert event.facts == {"by": "user:root", "shown": {"field": EMAIL}, "sessions": [opened.session_id]}
                assert event.decision_id
                code, _ = await status_of(who())
                assert code is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())


def test_people_ask_at_the_command_line():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await record(proxy, opened.session_id, STORY)
                done = await as_(service, ROOT, "records", "who", EMAIL, "--since", "2030-01-01T00:00:00Z", "--json")
                assert done.status == 0, done.err
                found = [json.loads(each) for each in done.out.splitlines()]
                assert [(each["seq"], each["shown"], each["field"]) for each in found] == [
                    (5, "clear", "*"),
                    (3, "clear", "*"),
                    (2, "masked", "email"),
                    (1, "clear", "email"),
                ]
                assert found[-1] == {
                    "at": "2030-01-31T10:00:00.100000+00:00",
                    "session": opened.session_id,
                    "seq": 1,
                    "shown": "clear",
                    "subject": "agent:planner",
                    "root": "user:alice",
                    "run": "r",
                    "resource": "shop",
                    "dataset": "public.customers",
                    "field": "email",
                    "labels": ["email", "pii"],
                    "rows": 2,
                    "decision_id": "d-1",
                }
                done = await as_(service, ROOT, "records", "who", EMAIL, "--limit", "2")
                assert "agent:planner for user:alice" in done.out
                assert "there may be more" in done.out

    asyncio.run(scenario())


@pytest.mark.usefixtures("each_store")
def test_the_index_goes_with_the_record():
    async def scenario() -> None:
        clock = Clock()
        with folder() as path:
            more = "\n  records: {retain: {index: 60d}}"
            async with serving(path, more=more, clock=clock) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await record(proxy, opened.session_id, STORY)
                await proxy.decisions.CloseSession(
                    CloseSessionRequest(token=opened.token, reason="done", last_seq=len(STORY) - 1)
                )
                for days, left in ((59, True), (2, False)):
                    clock.pass_(days=days)
                    await retain(service)
                    for table in (tables.shown_fields, tables.shown_labels):
                        count = select(func.count()).select_from(table)
                        kept = await service.inside.database.short.run(
                            lambda connection, count=count: connection.execute(count).scalar_one()
                        )
                        assert (kept > 0) == left

    asyncio.run(scenario())


def test_who_may_not_read_a_session_is_told_nothing():
    async def scenario() -> None:
        protected: list[str] = []

        def policy(document: Mapping[str, Any]) -> Any:
            properties = document["action"]["properties"].get("checkrein", {})
            return result("deny" if properties.get("target") in protected else "allow")

        with folder() as path:
            async with serving(path, Script(policy=policy)) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await record(proxy, opened.session_id, STORY)
                protected += [opened.session_id]
                stub = DisclosureServiceStub(proxy.channel)
                code, _ = await status_of(
                    anext(aiter(stub.ListDisclosures(_of(EMAIL), metadata=bearer(service, ROOT))))
                )
                assert code is grpc.StatusCode.PERMISSION_DENIED
                protected[:] = [EMAIL]
                code, _ = await status_of(
                    anext(aiter(stub.ListDisclosures(_of(EMAIL), metadata=bearer(service, ROOT))))
                )
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert await service_events(service, "records.read") == []

    asyncio.run(scenario())


def _of(field: str) -> pb.ListDisclosuresRequest:
    return pb.ListDisclosuresRequest(field=field)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"clear": []},
        {"clear": {"a": []}},
        {"clear": {"a": {"b": "pii"}}, "rows": "many"},
        {"clear": {"a": {"b": [1, "x" * 300]}}, "rows": -1},
        {"clear": {"a" * 600: {"b" * 600: []}}, "rows": 1 << 63},
    ],
)
def test_whatever_a_proxy_ships_is_stored(said: Any):
    """An index is not worth a record: what does not have its form is not in it, and the record is there."""

    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                odd = Event(EventType.RESPONSE, "d-1", "r1", {"execution_id": "e1", "disclosed": said})
                await record(proxy, opened.session_id, [OPENED, odd, CLOSED])
                count = select(func.count()).select_from(tables.records)
                count = count.where(tables.records.c.session_id == opened.session_id)
                found = await service.inside.database.short.run(
                    lambda connection: connection.execute(count).scalar_one()
                )
                assert found == 3

    asyncio.run(scenario())


def test_names_are_written_as_people_write_them():
    assert disclosures.name_of("public.customers", "email") == EMAIL
    assert disclosures.name_of(API, "$.email") == f"{API} $.email"


def test_labels_come_with_a_grant_and_not_with_a_refusal():
    columns = [{"dataset": "public.orders", "field": name, "usage": ["output"]} for name in ("note", "status")]

    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = [action({**SELECT, "columns": columns}), action({**DELETE, "columns": columns})]
                granted, held = await proxy.decide(opened.token, *asked)
                assert [(each.dataset, each.field, list(each.labels)) for each in granted.labels] == [
                    ("public.orders", "note", ["internal"])
                ]
                assert list(held.labels) == []
                assert list(opened.decision.labels) == []

    asyncio.run(scenario())


def test_where_an_action_names_no_fields_every_label_of_the_resource_is_told():
    classified = {"customers": {"$..email": ["email"], "$..ssn": ["pii"]}}
    for properties in ({"opaque": False, "method": "GET"}, {"opaque": "DO", "columns": []}):
        assert [(each.field, list(each.labels)) for each in labels_of(properties, classified)] == [
            ("$..email", ["email"]),
            ("$..ssn", ["pii"]),
        ]
    assert labels_of({"opaque": False, "columns": []}, classified) == []
    many = {"d": {f"f{number}": ["a" if number else "b"] for number in range(MOST + 1)}}
    (every,) = labels_of({"method": "GET"}, many)
    assert (every.dataset, every.field, list(every.labels)) == ("*", "*", ["a", "b"])
