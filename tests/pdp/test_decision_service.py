"""Sessions and decisions, each call over a real channel."""

import asyncio
import ssl

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from pdp.identity.subject import Party
from pdp.policy_result import denied
from pdp.store import sessions as stored
from pdp.store.approvals import ApprovalState
from pdp.store.sessions import SessionState
from pdp.v1 import access_pb2, approval_service_pb2, audit_service_pb2
from pdp.v1 import decision_service_pb2 as pb
from tests.certificates import make_authority
from tests.pdp.serving import (
    AGENT,
    ALICE,
    DELETE,
    SELECT,
    Clock,
    Document,
    Script,
    action,
    folder,
    result,
    serving,
    status_of,
)

pytestmark = pytest.mark.usefixtures("each_store")

DENIED = grpc.StatusCode.PERMISSION_DENIED


def test_a_session_opens_with_the_subject_its_duties_and_what_policies_read():
    async def scenario():
        engine = Script(
            policy=lambda document: result("allow", obligations={"read_only": True}),
            paths=("action.properties.statement.text",),
        )
        with folder() as path:
            async with serving(path, engine) as service:
                opened = await (await service.proxy()).open(
                    client_address="10.0.0.1", labels={"application_name": "x"}, supported_obligations=["limit_rows"]
                )
        assert opened.decision.WhichOneof("verdict") == "allow"
        assert (opened.subject.type, opened.subject.id) == ("agent", "planner")
        assert (opened.subject.root.type, opened.subject.root.id) == ("user", "alice")
        assert opened.subject.workflow == "g/n/r"
        assert [each.WhichOneof("duty") for each in opened.obligations] == ["read_only"]
        assert list(opened.input_paths) == ["action.properties.statement.text"]
        assert opened.token_expires_at.ToDatetime() <= opened.credential_expires_at.ToDatetime()
        (asked,) = engine.asked
        assert asked["action"] == {"name": "connect", "properties": {}}
        assert asked["subject"]["properties"]["on_behalf_of"] == ALICE.document()
        assert asked["context"]["session"] == {"id": opened.session_id}
        assert asked["context"]["labels"] == {"application_name": "x"}

    asyncio.run(scenario())


def test_what_policies_read_by_now_is_said_again_with_their_revision():
    async def scenario():
        engine = Script(paths=("action.properties.statement.text",))
        with folder() as path:
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                assert opened.input_paths_revision == engine.revision
                engine.paths, engine.revision = ("action.properties.http.body",), "r-2"
                renewed = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=opened.token))
        assert list(renewed.input_paths) == ["action.properties.http.body"]
        assert renewed.input_paths_revision == "r-2"

    asyncio.run(scenario())


def test_a_client_certificate_opens_a_session_where_the_proxys_word_is_taken():
    async def scenario():
        with folder() as path:
            authority = make_authority(path)
            shown = authority.issue("client", uris=["spiffe://corp/agent/planner"])
            der = ssl.PEM_cert_to_DER_cert(shown.certificate.read_text())
            trusted = f"{{proxies: [pay], ca: {authority.certificate}, domain: corp}}"
            async with serving(path, identity=f"    certificates: [{trusted}]") as service:
                certificate = pb.ClientCertificate(chain=[der])
                opened = await (await service.proxy("pay")).open(resource="pay", certificate=certificate)
                assert (opened.subject.type, opened.subject.id) == ("agent", "planner")
                ends = x509.load_der_x509_certificate(der).not_valid_after_utc
                assert opened.credential_expires_at.ToDatetime(ends.tzinfo) == ends
                (asked,) = service.engine.asked
                assert asked["subject"]["properties"] == {
                    "groups": [],
                    "issuer": "spiffe://corp",
                    "method": "certificate",
                }
                shop = await service.proxy("shop")
                for chain in ([der], [], [b"x"]):
                    refused = await shop.open(certificate=pb.ClientCertificate(chain=chain))
                    assert refused.decision.reasons[0].code == "authentication-failed"
                    assert not refused.token
                assert len(service.engine.asked) == 1

    asyncio.run(scenario())


