"""Records as OCSF events, held against the published schema; runs over several resources; who read is on record."""

import asyncio
import datetime
import functools
import json
from collections.abc import Sequence
from typing import Any

import grpc
import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from pdp.commands.ocsf import VERSION, Export, refused_login
from pdp.commands.ocsf_approvals import approval_change
from pdp.commands.recorded import read
from pdp.identity.subject import Party
from pdp.v1 import access_pb2
from pdp.v1 import admin_service_pb2 as pb
from pdp.v1 import archive_service_pb2 as archive
from pdp.v1.digests import canonical_json
from pep.core.records import Body, Chain, Event, EventType
from tests.pdp.commanding import as_, record
from tests.pdp.serving import folder, serving, status_of
from tests.pdp.test_approvals import Asked, owner
from tests.pdp.test_cli_sessions import STORY, message
from tests.pdp.test_retention import archive as archive_of
from tests.pdp.test_retention import bearer, service_events

COMMENT = Body("comment", b"not today")
ROOT = Party("user", "root", ())


@functools.cache
def schema(uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    embedded = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    document = embedded.get_class_schema(embedded.lookup_class_name_from_uid(uid), profiles=list(profiles))
    return jsonschema.Draft202012Validator(document)


def conforms(event: dict[str, Any]) -> None:
    schema(event["class_uid"], tuple(event["metadata"]["profiles"])).validate(event)


def session(protocol: str = "postgres", address: str = "10.0.0.7:5000") -> pb.Session:
    return pb.Session(
        session_id="s-1",
        subject=access_pb2.Subject(
            type="agent",
            id="planner",
            groups=["agents"],
            root=access_pb2.Party(type="user", id="alice"),
            workflow="g/n/r-1",
        ),
        resource="shop",
        protocol=protocol,
        proxy="shop",
        client_address=address,
    )


def exported(events: Sequence[Event], of: pb.Session | None = None) -> list[dict[str, Any]]:
    chain = Chain("s-1", lambda: "2030-01-31T10:00:00.250000+00:00")
    story = Export(of or session(), "1")
    found = [made for event in events for made in story.feed(read(message(chain, event)))]
    found += story.end()
    for each in found:
        conforms(json.loads(json.dumps(each)))
    return found


def executed(text: str, verdict: str = "allow", **response: Any) -> list[Event]:
    facts = {"verdict": verdict, "action": "query", "execution": True, "exchange": 1, "reasons": [{"code": "reads"}]}
    intent = {"execution_id": "e1", "decision_ids": ["d-1"], "exchange": 1}
    said = Body("statement", text.encode())
    return [
        Event(EventType.DECISION, "d-1", "r1", facts),
        Event(EventType.INTENT, "d-1", "r1", intent, (said, Body("parameters", b'["S3cret"]'))),
        *([Event(EventType.RESPONSE, "d-1", "r1", {"execution_id": "e1", **response})] if response else []),
    ]


def test_a_whole_session_becomes_logins_and_activities():
    found = exported(STORY)
    assert [each["class_uid"] for each in found] == [3002, 6005, 6005, 6005, 3002]
    assert [each["activity_name"] for each in (found[0], found[-1])] == ["Logon", "Logoff"]
    masked, denied, held = found[1:4]
    assert (masked["action"], masked["activity_name"], masked["status"]) == ("Modified", "Query", "Success")
    assert masked["unmapped"]["masked"] == ["public.c.email"]
    assert (denied["action"], denied["disposition"], denied["policy"]["name"]) == ("Denied", "Blocked", "no_ddl")
    assert denied["query_info"]["query_string"] == "drop table orders"
    assert (held["action"], held["disposition"]) == ("Observed", "Delayed")
    assert masked["actor"]["invoked_by"] == "user:alice"
    assert masked["unmapped"]["workflow"] == {"graph": "g", "node": "n", "run": "r-1"}
    assert masked["src_endpoint"] == {"ip": "10.0.0.7", "port": 5000}


@pytest.mark.parametrize(
    ("text", "activity"),
    [
        ("select 1", "Query"),
        ("insert into a values (1)", "Write"),
        ("vacuum", "Other"),
        ("S3cret", "Other"),
        ("", "Other"),
    ],
)
def test_a_statement_and_what_became_of_it(text: str, activity: str):
    (made,) = exported(executed(text, rows=1, bytes=9, tags=["SELECT 1"]))
    assert (made["activity_name"], made["status"], made["action"]) == (activity, "Success", "Allowed")
    (failed,) = exported(executed(text, rows=0, bytes=0, sqlstate="42501"))
    assert (failed["status"], failed["status_code"]) == ("Failure", "42501")
    (lost,) = exported(executed(text))
    assert lost["status"] == "Unknown"
    assert "S3cret" not in json.dumps(made) or text == "S3cret"


@pytest.mark.parametrize(
    ("text", "activity", "path"),
    [("GET /orders/7", "Get", "/orders/7"), ("POST /orders", "Post", "/orders"), ("BREW /tea", "Other", "/tea")],
)
def test_a_request_over_http(text: str, activity: str, path: str):
    of = session("http", "[::1]:80")
    (made,) = exported(executed(text, status=201, bytes=9), of)
    assert (made["class_uid"], made["activity_name"]) == (4002, activity)
    assert made["http_request"]["url"] == {"path": path}
    assert made["http_response"] == {"code": 201, "body_length": 9}
    (failed,) = exported(executed(text, status=502, bytes=9), of)
    assert failed["status"] == "Failure"


@pytest.mark.parametrize("address", ["", "unix", "10.0.0.1", "::1", "[fe80::1]:99", "host:99", "10.0.0.1:99999"])
def test_where_it_came_from_whatever_was_said(address: str):
    assert exported(STORY[:1], session(address=address))[0]["src_endpoint"]


def test_a_refused_login():
    facts = {"resource": "shop", "proxy": "shop", "client_address": "10.0.0.7", "codes": ["authentication-failed"]}
    chain = Chain("process-shop", lambda: "2030-01-31T10:00:00+00:00")
    made = refused_login(read(message(chain, Event(EventType.LOGIN_REFUSED, facts=facts))), "1")
    conforms(made)
    assert (made["status"], made["status_detail"]) == ("Failure", "authentication-failed")


def test_the_export_of_a_service_is_decided_and_recorded_and_so_is_reading():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                await record(proxy, opened.session_id, STORY)
                process = f"process-shop-{'0' * 32}"
                refused = Event(EventType.LOGIN_REFUSED, facts={"resource": "shop", "codes": ["no"], "proxy": "shop"})
                await record(proxy, process, [Event(EventType.PROCESS, facts={"what": "started"}), refused])
                done = await as_(
                    service, ROOT, "sessions", "export", "--since", "365d", "--until", "2031-01-01T00:00:00Z"
                )
                assert done.status == 0, done.err
                lines = [json.loads(each) for each in done.out.splitlines()]
                for each in lines:
                    conforms(each)
                classes = [(each["class_uid"], each.get("status")) for each in lines]
                assert classes.count((3002, "Failure")) == 1
                assert len(lines) == 6
                (event,) = await service_events(service, "records.exported")
                assert (event.facts["by"], bool(event.decision_id)) == ("user:root", True)
                person = await service.person("root")
                stream = person.admin.GetSession(
                    pb.GetSessionRequest(session_id=opened.session_id), metadata=person.metadata
                )
                assert len([each async for each in stream]) == len(STORY) + 1
                (event,) = await service_events(service, "records.read")
                assert event.facts == {"by": "user:root", "session": opened.session_id}

    asyncio.run(scenario())


CHANGES = {
    "requested": (1, "Create", "Delayed", "Success"),
    "assented": (3, "Update", "Delayed", "Success"),
    "approved": (10, "Activate", "Allowed", "Success"),
    "denied": (11, "Deactivate", "Blocked", "Success"),
    "expired": (11, "Deactivate", "Blocked", "Success"),
    "cancelled": (11, "Deactivate", "Blocked", "Success"),
    "withdrawn": (9, "Disable", "Blocked", "Success"),
    "refused": (3, "Update", "Blocked", "Failure"),
    "of another kind": (99, "Other", "Unknown", "Success"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"by": "user:olga", "session": "s-1", "requirements": ["owners/code"], "uses": 1},
        {"by": ["user:a", "user:olga"], "until": "2030-01-31T10:00:00Z"},
        {"subject": "agent:planner", "root": "user:alice"},
        {"by": 7, "subject": ["x"], "requirements": [{}], "verdict": 3},
    ],
)
def test_each_change_of_an_approval(what: str, facts: dict[str, Any]):
    document = {
        "v": 1,
        "session": "pdp-1",
        "seq": 3,
        "time": "2030-01-31T10:00:00Z",
        "type": f"approval.{what}",
        "decision_id": "d-1",
        "facts": {"approval": "a-1", **facts},
        "bodies": [{"kind": "comment", "size": 9, "sha256": COMMENT.digest.hex()}],
    }
    event = pb.RecordedEvent(seq=3, event=canonical_json(document), hash=bytes(32))
    event.bodies[0], event.salts[0] = COMMENT.content, COMMENT.salt
    made = approval_change(read(event), "1")
    conforms(made)
    assert (made["activity_id"], made["activity_name"], made["disposition"], made["status"]) == CHANGES[what]
    assert (made["entity"]["uid"], made["comment"]) == ("a-1", "not today")
    if facts.get("by") and facts["by"] != 7:
        assert made["actor"]["user"]["uid"] == "user:olga"


