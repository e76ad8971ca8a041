"""A yes may narrow what is asked, to a number of changed rows, and never widens it; no policy can take that back."""

import asyncio
import datetime
import json
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from pdp.approvals import rules
from pdp.commands import approval_view as view
from pdp.store import tables
from pdp.v1 import access_pb2, admin_service_pb2
from pdp.v1.decision_pb2 import Decision
from tests.pdp.commanding import OWNER, as_
from tests.pdp.serving import (
    DELETE,
    Document,
    Person,
    Script,
    Service,
    action,
    digest_of,
    folder,
    requirement,
    result,
    serving,
    status_of,
)

WRONG = grpc.StatusCode.INVALID_ARGUMENT
WIDER = "a yes narrows and never widens"


def limiting(most: int | None = None, *, count: int = 1) -> Script:
    """Deletes need so many owners, and may then change so many rows at most."""
    engine = Script(requirements=[requirement("group:owners", count=count)])
    plain = engine.decide

    async def decide(document: Document) -> Any:
        answer = await plain(document)
        if most is None or answer.verdict.value != "allow" or "postgres" not in document["action"]["properties"]:
            return answer
        return result("allow", obligations={"limit_affected": {"max": most}})

    engine.decide = decide  # type: ignore[method-assign]
    return engine


async def say(service: Service, asked: Any, digest: bytes, person: Person, most: int | None) -> Any:
    request = admin_service_pb2.ResolveApprovalRequest(
        approval_id=asked.approval_id, action_digest=digest, yes=admin_service_pb2.Yes(max_rows=most)
    )
    return (await person.call("ResolveApproval", request)).approval


def limits(decision: Decision) -> list[int]:
    return [each.limit_affected.max for each in decision.allow.obligations if each.HasField("limit_affected")]


@pytest.mark.usefixtures("each_store")
@pytest.mark.parametrize(
    ("policy", "said", "granted"), [(None, 5, [5]), (10, 5, [5]), (10, 10, [10]), (10, None, [10]), (None, None, [])]
)
def test_the_smaller_limit_goes_with_the_grant(policy: int | None, said: int | None, granted: list[int]):
    async def scenario():
        engine = limiting(policy)
        with folder() as path:
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                digest = digest_of(action(), opened)
                owner = await service.person("olivia", "owners")
                approval = await say(service, asked, digest, owner, said)
                stands = said if said is not None else policy
                assert approval.HasField("max_rows") == (stands is not None)
                assert approval.max_rows == (stands or 0)
                decision = await proxy.redeem(opened.token, asked.approval_id, digest)
                assert limits(decision) == granted
                assert engine.asked[-1]["context"]["approval"].get("max_rows") == stands

    asyncio.run(scenario())


@pytest.mark.usefixtures("each_store")
def test_it_is_never_widened():
    async def scenario():
        with folder() as path:
            async with serving(path, limiting(10, count=2)) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                digest = digest_of(action(), opened)
                one, two = await service.person("olivia", "owners"), await service.person("oscar", "owners")
                code, words = await status_of(say(service, asked, digest, one, 11))
                assert (code, words) == (
                    WRONG,
                    "a yes narrows and never widens: at most 10 rows may change as it stands",
                )
                assert (await status_of(say(service, asked, digest, one, 0)))[0] is WRONG
                assert (await status_of(say(service, asked, digest, one, 1 << 63)))[0] is WRONG
                first = await say(service, asked, digest, one, 4)
                assert (first.max_rows, first.assents[0].max_rows) == (4, 4)
                code, words = await status_of(say(service, asked, digest, one, 3))
                assert code is grpc.StatusCode.FAILED_PRECONDITION
                code, words = await status_of(say(service, asked, digest, two, 5))
                assert (code, words) == (
                    WRONG,
                    "a yes narrows and never widens: at most 4 rows may change as it stands",
                )
                second = await say(service, asked, digest, two, None)
                assert (second.max_rows, second.assents[1].HasField("max_rows")) == (4, False)
                assert limits(await proxy.redeem(opened.token, asked.approval_id, digest)) == [4]
                events = [event for event in await chain(service) if event["type"].startswith("approval.")]
                told = {event["type"]: event["facts"].get("max_rows") for event in events}
                assert told["approval.requested"] == 10
                assert told["approval.approved"] == told["approval.redeemed"] == 4
                assented = [each["facts"]["max_rows"] for each in events if each["type"] == "approval.assented"]
                assert assented == [4, None]

    asyncio.run(scenario())


