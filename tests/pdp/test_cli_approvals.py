"""`pdp approvals`: what a person sees before they say yes, and that the yes is to that alone."""

import asyncio
import datetime
import hashlib
import json

import pytest

from pdp.commands import approval_view as view
from pdp.commands.approvals import _must_be_what_is_shown
from pdp.commands.failure import Failure
from pdp.identity.subject import Party
from pdp.v1 import access_pb2, admin_service_pb2, decision_pb2
from pdp.v1.approval_service_pb2 import APPROVAL_STATE_PENDING
from pdp.v1.digests import action_digest
from tests.pdp.commanding import OWNER, as_, pdp
from tests.pdp.serving import DELETE, SELECT, Script, action, digest_of, folder, requirement, result, serving

HIDDEN = "delete from orders where id = 1" + " " * 200 + "or true --\x1b[2K\u202e"
WIDE = DELETE | {
    "has_where": False,
    "relations": [
        {"dataset": "public.orders", "schema": "public", "name": "orders", "access": "delete"},
        {"dataset": "public.audit", "schema": "public", "name": "audit", "access": "insert", "via": "trigger t"},
    ],
    "mints_access": ["password"],
}


def test_an_approver_sees_everything_and_the_yes_is_taken():
    async def scenario():
        engine = Script(requirements=[requirement("group:owners", message="orders are kept for ten years")])
        with folder() as path:
            # Longer than five commands take on a machine that is busy.
            async with serving(path, engine, approvals="    max_in_transaction: 10m") as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                acting = action(WIDE, HIDDEN, binding=access_pb2.Binding(path=["public"], definitions=["trigger t: x"]))
                estimate = access_pb2.Estimate(rows=12400)
                asked = await proxy.ask(opened, acting, in_transaction=True, estimate=estimate)
                listed, shown, refused = await asyncio.gather(
                    as_(service, OWNER, "approvals", "list"),
                    as_(service, OWNER, "approvals", "show", asked.approval_id[:12]),
                    as_(service, OWNER, "approvals", "approve", asked.approval_id, stdin="n\n"),
                )
                assert listed.status == 0
                assert asked.approval_id in listed.out
                assert "deletes every row (no WHERE) of public.orders" in listed.out
                assert "g/n/r" in listed.out
                assert shown.status == 0
                assert shown.out.lstrip().startswith("In short")
                for said in (
                    "agent:planner (agents), on behalf of user:alice (staff)",
                    "g/n/r",
                    "EVERY ROW",
                    "GIVES ACCESS",
                    "delete public.orders",
                    "insert public.audit (by way of trigger t)",
                    "ALSO WRITES",
                    "public.orders: group:order-team",
                    "about 12,400, as the target's planner guesses",
                    "1 definition below: if one is another by then, the yes does not fit any more",
                    "exactly this may run once, within 10m 0s of the last yes",
                    "sha256 " + hashlib.sha256(HIDDEN.encode()).hexdigest()[:16],
                    "orders are kept for ten years",
                    "needs one of group:owners",
                    "inside an open transaction",
                    "trigger t: x",
                    digest_of(acting, opened).hex(),
                    "where id = 1⟨␠×200⟩or true --␛[2K⟨U+202E⟩",
                ):
                    assert said in shown.out, said
                assert (refused.status, refused.err) == (1, "pdp: nothing was sent\n")
                assert shown.out.split("Who")[1].splitlines()[:5] == refused.out.split("Who")[1].splitlines()[:5]
                approved = await as_(service, OWNER, "approvals", "approve", asked.approval_id, "--yes")
                assert approved.status == 0, approved.err
                assert f"{asked.approval_id} is approved" in approved.out
                assert "or true --␛[2K⟨U+202E⟩" in approved.out
                decision = await proxy.redeem(opened.token, asked.approval_id, digest_of(acting, opened))
                assert decision.WhichOneof("verdict") == "allow"
                late = await as_(service, OWNER, "approvals", "approve", asked.approval_id, "--yes")
                assert late.status == 5
                assert late.err == f"pdp: {asked.approval_id} is no longer pending but redeemed\n"

    asyncio.run(scenario())


