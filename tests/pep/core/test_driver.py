"""The driver over real sockets, with a line protocol: `? x` asks, `! x` looks up, `= x` records and forwards, anything
else is forwarded as housekeeping; what the upstream says goes to the client as it is."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
import uvloop

from pep.core import driver, wire
from pep.core.decision_client import ApprovalUpdate, PendingApproval
from pep.core.enforcer import Enforcer
from pep.core.leg import WRITE_HIGH, Leg
from pep.core.mailbox import Mailbox
from pep.core.model import Deny, Grant, Held, Reason, RequireApproval, Requirement
from pep.core.recorder import Recorder
from pep.core.records import Event as RecordEvent
from pep.core.records import EventType
from tests.pep.core.scripted import ALLOW, Scripted, Shelf, action, session_handle, until
from tests.playbook import grant

HELD = RequireApproval("d-5", "r-1", (Requirement("deletes", "needs_owner", ("group:owners",)),), 900.0)
PENDING = PendingApproval("a-1", "http://approve/a-1", None, ("group:owners",))


@dataclass
class Lines:
    """A toy machine: one line at a time, the rest waits."""

    lines: list[bytes] = field(default_factory=list)
    rest: bytes = b""
    asked: bytes = b""
    events: list[wire.Event] = field(default_factory=list)
    executions: list[str] = field(default_factory=list)

    @property
    def backlog(self) -> int:
        return sum(map(len, self.lines))

    def receive(self, event: wire.Event) -> Iterable[wire.Effect]:  # noqa: C901 - one arm for each event
        self.events.append(event)
        match event:
            case wire.ClientData(data):
                *whole, self.rest = (self.rest + data).split(b"\n")
                self.lines += whole
                yield from self.go_on()
            case wire.UpstreamData(data):
                yield wire.SendClient(data)
            case wire.Decided(outcome=Grant() as granted):
                self.executions.append(granted.execution_id)
                yield wire.SendUpstream(self.asked + b"\n", granted)
                self.asked = b""
                yield from self.go_on()
            case wire.Decided(outcome=Deny(reasons=reasons)):
                self.asked = b""
                yield wire.SendClient(b"no: " + reasons[0].code.encode() + b"\n")
                yield from self.go_on()
            case wire.Decided(outcome=Held()):
                yield wire.SendClient(b"held\n")
            case wire.Approved(exchange, approval):
                yield wire.Ask(exchange, (action(self.asked.decode()),), redeem=approval)
            case wire.LookedUp(facts=facts):
                self.asked = b""
                yield wire.SendClient(facts + b"\n")
                yield from self.go_on()
            case wire.RecordFailed(reason):
                yield wire.SendClient(b"record failed\n")
                yield wire.Close(reason)
            case wire.TimerFired(name):
                yield wire.SendClient(name.encode() + b" fired\n")
            case wire.Revoked(reason):
                yield wire.SendClient(b"revoked\n")
                yield wire.Close(reason)
            case wire.ClientClosed():
                if self.asked:
                    yield wire.CancelAsk(1, "the client left")
                yield wire.Close("the client left")
            case wire.UpstreamClosed():
                yield wire.Close("the upstream left")
            case wire.CancelRequested():
                yield wire.CancelUpstream()

    def go_on(self) -> Iterator[wire.Effect]:
        while self.lines and not self.asked:
            line = self.lines.pop(0)
            match line[:1]:
                case b"?":
                    self.asked = line
                    yield wire.Ask(1, (action(line.decode()),))
                case b"!":
                    self.asked = line
                    yield wire.LookUp(1, line)
                case b"=":
                    yield wire.Record(RecordEvent(EventType.RESPONSE))
                    yield wire.SendUpstream(line + b"\n", wire.Housekeeping())
                case b"-":
                    yield wire.Record(RecordEvent(EventType.RESPONSE))
                    yield wire.SendClient(b"the end is on record\n")
                    yield wire.Close("ended")
                case b"^":
                    yield wire.SendUpstream(line + b"\n", wire.Continuation(grant()))
                case b"@":
                    yield wire.SetTimer("short", 0.01)
                    yield wire.SetTimer("cleared", 0.001)
                    yield wire.SetTimer("cleared", None)
                case b"+":
                    yield wire.Record(RecordEvent(EventType.RESPONSE, facts={"execution_id": self.executions.pop()}))
                case b"#":
                    raise RuntimeError("secret words of the client")
                case _:
                    yield wire.SendUpstream(line + b"\n", wire.Housekeeping())


class Facts:
    async def answer(self, question: Any) -> Any:
        return b"facts about " + question


class Stage:
    """A client socket, the proxy between, an upstream socket; what each end receives and sends is a test's business."""

    def __init__(self, service: Scripted, **options: Any) -> None:
        self.service = service
        self.shelf = Shelf()
        self.session = Lines()
        self.mailbox = Mailbox()
        self.options = options
        self.cancels = asyncio.Event()
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        upstream_listener, proxy_listener = socket.create_server(("127.0.0.1", 0)), None
        upstream_listener.setblocking(False)
        accepted: asyncio.Queue[Leg] = asyncio.Queue()
        proxy_listener = await loop.create_server(lambda: Leg(accepted=accepted.put_nowait), "127.0.0.1", 0)
        self.client = socket.socket()
        self.client.setblocking(False)
        await loop.sock_connect(self.client, proxy_listener.sockets[0].getsockname()[:2])
        client_leg = await accepted.get()
        upstream_leg = await Leg.connect(*upstream_listener.getsockname()[:2])
        self.upstream, _ = await loop.sock_accept(upstream_listener)
        self.upstream.setblocking(False)
        upstream_listener.close()
        self._server = proxy_listener
        recorder = Recorder(self.shelf, "s-1", "user:ada")
        enforcer = Enforcer(self.service, session_handle(), recorder, supported=frozenset())
        self.legs = (client_leg, upstream_leg)

        async def cancel_upstream() -> None:
            self.cancels.set()

        async def drive() -> None:
            reason = await driver.run(
                self.session,
                client_leg,
                upstream_leg,
                lambda _: driver.Gate(recorder, enforcer),
                Facts(),
                cancel_upstream,
                self.mailbox,
                **self.options,
            )
            self.reason.set_result(reason)

        self._task = asyncio.create_task(drive())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()
        self.upstream.close()
        await self._task
        self._server.close()
        await self._server.wait_closed()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def reads(self, side: socket.socket, expected: bytes) -> None:
        got = bytearray()
        while len(got) < len(expected):
            chunk = await asyncio.get_running_loop().sock_recv(side, 1 << 20)
            assert chunk, f"closed after {len(got)} bytes"
            got += chunk
        assert bytes(got) == expected

    async def upstream_got(self) -> bytes:
        """Everything that reached the upstream before the proxy closed."""
        got = b""
        while chunk := await asyncio.get_running_loop().sock_recv(self.upstream, 65536):
            got += chunk
        return got


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def on_loop(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(work, 5))

    return on_loop


