"""Approvals over real channels: who may say yes, what a yes is good for, and how often."""

import asyncio
import datetime
import hashlib
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from pdp.identity.subject import Party
from pdp.policy_result import denied
from pdp.v1 import access_pb2, admin_service_pb2
from pdp.v1 import approval_service_pb2 as pb
from tests.pdp.serving import (
    AGENT,
    ALICE,
    DELETE,
    SELECT,
    Clock,
    Person,
    Proxy,
    Script,
    Service,
    action,
    digest_of,
    folder,
    requirement,
    serving,
    status_of,
)

pytestmark = pytest.mark.usefixtures("each_store")

NOT_PERMITTED = grpc.StatusCode.PERMISSION_DENIED
NOT_NOW = grpc.StatusCode.FAILED_PRECONDITION


class Asked:
    """A delete for which an approval is asked."""

    def __init__(self, service: Service, proxy: Proxy, opened: Any, answer: pb.RequestApprovalResponse) -> None:
        self.service = service
        self.proxy = proxy
        self.opened = opened
        self.answer = answer
        self.id = answer.approval_id
        self.digest = digest_of(action(), opened)

    @classmethod
    async def by(cls, service: Service, credential: str | None = None, **more: Any) -> "Asked":
        proxy = await service.proxy()
        opened = await proxy.open(credential)
        return cls(service, proxy, opened, await proxy.ask(opened, action(), **more))

    async def say(self, person: Person, *, no: str | None = None, digest: bytes | None = None) -> Any:
        request = admin_service_pb2.ResolveApprovalRequest(
            approval_id=self.id, action_digest=self.digest if digest is None else digest
        )
        if no is None:
            request.yes.SetInParent()
        else:
            request.no.comment = no
        return (await person.call("ResolveApproval", request)).approval

    async def redeem(self, execution: str = "e1") -> Any:
        return await self.proxy.redeem(self.opened.token, self.id, self.digest, execution)

    async def states(self) -> list[tuple[int, str]]:
        request = pb.AwaitApprovalRequest(token=self.opened.token, approval_id=self.id)
        return [(each.state, each.comment) async for each in self.proxy.approvals.AwaitApproval(request)]


async def owner(service: Service, id: str = "olivia", **more: Any) -> Person:
    return await service.person(id, "owners", **more)


def test_a_yes_of_an_owner_lets_the_action_through_once():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                assert list(asked.answer.approvers) == ["group:owners"]
                assert asked.answer.url == f"http://127.0.0.1:8088/approvals/{asked.id}"
                refused = await asked.redeem()
                assert refused.reasons[0].code == "approval-not-usable"
                waiting = asyncio.create_task(asked.states())
                approval = await asked.say(await owner(service))
                assert approval.state == pb.APPROVAL_STATE_APPROVED
                assert [each.subject_id for each in approval.assents] == ["olivia"]
                states = await waiting
                assert states[-1] == (pb.APPROVAL_STATE_APPROVED, "")
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"
                given = service.engine.asked[-1]["context"]["approval"]
                assert given["requirements"] == service.engine.requirements
                assert given["state"] == "approved"
                assert [(each["id"], each["groups"]) for each in given["by"]] == [("olivia", ["owners"])]
                assert (await asked.redeem("e2")).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_the_same_execution_gets_the_same_answer():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                answers = await asyncio.gather(*(asked.redeem("e1") for _ in range(5)))
                assert {each.WhichOneof("verdict") for each in answers} == {"allow"}
                assert len({each.decision_id for each in answers}) == 1

    asyncio.run(scenario())


