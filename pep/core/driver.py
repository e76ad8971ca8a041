"""The byte-stream driver: feeds one session's machine with events, and carries out its effects, in order.

Everything that happens to the session goes through one mailbox, one event after the other. The driver asks, looks up,
records and writes; it never judges, but it refuses to forward what no grant of this session's enforcer covers. While a
session has more of the client's bytes than it can act on, the client is not read and the kernel is asked every second
whether it is still there; a client that has left is reported before an answer that it was waiting for, so nothing runs
for nobody.

The one catch-all is here: whatever escapes is recorded, and both sides are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, assert_never

import structlog

from pep.core import wire
from pep.core.enforcer import Enforcer
from pep.core.executions import Executions
from pep.core.mailbox import Answer, Item, Mailbox
from pep.core.model import Grant, Held
from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Event as RecordEvent
from pep.core.records import EventType
from pep.core.sides import Client, ClientSide, Side, UpstreamSide
from pep.core.timers import Timer, Timers

CLIENT_BUFFER: Final = 64 * 1024
PROBE_SECONDS: Final = 1.0
CANCEL_SECONDS: Final = 5.0
# So many answers that need no waiting are handled with what asked for them, before others have their turn.
_AT_ONCE: Final = 4


class DrivenSession(wire.Session, Protocol):
    """A protocol's machine over byte streams."""

    @property
    def backlog(self) -> int:
        """Bytes of the client that wait here for something else than more bytes: an answer, the upstream.

        Not counted is the beginning of a message whose rest is awaited, or a long message could never arrive.
        """


@dataclass(frozen=True, slots=True)
class Gate:
    """Where one identity's commands are decided and recorded; without an enforcer nothing can be asked."""

    recorder: Recorder
    enforcer: Enforcer | None = None


Gates = Callable[[str], Gate]
"""The gate of a session by its name in `wire`; "" is the connection's own."""

AtOnce = Callable[[object], tuple[object] | None]
"""The facts of a LookUp in a tuple, where they need no waiting; None where `LookUps.answer` has to be awaited."""


def _never_at_once(_question: object) -> None:
    return None


class NotGranted(Exception):
    """The session wanted to forward what its enforcer has not granted. A fault of this program."""


async def run(
    session: DrivenSession,
    client: Client,
    upstream: Side,
    gates: Gates,
    lookups: wire.LookUps,
    cancel_upstream: Callable[[], Awaitable[None]],
    mailbox: Mailbox,
    *,
    client_buffer: int = CLIENT_BUFFER,
    probe_seconds: float = PROBE_SECONDS,
    at_once: AtOnce = _never_at_once,
) -> str:
    """Drive the session to its end, close both legs, and say why it ended. Raises only CancelledError."""
    recorder = gates("").recorder
    log = structlog.get_logger("pep.driver").bind(session=recorder.session)
    asked: dict[int, Enforcer] = {}
    executions = Executions()
    parts = (gates, asked, executions, lookups, at_once, cancel_upstream, mailbox)
    try:
        async with asyncio.TaskGroup() as tasks:
            driver = _Driver(session, client, upstream, *parts, tasks, client_buffer)
            reason = await driver.consume(probe_seconds)
    except Exception as error:  # noqa: BLE001 - the one catch-all: record, close
        kind, where = _described(error)
        log.error("a session failed", error=kind, where=where)  # noqa: TRY400 - its words may repeat what a client sent
        with contextlib.suppress(SpoolError):
            recorder.record(RecordEvent(EventType.ERROR, facts={"error": kind, "where": where}))
        reason = "internal error"
    except asyncio.CancelledError:
        client.abort()
        upstream.abort()
        _record_unfinished(gates, executions, "the proxy stops")
        await _withdraw(asked, "the proxy stops")
        raise
    _record_unfinished(gates, executions, reason)
    await asyncio.gather(client.finish(), upstream.finish(), _withdraw(asked, reason))
    return reason


def _record_unfinished(gates: Gates, executions: Executions, why: str) -> None:
    """How everything ended that was granted here and of which the session has said nothing."""
    for session, event in executions.unfinished(why):
        try:
            gates(session).recorder.record(event)
        except SpoolError as error:
            structlog.get_logger("pep.driver").error("a record could not be written", session=session, error=str(error))


async def _withdraw(asked: Mapping[int, Enforcer], reason: str) -> None:
    """What this run asked for and neither used nor withdrew; an enforcer may serve other connections as well."""
    for exchange, enforcer in asked.items():
        await enforcer.withdraw(exchange, reason)