def test_a_bad_credential_is_a_denial_that_tells_nothing():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                for credential in ("", "x", "ck_a_0123456789abcdef", service.token(AGENT, "pay")):
                    opened = await proxy.open(credential)
                    assert opened.decision.WhichOneof("verdict") == "deny"
                    (reason,) = opened.decision.reasons
                    assert (reason.code, reason.message) == (
                        "authentication-failed",
                        "The credential was not accepted.",
                    )
                    assert not opened.token
                assert service.engine.asked == []

    asyncio.run(scenario())


def test_a_session_that_the_policies_do_not_grant_is_none():
    async def scenario():
        with folder() as path:
            async with serving(path, Script(policy=lambda _: denied("no", "Not you."))) as service:
                opened = await (await service.proxy()).open()
                assert opened.decision.WhichOneof("verdict") == "deny"
                assert not opened.session_id
                assert not opened.token
                assert service.inside.sessions.open_count == 0

    asyncio.run(scenario())


def test_connect_cannot_wait_for_an_approval():
    async def scenario():
        engine = Script()
        engine.policy = lambda _: result("require_approval", requirements=engine.requirements)
        with folder() as path:
            async with serving(path, engine) as service:
                opened = await (await service.proxy()).open()
        assert opened.decision.WhichOneof("verdict") == "deny"
        assert opened.decision.reasons[0].code == "connect-cannot-wait"

    asyncio.run(scenario())


def test_a_proxy_opens_sessions_on_its_own_resource_only():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                request = pb.OpenSessionRequest(bearer=service.token(AGENT, "shop"), resource="shop")
                code, _ = await status_of((await service.proxy("pay")).decisions.OpenSession(request))
                assert code is DENIED
                request.resource = "checkrein"
                code, _ = await status_of((await service.proxy("pay")).decisions.OpenSession(request))
                assert code is DENIED

    asyncio.run(scenario())


def test_one_answer_for_each_action_in_order():
    def policy(document: Document):
        kind = document["action"]["properties"].get("postgres", {}).get("kind", "connect")
        return denied("no", "No.") if kind == "delete" else result("allow")

    async def scenario():
        engine = Script(policy=policy)
        with folder() as path:
            async with serving(path, engine) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                kinds = (SELECT, DELETE, SELECT)
                decisions = await proxy.decide(opened.token, *(action(kind) for kind in kinds))
                assert [each.WhichOneof("verdict") for each in decisions] == ["allow", "deny", "allow"]
                assert len({each.decision_id for each in decisions}) == 3
                batches = [each["context"]["batch"] for each in engine.asked[1:]]
                assert sorted(each["index"] for each in batches) == [0, 1, 2]
                assert {each["size"] for each in batches} == {3}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "acting",
    [
        access_pb2.Action(name="query", protocol="postgres", properties_json=b"{"),
        access_pb2.Action(name="query", protocol="postgres", properties_json=b'{"opaque": true}'),
        access_pb2.Action(name="query", protocol="checkrein", properties_json=b"{}"),
        access_pb2.Action(name="approve", protocol="checkrein", properties_json=b"{}"),
        access_pb2.Action(name="connect"),
    ],
)
def test_an_action_that_is_not_well_formed_gets_no_decision(acting: access_pb2.Action):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                code, _ = await status_of(proxy.decide(opened.token, action(SELECT), acting))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert len(service.engine.asked) == 1

    asyncio.run(scenario())