def test_a_no_reaches_the_client_with_its_comment():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                denied = await as_(service, OWNER, "approvals", "deny", asked.approval_id, "--comment", "archive them")
                assert (denied.status, denied.out) == (0, f"{asked.approval_id} is denied\n")
                none, every = await asyncio.gather(
                    as_(service, OWNER, "approvals", "list"), as_(service, OWNER, "approvals", "list", "--all")
                )
                assert none.out == "nothing waits for an answer\n"
                assert asked.approval_id in every.out
                assert "archive them" in (await as_(service, OWNER, "approvals", "show", asked.approval_id)).out

    asyncio.run(scenario())


def test_who_may_not_is_told_what_was_denied_and_why():
    def policy(document):
        if document["action"]["name"] in ("approvals.read", "approve") and document["subject"]["id"] == "eve":
            return result("deny", reasons=[{"policy": "p", "code": "c", "message": "not\x1b yours"}])
        if document["action"]["properties"].get("postgres", {}).get("kind") == "delete":
            return result("require_approval", requirements=[requirement("group:owners")])
        return result("allow")

    async def scenario():
        with folder() as path:
            async with serving(path, Script(policy=policy)) as service:
                proxy = await service.proxy()
                asked = await proxy.ask(await proxy.open(), action())
                file = str(path / "checkrein.yaml")
                eve, other, nobody, forged, unknown = await asyncio.gather(
                    as_(service, Party("user", "eve", ("owners",)), "approvals", "list"),
                    as_(service, Party("user", "tom"), "approvals", "approve", asked.approval_id, "--yes"),
                    pdp("approvals", "list", "-c", file),
                    pdp("approvals", "list", "-c", file, "--token", "x.y.z"),
                    as_(service, OWNER, "approvals", "show", "nothing"),
                )
                assert eve.status == 4
                assert eve.err.startswith("pdp: approvals.read on checkrein is denied: not␛ yours (")
                assert other.status == 4
                assert "approve on checkrein is denied: you are not among those who are asked" in other.err
                assert nobody.status == forged.status == 4
                assert "pdp token --subject user:YOU" in nobody.err
                assert "the token was not accepted" in forged.err
                assert (unknown.status, unknown.err) == (5, "pdp: there is no such approval\n")

    asyncio.run(scenario())


def test_without_a_service_it_says_how_to_start_one():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                file = str(service.config.state.parent / "checkrein.yaml")
                token = service.token(OWNER, audience="checkrein")
            gone = await pdp("approvals", "list", "-c", file, "--token", token)
            assert gone.status == 3
            assert f"Start it with: pdp up -c {file}" in gone.err
            never = await pdp("approvals", "list", "-c", str(path / "nothing.yaml"), PDP_TOKEN=token)
            assert never.status == 1
            assert "nothing.yaml: cannot read it" in never.err

    asyncio.run(scenario())


def sight(verdict: str):
    """Deletes need approval; who looks at one is answered so."""

    def policy(document):
        if document["action"]["name"] == "approval.view":
            masks = [{"dataset": "approval", "field": "*", "except": [], "method": "null"}] if verdict == "mask" else []
            return result(verdict, masks=masks)
        approved = "approval" in document["context"]
        if document["action"]["properties"].get("postgres", {}).get("kind") == "delete" and not approved:
            return result("require_approval", requirements=[requirement("group:owners")])
        return result("allow")

    return Script(policy=policy)


SECRET = access_pb2.Action(
    name="query",
    protocol="postgres",
    properties_json=json.dumps(WIDE | {"pins": [{"dataset": "o", "field": "ssn", "value": "5550100"}]}).encode(),
    statement=access_pb2.Statement(
        text="delete from o where ssn = '5550100' -- 5550100", parameters_json=b'["5550100"]'
    ),
)


