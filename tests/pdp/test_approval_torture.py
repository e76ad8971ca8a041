"""Approvals when things go wrong: what becomes of one whatever happens meanwhile, and that it is all on record."""

import asyncio
import datetime
import hashlib
from typing import Any

import grpc
import pytest

from pdp.approvals.errors import NotPossible
from pdp.commands.chain import verify
from pdp.identity.subject import Authenticated, Party, Subject
from pdp.v1 import access_pb2, admin_service_pb2, approval_admin_service_pb2, approval_admin_service_pb2_grpc
from pdp.v1 import approval_service_pb2 as pb
from tests.pdp.serving import (
    AGENT,
    ALICE,
    DELETE,
    Clock,
    Person,
    Script,
    Service,
    action,
    digest_of,
    folder,
    requirement,
    serving,
    status_of,
)
from tests.pdp.test_approvals import NOT_NOW, NOT_PERMITTED, Asked, owner
from tests.pdp.test_service_chain import recorded


class Told:
    """The service's chain, without what begins it."""

    def __init__(self, service: Service) -> None:
        self._inside = service.inside

    async def events(self) -> list[Any]:
        events = await recorded(self._inside.database, self._inside.chain.id)
        assert verify(self._inside.chain.id, events, over=False).whole
        return [each for each in events if each.type.startswith("approval.")]

    async def types(self) -> list[str]:
        return [each.type.removeprefix("approval.") for each in await self.events()]


async def withdraw(service: Service, person: Person, id: str, comment: str = "") -> Any:
    proxy = await service.proxy()
    stub: Any = approval_admin_service_pb2_grpc.ApprovalAdminServiceStub(proxy.channel)
    request = approval_admin_service_pb2.WithdrawApprovalRequest(approval_id=id, comment=comment)
    return (await stub.WithdrawApproval(request, metadata=person.metadata)).approval


async def ask_detached(service: Service, credential: str | None = None, key: str = "k") -> Asked:
    proxy = await service.proxy()
    opened = await proxy.open(credential)
    return Asked(service, proxy, opened, await proxy.ask(opened, action(), key, detached=True))


def test_every_change_is_on_record_with_who_made_it():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", count=2)])
        clock = Clock()
        with folder() as path:
            async with serving(path, engine, clock=clock) as service:
                told = Told(service)
                asked = await Asked.by(service)
                await asked.say(await owner(service, "olivia"))
                await status_of(asked.say(await owner(service, "alice")))
                await asked.say(await owner(service, "otto"))
                decision = await asked.redeem()
                await asked.redeem()
                kinds = ["requested", "assented", "refused", "assented", "approved", "redeemed"]
                assert await told.types() == kinds
                events = await told.events()
                assert {each.facts["approval"] for each in events} == {asked.id}
                first = events[0].facts
                assert (first["subject"], first["root"]) == ("agent:planner", "user:alice")
                assert first["digest"] == asked.digest.hex()
                assert (events[2].facts["by"], events[4].facts["by"]) == ("user:alice", ["olivia", "otto"])
                assert events[5].decision_id == decision.decision_id
                assert events[5].facts["by_session"] == asked.opened.session_id

                no = await Asked.by(service)
                await no.say(await owner(service), no="not on friday")
                late = await Asked.by(service)
                left = await Asked.by(service)
                cancel = pb.CancelApprovalRequest(
                    token=left.opened.token, approval_id=left.id, reason="the client left"
                )
                await left.proxy.approvals.CancelApproval(cancel)
                clock.pass_(minutes=16)
                await service.inside.approvals.expire()
                assert (await told.types())[6:] == ["requested", "denied"] + ["requested"] * 2 + [
                    "cancelled",
                    "expired",
                ]
                said = {each.type: each for each in (await told.events())[6:]}
                assert [each.content for each in said["approval.denied"].bodies] == [b"not on friday"]
                assert [each.content for each in said["approval.cancelled"].bodies] == [b"the client left"]
                assert (said["approval.expired"].facts["approval"], said["approval.expired"].facts["was"]) == (
                    late.id,
                    "pending",
                )

    asyncio.run(scenario())