def test_a_token_of_one_proxy_is_refused_from_another_on_each_call():
    async def scenario():
        more = "  proxies:\n    - {certificate: shop, resources: [shop]}\n    - {certificate: pay, resources: ['*']}\n"
        with folder() as path:
            async with serving(path, more=more) as service:
                shop, pay = await service.proxy("shop"), await service.proxy("pay")
                opened = await shop.open()
                token, asked = opened.token, await shop.ask(opened, action())
                approval = asked.approval_id
                calls = [
                    pay.decisions.Decide(pb.DecideRequest(token=token, actions=[action(SELECT)])),
                    pay.decisions.RefreshSession(pb.RefreshSessionRequest(token=token)),
                    pay.decisions.CloseSession(pb.CloseSessionRequest(token=token)),
                    pay.approvals.RequestApproval(approval_service_pb2.RequestApprovalRequest(token=token)),
                    pay.approvals.CancelApproval(
                        approval_service_pb2.CancelApprovalRequest(token=token, approval_id=approval)
                    ),
                    pay.approvals.RedeemApproval(
                        approval_service_pb2.RedeemApprovalRequest(token=token, approval_id=approval)
                    ),
                    pay.approvals.AwaitApproval(
                        approval_service_pb2.AwaitApprovalRequest(token=token, approval_id=approval)
                    ).read(),
                ]
                for call in calls:
                    assert (await status_of(call))[0] is DENIED
                kept = await pay.decisions.KeepSessions(pb.KeepSessionsRequest(session_ids=[opened.session_id]))
                assert list(kept.ended_session_ids) == [opened.session_id]
                shipped = iter([audit_service_pb2.RecordRequest(session_id=opened.session_id, event=b"{}")])
                # A record ends no stream, which has other chains in it: the chain is refused.
                answer = await pay.audit.Record(shipped).read()
                assert answer.refused == "the record is of a session that is not this proxy's"
                # And nothing of it touched the session.
                (decision,) = await shop.decide(token, action(SELECT))
                assert decision.WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_certificate_of_no_proxy_may_not_call_for_one():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                stranger = await service.proxy("stranger")
                assert (await status_of(stranger.open("x")))[0] is DENIED
                assert (await status_of(stranger.decisions.Watch(iter([pb.WatchRequest()])).read()))[0] is DENIED

    asyncio.run(scenario())


def test_a_caller_without_a_certificate_gets_no_connection():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                root = service.authority.server().authority.read_bytes()
                options = [("grpc.ssl_target_name_override", "pdp.checkrein.internal")]
                address = str(service.config.listen)
                credentials = grpc.ssl_channel_credentials(root)
                async with grpc.aio.secure_channel(address, credentials, options) as channel:
                    check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                    assert (await status_of(check))[0] is grpc.StatusCode.UNAVAILABLE
                async with grpc.aio.insecure_channel(address) as channel:
                    check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                    assert (await status_of(check))[0] is grpc.StatusCode.UNAVAILABLE

    asyncio.run(scenario())


def test_a_token_is_renewed_until_the_credential_ends():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                clock.pass_(minutes=5)
                renewed = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=opened.token))
                assert not renewed.ended_because
                await proxy.decide(renewed.token, action(SELECT))
                clock.pass_(minutes=5, seconds=10)
                code, _ = await status_of(proxy.decide(renewed.token, action(SELECT)))
                assert code is grpc.StatusCode.UNAUTHENTICATED
                ended = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=renewed.token))
                assert ended.ended_because == "the credential has run out"

    asyncio.run(scenario())


def test_a_session_that_nobody_keeps_is_lost():
    async def scenario():
        clock = Clock()
        with folder() as path:
            async with serving(path, clock=clock) as service:
                proxy = await service.proxy()
                kept, lost = await proxy.open(), await proxy.open()
                clock.pass_(seconds=40)
                request = pb.KeepSessionsRequest(session_ids=[kept.session_id])
                assert list((await proxy.decisions.KeepSessions(request)).ended_session_ids) == []
                clock.pass_(seconds=30)
                await service.inside.sessions.sweep()
                await proxy.decide(kept.token, action(SELECT))
                code, text = await status_of(proxy.decide(lost.token, action(SELECT)))
                assert (code, text) == (
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "the session has ended: its proxy no longer keeps it",
                )

    asyncio.run(scenario())