def test_values_are_shown_as_the_policies_say_and_a_yes_is_possible_without_them():
    async def scenario():
        with folder() as path:
            engine = sight("mask")
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, SECRET)
                shown, listed = await asyncio.gather(
                    as_(service, OWNER, "approvals", "show", asked.approval_id),
                    as_(service, OWNER, "approvals", "list"),
                )
                assert shown.status == 0, shown.err
                assert "5550100" not in shown.out + listed.out
                assert "statement and values: the policies show you no values (d-" in shown.out
                assert "delete from o where ssn = ? ?" in shown.out
                looked = [each["action"] for each in engine.asked if each["action"]["name"] == "approval.view"]
                about = {"target": asked.approval_id, "resource": "shop", "datasets": ["public.audit", "public.orders"]}
                assert looked == [{"name": "approval.view", "properties": {"checkrein": about}}]
                approved = await as_(service, OWNER, "approvals", "approve", asked.approval_id, "--yes")
                assert f"{asked.approval_id} is approved" in approved.out, approved.err
                assert "5550100" not in approved.out

    asyncio.run(scenario())


def test_who_may_not_look_at_it_cannot_say_yes_to_it():
    async def scenario():
        with folder() as path:
            async with serving(path, sight("deny")) as service:
                proxy = await service.proxy()
                asked = await proxy.ask(await proxy.open(), SECRET)
                for command in (["show", asked.approval_id], ["approve", asked.approval_id, "--yes"]):
                    done = await as_(service, OWNER, "approvals", *command)
                    assert done.status == 4
                    assert "approval.view on checkrein is denied" in done.err
                    assert "5550100" not in done.out + done.err
                (listed,) = (
                    await (await service.person("olga", "owners")).call(
                        "ListApprovals", admin_service_pb2.ListApprovalsRequest()
                    )
                ).approvals
                assert listed.action_digest == b""
                assert "5550100" not in str(listed)

    asyncio.run(scenario())


def test_what_else_the_run_did_is_shown_with_its_verdicts():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                first, other = await proxy.open(), await proxy.open()
                bob = service.token(Party("agent", "bob"), workflow={"graph": "g", "node": "n", "run": "another"})
                await proxy.decide(other.token, action(SELECT, "select 1"))
                await proxy.decide((await proxy.open(bob)).token, action({**SELECT, "kind": "show"}, "show x"))
                asked = await proxy.ask(first, action())
                person = await service.person("olga", "owners")
                request = admin_service_pb2.GetApprovalRequest(approval_id=asked.approval_id)
                async with asyncio.timeout(30):
                    # Decisions are written down a moment after they are made.
                    while len((await person.call("GetApproval", request)).recent) < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                recent = (await person.call("GetApproval", request)).recent
                rows = "deletes rows of something that is named in its text alone"
                assert sorted((each.sentence, each.verdict) for each in recent) == sorted(
                    [("reads no table", "allow"), (rows, "require_approval"), (rows, "require_approval")]
                )
                out = (await as_(service, OWNER, "approvals", "show", asked.approval_id)).out
                assert "allow on shop: reads no table" in out

    asyncio.run(scenario())


# ---- what is shown is what is approved ----


def approval(properties=None, text="delete from t", parameters=b"[]", **more) -> admin_service_pb2.Approval:
    properties = properties if properties is not None else WIDE
    raw = properties if isinstance(properties, bytes) else json.dumps(properties).encode()
    made = admin_service_pb2.Approval(
        approval_id="a-1",
        state=APPROVAL_STATE_PENDING,
        subject=access_pb2.Subject(type="agent", id="bot"),
        resource="shop",
        action=access_pb2.Action(
            name="query",
            protocol="postgres",
            properties_json=raw,
            statement=access_pb2.Statement(text=text, parameters_json=parameters),
        ),
        requirements=[decision_pb2.Requirement(policy="p", code="c", approvers=["user:olga"], count=1)],
        **more,
    )
    made.action_digest = view.digest_of(made) or b""
    return made


