"""A proxy in this process, between real clients and a real target, with a stub for the decision service.

The stub is a seam of the program (`DecisionClient`), and it is told what to answer by the test. Everything else is
real: sockets, spool, session machine, target. A protocol has its own part beside it: `relay`, `http_relay`.
"""

import asyncio
import contextlib
import itertools
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from pep.core.config import ProxyConfig
from pep.core.decision_client import ApprovalRequest, ApprovalUpdate, Login, PendingApproval
from pep.core.errors import DecisionUnavailable
from pep.core.model import (
    Action,
    Allow,
    Decision,
    Deny,
    FieldMask,
    Mask,
    MaskFields,
    Obligation,
    Reason,
    RequireApproval,
    Requirement,
)
from pep.core.recorder import Recorder, process_chain
from pep.core.runtime import Runtime
from pep.core.serve import Server
from pep.core.sessions import Party, SessionEnded, SessionHandle, Subject, Token, WatchNews
from pep.core.shipments import Acknowledged, Shipment
from pep.core.spool import Spool

REVISION = "sha256:test"
PASSWORD = "token"

Policy = Callable[[Action], Decision]

_ids = itertools.count(1)


def _id() -> str:
    return f"d-{next(_ids)}"


def allow(*obligations: Obligation) -> Allow:
    return Allow(_id(), REVISION, obligations)


def mask(*fields: FieldMask, also: tuple[Obligation, ...] = ()) -> Mask:
    return Mask(_id(), REVISION, (MaskFields(fields), *also))


def deny(message: str = "not for you", code: str = "no") -> Deny:
    return Deny(_id(), REVISION, (Reason(code, message, "test"),))


def require_approval(wait: float = 60.0) -> RequireApproval:
    return RequireApproval(_id(), REVISION, (Requirement("test", "ask", ("group:owners",)),), wait)


def allow_everything(_action: Action) -> Decision:
    return allow()