def test_a_closed_session_decides_nothing_more():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                close = pb.CloseSessionRequest(token=opened.token, reason="the client left", last_seq=7)
                await proxy.decisions.CloseSession(close)
                await proxy.decisions.CloseSession(close)
                code, _ = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert code is grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(scenario())


def test_sessions_and_tokens_outlive_a_restart():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                opened = await (await service.proxy()).open()
            async with serving(path) as service:
                proxy = await service.proxy()
                (decision,) = await proxy.decide(opened.token, action(SELECT))
                assert decision.WhichOneof("verdict") == "allow"
                request = pb.KeepSessionsRequest(session_ids=[opened.session_id])
                assert list((await proxy.decisions.KeepSessions(request)).ended_session_ids) == []

    asyncio.run(scenario())


def test_an_identity_token_is_no_session_token():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                code, _ = await status_of(proxy.decide(service.token(AGENT), action(SELECT)))
                assert code is grpc.StatusCode.UNAUTHENTICATED
                opened = await proxy.open()
                again = await proxy.open(opened.token)
                assert again.decision.reasons[0].code == "authentication-failed"

    asyncio.run(scenario())


def test_a_person_has_a_share_of_the_sessions():
    async def scenario():
        with folder() as path:
            async with serving(path, more="  limits: {sessions_per_subject: 1}") as service:
                proxy = await service.proxy()
                await proxy.open()
                refused = await proxy.open(service.token(Party("agent", "other"), on_behalf_of=ALICE))
                assert refused.decision.reasons[0].code == "too-many-sessions"
                opened = await proxy.open(service.token(Party("user", "bob")))
                assert opened.token

    asyncio.run(scenario())


def test_readiness_follows_the_policy_engine():
    async def scenario():
        engine = Script(ready=False)
        with folder() as path:
            async with serving(path, engine) as service:
                health = health_pb2_grpc.HealthStub((await service.proxy()).channel)
                states = health.Watch(health_pb2.HealthCheckRequest(service="pdp.v1.DecisionService"))
                while (await states.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
                    pass
                engine.ready = True
                assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING

    asyncio.run(scenario())


def test_sessions_that_open_at_once_do_not_each_find_the_share_free():
    async def scenario():
        with folder() as path:
            async with serving(path, more="  limits: {sessions_per_subject: 2}") as service:
                proxy = await service.proxy()
                answers = await asyncio.gather(*(proxy.open() for _ in range(8)), return_exceptions=True)
                opened = [each for each in answers if isinstance(each, pb.OpenSessionResponse) and each.token]
                assert len(opened) == 2
                assert service.inside.sessions.open_count == 2

    asyncio.run(scenario())


def test_what_is_kept_of_a_session_and_what_is_asked_at_once_is_bounded():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                code, _ = await status_of(proxy.open(labels={"application_name": "x" * (64 << 10)}))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                opened = await proxy.open()
                large = action(SELECT, "x" * (1 << 19))
                assert len(await proxy.decide(opened.token, large)) == 1
                code, _ = await status_of(proxy.decide(opened.token, *[large] * 40))
                assert code is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())


def test_an_end_that_breaks_off_is_an_end_and_is_finished_later():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                store, sessions = service.inside.database.short, service.inside.sessions
                await store.run(lambda c: c.execute(text("alter table sessions rename to away")))
                with pytest.raises(SQLAlchemyError):
                    await sessions.end(opened.session_id, SessionState.KILLED, "looks wrong")
                code, said = await status_of(proxy.decide(opened.token, action(SELECT)))
                assert (code, said) == (grpc.StatusCode.FAILED_PRECONDITION, "the session has ended: looks wrong")
                await store.run(lambda c: c.execute(text("alter table away rename to sessions")))
                await sessions.sweep()
                ended = await store.run(lambda c: stored.find(c, opened.session_id))
                assert (ended.state, ended.close_reason) == (SessionState.KILLED, "looks wrong")
                approval = await service.inside.approvals.find(asked.approval_id)
                assert approval.state is ApprovalState.CANCELLED
                assert sessions.open_count == 0

    asyncio.run(scenario())