def test_a_yes_is_taken_back_before_it_is_used_and_not_after():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                person = await owner(service)
                code, text = await status_of(withdraw(service, person, asked.id))
                assert (code, text) == (NOT_NOW, "there is no yes to take back: it is pending")
                await asked.say(person)
                approval = await withdraw(service, person, asked.id, "wrong\x1b table")
                assert (approval.state, approval.comment) == (pb.APPROVAL_STATE_WITHDRAWN, "wrong table")
                assert (await asked.redeem()).reasons[0].code == "approval-not-usable"
                assert (await asked.states())[-1][0] == pb.APPROVAL_STATE_WITHDRAWN
                assert (await Told(service).types())[-1] == "withdrawn"
                used = await Asked.by(service)
                await used.say(person)
                assert (await used.redeem()).WhichOneof("verdict") == "allow"
                assert (await status_of(withdraw(service, person, used.id)))[0] is NOT_NOW

    asyncio.run(scenario())


def test_of_a_use_and_a_withdrawal_at_once_exactly_one_takes_place():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                person = await owner(service)
                asked = await Asked.by(service)
                await asked.say(person)
                taken_back, decision = await asyncio.gather(
                    status_or_none(withdraw(service, person, asked.id)), asked.redeem()
                )
                used = decision.WhichOneof("verdict") == "allow"
                assert used == (taken_back is not None)
                kinds = await Told(service).types()
                assert ("redeemed" in kinds, "withdrawn" in kinds) == (used, not used)

    asyncio.run(scenario())


async def status_or_none(call: Any) -> grpc.StatusCode | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_and_the_end_of_time_exclude_one_another(late: bool):
    """The answer comes in the last moment or in the first one after it, while the service ends what is over."""

    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                asked = await Asked.by(service)
                end = asked.answer.expires_at.ToDatetime(datetime.UTC)
                # The clock stands still from here on.
                moment = end if late else end - datetime.timedelta(microseconds=1)
                approvals = service.inside.approvals
                approvals._now = approvals._answers._now = lambda: moment
                who = approver("olivia", moment)
                answers = await asyncio.gather(approvals.expire(), answered(service, asked, who), approvals.expire())
                assert answers[1] is not late
                kinds = await Told(service).types()
                assert ("expired" in kinds, "approved" in kinds) == (late, not late)

    asyncio.run(scenario())


def approver(id: str, signed_in_at: datetime.datetime) -> Authenticated:
    return Authenticated(Subject("user", id, ("owners",), "checkrein", "jwt"), None, signed_in_at)


async def answered(service: Service, asked: Asked, who: Authenticated, no: str | None = None) -> bool:
    try:
        await service.inside.approvals.resolve(asked.id, who, asked.digest, no)
    except NotPossible:
        return False
    return True


def test_of_a_yes_and_a_no_at_once_exactly_one_counts():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                now = service.clock()
                for number in range(10):
                    proxy = await service.proxy()
                    opened = await proxy.open()
                    asked = Asked(service, proxy, opened, await proxy.ask(opened, action(), f"k{number}"))
                    yes, no = await asyncio.gather(
                        answered(service, asked, approver("olivia", now)),
                        answered(service, asked, approver("otto", now), no="no"),
                    )
                    assert yes != no
                    verdict = (await asked.redeem()).WhichOneof("verdict")
                    assert verdict == ("allow" if yes else "deny")

    asyncio.run(scenario())


def test_two_approvers_at_once_are_two_where_two_are_needed():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", count=2)])
        with folder() as path:
            async with serving(path, engine) as service:
                asked = await Asked.by(service)
                now = service.clock()
                people = [approver("olivia", now), approver("otto", now), approver("OLIVIA", now)]
                await asyncio.gather(*(answered(service, asked, each) for each in people))
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"
                kinds = await Told(service).types()
                assert (kinds.count("assented"), kinds.count("approved")) == (2, 1)

    asyncio.run(scenario())