class _Driver:
    """The state of one run."""

    def __init__(
        self,
        session: DrivenSession,
        client: Client,
        upstream: Side,
        gates: Gates,
        asked: dict[int, Enforcer],
        executions: Executions,
        lookups: wire.LookUps,
        at_once: AtOnce,
        cancel_upstream: Callable[[], Awaitable[None]],
        mailbox: Mailbox,
        tasks: asyncio.TaskGroup,
        client_buffer: int,
    ) -> None:
        self._session = session
        self._client = client
        self._upstream = upstream
        self._gates = gates
        self._asked = asked
        self._executions = executions
        self._enforcers: set[Enforcer] = set()
        self._lookups = lookups
        self._at_once = at_once
        self._cancel_upstream = cancel_upstream
        self._mailbox = mailbox
        self._tasks = tasks
        self._client_buffer = client_buffer
        self._log = structlog.get_logger("pep.driver").bind(session=gates("").recorder.session)
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._timers = Timers(mailbox.post)
        self._found: deque[wire.LookedUp] = deque()
        self._backlogged = False
        self._client_left = False
        self._upstream_left = False
        self._record_failed = False
        self._reason = ""
        self._cut = False
        self._cancels = 0
        self._to_upstream: list[bytes] = []
        self._to_client: list[bytes] = []

    async def consume(self, probe_seconds: float) -> str:
        """Handles events until the session closes, or both sides are gone."""
        self._client.attach(ClientSide(self._mailbox, self._upstream))
        self._upstream.attach(UpstreamSide(self._mailbox, self._client))
        probe = self._tasks.create_task(self._probe(probe_seconds))
        try:
            await self._mailbox.deliver(self._take, self._falls_behind)
        finally:
            self._timers.close()
            # What withdraws an approval or cancels upstream goes on to its own end; both are bounded.
            for task in (probe, *self._waiting.values()):
                task.cancel()
        if self._cut:
            self._client.abort()
        self._client.close()
        self._upstream.close()
        return self._reason or "both sides have closed"

    # --- events -------------------------------------------------------------------------------------------------------

    def _take(self, item: Item) -> bool:
        """Handles an event; whether it was the last one."""
        match item:
            case wire.ClientData() | wire.UpstreamData():
                self._receive(item)
            case Answer():
                self._answered(item)
            case Timer():
                if self._timers.claim(item):
                    self._receive(wire.TimerFired(item.name))
            case wire.ClientClosed():
                self._client_closed()
            case wire.UpstreamClosed():
                self._upstream_left = True
                self._receive(item)
            case event:
                self._receive(event)
        self._bound_backlog()
        return bool(self._reason) or (self._client_left and self._upstream_left)

    def _falls_behind(self, *, yes: bool) -> None:
        """While what has arrived waits for its turn, nothing more is read."""
        for side in (self._client, self._upstream):
            if yes:
                side.pause("turn")
            else:
                side.resume("turn")

    def _answered(self, answer: Answer) -> None:
        event = answer.event
        if self._waiting.get(event.exchange) is not answer.task:
            return
        held = isinstance(event, wire.Decided) and isinstance(event.outcome, Held) and not event.final
        if not held and not isinstance(event, wire.LookedUp) and self._client.gone():
            # It waited, and it left before the answer came: what it asked for must not happen any more.
            self._client_closed()
            return
        if not held:
            del self._waiting[event.exchange]
        if isinstance(event, wire.Decided) and not held:
            self._asked.pop(event.exchange, None)
        self._receive(event)

    def _client_closed(self) -> None:
        if self._client_left:
            return
        self._client_left = True
        for exchange in tuple(self._waiting):
            self._cancel_ask(exchange, "the client left")
        self._receive(wire.ClientClosed())

    def _receive(self, event: wire.Event) -> None:
        """Carries out the effects of the event, and of the answers that they find without waiting."""
        self._execute(tuple(self._session.receive(event)))
        if self._found:
            for _ in range(_AT_ONCE):
                self._execute(tuple(self._session.receive(self._found.popleft())))
                if not self._found:
                    return
            while self._found:
                self._mailbox.post(self._found.popleft())

    # --- effects ------------------------------------------------------------------------------------------------------

    def _execute(self, effects: Iterable[wire.Effect]) -> None:
        failure = ""
        try:
            for effect in effects:
                if self._reason:
                    break
                if failure and not isinstance(effect, wire.Close):
                    # What follows a record that failed relied on it; the end of the session does not.
                    continue
                if isinstance(effect, wire.Record):
                    failure = self._record(effect)
                else:
                    self._carry_out(effect)
        finally:
            if self._to_upstream:
                self._flush_upstream()
            if self._to_client:
                self._client.write(b"".join(self._to_client))
                self._to_client.clear()
        if failure and not self._reason:
            self._receive(wire.RecordFailed(failure))

    def _carry_out(self, effect: wire.Effect) -> None:
        match effect:
            case wire.SendClient(data):
                self._to_client.append(data)
            case wire.SendUpstream(data, by):
                self._check(by)
                self._to_upstream.append(data)
            case wire.Ask(exchange=exchange, session=session):
                enforcer = self._gates(session).enforcer
                assert enforcer is not None, "nothing can be asked for nobody"
                self._enforcers.add(enforcer)
                self._asked[exchange] = enforcer
                self._wait(exchange, self._ask(enforcer, effect))
            case wire.LookUp(exchange, question):
                self._fetch(exchange, question)
            case wire.CancelAsk(exchange, reason):
                self._cancel_ask(exchange, reason)
            case wire.SetTimer(name, seconds):
                self._timers.set(name, seconds)
            case wire.CancelUpstream():
                self._cancels += 1
                self._tasks.create_task(self._cancel_upstream_now())
            case wire.PauseUpstream():
                self._upstream.pause("session")
            case wire.ResumeUpstream():
                self._upstream.resume("session")
            case wire.Close():
                self._close(effect)
            case wire.Record():
                raise AssertionError("records are written in _execute, because they can fail")
            case never:
                assert_never(never)

    def _close(self, close: wire.Close) -> None:
        self._reason = close.reason or "closed"
        self._cut = close.ending is wire.Ending.CUT
        if close.ending is wire.Ending.LINGERING:
            self._client.linger()

    def _check(self, by: wire.By) -> None:
        match by:
            case Grant() as grant:
                if self._client_left:
                    raise NotGranted("the client has left")
            case wire.Continuation(grant):
                pass
            case wire.Housekeeping() | wire.Own():
                return
            case never:
                assert_never(never)
        for enforcer in self._enforcers:
            if enforcer.issued(grant):
                break
        else:
            raise NotGranted("the grant is not this session's")
        if self._record_failed:
            raise NotGranted("nothing can be recorded any more")

    def _record(self, record: wire.Record) -> str:
        """Why the record could not be written, said once; "" where it was, or where that is known already."""
        try:
            self._gates(record.session).recorder.record(record.event)
            self._executions.recorded(record.event)
        except SpoolError as error:
            first, self._record_failed = not self._record_failed, True
            self._log.error("a record could not be written", error=str(error))
            return str(error) if first else ""
        return ""

    def _wait(self, exchange: int, work: Coroutine[Any, Any, None]) -> None:
        assert exchange not in self._waiting, "an exchange waits for one answer at a time"
        self._waiting[exchange] = self._tasks.create_task(work)

    async def _ask(self, enforcer: Enforcer, ask: wire.Ask) -> None:
        task = asyncio.current_task()
        first = await enforcer.answer(ask)
        if isinstance(first, wire.Decided):
            self._executions.answered(ask, first)
            self._mailbox.post(Answer(task, first))
            return
        async with contextlib.aclosing(enforcer.hold(ask, first)) as answers:
            async for answer in answers:
                self._executions.answered(ask, answer)
                self._mailbox.post(Answer(task, answer))

    def _fetch(self, exchange: int, question: object) -> None:
        # An answer may take the upstream's connection away: what is for it goes before.
        self._flush_upstream()
        facts = self._at_once(question)
        if facts is None:
            self._wait(exchange, self._look_up(exchange, question))
        else:
            self._found.append(wire.LookedUp(exchange, facts[0]))

    async def _look_up(self, exchange: int, question: object) -> None:
        facts = await self._lookups.answer(question)
        self._mailbox.post(Answer(asyncio.current_task(), wire.LookedUp(exchange, facts)))

    def _cancel_ask(self, exchange: int, reason: str) -> None:
        task = self._waiting.pop(exchange, None)
        if task is not None:
            task.cancel()
        # Beside a pending approval, which the task itself withdraws, there may be one that was given and not used.
        enforcer = self._asked.pop(exchange, None)
        if enforcer is not None:
            self._tasks.create_task(enforcer.withdraw(exchange, reason))

    async def _cancel_upstream_now(self) -> None:
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._cancel_upstream()
        except (OSError, TimeoutError) as error:
            self._log.warning("the upstream could not be told to cancel", error=type(error).__name__)
        finally:
            self._cancels -= 1
            self._flush_upstream()

    def _flush_upstream(self) -> None:
        # A cancel request hits whatever runs when it arrives: what comes behind it has to wait until it has arrived.
        if self._to_upstream and not self._cancels:
            self._upstream.write(b"".join(self._to_upstream))
            self._to_upstream.clear()

    # --- the client's presence ----------------------------------------------------------------------------------------

    def _bound_backlog(self) -> None:
        backlog = self._session.backlog
        if backlog >= self._client_buffer:
            self._backlogged = True
            self._client.pause("backlog")
        elif self._backlogged and backlog <= self._client_buffer // 2:
            self._backlogged = False
            self._client.resume("backlog")

    async def _probe(self, seconds: float) -> None:
        """Without reading, neither FIN nor RST is an event; so the kernel is asked."""
        while True:
            await asyncio.sleep(seconds)
            if self._client.paused_for("backlog") and self._client.gone():
                self._mailbox.post(wire.ClientClosed())
                return


def _described(error: BaseException) -> tuple[str, str]:
    """The error's type and place; never its words, which may repeat what a client sent."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__, where
