"""Whoever is revoked is out: what is open ends, nothing new begins, and what waited for people does not happen."""

import asyncio
import contextlib
import datetime
import hashlib
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pdp.audit.service_chain import PREFIX
from pdp.identity.revocation import mark, marks_of
from pdp.identity.subject import Subject
from pdp.policy_result import PolicyResult
from pdp.service.doors import Doors
from pdp.store import records, revocations
from pdp.store.approvals import ApprovalState
from pdp.store.database import Database
from pdp.store.revocations import Revocation
from pdp.v1 import audit_service_pb2
from pdp.v1 import decision_service_pb2 as pb
from tests.doors.calling import Guard, Watching
from tests.pdp.serving import (
    AGENT,
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

DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
ENDED = grpc.StatusCode.FAILED_PRECONDITION
SECRET = "s" * 43
KEYS = f"""
    keys:
      - id: ci-7
        hash: {hashlib.sha256(SECRET.encode()).hexdigest()}
        subject: {{type: service, id: ci}}
        audience: shop
      - id: ci-8
        hash: {hashlib.sha256(SECRET.encode()).hexdigest()}
        subject: {{type: service, id: ci}}
        audience: shop
"""


async def refused(opening: pb.OpenSessionResponse) -> bool:
    return opening.decision.WhichOneof("verdict") == "deny" and not opening.session_id


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("agent:planner", True),
        ("user:alice", True),  # the person at the end of the chain: all agents that act for her
        ("user:ALICE", True),  # a revocation that another spelling evades is none
        ("user:planner", False),
        ("agent:alice", False),
        ("agent:planner2", False),
        ("agent:plan", False),
    ],
)
def test_a_revoked_subject_is_cut_off_and_does_not_come_back(name: str, meant: bool):
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                watching = Watching(proxy)
                await watching.begin()
                assert await guard.revoke("subject", name) == int(meant)
                if not meant:
                    await proxy.decide(opened.token, action(SELECT))
                    assert not await refused(await proxy.open())
                    return
                ended = (await watching.next("session_ended")).session_ended
                assert (ended.session_id, ended.reason) == (
                    opened.session_id,
                    "the subject has been revoked: seen in a log",
                )
                assert (await status_of(proxy.decide(opened.token, action(SELECT))))[0] is ENDED
                answer = await proxy.decisions.RefreshSession(pb.RefreshSessionRequest(token=opened.token))
                assert answer.ended_because
                assert not answer.token
                assert await refused(await proxy.open())

    asyncio.run(scenario())


class Meanwhile(Script):
    """Policies that take so long over a login that somebody revokes its subject before they answer."""

    revoke: Any = None

    async def decide(self, document: Document) -> PolicyResult:
        if document["action"]["name"] == "connect" and self.revoke is not None:
            revoke, self.revoke = self.revoke, None
            await revoke()
        return await super().decide(document)


def test_a_login_that_was_on_its_way_when_its_subject_was_revoked_opens_nothing():
    async def scenario():
        engine = Meanwhile()
        with folder() as path:
            async with serving(path, engine) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                engine.revoke = lambda: guard.revoke("subject", "agent:planner")
                assert await refused(await proxy.open())
                assert engine.revoke is None
                assert await service.inside.sessions.count_open() == 0

    asyncio.run(scenario())


def test_whoever_made_a_token_takes_it_along():
    subject = Subject("agent", "bot", (), "checkrein", "jwt", behind=("olga",))
    assert mark("subject", "user:Olga") in set(marks_of(subject, ""))
    assert mark("subject", "user:bo") not in set(marks_of(subject, ""))


def test_a_revoked_key_is_cut_off_and_its_neighbour_is_not():
    async def scenario():
        with folder() as path:
            async with serving(path, identity=KEYS) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                one, other = await proxy.open(f"ck_ci-7_{SECRET}"), await proxy.open(f"ck_ci-8_{SECRET}")
                assert one.session_id
                assert other.session_id
                assert await guard.revoke("key", "ci-7") == 1
                assert (await status_of(proxy.decide(one.token, action(SELECT))))[0] is ENDED
                assert await refused(await proxy.open(f"ck_ci-7_{SECRET}"))
                await proxy.decide(other.token, action(SELECT))
                # Taken back, the key opens again; what was ended stays ended.
                await guard.restore("key", "ci-7")
                assert (await proxy.open(f"ck_ci-7_{SECRET}")).session_id
                assert (await status_of(proxy.decide(one.token, action(SELECT))))[0] is ENDED

    asyncio.run(scenario())