def test_of_many_executions_at_once_exactly_one_is_let_through():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                answers = await asyncio.gather(*(asked.redeem(f"e{number}") for number in range(20)))
                verdicts = [each.WhichOneof("verdict") for each in answers]
                assert sorted(verdicts) == ["allow"] + ["deny"] * 19

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("id", "more", "said"),
    [
        ("alice", {}, "nobody approves their own request, nor one that is made on their behalf"),
        ("ALICE", {}, "nobody approves their own request, nor one that is made on their behalf"),
        ("planner", {"type": "agent"}, "only people approve"),
        ("robot", {"type": "service"}, "only people approve"),
        (
            "other",
            {"type": "agent", "on_behalf_of": Party("user", "olivia", ("owners",))},
            "only people approve",
        ),
        (
            "olivia",
            {"on_behalf_of": Party("user", "bob", ("owners",))},
            "people approve for themselves only, with a token that they got themselves",
        ),
        (
            "olivia",
            {"minted_by": ("alice",)},
            "people approve for themselves only, with a token that they got themselves",
        ),
    ],
)
def test_who_never_approves(id: str, more: dict[str, Any], said: str):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                code, text = await status_of(asked.say(await owner(service, id, **more)))
                assert (code, text) == (NOT_PERMITTED, said)
                assert (await asked.redeem()).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_nobody_of_the_chain_approves():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                agent = Party("agent", "planner")
                bot = service.token(agent, minted_by=("mallory", "mallorys-boss"))
                asked = await Asked.by(service, bot)
                for each in ("mallory", "mallorys-boss", "planner"):
                    code, _ = await status_of(asked.say(await owner(service, each)))
                    assert code is NOT_PERMITTED

    asyncio.run(scenario())


def test_only_those_who_are_asked_and_only_with_a_policy_that_lets_them():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                code, text = await status_of(asked.say(await service.person("sam", "staff")))
                assert (code, text) == (NOT_PERMITTED, "you are not among those who are asked")
                service.engine.policy = lambda document: denied("no", f"No {document['action']['name']} today.")
                code, text = await status_of(asked.say(await owner(service)))
                assert code is NOT_PERMITTED
                assert text.startswith("No approve today. (d-")

    asyncio.run(scenario())


def test_a_key_does_not_approve():
    secret = "0123456789abcdefghij"

    async def scenario():
        digest = hashlib.sha256(secret.encode()).hexdigest()
        key = f"id: k, hash: {digest}, subject: {{type: user, id: olivia, groups: [owners]}}, audience: checkrein"
        with folder() as path:
            async with serving(path, identity=f"    keys: [{{{key}}}]") as service:
                asked = await Asked.by(service)
                person = await owner(service)
                person.metadata = (("authorization", f"Bearer ck_k_{secret}"),)
                code, text = await status_of(asked.say(person))
                assert (code, text) == (NOT_PERMITTED, "a key does not approve; sign in")
                # Nor does a token that was got with the key.
                request = admin_service_pb2.MintTokenRequest(
                    subject_type="user", subject_id="olivia", groups=["owners"], audience="checkrein"
                )
                minted = await person.call("MintToken", request)
                person.metadata = (("authorization", f"Bearer {minted.token}"),)
                code, text = await status_of(asked.say(person))
                assert (code, text) == (NOT_PERMITTED, "a key does not approve; sign in")

    asyncio.run(scenario())


def test_a_sign_in_of_long_ago_does_not_approve():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                long = datetime.timedelta(hours=20)
                person = await owner(service, lifetime=long)
                agent = service.token(AGENT, lifetime=long)
                clock.pass_(hours=13)
                # A token got with the old one is no newer sign-in.
                request = admin_service_pb2.MintTokenRequest(
                    subject_type="user", subject_id="olivia", groups=["owners"], audience="checkrein"
                )
                request.lifetime.FromTimedelta(long)
                minted = await person.call("MintToken", request)
                person.metadata = (("authorization", f"Bearer {minted.token}"),)
                asked = await Asked.by(service, agent)
                code, text = await status_of(asked.say(person))
                assert (code, text) == (NOT_PERMITTED, "you signed in too long ago; sign in again")

    asyncio.run(scenario())