@pytest.mark.usefixtures("each_store")
def test_what_became_of_approvals_is_exported_with_their_session_and_with_the_time():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                first, second = await Asked.by(service), await Asked.by(service, key="k2")
                await first.say(await owner(service))
                await first.redeem()
                await second.say(await owner(service), no="archive them")
                stub, who = await archive_of(service), bearer(service, ROOT)

                async def changes(**asked: Any) -> list[tuple[str, str]]:
                    answers = stub.ExportRecords(archive.ExportRecordsRequest(**asked), metadata=who)
                    events = [read(each.approval) async for each in answers if each.HasField("approval")]
                    for each in events:
                        conforms(json.loads(json.dumps(approval_change(each, "1"))))
                    return [(each.text("approval"), each.type.removeprefix("approval.")) for each in events]

                mine = [(first.id, each) for each in ("requested", "assented", "approved", "redeemed")]
                others = [(second.id, each) for each in ("requested", "denied")]
                assert await changes(session_id=first.opened.session_id) == mine
                assert await changes(session_id=second.opened.session_id) == others
                now = service.clock()
                hour = datetime.timedelta(hours=1)
                assert sorted(await changes(since=now - hour, until=now + hour)) == sorted(mine + others)
                assert await changes(since=now + hour, until=now + 2 * hour) == []
                assert await changes(since=now - 2 * hour, until=now - hour) == []

    asyncio.run(scenario())


def test_a_run_over_several_resources():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                sessions = []
                for run in ("r-1", "r-2", "r-1"):
                    token = service.token(Party("agent", "planner"), workflow={"graph": "g", "node": "n", "run": run})
                    sessions.append((await proxy.open(token)).session_id)
                for each in sessions:
                    await record(proxy, each, STORY)
                stub, who = await archive_of(service), bearer(service, ROOT)
                answer = await stub.ListRuns(archive.ListRunsRequest(), metadata=who)
                assert [(each.run, each.sessions, each.open) for each in answer.runs] == [("r-1", 2, 2), ("r-2", 1, 1)]
                assert list(answer.runs[0].subjects) == ["agent:planner"]
                done = await as_(service, ROOT, "runs", "show", "r-1")
                assert done.status == 0, done.err
                assert done.out.count("drop table orders") == 2
                assert all((each in done.out) == (number != 1) for number, each in enumerate(sessions))
                (event,) = await service_events(service, "records.read")
                assert event.facts["run"] == "r-1"
                missing = stub.GetRun(archive.GetRunRequest(run="r-9"), metadata=who)
                code, _ = await status_of(anext(aiter(missing)))
                assert code is grpc.StatusCode.NOT_FOUND

    asyncio.run(scenario())