def test_one_byte_more_or_less_is_another_action():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                text = action().statement.text
                for changed in (text + " ", text[:-1], text.replace("d", "D", 1), text.replace("e", "е", 1)):
                    digest = digest_of(action(text=changed), asked.opened)
                    decision = await asked.proxy.redeem(asked.opened.token, asked.id, digest)
                    assert decision.reasons[0].code == "approval-changed"
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_what_a_client_comes_back_for_is_there_in_a_session_of_another_proxy_process():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                first = await ask_detached(service)
                waiting = await Asked.by(service)
                # The proxy dies: nobody keeps its sessions, and the service takes them for lost.
                service.clock.pass_(minutes=2)
                await service.inside.sessions.sweep()
                again = await ask_detached(service)
                assert (again.id, again.answer.state) == (first.id, pb.APPROVAL_STATE_PENDING)
                assert again.opened.session_id != first.opened.session_id
                await again.say(await owner(service))
                third = await ask_detached(service)
                assert (third.id, third.answer.state) == (first.id, pb.APPROVAL_STATE_APPROVED)
                assert (await third.redeem()).WhichOneof("verdict") == "allow"
                assert (await again.redeem("e2")).WhichOneof("verdict") == "deny"
                # Who waited on the wire is gone with the wire, and so is what it asked.
                code, text = await status_of(waiting.say(await owner(service)))
                assert (code, text) == (NOT_NOW, "it is no longer pending but cancelled")
                # Another thread, run or person asks for itself.
                other = service.token(AGENT, on_behalf_of=ALICE, workflow={"graph": "g", "node": "n", "run": "r2"})
                assert (await ask_detached(service, other)).id != first.id

    asyncio.run(scenario())


def test_nothing_of_a_session_that_was_ended_on_purpose_can_be_come_back_for():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                first = await ask_detached(service)
                kill = admin_service_pb2.KillSessionRequest(session_id=first.opened.session_id)
                await (await service.person("olga")).call("KillSession", kill)
                again = await ask_detached(service)
                assert again.id != first.id

    asyncio.run(scenario())


def test_a_token_that_ends_meanwhile_ends_what_it_asked_for():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                life = datetime.timedelta(minutes=5)
                asked = await Asked.by(service, service.token(AGENT, lifetime=life))
                person = await owner(service, lifetime=datetime.timedelta(hours=1))
                brief = await owner(service, "otto", lifetime=life)
                clock.pass_(minutes=6)
                # The approver's own token has ended as well: it answers nothing.
                assert (await status_of(asked.say(brief)))[0] is grpc.StatusCode.UNAUTHENTICATED
                await asked.say(person)
                assert (await status_of(asked.redeem()))[0] is grpc.StatusCode.UNAUTHENTICATED
                kinds = await Told(service).types()
                assert "redeemed" not in kinds

    asyncio.run(scenario())


def test_a_flood_is_one_entry_and_each_of_it_wants_its_own_answer():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = [
                    Asked(service, proxy, opened, await proxy.ask(opened, flooded(number), f"k{number}"))
                    for number in range(4)
                ]
                other = await proxy.ask(opened, action({**DELETE, "functions": ["f"]}), "other")
                person = await owner(service)

                async def listed(**more: Any) -> dict[str, int]:
                    request = admin_service_pb2.ListApprovalsRequest(**more)
                    answer = await person.call("ListApprovals", request)
                    return {each.approval_id: each.alike for each in answer.approvals}

                assert await listed() == {asked[0].id: 4, other.approval_id: 1}
                assert len(await listed(unfolded=True)) == 5
                asked[0].digest = digest_of(flooded(0), opened)
                await asked[0].say(person)
                assert await listed() == {asked[1].id: 3, other.approval_id: 1}
                assert (await asked[1].redeem()).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def flooded(number: int) -> access_pb2.Action:
    pins = [{"dataset": "public.orders", "field": "id", "value": number}]
    return action({**DELETE, "pins": pins}, f"delete from orders where id = {number}")