def reset(side: socket.socket) -> None:
    """Close with RST instead of FIN."""
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()


def test_what_is_granted_is_forwarded_and_what_is_denied_is_not(run):
    async def conversation() -> None:
        denied = Deny("d-1", "r-1", (Reason("refused"),))
        async with Stage(Scripted(decisions=[ALLOW, denied])) as stage:
            await stage.send(b"hello\n? one\n? two\nbye\n")
            await stage.reads(stage.upstream, b"hello\n? one\nbye\n")
            await stage.reads(stage.client, b"no: refused\n")
            await asyncio.get_running_loop().sock_sendall(stage.upstream, b"answer\n")
            await stage.reads(stage.client, b"answer\n")

    run(conversation())


def test_a_look_up_is_answered_in_its_place(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            await stage.send(b"! it\nafter\n")
            await stage.reads(stage.client, b"facts about ! it\n")
            await stage.reads(stage.upstream, b"after\n")

    run(conversation())


def test_what_is_for_the_upstream_goes_before_what_is_looked_up_at_once(run):
    async def conversation() -> None:
        def at_once(question: Any) -> tuple[bytes]:
            stage.legs[1].write(b"between\n")
            return (b"facts about " + question,)

        stage = Stage(Scripted(), at_once=at_once)
        async with stage:
            await stage.send(b"before\n! it\nafter\n")
            await stage.reads(stage.client, b"facts about ! it\n")
            await stage.reads(stage.upstream, b"before\nbetween\nafter\n")

    run(conversation())


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("flood", [b"", b"x" * 8192 + b"\n" + b"y" * 20_000], ids=["reading", "reading paused"])
def test_a_held_client_that_leaves_is_noticed_and_its_command_never_runs(run, leave, flood):
    async def conversation() -> None:
        service = Scripted(decisions=[HELD], approvals=[PENDING])
        async with Stage(service, client_buffer=8192, probe_seconds=0.02) as stage:
            await stage.send(b"? delete\n")
            await stage.reads(stage.client, b"held\n")
            await service.waiting.wait()
            if flood:
                await stage.send(flood)
                await until(lambda: stage.legs[0].paused_for("backlog"))
            leave(stage.client)
            assert await stage.reason == "the client left"
            assert await stage.upstream_got() == b""
            assert [each for each, _ in service.cancelled] == ["a-1"]

    run(conversation())


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_a_client_that_leaves_before_the_grant_is_seen_is_asked_for_once_more(run, leave):
    """Reading is paused and no probe is due: only the last look before the grant can see that nobody waits."""

    async def conversation() -> None:
        approved = asyncio.Event()
        service = Scripted(
            decisions=[HELD], approvals=[PENDING], updates=[approved, ApprovalUpdate("approved")], redemptions=[ALLOW]
        )
        async with Stage(service, client_buffer=8192, probe_seconds=3600) as stage:
            await stage.send(b"? delete\n" + b"x" * 9000 + b"\n")
            await until(lambda: stage.legs[0].paused_for("backlog"))
            await service.waiting.wait()
            leave(stage.client)
            await until(stage.legs[0].gone)
            approved.set()
            assert await stage.reason == "the client left"
            assert await stage.upstream_got() == b""
            assert [each for each, _ in service.cancelled] == ["a-1"]

    run(conversation())


def test_an_approved_command_is_forwarded_to_a_client_that_waited(run):
    async def conversation() -> None:
        service = Scripted(
            decisions=[HELD], approvals=[PENDING], updates=[ApprovalUpdate("approved")], redemptions=[ALLOW]
        )
        async with Stage(service) as stage:
            await stage.send(b"? delete\n")
            await stage.reads(stage.client, b"held\n")
            await stage.reads(stage.upstream, b"? delete\n")

    run(conversation())


def test_the_backlog_is_bounded_and_reading_goes_on_when_it_is_used_up(run):
    async def conversation() -> None:
        wait = asyncio.Event()
        async with Stage(Scripted(decisions=[wait, ALLOW]), client_buffer=8192, probe_seconds=3600) as stage:
            lines = b"? one\n" + (b"x" * 999 + b"\n") * 8000
            sending = asyncio.create_task(stage.send(lines))
            await until(lambda: stage.legs[0].paused_for("backlog"))
            assert stage.session.backlog < 8192 + 2 * 256 * 1024
            wait.set()
            await stage.reads(stage.upstream, lines)
            await sending
            assert not stage.legs[0].paused_for("backlog")

    run(conversation())


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_side_that_takes_nothing_stops_the_other_from_being_read(run, side):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            loop = asyncio.get_running_loop()
            slow, fast = (stage.client, stage.upstream) if side == "client" else (stage.upstream, stage.client)
            leg = stage.legs[1] if side == "client" else stage.legs[0]
            block = (b"z" * 1023 + b"\n") * 1024
            sent = 0

            async def flood() -> None:
                nonlocal sent
                for _ in range(32):
                    await loop.sock_sendall(fast, block)
                    sent += len(block)

            flooding = asyncio.create_task(flood())
            await until(lambda: leg.paused_for("peer"))
            assert not flooding.done()
            await stage.reads(slow, block * 32)
            await flooding
            assert sent == 32 * len(block) > WRITE_HIGH

    run(conversation())


def test_a_record_that_fails_stops_what_follows_it(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            stage.shelf.full = True
            await stage.send(b"before\n= recorded\nafter\n")
            await stage.reads(stage.client, b"record failed\n")
            assert await stage.upstream_got() == b"before\n"
            assert await stage.reason == "the spool is full"

    run(conversation())


def test_a_session_that_ends_with_a_record_that_fails_ends_all_the_same(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            stage.shelf.full = True
            await stage.send(b"- the last\n")
            assert await stage.reason == "ended"

    run(conversation())


def test_a_grant_that_this_enforcer_did_not_issue_forwards_nothing(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            await stage.send(b"before\n^ forged\nafter\n")
            assert await stage.upstream_got() == b"before\n"
            assert await stage.reason == "internal error"
            assert stage.shelf.kept[-1].data.count(b'"error":"NotGranted"') == 1

    run(conversation())


def test_a_machine_that_fails_is_recorded_without_its_words_and_closed(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            await stage.send(b"# boom\n")
            assert await stage.reason == "internal error"
            assert await asyncio.get_running_loop().sock_recv(stage.client, 100) == b""
            assert await stage.upstream_got() == b""
            assert b'"type":"error"' in stage.shelf.kept[-1].data
            assert b"secret" not in stage.shelf.kept[-1].data

    run(conversation())


def test_timers_fire_once_and_a_cleared_one_never(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            await stage.send(b"@\n")
            await stage.reads(stage.client, b"short fired\n")
            assert wire.TimerFired("cleared") not in stage.session.events

    run(conversation())


def test_others_reach_the_session_through_its_mailbox(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            stage.mailbox.post(wire.CancelRequested())
            await stage.cancels.wait()
            stage.mailbox.post(wire.Revoked("killed"))
            await stage.reads(stage.client, b"revoked\n")
            assert await stage.reason == "killed"
            assert await stage.upstream_got() == b""

    run(conversation())


def test_an_upstream_that_leaves_ends_the_session_and_withdraws_what_is_held(run):
    async def conversation() -> None:
        service = Scripted(decisions=[HELD], approvals=[PENDING])
        async with Stage(service) as stage:
            await stage.send(b"? delete\n")
            await stage.reads(stage.client, b"held\n")
            stage.upstream.close()
            assert await stage.reason == "the upstream left"
            assert [each for each, _ in service.cancelled] == ["a-1"]

    run(conversation())


def test_what_was_written_before_the_end_is_flushed(run):
    async def conversation() -> None:
        async with Stage(Scripted()) as stage:
            loop = asyncio.get_running_loop()
            block = b"z" * (4 << 20)

            async def speak() -> None:
                await loop.sock_sendall(stage.upstream, block)
                stage.upstream.close()

            speaking = asyncio.create_task(speak())
            await stage.reads(stage.client, block)
            await speaking
            assert await stage.reason == "the upstream left"

    run(conversation())


def ends(stage: Stage) -> list[tuple[str, str]]:
    """The ends on record, and that there is one for every intent."""
    events = [json.loads(sealed.data) for sealed in stage.shelf.kept]
    intents = [event["facts"]["execution_id"] for event in events if event["type"] == "intent"]
    ended = [event for event in events if event["type"] in ("response", "error") and event["facts"].get("execution_id")]
    assert sorted(event["facts"]["execution_id"] for event in ended) == sorted(intents)
    return [(event["type"], event["facts"].get("why", "")) for event in ended]


@pytest.mark.parametrize(
    ("last", "why"), [(b"# boom\n", "internal error"), (b"", "the upstream left")], ids=["failed", "cut"]
)
def test_what_ends_a_session_after_an_intent_is_on_record_for_it(run, last, why):
    async def conversation() -> None:
        async with Stage(Scripted(decisions=[ALLOW, ALLOW])) as stage:
            await stage.send(b"? one\n+\n? two\n")
            await stage.reads(stage.upstream, b"? one\n? two\n")
            if last:
                await stage.send(last)
            else:
                stage.upstream.close()
            await stage.reason
            assert ends(stage) == [("response", ""), ("error", why)]

    run(conversation())


def test_a_session_that_is_stopped_says_how_what_it_did_ended(run):
    async def conversation() -> None:
        async with Stage(Scripted(decisions=[ALLOW])) as stage:
            await stage.send(b"? one\n")
            await stage.reads(stage.upstream, b"? one\n")
            stage._task.cancel()
            await asyncio.gather(stage._task, return_exceptions=True)
            assert ends(stage) == [("error", "the proxy stops")]
            stage._task = asyncio.create_task(asyncio.sleep(0))

    run(conversation())


def test_a_grant_whose_client_has_left_says_that_nothing_came_of_it(run):
    async def conversation() -> None:
        decided = asyncio.Event()
        service = Scripted(decisions=[decided, ALLOW])
        async with Stage(service, client_buffer=8192, probe_seconds=3600) as stage:
            await stage.send(b"? delete\n" + b"x" * 9000 + b"\n")
            await until(lambda: stage.legs[0].paused_for("backlog"))
            await service.waiting.wait()
            stage.client.close()
            await until(stage.legs[0].gone)
            decided.set()
            await stage.reason
            assert await stage.upstream_got() == b""
            assert ends(stage) == [("error", "the client left")]

    run(conversation())
