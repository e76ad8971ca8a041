"""People are told by webhook: signed, in an outbox that outlives the service, and never in anybody's way.

The receiver is a real HTTP server; what it answers is the test's.
"""

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pdp.approvals import notifications as module
from pdp.approvals.webhook import Hook, NotDelivered, post
from pdp.config import load_config
from pdp.store import notifications as stored
from pdp.store.notifications import NotificationState
from pdp.v1.strict_yaml import ConfigError
from tests.pdp.commanding import as_
from tests.pdp.serving import Clock, Party, Script, Service, action, folder, requirement, serving
from tests.pdp.test_approvals import Asked, owner

pytestmark = pytest.mark.usefixtures("each_store")

PATIENCE = 50.0
SECRET = "s3cr3t-of-the-hook"
ESCALATE = {"after": "5m", "approvers": ["group:owners"]}


@dataclass
class Receiver:
    """What came, and what is answered: a status, or something that is done with the connection."""

    url: str = ""
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.came.append((dict(handler.headers.items()), body))
        answer = self.answers.pop(0) if self.answers else 204
        if callable(answer):
            answer(handler)
        else:
            handler.send_response(answer)
            handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
            handler.end_headers()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def notify(path: Path, **urls: str) -> str:
    secret = path / "hook.secret"
    secret.write_text(SECRET + "\n")
    lines = [
        f"      {name}: {{webhook: {{url: '{url}', secret: {{file: '{secret}'}}}}, groups: [owners]}}"
        for name, url in urls.items()
    ]
    return "\n".join(["    notify:", *lines])


def asking(path: Path, **urls: str) -> dict[str, Any]:
    return {"approvals": notify(path, **urls)}


async def until(true: Callable[[], Any]) -> None:
    """Until it is true; for what comes to the receiver's thread."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def in_state(service: Service, state: NotificationState, count: int = 1) -> list[stored.Notification]:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await service.inside.database.short.run(lambda connection: stored.newest(connection, [state]))
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


def test_who_is_asked_is_told_with_a_signature_and_without_the_statement():
    async def scenario(receiver: Receiver):
        with folder() as path:
            async with serving(path, **asking(path, owners=receiver.url)) as service:
                asked = await Asked.by(service)
                await until(lambda: receiver.came)
                ((headers, body),) = receiver.came
                signed = headers["Checkrein-Timestamp"].encode() + b"." + body
                wanted = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
                assert headers["Checkrein-Signature"] == wanted
                message = json.loads(body)
                assert message["approval"] == asked.id
                assert message["link"] == f"http://127.0.0.1:8088/approvals/{asked.id}"
                assert (message["who"], message["on_behalf_of"]) == (
                    {"type": "agent", "id": "planner"},
                    {"type": "user", "id": "alice"},
                )
                does = "deletes rows of something that is named in its text alone"
                assert message["sentence"] == f"agent:planner on shop: {does}"
                assert b"delete from" not in body
                assert SECRET.encode() not in body
                (sent,) = await in_state(service, NotificationState.SENT)
                assert (sent.id, sent.attempts) == (headers["Checkrein-Delivery"], 1)

    with receiving() as receiver:
        asyncio.run(scenario(receiver))


def test_only_who_is_asked_is_told_and_of_a_flood_once():
    async def scenario(receiver: Receiver):
        engine = Script(requirements=[requirement("group:others")])
        with folder() as path:
            async with serving(path, engine, **asking(path, owners=receiver.url)) as service:
                await Asked.by(service)
                engine.requirements = [requirement("group:owners")]
                proxy = await service.proxy()
                opened = await proxy.open(service.token(Party("agent", "a")))
                first = await proxy.ask(opened, action(text="delete from orders where id = 1"), "k1")
                second = await proxy.ask(opened, action(text="delete from orders where id = 2"), "k2")
                await in_state(service, NotificationState.SENT)
                assert [json.loads(body)["approval"] for _, body in receiver.came] == [first.approval_id]
                # When the one that stood for both has ended, people are told of the other.
                await service.inside.approvals.cancel(first.approval_id, "the client left")
                await in_state(service, NotificationState.SENT, 2)
                assert json.loads(receiver.came[1][1])["approval"] == second.approval_id

    with receiving() as receiver:
        asyncio.run(scenario(receiver))


def test_what_was_not_delivered_is_tried_again_after_a_restart_and_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 3)

    async def scenario(receiver: Receiver):
        clock = Clock()
        receiver.answers = [500, 302, 404]
        engine = Script(requirements=[requirement("group:owners", wait="1d")])
        with folder() as path:
            settings = asking(path, owners=receiver.url)
            async with serving(path, engine, clock=clock, **settings) as service:
                # One that outlives its session: time passes here, and the service is begun anew.
                await Asked.by(service, detached=True)
                await until_settled(service, 1)
            async with serving(path, engine, clock=clock, **settings) as service:
                for attempts in (2, 3):
                    clock.pass_(minutes=20)
                    await until(lambda attempts=attempts: len(receiver.came) == attempts)
                    if attempts == 2:
                        await until_settled(service, 2)
                (dead,) = await in_state(service, NotificationState.DEAD)
                assert (dead.attempts, dead.last_error) == (3, "status 404")
                assert len({headers["Checkrein-Delivery"] for headers, _ in receiver.came}) == 1
                listed = await as_(service, Party("user", "olga"), "approvals", "notifications")
                assert dead.id in listed.out
                assert "status 404" in listed.out
                again = await as_(service, Party("user", "olga"), "approvals", "retry", dead.id)
                assert again.status == 0, again.err
                await in_state(service, NotificationState.SENT)
                assert len(receiver.came) == 4

    with receiving() as receiver:
        asyncio.run(scenario(receiver))


async def until_settled(service: Service, attempts: int) -> None:
    """The attempt's outcome is stored, so that it waits for its next time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (waiting,) = await in_state(service, NotificationState.WAITING)
            if waiting.attempts == attempts and waiting.last_error:
                return
            await asyncio.sleep(0.02)