def test_one_token_can_be_revoked():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                token = service.token(AGENT)
                import jwt

                token_id = jwt.decode(token, options={"verify_signature": False})["jti"]
                assert (await proxy.open(token)).session_id
                assert await guard.revoke("token", f"checkrein:{token_id}") == 1
                assert await refused(await proxy.open(token))
                assert (await proxy.open(service.token(AGENT))).session_id

    asyncio.run(scenario())


def test_what_a_revoked_subject_waits_for_is_cancelled():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                # As of a request that comes back later: its session is over, its question is not.
                detached = await proxy.open()
                later = await proxy.ask(detached, action(text="delete from customers"), key="k2")
                await guard.revoke("subject", "user:alice")
                for each in (asked, later):
                    approval = await service.inside.approvals.find(each.approval_id)
                    assert approval is not None
                    assert approval.state is ApprovalState.CANCELLED

    asyncio.run(scenario())


def test_a_question_without_an_open_session_is_cancelled_too():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                asked = await proxy.ask(opened, action())
                # The session is gone from memory, as after a restart that finds it closed.
                service.inside.sessions._live.pop(opened.session_id)
                assert await guard.revoke("subject", "agent:planner") == 0
                approval = await service.inside.approvals.find(asked.approval_id)
                assert approval is not None
                assert approval.state is ApprovalState.CANCELLED

    asyncio.run(scenario())


def test_a_revocation_reaches_a_proxy_that_was_away():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                opened = await proxy.open()
                watching = Watching(proxy)
                await watching.begin()
                watching.call.cancel()
                await guard.revoke("subject", "agent:planner")
                snapshot = await Watching(proxy).begin()
                assert [each.session_id for each in snapshot.sessions_ended] == [opened.session_id]

    asyncio.run(scenario())


def test_a_revocation_outlives_a_restart_and_meets_what_was_open():
    async def scenario():
        with folder() as path:
            async with serving(path, identity=KEYS) as service:
                opened = await (await service.proxy()).open()
                # Written by another replica, just before this one ended.
                at = service.clock()
                revocation = Revocation("subject", "agent:planner", "agent:planner", "", "user:olga", at, None)
                await service.inside.database.short.run(lambda c: revocations.put(c, revocation))
            async with serving(path, identity=KEYS) as service:
                proxy = await service.proxy()
                assert (await status_of(proxy.decide(opened.token, action(SELECT))))[0] is ENDED
                assert await refused(await proxy.open())

    asyncio.run(scenario())


def test_what_another_replica_revokes_is_in_force_here_by_itself():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                watching = Watching(proxy)
                await watching.begin()
                revocation = Revocation("subject", "agent:planner", "x", "", "user:olga", service.clock(), None)
                await service.inside.database.short.run(lambda c: revocations.put(c, revocation))
                assert (await watching.next("session_ended")).session_ended.session_id == opened.session_id

    asyncio.run(scenario())


def test_a_revocation_with_an_end_has_one():
    async def scenario():
        clock = Clock()
        until = Timestamp()
        until.FromDatetime(clock() + datetime.timedelta(minutes=5))
        with folder() as path:
            async with serving(path, clock=clock) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                await guard.revoke("subject", "agent:planner", until=until)
                assert await refused(await proxy.open())
                clock.pass_(minutes=6)
                assert (await proxy.open()).session_id

    asyncio.run(scenario())


def test_nobody_is_let_in_while_it_is_not_known_who_is_revoked(tmp_path):
    async def scenario():
        time = [0.0]
        async with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
            doors = Doors(database, Clock(), lambda: time[0])
            who = _who()
            assert doors.revoked(who) is not None
            await doors.read()
            assert doors.revoked(who) is None
            time[0] += 61
            assert doors.revoked(who) is not None

    asyncio.run(scenario())