def everything(made: admin_service_pb2.Approval, limit: int | None = view.STATEMENT_LIMIT) -> str:
    now = datetime.datetime.now(datetime.UTC)
    lines = [f"{name}: {value}" for name, value in view.facts(made, now, limit)]
    return "\n".join([*lines, *view.statement(made, limit)])


def test_the_digest_is_computed_from_what_is_shown():
    made = approval()
    _must_be_what_is_shown(made)
    assert made.action_digest == action_digest(
        subject="agent:bot",
        resource="shop",
        protocol="postgres",
        name="query",
        properties=WIDE,
        text="delete from t",
        parameters=[],
        path=[],
        definitions=[],
    )


@pytest.mark.parametrize("change", ["text", "resource", "subject", "properties", "parameters", "definitions"])
def test_a_yes_to_something_else_than_is_shown_is_not_sent(change: str):
    made = approval()
    match change:
        case "text":
            made.action.statement.text += " "
        case "resource":
            made.resource = "pay"
        case "subject":
            made.subject.id = "other"
        case "properties":
            made.action.properties_json = json.dumps(SELECT).encode()
        case "parameters":
            made.action.statement.parameters_json = b"[1]"
        case _:
            made.action.binding.definitions.append("view v: select 1")
    with pytest.raises(Failure, match="not that of what is shown"):
        _must_be_what_is_shown(made)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_an_action_that_cannot_be_read_is_shown_as_such_and_not_approved(raw: bytes):
    made = approval(raw)
    assert "NOT READABLE" in everything(made)
    made.action_digest = b"x" * 32
    with pytest.raises(Failure):
        _must_be_what_is_shown(made)


def test_what_is_too_long_for_a_screen_is_approved_only_after_all_of_it_was_shown():
    middle = "x" * view.STATEMENT_LIMIT
    long = approval(text=f"delete from t where a in ({middle}) or true")
    assert not view.is_whole(long, view.STATEMENT_LIMIT)
    assert "characters are not shown" in everything(long)
    assert everything(long).endswith("⟩")
    assert "or true" in everything(long)
    assert view.is_whole(long, None)
    assert middle in everything(long, None)
    many = approval(WIDE | {"functions": [f"f{number}" for number in range(200)]})
    assert not view.is_whole(many, view.STATEMENT_LIMIT)
    assert "and 100 more" in everything(many)
    assert "f199" in everything(many, None)
    assert view.is_whole(approval(), view.STATEMENT_LIMIT)


def test_nothing_that_the_proxy_says_is_left_out():
    said = WIDE | {"settings": ["search_path"], "limit": 3, "new_in_a_later_version": {"deep": ["value"]}}
    text = everything(approval(said, parameters=b'["a\\u001b", 5, null, {"$int": "9007199254740993"}]'))
    for part in (
        "search_path",
        "Limit: 3",
        "deep",
        "value",
        '$1 = "a\\u001b"',
        "$2 = 5",
        "$3 = null",
        "9007199254740993",
    ):
        assert part in text


def test_a_value_that_is_not_known_yet_is_said_to_be_so():
    text = everything(approval(parameters=b'[{"parameter": 1}, {"parameter": 7}]'))
    assert "$1 = (given when it is executed)" in text
    assert '$2 = {"parameter": 7}' in text


def test_foreign_names_have_no_power():
    made = approval(WIDE | {"functions": ["[red]f[/red]\x1b[31m"]}, text="select 1\nWho: user:boss")
    made.subject.id = "bot\r\x1b[1A"
    made.subject.workflow = "g/\u202en/r"
    text = everything(made)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "[red]f[/red]␛[31m" in text
    assert "\nWho: user:boss" not in text