def test_a_receiver_that_never_answers_delays_nobody_else():
    async def scenario(hostile: Receiver, kind: Receiver, go_on: threading.Event):
        with folder() as path:
            async with serving(path, **asking(path, hostile=hostile.url, kind=kind.url)) as service:
                asked = await Asked.by(service)
                await until(lambda: hostile.came and kind.came)
                # It is not answered yet, and the approval is taken all the same.
                await asked.say(await owner(service))
                assert (await asked.redeem()).WhichOneof("verdict") == "allow"
                await in_state(service, NotificationState.SENT)
                go_on.set()

    go_on = threading.Event()

    def never(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(PATIENCE)
        handler.send_response(204)
        handler.end_headers()

    with receiving() as hostile, receiving() as kind:
        hostile.answers = [never]
        asyncio.run(scenario(hostile, kind, go_on))


def test_nothing_is_read_of_an_answer_but_its_status_and_no_redirect_is_followed():
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(bytes(1 << 16))

    with receiving() as receiver:
        hook = Hook(receiver.url, b"secret")
        receiver.answers = [endless, 307]
        post(hook, "n-1", "1", b"{}")
        with pytest.raises(NotDelivered, match="status 307"):
            post(hook, "n-1", "1", b"{}")
        assert len(receiver.came) == 2
    with pytest.raises(NotDelivered, match="ConnectionError"):
        post(hook, "n-1", "1", b"{}")


def test_what_has_ended_before_it_was_told_is_not_told():
    async def scenario(receiver: Receiver):
        clock = Clock()
        receiver.answers = [500]
        with folder() as path:
            async with serving(path, clock=clock, **asking(path, owners=receiver.url)) as service:
                asked = await Asked.by(service)
                await until_settled(service, 1)
                await asked.say(await owner(service), no="no")
                clock.pass_(minutes=1)
                await in_state(service, NotificationState.OVER)
                assert len(receiver.came) == 1

    with receiving() as receiver:
        asyncio.run(scenario(receiver))


def test_whom_it_is_escalated_to_is_told_when_it_is_and_also_by_a_service_that_begins_only_then():
    async def scenario(receiver: Receiver, escalated: Receiver):
        clock = Clock()
        engine = Script(requirements=[requirement("group:others", wait="1d", escalate=ESCALATE)])
        with folder() as path:
            settings = asking(path, others=receiver.url, owners=escalated.url)
            settings["approvals"] = settings["approvals"].replace("groups: [owners]", "groups: [others]", 1)
            async with serving(path, engine, clock=clock, **settings) as service:
                asked = await Asked.by(service, detached=True)
                (first,) = await in_state(service, NotificationState.SENT)
                assert first.destination == "others"
                (waits,) = await in_state(service, NotificationState.WAITING)
                assert (waits.destination, waits.attempts) == ("owners", 0)
            clock.pass_(minutes=6)
            async with serving(path, engine, clock=clock, **settings) as service:
                await in_state(service, NotificationState.SENT, 2)
                ((_, body),) = escalated.came
                said = json.loads(body)
                assert (said["event"], said["approval"]) == ("approval.escalated", asked.id)
                assert json.loads(receiver.came[0][1])["event"] == "approval.requested"

    with receiving() as receiver, receiving() as escalated:
        asyncio.run(scenario(receiver, escalated))


def test_nobody_is_told_of_what_was_answered_before_it_was_escalated():
    async def scenario(receiver: Receiver):
        clock = Clock()
        engine = Script(requirements=[requirement("group:others", wait="1d", escalate=ESCALATE)])
        with folder() as path:
            async with serving(path, engine, clock=clock, **asking(path, owners=receiver.url)) as service:
                asked = await Asked.by(service, detached=True)
                await in_state(service, NotificationState.WAITING)
                await service.inside.approvals.cancel(asked.id, "no longer needed")
                clock.pass_(minutes=6)
                await in_state(service, NotificationState.OVER)
                assert receiver.came == []

    with receiving() as receiver:
        asyncio.run(scenario(receiver))


@pytest.mark.parametrize(
    ("groups", "after"),
    [(["owners"], 0), (["*"], 0), (["security"], 5), (["security", "owners"], 0), (["nobody"], None)],
)
def test_a_destination_has_its_turn_when_the_first_of_its_groups_has(groups: list[str], after: int | None):
    at = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)
    escalate = {"after": "5m", "approvers": ["group:security"]}
    approval = SimpleNamespace(created_at=at, requirements=[requirement("group:owners", escalate=escalate)])
    wanted = None if after is None else at + datetime.timedelta(minutes=after)
    assert module.turn(SimpleNamespace(groups=groups), approval) == wanted  # type: ignore[arg-type]


def test_pauses_grow_and_are_never_the_same():
    spans = [{module.pause(attempt) for _ in range(20)} for attempt in (1, 4, 30)]
    assert all(len(each) > 1 for each in spans)
    seconds = datetime.timedelta(seconds=1)
    assert [max(each) <= most * seconds for each, most in zip(spans, (2, 16, 900), strict=True)] == [True] * 3
    assert min(spans[2]) >= 450 * seconds


@pytest.mark.parametrize("url", ["http://hooks.example/x", "https://user:pass@hooks.example/x", "ftp://127.0.0.1/"])
def test_a_hook_whose_answers_anybody_could_read_is_refused(url: str, tmp_path: Path):
    file = tmp_path / "checkrein.yaml"
    file.write_text(
        "version: 1\nstate: state\npdp:\n  policies: {dir: policies}\n  approvals:\n" + notify(tmp_path, x=url) + "\n"
    )
    with pytest.raises(ConfigError):
        load_config(file)
