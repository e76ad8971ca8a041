"""The client and the shipper against real gRPC servers with mutual TLS, in this process."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from pdp.v1 import (
    access_pb2,
    approval_service_pb2,
    approval_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
)
from pep.core.config import DecisionsTls
from pep.core.decision_client import (
    ApprovalRequest,
    Bearer,
    ClientCertificate,
    Credential,
    Jwt,
    Login,
    StaticKey,
)
from pep.core.errors import DecisionUnavailable, RequestRefused
from pep.core.grpc_client import GrpcDecisionClient
from pep.core.model import Deny
from pep.core.recorder import Recorder
from pep.core.records import Body, Event, EventType
from pep.core.segments import EventEntry, decode
from pep.core.sessions import SessionEnded, SessionHandle, Token, WatchNews
from pep.core.shipments import Shipment, Spooled
from pep.core.shipper import Shipper
from pep.core.spool import Spool
from pep.core.tls import channel_credentials
from tests.certificates import make_authority
from tests.pep.core.scripted import action, session_handle

ALLOWED = decision_pb2.Decision(decision_id="d-1", policy_revision="r-1", allow=decision_pb2.Allow())


@dataclass
class Service(
    decision_service_pb2_grpc.DecisionServiceServicer,
    approval_service_pb2_grpc.ApprovalServiceServicer,
    audit_service_pb2_grpc.AuditServiceServicer,
):
    """Answers what a test has put there, and stores records as the real one promises to."""

    answers: list[Any] = field(default_factory=list)
    streamed: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    spools: list[Any] = field(default_factory=list)
    stored: dict[str, list[bytes]] = field(default_factory=dict)
    bodies: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    # After so many records the stream breaks; 0 for never.
    break_after: int = 0
    silent: bool = False

    async def _answer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "no")
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return await self._answer(request, context)
        return answer

    async def OpenSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context)

    async def RefreshSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context)

    async def Decide(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context)

    async def RequestApproval(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context)

    async def AwaitApproval(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.requests.append(request)
        for answer in self.streamed:
            yield answer

    async def Watch(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        begun = await anext(requests)
        assert begun.acknowledged == 0
        self.spools.append(begun.spool)
        for answer in self.streamed:
            yield answer
            request = await anext(requests)
            self.acknowledged.append(request.acknowledged)
            self.spools.append(request.spool)

    async def Record(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        count = 0
        async for request in requests:
            count += 1
            if count == self.break_after:
                self.break_after = 0
                await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            if not self.silent:
                yield self._store(request)

    def _store(self, request: audit_service_pb2.RecordRequest) -> audit_service_pb2.RecordResponse:
        events = self.stored.setdefault(request.session_id, [])
        answer = audit_service_pb2.RecordResponse(session_id=request.session_id, acknowledged_seq=request.seq)
        if request.WhichOneof("item") == "body":
            assert request.seq < len(events), "a body comes after its event"
            self.bodies[request.session_id, request.seq, request.body.index] = request.body.content
        elif request.seq == len(events):
            events.append(request.event)
        elif events[request.seq] != request.event:
            answer.refused, answer.acknowledged_seq = "another event with this number is stored", 0
        return answer


@asynccontextmanager
async def serving(folder: Path, service: Service, socket: str = "s") -> AsyncIterator[grpc.aio.Server]:
    authority = make_authority(folder, "ca") if not (folder / "ca.crt").exists() else None
    if authority is not None:
        authority.issue("server", dns=["pdp.test"])
        authority.issue("pep", uris=["spiffe://test/pep/shop"])
    pair = ((folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (folder / "ca.crt").read_bytes(), require_client_auth=True)
    server = grpc.aio.server()
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(service, server)
    approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(service, server)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(service, server)
    server.add_secure_port(f"unix:{folder / socket}", credentials)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def client(folder: Path, timeout: float = 2.0, sockets: Sequence[str] = "s") -> AsyncIterator[GrpcDecisionClient]:
    tls = DecisionsTls(cert=folder / "pep.crt", key=folder / "pep.key", ca=folder / "ca.crt", server_name="pdp.test")
    made = GrpcDecisionClient(
        [f"unix:{folder / socket}" for socket in sockets],
        channel_credentials(tls),
        server_name="pdp.test",
        open_timeout=timeout,
        decide_timeout=timeout,
    )
    try:
        yield made
    finally:
        await made.close()


def with_service(
    folder: Path, service: Service, work: Callable[[GrpcDecisionClient], Awaitable[Any]], timeout: float = 2.0
) -> Any:
    async def conversation() -> Any:
        async with serving(folder, service), client(folder, timeout) as decisions:
            return await work(decisions)

    return asyncio.run(asyncio.wait_for(conversation(), 15))


LOGIN = Login(Bearer("secret"), "shop", "postgres", "127.0.0.1:5", ("mask",), {"application_name": "psql"})


def test_a_session_is_opened_with_what_the_client_showed(tmp_path: Path):
    opened = decision_service_pb2.OpenSessionResponse(
        decision=ALLOWED,
        session_id="s-1",
        token="t-1",
        subject=access_pb2.Subject(type="agent", id="a", root=access_pb2.Party(type="user", id="ada")),
        obligations=[decision_pb2.Obligation(read_only=decision_pb2.ReadOnly())],
        input_paths=["action.properties.statement.text"],
    )
    service = Service(answers=[opened])
    handle = with_service(tmp_path, service, lambda decisions: decisions.open_session(LOGIN))
    assert isinstance(handle, SessionHandle)
    assert (handle.subject.name, handle.subject.root.name, handle.token) == ("agent:a", "user:ada", "t-1")
    assert handle.credential_expires_at is None
    request = service.requests[0]
    assert (request.bearer, dict(request.labels), request.meta.timeout.seconds) == (
        "secret",
        {"application_name": "psql"},
        1,
    )
    assert "secret" not in repr(LOGIN)
    assert "t-1" not in repr(handle)


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        (Jwt("secret"), {"jwt": "secret"}),
        (StaticKey("secret"), {"static_key": "secret"}),
        (Bearer("secret"), {"bearer": "secret"}),
        (
            ClientCertificate((b"secret", b"authority")),
            {"certificate": decision_service_pb2.ClientCertificate(chain=[b"secret", b"authority"])},
        ),
    ],
)
def test_each_kind_of_credential_goes_as_what_it_is(tmp_path: Path, credential: Credential, sent: Any):
    service = Service(answers=[decision_service_pb2.OpenSessionResponse(decision=ALLOWED)])
    login = dataclasses.replace(LOGIN, credential=credential)
    with pytest.raises(DecisionUnavailable):
        with_service(tmp_path, service, lambda decisions: decisions.open_session(login))
    (kind,) = sent
    assert service.requests[0].WhichOneof("credential") == kind
    assert getattr(service.requests[0], kind) == sent[kind]
    assert "secret" not in repr(login)


@pytest.mark.parametrize(
    "verdict",
    [
        decision_pb2.Decision(decision_id="d-1", deny=decision_pb2.Deny()),
        decision_pb2.Decision(decision_id="d-1", require_approval=decision_pb2.RequireApproval()),
        decision_pb2.Decision(decision_id="d-1"),
    ],
)
def test_a_connection_without_an_allow_is_denied(tmp_path: Path, verdict: Any):
    answer = decision_service_pb2.OpenSessionResponse(decision=verdict, session_id="s-1", token="t-1")
    assert isinstance(with_service(tmp_path, Service(answers=[answer]), lambda each: each.open_session(LOGIN)), Deny)


def test_an_allowed_session_that_is_nobodys_is_no_session(tmp_path: Path):
    answer = decision_service_pb2.OpenSessionResponse(decision=ALLOWED, session_id="s-1", token="t-1")
    with pytest.raises(DecisionUnavailable):
        with_service(tmp_path, Service(answers=[answer]), lambda each: each.open_session(LOGIN))


@pytest.mark.parametrize(
    ("paths", "text", "parameters"),
    [
        ((), "", b""),
        (("action.properties.statement.text",), "select 1", b""),
        (("action.properties.statement.parameters",), "", b'["x"]'),
        (("action.properties",), "select 1", b'["x"]'),
        (("action.properties.statement.parameters.0",), "", b'["x"]'),
        (("action.properties.statement.textual",), "", b""),
    ],
)
def test_text_travels_only_where_a_policy_reads_it(tmp_path: Path, paths: Any, text: str, parameters: bytes):
    service = Service(answers=[decision_service_pb2.DecideResponse(decisions=[ALLOWED])])
    session = session_handle(input_paths=frozenset(paths))
    with_service(tmp_path, service, lambda each: each.decide(session, [action()]))
    (sent,) = service.requests[0].actions
    assert (sent.statement.text, sent.statement.parameters_json) == (text, parameters)
    assert orjson.loads(sent.properties_json) == {"opaque": False}


def test_a_request_for_approval_always_shows_the_statement(tmp_path: Path):
    answer = approval_service_pb2.RequestApprovalResponse(approval_id="a-1", url="http://x", approvers=["group:o"])
    service = Service(answers=[answer])
    request = ApprovalRequest("d-1", "key", action("delete from t"), b"digest", in_transaction=True, hold=1.5)
    pending = with_service(tmp_path, service, lambda each: each.request_approval(session_handle(), request))
    assert (pending.approval_id, pending.approvers, pending.expires_at) == ("a-1", ("group:o",), None)
    sent = service.requests[0]
    assert (sent.action.statement.text, sent.hold.ToTimedelta().total_seconds()) == ("delete from t", 1.5)


def test_a_second_try_takes_another_connection(tmp_path: Path):
    answers = [grpc.StatusCode.UNAVAILABLE, decision_service_pb2.DecideResponse(decisions=[ALLOWED])]
    service = Service(answers=answers)
    (decision,) = with_service(tmp_path, service, lambda each: each.decide(session_handle(), [action()]))
    assert decision.decision_id == "d-1"
    assert len({request.meta.request_id for request in service.requests}) == 1


def test_a_refusal_is_not_tried_again(tmp_path: Path):
    service = Service(answers=[grpc.StatusCode.PERMISSION_DENIED])
    with pytest.raises(RequestRefused):
        with_service(tmp_path, service, lambda each: each.decide(session_handle(), [action()]))
    assert len(service.requests) == 1


def test_an_answer_that_comes_late_is_no_answer(tmp_path: Path):
    service = Service(answers=[asyncio.Event(), asyncio.Event()])
    began = time.monotonic()
    with pytest.raises(DecisionUnavailable):
        with_service(tmp_path, service, lambda each: each.decide(session_handle(), [action()]), timeout=0.3)
    assert time.monotonic() - began < 3


def test_without_a_service_there_is_no_decision(tmp_path: Path):
    async def conversation() -> None:
        async with serving(tmp_path, Service()):
            pass
        async with client(tmp_path, 0.2) as decisions:
            with pytest.raises(DecisionUnavailable):
                await decisions.decide(session_handle(), [action()])

    asyncio.run(asyncio.wait_for(conversation(), 10))


def test_news_is_acknowledged_when_the_next_is_asked_for(tmp_path: Path):
    snapshot = decision_service_pb2.Snapshot(
        policy_revision="r-1", sessions_ended=[decision_service_pb2.SessionEnded(session_id="s-1", reason="killed")]
    )
    answers = [
        decision_service_pb2.WatchResponse(number=1, snapshot=snapshot),
        decision_service_pb2.WatchResponse(number=2, policy_revision="r-2"),
        decision_service_pb2.WatchResponse(number=3, heartbeat=decision_service_pb2.Heartbeat()),
    ]
    service = Service(streamed=answers)

    async def watch(decisions: GrpcDecisionClient) -> list[WatchNews]:
        return [news async for news in decisions.watch()]

    assert with_service(tmp_path, service, watch) == [
        WatchNews("r-1", (SessionEnded("s-1", "killed"),)),
        WatchNews("r-2"),
        WatchNews(),
    ]
    assert service.acknowledged == [1, 2, 3]


def test_the_service_hears_with_each_acknowledgement_how_the_records_stand(tmp_path: Path):
    snapshot = decision_service_pb2.Snapshot(policy_revision="r-1")
    service = Service(streamed=[decision_service_pb2.WatchResponse(number=1, snapshot=snapshot)])
    stands = iter([Spooled(5, 100, 0.0), Spooled(90, 100, 61.5, "the disk is full", failed=True)])

    async def watch(decisions: GrpcDecisionClient) -> None:
        decisions.report(lambda: next(stands))
        assert [news.policy_revision async for news in decisions.watch()] == ["r-1"]

    with_service(tmp_path, service, watch)
    first, second = service.spools
    assert (first.bytes, first.limit, first.trouble) == (5, 100, "")
    assert (second.bytes, second.trouble, second.failed) == (90, "the disk is full", True)
    assert second.age.ToTimedelta().total_seconds() == 61.5


def test_an_answer_of_another_kind_is_no_answer(tmp_path: Path):
    nonsense = audit_service_pb2.RecordResponse(session_id="\x01" * 40, acknowledged_seq=2**60, refused="\xff")
    # Its session_id stands where the other message has a snapshot, and is none.
    other = decision_service_pb2.OpenSessionResponse(session_id="s-1")
    service = Service(answers=[nonsense, nonsense], streamed=[other])

    async def ask(decisions: GrpcDecisionClient) -> None:
        with pytest.raises(DecisionUnavailable):
            await decisions.decide(session_handle(), [action()])
        with pytest.raises(DecisionUnavailable):
            await anext(decisions.watch())

    with_service(tmp_path, service, ask)


def test_an_unknown_state_of_an_approval_grants_nothing(tmp_path: Path):
    answers = [
        approval_service_pb2.AwaitApprovalResponse(state=approval_service_pb2.APPROVAL_STATE_PENDING),
        approval_service_pb2.AwaitApprovalResponse(state=99, comment="?"),
    ]

    async def states(decisions: GrpcDecisionClient) -> list[str]:
        return [update.state async for update in decisions.await_approval(session_handle(), "a-1")]

    assert with_service(tmp_path, Service(streamed=answers), states) == ["pending", "unknown"]


def test_a_session_is_renewed_or_told_why_not(tmp_path: Path):
    answers = [
        decision_service_pb2.RefreshSessionResponse(token="t-2"),
        decision_service_pb2.RefreshSessionResponse(ended_because="revoked"),
        decision_service_pb2.RefreshSessionResponse(),
    ]

    async def renew(decisions: GrpcDecisionClient) -> list[Token | str]:
        return [await decisions.refresh_session(session_handle()) for _ in range(3)]

    renewed = with_service(tmp_path, Service(answers=answers), renew)
    assert renewed == [Token("t-2", None), "revoked", "the session was not renewed"]


# --- shipping


def record_some(spool: Spool, sessions: int = 3, rounds: int = 10, size: int = 100) -> None:
    recorders = [Recorder(spool, f"s-{number}", "user:ada") for number in range(sessions)]
    for _ in range(rounds):
        for recorder in recorders:
            recorder.record(
                Event(EventType.DECISION), Event(EventType.INTENT, bodies=(Body("statement", b"x" * size),))
            )
    for recorder in recorders:
        recorder.record(Event(EventType.SESSION_CLOSED))


async def ship_until_drained(spool: Spool, decisions: GrpcDecisionClient, **options: Any) -> None:
    shipper = Shipper(spool, decisions, **options)
    running = asyncio.create_task(shipper.run())
    assert await shipper.drained(10)
    running.cancel()


@pytest.mark.parametrize("options", [{}, {"window": 500}], ids=["usual window", "tiny window"])
def test_records_arrive_in_order_and_leave_the_spool(tmp_path: Path, options: Any):
    spool = Spool.open(tmp_path / "spool", segment_bytes=2000)
    record_some(spool)
    service = Service()
    with_service(tmp_path, service, lambda decisions: ship_until_drained(spool, decisions, **options))
    assert {session: len(events) for session, events in service.stored.items()} == {"s-0": 21, "s-1": 21, "s-2": 21}
    assert len(service.bodies) == 30
    assert len(spool.segments) == 1
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_stream_that_breaks_is_opened_again_at_the_next_address(tmp_path: Path):
    async def scenario():
        answers = [Service(streamed=[snapshot(name)]) for name in ("r-a", "r-b")]
        async with serving(tmp_path, answers[1], "b"), client(tmp_path, sockets="ab") as decisions:
            async with serving(tmp_path, answers[0], "a"):
                # Asked for the next one, so that the first is acknowledged and the stream is known to be up.
                assert await revisions(decisions) == ["r-a"]
            seen: list[str] = []
            while not seen:
                seen = await revisions(decisions)
            assert seen == ["r-b"]
            # And so is everything that is a stream.
            await shipped(decisions, answers[1])

    asyncio.run(asyncio.wait_for(scenario(), 60))


def snapshot(revision: str) -> decision_service_pb2.WatchResponse:
    return decision_service_pb2.WatchResponse(
        number=1, snapshot=decision_service_pb2.Snapshot(policy_revision=revision)
    )


async def revisions(decisions: GrpcDecisionClient) -> list[str]:
    """What one stream says until it ends or breaks."""
    seen = []
    with contextlib.suppress(DecisionUnavailable):
        async for news in decisions.watch():
            seen.append(news.policy_revision)  # noqa: PERF401 - what came before an error is kept
    return seen


async def shipped(decisions: GrpcDecisionClient, service: Service) -> None:
    """One record, to whoever is reached."""

    async def one() -> AsyncIterator[Shipment]:
        yield Shipment("s-1", 0, b"{}")
        await asyncio.Event().wait()

    got = asyncio.Event()
    shipping = asyncio.create_task(decisions.ship(one(), lambda _: got.set()))
    await got.wait()
    shipping.cancel()
    await asyncio.gather(shipping, return_exceptions=True)
    assert service.stored == {"s-1": [b"{}"]}


def test_shipping_goes_on_where_it_broke(tmp_path: Path):
    spool = Spool.open(tmp_path / "spool", segment_bytes=2000)
    record_some(spool)
    service = Service(break_after=40)
    with_service(tmp_path, service, lambda decisions: ship_until_drained(spool, decisions))
    assert {session: len(events) for session, events in service.stored.items()} == {"s-0": 21, "s-1": 21, "s-2": 21}
    assert len(service.bodies) == 30
    spool.close()


def test_what_a_dead_process_left_is_shipped_by_its_successor(tmp_path: Path):
    dead = Spool.open(tmp_path / "spool")
    Recorder(dead, "s-1", "user:ada").record(Event(EventType.SESSION_OPENED))
    dead.close()
    spool = Spool.open(tmp_path / "spool")
    service = Service()
    with_service(tmp_path, service, lambda decisions: ship_until_drained(spool, decisions))
    assert [orjson.loads(event)["type"] for event in service.stored["s-1"]] == ["session.opened", "session.lost"]
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_chain_that_is_refused_is_kept_aside_and_holds_up_no_other(tmp_path: Path):
    spool = Spool.open(tmp_path / "spool", segment_bytes=2000)
    record_some(spool, sessions=2, rounds=10)
    service = Service(stored={"s-0": [b"{}"]})
    with_service(tmp_path, service, lambda decisions: ship_until_drained(spool, decisions, window=3000))
    assert len(service.stored["s-1"]) == 21
    spool.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("refused/*.segment"))
    assert {entry.seq for _, entry in decode(kept) if isinstance(entry, EventEntry) and entry.session == "s-0"} == set(
        range(21)
    )
    assert list((tmp_path / "spool").glob("*/*.segment")) == list((tmp_path / "spool").glob("refused/*.segment"))


def test_a_silent_service_gets_a_window_and_delays_nobody(tmp_path: Path):
    spool = Spool.open(tmp_path / "spool")
    record_some(spool, rounds=100, size=1000)
    service = Service(silent=True, answers=[decision_service_pb2.DecideResponse(decisions=[ALLOWED])])

    async def work(decisions: GrpcDecisionClient) -> None:
        shipper = Shipper(spool, decisions, window=10_000)
        running = asyncio.create_task(shipper.run())
        (decision,) = await decisions.decide(session_handle(), [action()])
        assert decision.decision_id == "d-1"
        assert not await shipper.drained(0.1)
        assert shipper._outstanding <= 10_000
        running.cancel()

    with_service(tmp_path, service, work)
    spool.close()