def test_two_different_people_are_needed_where_the_policy_says_two():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", count=2)])
        with folder() as path:
            async with serving(path, engine) as service:
                asked = await Asked.by(service)
                for each in ("olivia", "Olivia"):
                    assert (await asked.say(await owner(service, each))).state == pb.APPROVAL_STATE_PENDING
                approval = await asked.say(await owner(service, "otto"))
                assert approval.state == pb.APPROVAL_STATE_APPROVED
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_every_requirement_needs_its_own_and_one_yes_counts_for_each_that_it_fits():
    async def scenario():
        both = [requirement("group:owners"), requirement("user:otto", "group:security", code="security")]
        with folder() as path:
            async with serving(path, Script(requirements=both)) as service:
                asked = await Asked.by(service)
                approval = await asked.say(await owner(service, "olivia"))
                assert approval.state == pb.APPROVAL_STATE_PENDING
                approval = await asked.say(await service.person("otto", "owners"))
                assert approval.state == pb.APPROVAL_STATE_APPROVED
                assert [list(each.requirement_codes) for each in approval.assents] == [
                    ["owners"],
                    ["owners", "security"],
                ]

    asyncio.run(scenario())


def test_a_no_ends_it_with_a_comment_that_is_safe_to_show():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service), no="not\x1b[31m on\n\u202efriday " + "x" * 500)
                (state,) = await asked.states()
                assert state[0] == pb.APPROVAL_STATE_DENIED
                assert state[1].startswith("not [31m on friday xxx")
                assert len(state[1]) == 240
                assert (await asked.redeem()).WhichOneof("verdict") == "deny"
                code, _ = await status_of(asked.say(await owner(service, "otto")))
                assert code is NOT_NOW

    asyncio.run(scenario())


def test_a_yes_to_something_else_than_was_seen_is_refused():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                code, text = await status_of(asked.say(await owner(service), digest=b"x" * 32))
                assert (code, text) == (NOT_NOW, "what you saw is not what is asked now; look again")

    asyncio.run(scenario())


def test_a_yes_is_for_exactly_this_action():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                changed = [
                    action(text="delete from customers"),
                    action({**DELETE, "functions": ["f"]}),
                    action(binding=access_pb2.Binding(path=["evil"])),
                    action(binding=access_pb2.Binding(definitions=["function f changed"])),
                ]
                for each in changed:
                    decision = await asked.proxy.redeem(
                        asked.opened.token, asked.id, digest_of(each, asked.opened), "e1"
                    )
                    assert decision.reasons[0].code == "approval-changed"
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_an_approval_is_asked_only_for_what_was_decided():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                allowed, held = await proxy.decide(opened.token, action(SELECT), action())
                other = action({**DELETE, "functions": ["f"]})

                async def ask(
                    decision_id: str, acting: access_pb2.Action, digest: bytes | None = None
                ) -> grpc.StatusCode:
                    request = pb.RequestApprovalRequest(
                        token=opened.token,
                        decision_id=decision_id,
                        idempotency_key="k",
                        action=acting,
                        action_digest=digest or digest_of(acting, opened),
                    )
                    return (await status_of(proxy.approvals.RequestApproval(request)))[0]

                assert await ask(allowed.decision_id, action(SELECT)) is NOT_NOW
                assert await ask("d-made-up", action()) is NOT_NOW
                assert await ask(held.decision_id, other) is grpc.StatusCode.INVALID_ARGUMENT
                assert await ask(held.decision_id, action(), b"x" * 32) is grpc.StatusCode.INVALID_ARGUMENT
                another = await proxy.open()
                opened = another
                assert await ask(held.decision_id, action()) is NOT_NOW

    asyncio.run(scenario())