def _who():
    from pdp.identity.subject import Authenticated

    return Authenticated(Subject("agent", "bot", (), "checkrein", "jwt"), None, None)


def test_a_revoked_proxy_makes_no_call_and_its_open_streams_end():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy, other, guard = await service.proxy(), await service.proxy("pay"), await Guard.of(service)
                opened = await proxy.open()
                watching = Watching(proxy)
                await watching.begin()
                recording = proxy.audit.Record()
                await recording.write(audit_service_pb2.RecordRequest(session_id=opened.session_id, event=b"{}"))
                assert await guard.revoke("proxy", "shop") == 1
                assert (await status_of(proxy.decide(opened.token, action(SELECT))))[0] is DENIED
                assert (await status_of(proxy.open()))[0] is DENIED
                assert (await status_of(_to_the_end(watching.call)))[0] is UNAUTHENTICATED
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await recording.write(audit_service_pb2.RecordRequest(session_id=opened.session_id, seq=1))
                assert (await status_of(_to_the_end(recording)))[0] is DENIED
                # Its neighbour goes on.
                await other.open(service.token(AGENT, "pay"), resource="pay")

    asyncio.run(scenario())


def test_a_revoked_certificate_of_a_proxy_is_refused_and_a_new_one_of_the_same_name_is_not():
    async def scenario():
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        with folder() as path:
            async with serving(path) as service:
                proxy, guard = await service.proxy(), await Guard.of(service)
                await proxy.open()
                files = service.authority.issue("shop")
                lost = x509.load_pem_x509_certificate(files.certificate.read_bytes())
                await guard.revoke("certificate", lost.fingerprint(hashes.SHA256()).hex(":").upper())
                assert (await status_of(proxy.open()))[0] is DENIED
                files.certificate.unlink()
                assert (await (await service.proxy()).open()).session_id

    asyncio.run(scenario())


async def _to_the_end(call) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def test_whoever_is_revoked_does_nothing_in_person_either():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                guard = await Guard.of(service)
                assert await guard.list() == []
                await guard.revoke("subject", "user:olga")
                code, _ = await status_of(guard.list())
                assert code is UNAUTHENTICATED

    asyncio.run(scenario())


def test_revoking_is_decided_and_recorded():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                guard = await Guard.of(service)
                await guard.revoke("subject", "user:mallory")
                assert await guard.list() == [("subject", "user:mallory", "user:olga")]
                await guard.restore("subject", "user:mallory")
                assert await guard.list() == []
                assert (await status_of(guard.restore("subject", "user:mallory")))[0] is grpc.StatusCode.NOT_FOUND
                asked = [each["action"] for each in service.engine.asked]
                assert [each["name"] for each in asked] == [
                    "access.revoke",
                    "access.read",
                    "access.restore",
                    "access.read",
                    "access.restore",
                ]
                assert asked[0]["properties"]["checkrein"] == {"target": "subject:user:mallory"}
                chain = await service.inside.database.short.run(lambda c: records.last_chain(c, PREFIX))
                assert chain is not None
                events = await service.inside.database.short.run(lambda c: records.page(c, chain, 0, 100))
                text = b"".join(each.event for each in events)
                assert b"access.revoked" in text
                assert b"access.restored" in text
                assert b"seen in a log" not in text  # a person's words are a body

                service.engine.policy = lambda _: result("deny")
                assert (await status_of(guard.revoke("subject", "user:mallory")))[0] is DENIED
                assert await service.inside.database.short.run(revocations.every) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("subject", "alice"),
        ("subject", "group:staff"),
        ("subject", "user:"),
        ("session", "s-1"),
        ("certificate", "abcd"),
        ("token", "checkrein"),
        ("key", ""),
        ("key", "a\nb"),
        ("key", "k" * 400),
    ],
)
def test_what_cannot_be_revoked_is_said(kind: str, name: str):
    with pytest.raises(ValueError, match=r"named|needed|subject is|can be revoked"):
        mark(kind, name)
