"""What people do at the command line, each with their own token."""

import asyncio
import datetime
import json

import grpc
import pytest

from pdp.identity.subject import Party
from pdp.policy_result import denied
from pdp.store import records
from pdp.v1 import access_pb2
from pdp.v1 import admin_service_pb2 as pb
from tests.pdp.serving import AGENT, SELECT, Script, action, digest_of, folder, result, serving, status_of
from tests.pdp.test_records import sealed, shipped

pytestmark = pytest.mark.usefixtures("each_store")

ALL = {
    "ListApprovals": (pb.ListApprovalsRequest(), "approvals.read"),
    "GetApproval": (pb.GetApprovalRequest(approval_id="a-1"), "approvals.read"),
    "ResolveApproval": (pb.ResolveApprovalRequest(approval_id="a-1", yes=pb.Yes()), "approve"),
    "ListSessions": (pb.ListSessionsRequest(), "sessions.read"),
    "KillSession": (pb.KillSessionRequest(session_id="s-1"), "sessions.kill"),
    "MintToken": (pb.MintTokenRequest(subject_type="agent", subject_id="x", audience="shop"), "token.mint"),
    "GetStatus": (pb.GetStatusRequest(), "status.read"),
}


@pytest.mark.parametrize("method", ALL)
def test_each_call_is_decided_by_the_policies_under_its_own_name(method: str):
    async def scenario():
        request, name = ALL[method]
        with folder() as path:
            async with serving(path, Script(policy=lambda _: denied("no", "Not you."))) as service:
                person = await service.person("olga", "operators")
                code, text = await status_of(person.call(method, request))
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert text.startswith("Not you. (d-")
                (asked,) = service.engine.asked
                assert asked["action"]["name"] == name
                assert asked["resource"] == {"type": "checkrein", "id": "checkrein", "properties": {"labels": {}}}
                assert asked["subject"]["id"] == "olga"

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("credential", [None, "", "nonsense", "for another resource"])
def test_each_call_needs_a_token_for_this_service(method: str, credential: str | None):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                person = await service.person("olga")
                if credential == "for another resource":
                    person.metadata = (("authorization", f"Bearer {service.token(AGENT, 'shop')}"),)
                else:
                    person.metadata = () if credential is None else (("authorization", f"Bearer {credential}"),)
                code, _ = await status_of(person.call(method, ALL[method][0]))
                assert code is grpc.StatusCode.UNAUTHENTICATED
                assert service.engine.asked == []

    asyncio.run(scenario())


def test_a_grant_with_duties_that_nobody_carries_out_is_none():
    async def scenario():
        with folder() as path:
            engine = Script(policy=lambda _: result("allow", obligations={"read_only": True}))
            async with serving(path, engine) as service:
                person = await service.person("olga")
                code, _ = await status_of(person.call("GetStatus", pb.GetStatusRequest()))
                assert code is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(scenario())


def test_sessions_are_listed_and_shown_with_their_record():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open(client_address="10.0.0.1")
                await proxy.decide(opened.token, action(SELECT), action())
                events = sealed(opened.session_id, 3)
                stream = proxy.audit.Record(iter(shipped(events)))
                assert [each.acknowledged_seq async for each in stream][-1] == 2
                person = await service.person("olga")
                (listed,) = (await person.call("ListSessions", pb.ListSessionsRequest(run="r"))).sessions
                assert listed.session_id == opened.session_id
                assert (listed.proxy, listed.state, listed.events) == ("shop", "open", 3)
                assert dict(listed.verdicts) == {"allow": 1, "require_approval": 1}
                other = await person.call("ListSessions", pb.ListSessionsRequest(run="another"))
                assert list(other.sessions) == []
                prefix = pb.GetSessionRequest(session_id=opened.session_id[:8])
                items = [item async for item in person.admin.GetSession(prefix, metadata=person.metadata)]
                assert items[0].session == listed
                assert [item.event.event for item in items[1:]] == [event.data for event in events]
                assert [item.event.hash for item in items[1:]] == [event.hash for event in events]
                assert [dict(item.event.bodies) for item in items[1:]] == [
                    {0: b"body 0"},
                    {0: b"body 1"},
                    {0: b"body 2"},
                ]
                missing = person.admin.GetSession(pb.GetSessionRequest(session_id="s-1"), metadata=person.metadata)
                assert (await status_of(missing.read()))[0] is grpc.StatusCode.NOT_FOUND

    asyncio.run(scenario())


def test_approvals_are_listed_and_shown_whole():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action(), in_transaction=True)
                person = await service.person("olga")
                (listed,) = (await person.call("ListApprovals", pb.ListApprovalsRequest())).approvals
                assert listed.approval_id == asked.approval_id
                # Not the digest, without which nobody says yes, and no value.
                assert (listed.action_digest, bool(listed.hidden)) == (b"", True)
                assert listed.in_transaction
                assert (listed.subject.id, listed.subject.root.id) == ("planner", "alice")
                assert [list(each.approvers) for each in listed.requirements] == [["group:owners"]]
                request = pb.GetApprovalRequest(approval_id=asked.approval_id[:8])
                got = await person.call("GetApproval", request)
                assert got.approval.action == action()
                assert got.approval.action_digest == digest_of(action(), opened)
                assert (got.approval.hidden, got.approval.sentence) == ("", listed.sentence)
                status = await person.call("GetStatus", pb.GetStatusRequest())
                assert (status.open_sessions, status.pending_approvals) == (1, 1)

    asyncio.run(scenario())