class StubDecisions:
    """`pep.core.decision_client.DecisionClient`; `policy` and the approvals' answers may change at any time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.passwords = {PASSWORD}
        self.sessions: dict[str, str] = {}  # by their names, the passwords that opened them
        self.asked_by: list[str] = []  # the sessions of what was `asked`
        self.ended: list[SessionEnded] = []
        self.obligations: tuple[Obligation, ...] = ()
        self.input_paths: frozenset[str] = frozenset()
        self.asked: list[Action] = []
        self.down = False
        self.revision = REVISION
        self.approvals: dict[str, asyncio.Future[ApprovalUpdate]] = {}
        self.requested: list[ApprovalRequest] = []
        self.cancelled: list[str] = []
        self.redeemed: list[tuple[str, bytes]] = []
        self.shipped: list[Shipment] = []
        self._digests: dict[str, ApprovalRequest] = {}

    async def open_session(self, login: Login) -> SessionHandle | Deny:
        if self.down:
            raise DecisionUnavailable("down")
        # A certificate goes by the name of its kind.
        password = getattr(login.credential, "secret", type(login.credential).__name__)
        if password not in self.passwords:
            return Deny(_id(), REVISION, (Reason("authentication-failed"),))
        party = Party("agent", "bot" if password == PASSWORD else password)
        name = f"s-{next(_ids)}"
        self.sessions[name] = password
        return SessionHandle(
            name,
            "t",
            Subject(party, party),
            login.resource,
            login.protocol,
            obligations=self.obligations,
            input_paths=self.input_paths,
        )

    async def refresh_session(self, session: SessionHandle) -> Token | str:
        return Token("t", None)

    async def keep_sessions(self, session_ids: Sequence[str]) -> Sequence[str]:
        return ()

    async def close_session(self, session: SessionHandle, reason: str, last_seq: int) -> None:
        return None

    async def decide(self, session: SessionHandle, actions: Sequence[Action]) -> tuple[Decision, ...]:
        if self.down:
            raise DecisionUnavailable("down")
        self.asked.extend(actions)
        self.asked_by.extend(session.session_id for _ in actions)
        return tuple(map(self.policy, actions))

    async def request_approval(self, session: SessionHandle, request: ApprovalRequest) -> PendingApproval:
        approval = f"A-{next(_ids)}"
        self._digests[approval] = request
        self.approvals[approval] = asyncio.get_running_loop().create_future()
        self.requested.append(request)
        return PendingApproval(approval, "http://approve", time.time() + 60, ("group:owners",))

    async def await_approval(self, session: SessionHandle, approval_id: str) -> AsyncGenerator[ApprovalUpdate, None]:
        answer = self.approvals[approval_id]
        if not answer.done():
            yield ApprovalUpdate("pending")
        yield await asyncio.shield(answer)

    async def cancel_approval(self, session: SessionHandle, approval_id: str, reason: str) -> None:
        self.cancelled.append(approval_id)

    async def redeem_approval(
        self, session: SessionHandle, approval_id: str, digest: bytes, execution_id: str
    ) -> Decision:
        self.redeemed.append((approval_id, digest))
        if digest != self._digests[approval_id].digest:
            return deny("it has changed", "changed")
        return allow()

    async def watch(self) -> AsyncGenerator[WatchNews, None]:
        while True:
            ended, self.ended = tuple(self.ended), []
            yield WatchNews(self.revision, ended)
            await asyncio.sleep(0.05)

    async def ship(self, shipments: AsyncIterator[Shipment], acknowledged: Callable[[Acknowledged], None]) -> None:
        async for shipment in shipments:
            self.shipped.append(shipment)


def eventually(happened: Callable[[], bool], timeout: float = 5.0) -> None:
    """Waits for what another thread brings about; fails where it does not come."""
    ends, never = time.monotonic() + timeout, threading.Event()
    while not happened():
        assert time.monotonic() < ends, "it did not happen in time"
        never.wait(0.01)


@dataclass(frozen=True)
class Running:
    """A proxy that serves, in a thread of its own."""

    decisions: StubDecisions
    port: int
    loop: asyncio.AbstractEventLoop
    runtime: Runtime

    def resolve(self, state: str, comment: str = "", timeout: float = 5.0) -> None:
        """Answer the newest approval, once there is one that waits."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            waiting = [future for future in self.decisions.approvals.values() if not future.done()]
            if waiting:
                self.loop.call_soon_threadsafe(waiting[-1].set_result, ApprovalUpdate(state, comment))
                return
            time.sleep(0.01)
        raise AssertionError("no approval was asked for")


@contextlib.contextmanager
def running(config: ProxyConfig, serve: Server, stub: StubDecisions) -> Iterator[Running]:
    """The proxy of this configuration."""
    ready = threading.Event()
    failure: list[BaseException] = []
    found: dict[str, object] = {}

    async def main(folder: Path) -> None:
        spool = Spool.open(folder / "spool", fsync_seconds=0.1, max_bytes=1 << 28, share=1.0)
        stopping = asyncio.Event()
        found["runtime"] = runtime = Runtime(config, stub, spool, Recorder(spool, process_chain("test"), ""), stopping)
        found["stop"] = lambda: loop.call_soon_threadsafe(stopping.set)
        loop = asyncio.get_running_loop()
        found["loop"] = loop
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(runtime.sessions.run()), tasks.create_task(spool.run())]
            serving = tasks.create_task(serve(config, runtime))
            await runtime.listener.ready.wait()
            found["port"] = runtime.listener.address.port  # type: ignore[union-attr]
            ready.set()
            await stopping.wait()
            runtime.sessions.revoke_all("the proxy is stopping")
            await runtime.sessions.emptied(1.0)
            for task in (serving, *background):
                task.cancel()
        spool.close()

    def thread() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                uvloop.run(main(Path(folder)))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failure.append(error)
        finally:
            ready.set()

    runner = threading.Thread(target=thread)
    runner.start()
    ready.wait(20)
    if failure:
        raise failure[0]
    try:
        yield Running(stub, found["port"], found["loop"], found["runtime"])  # type: ignore[arg-type]
    finally:
        found["stop"]()  # type: ignore[operator]
        runner.join(20)
        if failure:
            raise failure[0]
