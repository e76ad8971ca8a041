"""A whole proxy process around a toy protocol: admitted or refused, recorded, stopped."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from pdp.v1 import access_pb2, decision_pb2, decision_service_pb2
from pdp.v1.addresses import TcpAddress
from pdp.v1.strict_yaml import ConfigError
from pep.core import config
from pep.core.decision_client import Bearer
from pep.core.leg import Leg
from pep.core.model import Deny, MaskFields, ReadOnly
from pep.core.runtime import Admitted, Runtime
from pep.core.serve import run_proxy
from pep.core.wire import Revoked
from pep.protocols import MODELS
from tests.pep.core.scripted import until
from tests.pep.core.test_config import GOOD
from tests.pep.core.test_grpc_client import ALLOWED, Service, serving

SUPPORTED = frozenset({MaskFields, ReadOnly})


def opened(**changes: Any) -> decision_service_pb2.OpenSessionResponse:
    root = access_pb2.Party(type="user", id="ada")
    given: dict[str, Any] = {
        "decision": ALLOWED,
        "session_id": "s-1",
        "token": "t-1",
        "subject": access_pb2.Subject(type="agent", id="a", root=root),
    }
    return decision_service_pb2.OpenSessionResponse(**(given | changes))


def settings(folder: Path, more: str = "") -> config.Config:
    file = folder / "checkrein.yaml"
    decisions = f"""
decisions:
  addresses: ["unix:{folder}/s"]
  tls: {{cert: pep.crt, key: pep.key, ca: ca.crt, server_name: pdp.test}}
  spool: {{dir: spool}}
"""
    file.write_text(GOOD.replace("127.0.0.1:6432", "127.0.0.1:0") + decisions + more)
    return config.read(file, MODELS)


class Toy:
    """A server that reads a password, says what came of it, and ends when its session is told to."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.listening = asyncio.Event()

    async def serve(self, proxy: config.ProxyConfig, runtime: Runtime) -> None:
        self.runtime = runtime
        self.listening.set()
        await runtime.listen(self._client)

    async def _client(self, leg: Leg) -> None:
        assert self.runtime is not None
        password = (await leg.read()).decode()
        if password == "crash":
            raise RuntimeError("a fault")
        answer = await self.runtime.admit(Bearer(password), leg.peer, supported=SUPPORTED, labels={"name": "toy"})
        if isinstance(answer, Deny):
            leg.write(answer.reasons[0].code.encode())
            return
        assert isinstance(answer, Admitted)
        leg.write(b"welcome")
        event = await answer.mailbox.next()
        assert isinstance(event, Revoked)
        leg.write(event.reason.encode())
        await self.runtime.dismiss(answer, event.reason)


async def say(toy: Toy, password: bytes) -> tuple[Leg, bytes]:
    assert toy.runtime is not None
    await toy.runtime.listener.ready.wait()
    address = toy.runtime.listener.address
    assert isinstance(address, TcpAddress)
    leg = await Leg.connect(address.host, address.port)
    leg.write(password)
    return leg, await leg.read()


def recorded(service: Service) -> dict[str, list[dict[str, Any]]]:
    return {session: [orjson.loads(event) for event in events] for session, events in service.stored.items()}


def test_a_client_is_admitted_recorded_and_told_when_the_proxy_stops(tmp_path: Path):
    service = Service(answers=[opened()])

    async def conversation() -> None:
        async with serving(tmp_path, service):
            read, toy, stopping = settings(tmp_path), Toy(), asyncio.Event()
            running = asyncio.create_task(run_proxy(read, read.proxies[0], toy.serve, stopping))
            await toy.listening.wait()
            leg, answer = await say(toy, b"secret")
            assert answer == b"welcome"
            crashed, nothing = await say(toy, b"crash")
            assert nothing == b""
            stopping.set()
            assert await leg.read() == b"the proxy is stopping"
            await running
            await leg.finish()
            await crashed.finish()

    asyncio.run(asyncio.wait_for(conversation(), 15))
    chains = recorded(service)
    (chain,) = [name for name in chains if name.startswith("process-shop-")]
    assert [event["facts"]["what"] for event in chains[chain]] == ["started", "stopped"]
    assert [event["type"] for event in chains["s-1"]] == ["session.opened", "session.closed"]
    assert chains["s-1"][0]["facts"]["subject"] == "agent:a"
    assert chains["s-1"][0]["facts"]["root"] == "user:ada"
    assert service.bodies["s-1", 0, 0] == b'{"name":"toy"}'
    assert b"secret" not in b"".join(event for events in service.stored.values() for event in events)
    assert list((tmp_path / "spool" / "shop").iterdir()) == []


