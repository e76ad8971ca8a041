"""Two services on one database of PostgreSQL: what is done at one holds at the other, and each goes on without it."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from pdp.store import approvals as stored_approvals
from pdp.store import records as stored_records
from pdp.store import sessions as stored
from pdp.store.approvals import ApprovalState
from pdp.store.sessions import SessionState
from pdp.v1 import admin_service_pb2, approval_service_pb2, decision_service_pb2
from tests.pdp import serving as serving_module
from tests.pdp.serving import SELECT, Clock, Service, action, digest_of, folder, requirement, serving, status_of, until
from tests.pdp.test_records import event_of, last, refusals, sealed, ship, shipped
from tests.pdp.test_watch import Watching

SHARE = "limits: {sessions_per_subject: 3, pending_approvals_per_subject: 2}"


@dataclass
class Pair:
    """Two replicas, and the folders of each and of what they share."""

    a: Service
    b: Service
    clock: Clock


@contextlib.contextmanager
def shared_folder(path: Path) -> Any:
    shared = path / "shared"
    shared.mkdir(mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (shared / "issuer.key").write_bytes(pem)
    for name in "ab":
        (path / name).mkdir(mode=0o700)
    yield shared


@contextlib.asynccontextmanager
async def pair(path: Path, **more: Any) -> AsyncIterator[Pair]:
    clock = Clock()
    with shared_folder(path) as shared:
        async with (
            serving(path / "a", shared=shared, clock=clock, **more) as a,
            serving(path / "b", shared=shared, clock=clock, **more) as b,
        ):
            yield Pair(a, b, clock)


@pytest.fixture(autouse=True)
def one_database(postgres_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "STORE", postgres_store)


def with_pair(scenario: Callable[[Pair], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        with folder() as path:
            async with pair(path, **more) as both:
                await scenario(both)

    asyncio.run(run())


async def session_of(service: Service, id: str) -> stored.StoredSession:
    found = await service.inside.database.short.run(lambda c: stored.find(c, id))
    assert found is not None
    return found


async def kill(service: Service, id: str) -> None:
    operator = await service.person("olga", "operators")
    await operator.call("KillSession", admin_service_pb2.KillSessionRequest(session_id=id, reason="looks wrong"))


async def approve(service: Service, id: str, digest: bytes) -> Any:
    request = admin_service_pb2.ResolveApprovalRequest(approval_id=id, action_digest=digest)
    request.yes.SetInParent()
    return (await (await service.person("olivia", "owners")).call("ResolveApproval", request)).approval


def test_a_session_of_one_decides_and_is_refreshed_at_the_other():
    async def scenario(both: Pair):
        at_a, at_b = await both.a.proxy(), await both.b.proxy()
        opened = await at_a.open()
        assert [each.WhichOneof("verdict") for each in await at_b.decide(opened.token, action(SELECT))] == ["allow"]
        refresh = decision_service_pb2.RefreshSessionRequest(token=opened.token)
        renewed = await at_b.decisions.RefreshSession(refresh)
        assert [each.WhichOneof("verdict") for each in await at_a.decide(renewed.token, action(SELECT))] == ["allow"]
        close = decision_service_pb2.CloseSessionRequest(token=renewed.token, reason="bye", last_seq=3)
        await at_b.decisions.CloseSession(close)

        async def refused() -> bool:
            with contextlib.suppress(AssertionError):
                code, _ = await status_of(at_a.decide(renewed.token, action(SELECT)))
                return code is grpc.StatusCode.FAILED_PRECONDITION
            return False

        await until(refused)

        async def forgotten() -> bool:
            return both.a.inside.sessions.open_count == both.b.inside.sessions.open_count == 0

        await until(forgotten)

    with_pair(scenario)


def test_counts_of_a_session_add_up():
    async def scenario(both: Pair):
        at_a, at_b = await both.a.proxy(), await both.b.proxy()
        opened = await at_a.open()
        for proxy in (at_a, at_b, at_b):
            await proxy.decide(opened.token, *([action(SELECT)] * 5))
        # Each replica tells the store what it has counted, from whatever reason, at once.
        await asyncio.gather(*(each.inside.sessions.sweep() for each in (both.a, both.a, both.b, both.b)))
        assert (await session_of(both.a, opened.session_id)).verdicts["allow"] == 15
        operator = await both.b.person("olga", "operators")

        async def counted() -> bool:
            request = admin_service_pb2.ListSessionsRequest()
            (session,) = (await operator.call("ListSessions", request)).sessions
            assert session.verdicts["allow"] <= 15
            return session.verdicts["allow"] == 15

        await until(counted)
        await asyncio.gather(both.a.inside.sessions.sweep(), both.b.inside.sessions.sweep())
        assert Counter((await session_of(both.a, opened.session_id)).verdicts)["allow"] == 15

    with_pair(scenario)


def test_a_session_killed_at_one_is_cut_where_it_is_watched():
    async def scenario(both: Pair):
        proxy = await both.a.proxy()
        opened = await proxy.open()
        watching = Watching(proxy)
        await watching.acknowledge(0)
        await watching.next("snapshot")
        await kill(both.b, opened.session_id)
        async with asyncio.timeout(40):
            ended = (await watching.next("session_ended")).session_ended
        assert (ended.session_id, ended.reason) == (opened.session_id, "looks wrong")
        code, said = await status_of(proxy.decide(opened.token, action(SELECT)))
        assert (code, said) == (grpc.StatusCode.FAILED_PRECONDITION, "the session has ended: looks wrong")

    with_pair(scenario)


def test_a_session_that_was_ended_long_ago_is_found_as_well():
    """By a clock that is behind, or while the store was out of reach: what counts is what the store says."""

    async def scenario(both: Pair):
        opened = await (await both.a.proxy()).open()
        long_ago = both.clock() - serving_module.datetime.timedelta(days=1)
        await both.b.inside.database.short.run(
            lambda c: stored.end(c, opened.session_id, SessionState.KILLED, "long ago", long_ago)
        )

        async def gone() -> bool:
            return both.a.inside.sessions.open_count == 0

        await until(gone)

    with_pair(scenario)


def test_what_is_kept_at_one_is_not_lost_at_the_other():
    async def scenario(both: Pair):
        at_a, at_b = await both.a.proxy(), await both.b.proxy()
        kept, dropped = await at_a.open(), await at_a.open()
        both.clock.pass_(seconds=50)
        request = decision_service_pb2.KeepSessionsRequest(session_ids=[kept.session_id, "s-no-such"])
        assert list((await at_b.decisions.KeepSessions(request)).ended_session_ids) == ["s-no-such"]
        both.clock.pass_(seconds=20)

        async def lost() -> bool:
            return (await session_of(both.b, dropped.session_id)).state is SessionState.LOST

        await until(lost)
        await asyncio.gather(both.a.inside.sessions.sweep(), both.b.inside.sessions.sweep())
        assert (await session_of(both.b, kept.session_id)).state is SessionState.OPEN
        assert [each.WhichOneof("verdict") for each in await at_a.decide(kept.token, action(SELECT))] == ["allow"]

    with_pair(scenario)


def test_a_yes_given_at_one_reaches_who_waits_at_the_other_and_is_used_once():
    async def scenario(both: Pair):
        at_a, at_b = await both.a.proxy(), await both.b.proxy()
        opened = await at_a.open()
        asked = await at_a.ask(opened, action())
        waiting = at_a.approvals.AwaitApproval(
            approval_service_pb2.AwaitApprovalRequest(token=opened.token, approval_id=asked.approval_id)
        )
        assert (await waiting.read()).state == approval_service_pb2.APPROVAL_STATE_PENDING
        digest = digest_of(action(), opened)
        await approve(both.b, asked.approval_id, digest)
        async with asyncio.timeout(40):
            assert (await waiting.read()).state == approval_service_pb2.APPROVAL_STATE_APPROVED
        executions = [(proxy, f"e{number}") for number in range(4) for proxy in (at_a, at_b)]
        answers = await asyncio.gather(
            *(proxy.redeem(opened.token, asked.approval_id, digest, name) for proxy, name in executions)
        )
        # Each execution was asked for at both: it has one answer, and one of them all is let through.
        verdicts = {(name, answer.WhichOneof("verdict")) for (_, name), answer in zip(executions, answers, strict=True)}
        assert len([each for each in verdicts if each[1] == "allow"]) == 1
        assert {each.decision_id for each in answers if each.HasField("allow")} != set()
        assert len({each.decision_id for each in answers if each.HasField("allow")}) == 1

    with_pair(scenario)


def test_the_same_question_asked_at_both_at_once_is_one_and_the_share_is_one():
    async def scenario(both: Pair):
        proxies = [await each.proxy() for each in (both.a, both.b)]
        opened = await proxies[0].open()

        async def ask(proxy: Any, key: str) -> Any:
            return await proxy.ask(opened, action(), key)

        same = await asyncio.gather(*(ask(proxy, "k") for proxy in proxies * 3))
        assert len({each.approval_id for each in same}) == 1
        # One is pending and two are the share: of many that are asked for at once, one more is taken.
        more = await asyncio.gather(
            *(ask(proxy, f"k{index}") for index, proxy in enumerate(proxies * 3)), return_exceptions=True
        )
        assert sorted(getattr(each, "code", lambda: None)() is None for each in more) == [False] * 5 + [True]
        pending = await both.a.inside.database.short.run(lambda c: stored_approvals.newest(c, [ApprovalState.PENDING]))
        assert len(pending) == 2

    with_pair(scenario, more=f"  {SHARE}")


def test_the_share_of_sessions_is_one_for_both():
    async def scenario(both: Pair):
        proxies = [await each.proxy() for each in (both.a, both.b)]
        answers = await asyncio.gather(*(proxy.open() for proxy in proxies * 4), return_exceptions=True)
        opened = [each for each in answers if not isinstance(each, BaseException) and each.token]
        assert len(opened) == 3

    with_pair(scenario, more=f"  {SHARE}")


def test_an_approver_and_the_end_of_the_wait_exclude_each_other():
    async def scenario(both: Pair):
        at_a = await both.a.proxy()
        opened = await at_a.open()
        digest = digest_of(action(), opened)
        for number in range(5):
            asked = await at_a.ask(opened, action(), f"k{number}")
            request = approval_service_pb2.CancelApprovalRequest(token=opened.token, approval_id=asked.approval_id)
            given, _ = await asyncio.gather(
                approve(both.b, asked.approval_id, digest),
                at_a.approvals.CancelApproval(request),
                return_exceptions=True,
            )
            approval = await both.b.inside.approvals.find(asked.approval_id)
            assert approval is not None
            # Whoever came first: it was withdrawn, and there is no yes that nobody took back.
            assert approval.state is ApprovalState.CANCELLED
            assert (
                isinstance(given, grpc.aio.AioRpcError) or given.state == approval_service_pb2.APPROVAL_STATE_APPROVED
            )

    with_pair(scenario)


def test_two_owners_who_agree_at_once_at_different_replicas_are_two():
    async def scenario(both: Pair):
        for each in (both.a, both.b):
            each.engine.requirements[:] = [requirement("group:owners", count=2)]
        at_a = await both.a.proxy()
        opened = await at_a.open()
        digest = digest_of(action(), opened)
        asked = await at_a.ask(opened, action())
        request = admin_service_pb2.ResolveApprovalRequest(approval_id=asked.approval_id, action_digest=digest)
        request.yes.SetInParent()
        people = [await both.a.person("olivia", "owners"), await both.b.person("oscar", "owners")]
        await asyncio.gather(*(person.call("ResolveApproval", request) for person in people))
        approval = await both.a.inside.approvals.find(asked.approval_id)
        assert approval is not None
        assert approval.state is ApprovalState.APPROVED
        assert len(approval.assents) == 2

    with_pair(scenario)


def test_records_of_one_chain_come_to_either_even_at_once():
    async def scenario(both: Pair):
        at_a, at_b = await both.a.proxy(), await both.b.proxy()
        session = (await at_a.open()).session_id
        events = sealed(session, 40)
        assert last(await ship(at_a, shipped(events[:5]))) == 4
        assert last(await ship(at_b, shipped(events[5:10]))) == 9
        # What was sent and not acknowledged is sent again to the other, while the first still works on it.
        both_answers = await asyncio.gather(ship(at_a, shipped(events)), ship(at_b, shipped(events)))
        for answers in both_answers:
            assert refusals(answers) == []
            assert last(answers) == 39
        kept = await both.a.inside.database.bulk.run(lambda c: stored_records.page(c, session, 0, 100))
        assert [(each.seq, each.event, each.hash) for each in kept] == [
            (each.seq, each.data, each.hash) for each in events
        ]
        fork = sealed(session, 2, said="y")
        assert refusals(await ship(at_b, [event_of(fork[1])])) == ["another event with this number is stored"]

    with_pair(scenario)


def test_what_one_began_the_other_goes_on_with_when_it_is_gone():
    async def scenario():
        with folder() as path, shared_folder(path) as shared:
            async with serving(path / "b", shared=shared) as b:
                async with serving(path / "a", shared=shared) as a:
                    at_a = await a.proxy()
                    opened = await at_a.open()
                    asked = await at_a.ask(opened, action())
                at_b = await b.proxy()
                digest = digest_of(action(), opened)
                await approve(b, asked.approval_id, digest)
                assert (await at_b.redeem(opened.token, asked.approval_id, digest)).WhichOneof("verdict") == "allow"
                (decision,) = await at_b.decide(opened.token, action(SELECT))
                assert decision.WhichOneof("verdict") == "allow"

    asyncio.run(scenario())


def test_a_store_that_is_away_means_no_and_is_said_and_leases_begin_again_when_it_is_back(
    postgres18: Any, monkeypatch: pytest.MonkeyPatch
):
    name = serving_module.STORE.rpartition("/")[2]
    cut = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"

    async def scenario(both: Pair):
        proxy = await both.a.proxy()
        opened = await proxy.open()
        postgres18.sql("postgres", f"alter database {name} allow_connections false; {cut}")
        code, said = await status_of(proxy.open())
        assert (code, said) == (grpc.StatusCode.UNAVAILABLE, "the store is not available")
        request = decision_service_pb2.KeepSessionsRequest(session_ids=[opened.session_id])
        assert (await status_of(proxy.decisions.KeepSessions(request)))[0] is grpc.StatusCode.UNAVAILABLE

        async def noticed() -> str:
            return both.a.inside.database.problem

        await until(noticed)
        for each in (both.a, both.b):
            with pytest.raises(Exception, match="not available"):
                await each.inside.sessions.sweep()
        # What is open is decided for, but not for ever: somebody may be shut out where the store is at hand.
        (decision,) = await proxy.decide(opened.token, action(SELECT))
        assert decision.WhichOneof("verdict") == "allow"
        monkeypatch.setattr(both.a.inside.sessions, "_monotonic", lambda: time.monotonic() + 61)
        code, said = await status_of(proxy.decide(opened.token, action(SELECT)))
        assert (code, said) == (
            grpc.StatusCode.UNAVAILABLE,
            "which sessions have ended cannot be read from the store",
        )
        both.clock.pass_(seconds=70)
        for each in (both.a, both.b):
            with pytest.raises(Exception, match="not available"):
                await each.inside.sessions.sweep()
        postgres18.sql("postgres", f"alter database {name} allow_connections true")

        async def back() -> bool:
            return not both.a.inside.database.problem and not both.b.inside.database.problem

        await until(back)
        await asyncio.gather(both.a.inside.sessions.sweep(), both.b.inside.sessions.sweep())
        assert (await session_of(both.a, opened.session_id)).state is SessionState.OPEN
        assert (await proxy.open()).token

        async def decided() -> bool:
            try:
                return bool(await proxy.decide(opened.token, action(SELECT)))
            except grpc.aio.AioRpcError:
                return False

        await until(decided)
        one = "select 1"
        assert await both.b.inside.database.bulk.run(lambda c: c.execute(text(one)).scalar_one()) == 1

    with_pair(scenario)