def test_a_retry_asks_once():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                first = await proxy.ask(opened, action(), "k1")
                assert (await proxy.ask(opened, action(), "k1")).approval_id == first.approval_id
                assert (await proxy.ask(opened, action(), "k2")).approval_id != first.approval_id
                code, _ = await status_of(proxy.ask(opened, action(text="delete from customers"), "k1"))
                assert code is grpc.StatusCode.ALREADY_EXISTS

    asyncio.run(scenario())


def test_nobody_answers_in_time():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                asked = await Asked.by(service)
                clock.pass_(minutes=16)
                await service.inside.approvals.expire()
                code, text = await status_of(asked.say(await owner(service)))
                assert (code, text) == (NOT_NOW, "it is no longer pending but expired")

    asyncio.run(scenario())


def test_waiting_ends_by_itself_at_the_end_of_the_hold():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                hold = Duration(nanos=50_000_000)
                asked = await Asked.by(service, hold=hold)
                assert (await asked.states())[-1] == (pb.APPROVAL_STATE_EXPIRED, "")

    asyncio.run(scenario())


def test_inside_a_transaction_the_hold_is_short():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service, in_transaction=True)
                left = asked.answer.expires_at.ToDatetime(datetime.UTC) - datetime.datetime.now(datetime.UTC)
                assert datetime.timedelta(seconds=25) < left <= datetime.timedelta(seconds=30)

    asyncio.run(scenario())


def test_a_yes_that_is_not_used_runs_out():
    async def scenario():
        clock = Clock()
        engine = Script(requirements=[requirement("group:owners", grant={"uses": 1, "for": "1m", "reach": "exact"})])
        with folder() as path:
            async with serving(path, engine, clock=clock) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                clock.pass_(minutes=2)
                assert (await asked.redeem()).reasons[0].code == "approval-not-usable"

    asyncio.run(scenario())


def test_a_client_that_left_takes_its_question_along():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                request = pb.CancelApprovalRequest(
                    token=asked.opened.token, approval_id=asked.id, reason="the client left"
                )
                await asked.proxy.approvals.CancelApproval(request)
                code, _ = await status_of(asked.say(await owner(service)))
                assert code is NOT_NOW
                # A yes that was given and not used is withdrawn as well.
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                request.token, request.approval_id = asked.opened.token, asked.id
                await asked.proxy.approvals.CancelApproval(request)
                assert (await asked.redeem()).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_nothing_that_a_killed_session_waited_for_happens():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                operator = await service.person("olga")
                kill = admin_service_pb2.KillSessionRequest(session_id=asked.opened.session_id)
                await operator.call("KillSession", kill)
                assert (await status_of(asked.redeem()))[0] is NOT_NOW
                again = await asked.proxy.open()
                decision = await asked.proxy.redeem(again.token, asked.id, asked.digest)
                assert decision.WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_another_subject_thread_or_run_cannot_use_it():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                workflow = {"graph": "g", "node": "n", "run": "r"}
                strangers = [
                    service.token(Party("agent", "other"), on_behalf_of=ALICE, workflow=workflow),
                    service.token(AGENT, on_behalf_of=Party("user", "bob"), workflow=workflow),
                    service.token(AGENT, on_behalf_of=ALICE, workflow={**workflow, "run": "r2"}),
                    service.token(AGENT, on_behalf_of=ALICE, workflow={**workflow, "thread": "t"}),
                ]
                for credential in strangers:
                    opened = await asked.proxy.open(credential)
                    digest = digest_of(action(), opened)
                    code, _ = await status_of(asked.proxy.redeem(opened.token, asked.id, digest))
                    assert code is grpc.StatusCode.NOT_FOUND
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_policy_that_changed_meanwhile_has_the_last_word():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                service.engine.requirements = [requirement("group:owners", count=2)]
                assert (await asked.redeem()).WhichOneof("verdict") == "require_approval"
                service.engine.requirements = []
                assert (await asked.redeem("e2")).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_an_engine_that_does_not_answer_takes_no_use():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                service.engine.policy = lambda _: denied("engine-down", "Try again.", retry=True)
                assert (await asked.redeem()).deny.retry
                service.engine.policy = None
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_window_is_used_as_often_as_granted_for_the_same_action():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", uses=2)])
        with folder() as path:
            async with serving(path, engine) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                assert (await asked.redeem("e1")).WhichOneof("verdict") == "allow"
                again = await asked.proxy.ask(asked.opened, action(), "k2")
                assert again.approval_id == asked.id
                other = await asked.proxy.ask(asked.opened, action(text="delete from customers"), "k3")
                assert other.approval_id != asked.id
                assert (await asked.redeem("e2")).WhichOneof("verdict") == "allow"
                assert (await asked.redeem("e3")).WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_a_window_stands_when_one_command_does_not_want_it_any_more():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", uses=3)])
        with folder() as path:
            async with serving(path, engine) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                cancel = pb.CancelApprovalRequest(token=asked.opened.token, approval_id=asked.id, reason="it left")
                await asked.proxy.approvals.CancelApproval(cancel)
                assert (await asked.redeem("e1")).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_window_ends_with_a_session_that_somebody_ends_on_purpose():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", uses=3)])
        with folder() as path:
            async with serving(path, engine) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                assert (await asked.redeem("e1")).WhichOneof("verdict") == "allow"
                kill = admin_service_pb2.KillSessionRequest(session_id=asked.opened.session_id)
                await (await service.person("olga")).call("KillSession", kill)
                again = await asked.proxy.open()
                decision = await asked.proxy.redeem(again.token, asked.id, asked.digest, "e2")
                assert decision.WhichOneof("verdict") == "deny"

    asyncio.run(scenario())