def test_a_minted_token_opens_a_session_and_names_who_had_it_made():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                alice = await service.person("alice", "staff", "owners")
                request = pb.MintTokenRequest(
                    subject_type="agent",
                    subject_id="planner",
                    groups=["agents"],
                    audience="shop",
                    workflow={"graph": "g", "node": "n"},
                )
                minted = await alice.call("MintToken", request)
                proxy = await service.proxy()
                opened = await proxy.open(minted.token)
                assert (opened.subject.id, opened.subject.workflow) == ("planner", "g/n/")
                asked = await proxy.ask(opened, action())
                approve = pb.ResolveApprovalRequest(approval_id=asked.approval_id, yes=pb.Yes())
                code, text = await status_of(alice.call("ResolveApproval", approve))
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert "nobody approves their own request" in text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"subject_type": "user", "subject_id": "bob"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"subject_type": "user", "subject_id": "alice", "groups": ["owners"]}, grpc.StatusCode.PERMISSION_DENIED),
        (
            {"subject_type": "agent", "subject_id": "x", "on_behalf_of": access_pb2.Party(type="user", id="bob")},
            grpc.StatusCode.PERMISSION_DENIED,
        ),
        (
            {
                "subject_type": "agent",
                "subject_id": "x",
                "on_behalf_of": access_pb2.Party(type="service", id="y", groups=["privacy"]),
            },
            grpc.StatusCode.PERMISSION_DENIED,
        ),
        ({"subject_type": "king", "subject_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"subject_type": "agent", "subject_id": "x", "audience": "nowhere"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_token_speaks_for_nobody_else(fields: dict, code: grpc.StatusCode):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                alice = await service.person("alice", "staff")
                request = pb.MintTokenRequest(**({"audience": "shop"} | fields))
                assert (await status_of(alice.call("MintToken", request)))[0] is code

    asyncio.run(scenario())


def test_a_token_that_an_agent_has_made_carries_the_whole_chain():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                agent = await service.person("planner", type="agent", on_behalf_of=Party("user", "olivia"))
                request = pb.MintTokenRequest(subject_type="agent", subject_id="sub", audience="shop")
                minted = await agent.call("MintToken", request)
                proxy = await service.proxy()
                asked = await proxy.ask(await proxy.open(minted.token), action())
                approve = pb.ResolveApprovalRequest(approval_id=asked.approval_id, yes=pb.Yes())
                olivia = await service.person("olivia", "owners")
                code, _ = await status_of(olivia.call("ResolveApproval", approve))
                assert code is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(scenario())


def test_a_rule_about_one_session_holds_for_each_way_to_name_it():
    async def scenario():
        def policy(document):
            target = document["action"]["properties"].get("checkrein", {}).get("target", "")
            return denied("no", "Not that one.") if target == protected else result("allow")

        protected = "none yet"
        with folder() as path:
            async with serving(path, Script(policy=policy)) as service:
                proxy = await service.proxy()
                protected = (await proxy.open()).session_id
                person = await service.person("olga")
                for name in (protected, protected[:6], "s"):
                    code, _ = await status_of(person.call("KillSession", pb.KillSessionRequest(session_id=name)))
                    assert code is grpc.StatusCode.PERMISSION_DENIED
                    shown = person.admin.GetSession(pb.GetSessionRequest(session_id=name), metadata=person.metadata)
                    assert (await status_of(shown.read()))[0] is grpc.StatusCode.PERMISSION_DENIED
                # No name is not the name of the only one there is.
                code, _ = await status_of(person.call("KillSession", pb.KillSessionRequest()))
                assert code is grpc.StatusCode.NOT_FOUND
                assert service.inside.sessions.open_count == 1

    asyncio.run(scenario())


def test_a_token_does_not_outlive_the_one_that_it_is_made_with():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                alice = await service.person("alice", "staff", lifetime=datetime.timedelta(minutes=2))
                request = pb.MintTokenRequest(subject_type="user", subject_id="alice", audience="checkrein")
                request.lifetime.FromTimedelta(datetime.timedelta(hours=1))
                minted = await alice.call("MintToken", request)
                left = minted.expires_at.ToDatetime(datetime.UTC) - service.clock()
                assert left <= datetime.timedelta(minutes=2)
                service.clock.pass_(minutes=4)
                alice.metadata = (("authorization", f"Bearer {minted.token}"),)
                code, _ = await status_of(alice.call("GetStatus", pb.GetStatusRequest()))
                assert code is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(scenario())


def test_who_ends_a_session_and_who_has_a_token_made_is_on_record():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                opened = await (await service.proxy()).open()
                olga = await service.person("olga")
                await olga.call("KillSession", pb.KillSessionRequest(session_id=opened.session_id))
                request = pb.MintTokenRequest(subject_type="agent", subject_id="nightly", audience="shop")
                token = (await olga.call("MintToken", request)).token
                chain, run = service.inside.chain.id, service.inside.database.bulk.run
                events = [json.loads(each.event) for each in await run(lambda c: records.page(c, chain, 0, 100))]
                told = {each["type"]: each["facts"] for each in events}
                assert told["session.killed"] == {"by": "user:olga", "session": opened.session_id}
                minted = told["token.minted"]
                assert (minted["by"], minted["subject"], minted["audience"]) == ("user:olga", "agent:nightly", "shop")
                assert not any(token in json.dumps(each) for each in events)

    asyncio.run(scenario())