def test_a_session_that_is_opened_while_the_proxy_stops_counts_among_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pep.core.serve.CLOSE_SECONDS", 60.0)

    async def conversation() -> Service:
        late = asyncio.Event()
        service = Service(answers=[late, opened()])
        async with serving(tmp_path, service):
            read, toy, stopping = settings(tmp_path, "  timeout: {open: 60s}\n"), Toy(), asyncio.Event()
            running = asyncio.create_task(run_proxy(read, read.proxies[0], toy.serve, stopping))
            await toy.listening.wait()
            assert toy.runtime is not None
            saying = asyncio.create_task(say(toy, b"secret"))
            await until(lambda: bool(service.requests))
            stopping.set()
            await until(lambda: bool(toy.runtime._background))
            late.set()
            await running
            leg, nothing = await saying
            assert nothing == b""
            await leg.finish()
        return service

    chains = recorded(asyncio.run(asyncio.wait_for(conversation(), 60)))
    (chain,) = [name for name in chains if name.startswith("process-shop-")]
    assert [event["facts"].get("sessions") for event in chains[chain]] == [None, 1]
    assert [event["type"] for event in chains["s-1"]] == ENDED


ENDED = ["session.opened", "session.closed"]


@pytest.mark.parametrize(
    ("answer", "expected", "begun"),
    [
        (opened(decision=decision_pb2.Decision(decision_id="d-1", deny=decision_pb2.Deny())), b"", []),
        (opened(obligations=[decision_pb2.Obligation(unsupported="record")]), b"obligation-unsupported", [ENDED]),
        (
            opened(obligations=[decision_pb2.Obligation(limit_rows=decision_pb2.LimitRows(max=1))]),
            b"obligation-unsupported",
            [ENDED],
        ),
    ],
)
def test_a_refused_login_is_on_record(tmp_path: Path, answer: Any, expected: bytes, begun: list[list[str]]):
    if not expected:
        answer.decision.reasons.add(code="not-here")
        expected = b"not-here"
    service = Service(answers=[answer])

    async def conversation() -> None:
        async with serving(tmp_path, service):
            read, toy, stopping = settings(tmp_path), Toy(), asyncio.Event()
            running = asyncio.create_task(run_proxy(read, read.proxies[0], toy.serve, stopping))
            await toy.listening.wait()
            leg, said = await say(toy, b"secret")
            assert said == expected
            await leg.finish()
            stopping.set()
            await running

    asyncio.run(asyncio.wait_for(conversation(), 15))
    chains = recorded(service)
    (chain,) = [name for name in chains if name.startswith("process-shop-")]
    events = chains.pop(chain)
    assert [event["type"] for event in events] == ["process", "login.refused", "process"]
    # A session that the service opened and that could not begin has its whole record.
    assert [[event["type"] for event in each] for each in chains.values()] == begun
    assert events[1]["facts"]["codes"] == [expected.decode()]


def test_without_a_decision_service_the_proxy_listens_and_says_why_it_refuses(tmp_path: Path):
    async def conversation() -> None:
        async with serving(tmp_path, Service()):
            pass
        read, toy, stopping = settings(tmp_path, "  timeout: {open: 100ms}\n"), Toy(), asyncio.Event()
        running = asyncio.create_task(run_proxy(read, read.proxies[0], toy.serve, stopping))
        await toy.listening.wait()
        leg, said = await say(toy, b"secret")
        assert said == b"decision-unavailable"
        await leg.finish()
        stopping.set()
        await running

    asyncio.run(asyncio.wait_for(conversation(), 15))
    # What could not be shipped waits for the next process.
    assert len(list((tmp_path / "spool" / "shop").glob("*/*.segment"))) == 1


def test_a_spool_that_cannot_be_used_is_an_error_while_starting(tmp_path: Path):
    async def conversation() -> None:
        async with serving(tmp_path, Service()):
            read = settings(tmp_path)
            (tmp_path / "spool").write_text("a file in the way")
            await run_proxy(read, read.proxies[0], Toy().serve, asyncio.Event())

    with pytest.raises(ConfigError, match="proxy shop: cannot use the spool"):
        asyncio.run(asyncio.wait_for(conversation(), 10))


def pep(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pep", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_says_what_is_wrong_with_a_file_in_one_line(tmp_path: Path):
    file = tmp_path / "checkrein.yaml"
    file.write_text(GOOD.replace("listen: {address", "lisen: {address"))
    done = pep("serve", "-c", file)
    assert done.returncode == 1
    assert 'unknown key "lisen" in proxies[0]; did you mean "listen"?' in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_protocol_is_named_before_anything_listens(tmp_path: Path):
    file = tmp_path / "checkrein.yaml"
    file.write_text(GOOD.replace("protocol: postgres", "protocol: gopher"))
    done = pep("check", "-c", file)
    assert done.returncode == 1
    assert "checkrein.yaml:10: proxies[0].protocol: this protocol is not known; known: " in done.stderr
    assert "postgres" in done.stderr