KEY = "0123456789abcdefghij"
PEOPLE = """    people: {{same: email}}
    keys:
      - id: k
        hash: {hash}
        audience: {audience}
        subject: {{type: user, id: key-holder, groups: [owners], same: "Dana@Example.com"}}
"""


def test_another_identity_of_the_same_human_does_not_approve():
    """A person asks with a key and answers with a token whose claim says that it is the same human."""

    async def scenario():
        identity = PEOPLE.format(hash=hashlib.sha256(KEY.encode()).hexdigest(), audience="shop")
        engine = Script(requirements=[requirement("group:owners", count=2)])
        with folder() as path:
            async with serving(path, engine, identity=identity) as service:
                asked = await Asked.by(service, f"ck_k_{KEY}")
                for also in (("dana@example.com",), ("x@example.com", "ＤＡＮＡ@example.com")):
                    code, text = await status_of(asked.say(await owner(service, "d.smith", also=also)))
                    assert code is NOT_PERMITTED
                    assert text == "nobody approves their own request, nor one that is made on their behalf"
                # By the id of the other identity as well.
                code, _ = await status_of(asked.say(await owner(service, "key-holder", also=("k@example.com",))))
                assert code is NOT_PERMITTED
                code, text = await status_of(asked.say(await owner(service, "eve")))
                assert (code, text) == (
                    NOT_PERMITTED,
                    "your token does not carry email, which says here who a person is",
                )
                # Two identities of one human are one of the two people that are needed.
                for name in ("otto", "otto.admin"):
                    approval = await asked.say(await owner(service, name, also=("otto@example.com",)))
                    assert approval.state == pb.APPROVAL_STATE_PENDING
                approval = await asked.say(await owner(service, "olivia", also=("olivia@example.com",)))
                assert approval.state == pb.APPROVAL_STATE_APPROVED

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("asks", "behind"), [(ALICE, None), (Party("agent", "a"), ALICE)], ids=["a person", "an agent for a person"]
)
def test_nobody_approves_for_a_person_of_whom_it_is_not_known_which_human_they_are(asks: Party, behind: Party | None):
    """An identity without the claim may be the approver's own: another name, and nothing that says so."""

    async def scenario():
        identity = "    people: {same: email}"
        with folder() as path:
            async with serving(path, identity=identity) as service:
                asked = await Asked.by(service, service.token(asks, on_behalf_of=behind))
                olivia = await owner(service, "olivia", also=("olivia@example.com",))
                code, text = await status_of(asked.say(olivia))
                assert code is NOT_PERMITTED
                assert text == "who asks does not carry email, which says here who a person is"
                # A workload for which nobody stands is no human, and one that says which human it is for is known.
                workload = await Asked.by(service, service.token(Party("agent", "nightly")))
                assert (await workload.say(olivia)).state == pb.APPROVAL_STATE_APPROVED
                named = service.token(asks, on_behalf_of=behind, also=("alice@example.com",))
                assert (await (await Asked.by(service, named)).say(olivia)).state == pb.APPROVAL_STATE_APPROVED

    asyncio.run(scenario())


@pytest.mark.parametrize("id", ["ALICE", "ａｌｉｃｅ", "al\ufe0fice", "alice\u034f"])
def test_another_spelling_of_an_id_is_the_same_person(id: str):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                # Alice's agent asks, by way of another agent that Bob had made.
                credential = service.token(Party("agent", "a"), on_behalf_of=ALICE, minted_by=("bob",))
                asked = await Asked.by(service, credential)
                code, _ = await status_of(asked.say(await owner(service, id)))
                assert code is NOT_PERMITTED
                assert (await status_of(asked.say(await owner(service, "Bob"))))[0] is NOT_PERMITTED

    asyncio.run(scenario())