def test_questions_and_answers_outlive_a_restart():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                pending, yes = await Asked.by(service), await Asked.by(service)
                await yes.say(await owner(service))
                assert (await yes.redeem("e1")).WhichOneof("verdict") == "allow"
            async with serving(path) as service:
                proxy = await service.proxy()
                again = await proxy.redeem(yes.opened.token, yes.id, yes.digest, "e1")
                assert again.WhichOneof("verdict") == "allow"
                used = await proxy.redeem(yes.opened.token, yes.id, yes.digest, "e2")
                assert used.WhichOneof("verdict") == "deny"
                resumed = Asked(service, proxy, pending.opened, pending.answer)
                await resumed.say(await owner(service))
                assert (await resumed.states())[-1][0] == pb.APPROVAL_STATE_APPROVED
                assert (await resumed.redeem()).WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_person_has_a_share_of_the_pending_approvals():
    async def scenario():
        with folder() as path:
            async with serving(path, more="  limits: {pending_approvals_per_subject: 1}") as service:
                asked = await Asked.by(service)
                code, _ = await status_of(asked.proxy.ask(asked.opened, action(), "k2"))
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
                await Asked.by(service, service.token(Party("user", "bob")))

    asyncio.run(scenario())


def test_policies_see_the_statement_only_where_they_read_it():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                assert "statement" not in service.engine.asked[-1]["action"]["properties"]
                service.engine.paths = ("action.properties.statement.text",)
                await asked.proxy.ask(asked.opened, action(), "k2")
                assert service.engine.asked[-1]["action"]["properties"]["statement"] == {"text": "delete from orders"}

    asyncio.run(scenario())


def test_an_execution_of_another_session_takes_a_use_of_its_own():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                asked = await Asked.by(service)
                await asked.say(await owner(service))
                assert (await asked.redeem("e1")).WhichOneof("verdict") == "allow"
                # The same subject in the same run, which may use the yes, and a name that was used before.
                other = await asked.proxy.open()
                again = await asked.proxy.redeem(other.token, asked.id, asked.digest, "e1")
                assert again.reasons[0].code == "approval-not-usable"
                assert (await asked.redeem("e1")).WhichOneof("verdict") == "allow"
                code, _ = await status_of(asked.redeem("e" * 129))
                assert code is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())