async def chain(service: Service) -> list[dict[str, Any]]:
    """The service's own events, in order."""

    def read(connection: Any) -> list[bytes]:
        wanted = select(tables.records.c.event).order_by(tables.records.c.seq)
        return list(connection.execute(wanted).scalars())

    return [json.loads(event) for event in await service.inside.database.short.run(read)]


@pytest.mark.parametrize(
    ("properties", "protocol", "said"),
    [
        (DELETE | {"kind": "drop"}, "postgres", "only INSERT, UPDATE, DELETE and MERGE have a count"),
        (DELETE | {"opaque": "no"}, "postgres", "only INSERT, UPDATE, DELETE and MERGE have a count"),
        (DELETE, "http", "only a statement of SQL has rows"),
        ([], "postgres", "only a statement of SQL has rows"),
    ],
)
def test_what_has_no_counted_rows_is_said_to_have_none(properties: Any, protocol: str, said: str):
    acting = access_pb2.Action(protocol=protocol, properties_json=json.dumps(properties).encode())
    assert said in (rules.uncounted(acting) or "")


def test_what_has_no_counted_rows_cannot_be_narrowed():
    async def scenario():
        drop = action(DELETE | {"class": "schema", "kind": "drop"})
        held = result("require_approval", requirements=[requirement("group:owners")])
        engine = Script(policy=lambda asked: held if asked["action"]["name"] == "query" else result("allow"))
        with folder() as path:
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, drop)
                owner = await service.person("olivia", "owners")
                code, words = await status_of(say(service, asked, digest_of(drop, opened), owner, 5))
                assert code is WRONG
                assert "cannot be approved for a number of rows" in words

    asyncio.run(scenario())


def test_the_command_line_says_it_and_shows_it():
    async def scenario():
        with folder() as path:
            async with serving(path, limiting(10)) as service:
                proxy = await service.proxy()
                asked = await proxy.ask(await proxy.open(), action())
                saying = ("approvals", "approve", asked.approval_id, "--max-rows")
                wider = await as_(service, OWNER, *saying, "11", "--yes")
                assert wider.status == 2
                assert WIDER in wider.err
                assert "changing at most 10 rows each time" in wider.out
                done = await as_(service, OWNER, *saying, "5", stdin="y\n")
                assert done.status == 0, done.err
                assert "Approve exactly this, for at most 5 rows?" in done.out + done.err
                owner = await service.person("olivia", "owners")
                request = admin_service_pb2.GetApprovalRequest(approval_id=asked.approval_id)
                approval = (await owner.call("GetApproval", request)).approval
                said = dict(view.facts(approval, datetime.datetime.now(datetime.UTC)))
                assert "changing at most 5 rows each time" in said["On yes"]
                assert said["Said yes"].endswith(", at most 5 rows")

    asyncio.run(scenario())


def test_facts_that_policies_ask_for_come_with_the_action():
    """Incomplete first, then decided with what the proxy found out; approvals and their use see it as well."""

    def policy(document: Document) -> Any:
        if document["action"]["properties"].get("postgres", {}).get("kind") != "delete":
            return result("allow")
        estimate = document["context"].get("facts", {}).get("estimate")
        if estimate is None:
            return result("incomplete", reasons=[], needs=["estimate"])
        approved = document["context"].get("approval", {}).get("state") == "approved"
        if estimate.get("rows", 1000) <= 10 or approved:
            return result("allow")
        return result("require_approval", requirements=[requirement("group:owners")])

    async def scenario():
        engine = Script(policy=policy)
        with folder() as path:
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                (first,) = await proxy.decide(opened.token, action())
                assert first.WhichOneof("verdict") == "incomplete"
                assert list(first.incomplete.needs) == ["estimate"]
                few = action(facts=access_pb2.Facts(estimate=access_pb2.Estimate(rows=3)))
                (second,) = await proxy.decide(opened.token, few)
                assert second.WhichOneof("verdict") == "allow"
                assert engine.asked[-1]["context"]["facts"] == {"estimate": {"rows": 3.0}}
                strange = action(facts=access_pb2.Facts(estimate=access_pb2.Estimate(rows=float("nan"))))
                await proxy.decide(opened.token, strange)
                assert "unavailable" in engine.asked[-1]["context"]["facts"]["estimate"]
                unknown = action(facts=access_pb2.Facts(estimate=access_pb2.Estimate(unavailable="its own function")))
                asked = await proxy.ask(opened, unknown)
                digest = digest_of(action(), opened)
                await say(service, asked, digest, await service.person("olivia", "owners"), None)
                given = await proxy.redeem(opened.token, asked.approval_id, digest)
                assert given.WhichOneof("verdict") == "allow"
                assert engine.asked[-1]["context"]["facts"] == {"estimate": {"unavailable": "its own function"}}

    asyncio.run(scenario())
