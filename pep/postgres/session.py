"""The PostgreSQL session: what each message of the client needs before it may reach the server.

Sans-I/O (`pep.core.wire.Session`). Messages of the client are taken one at a time, in order, each by a *step*: a
generator that yields where it has to wait, either for an answer (a decision, a look-up) or for the upstream. The wire
is ordered, so one step blocks those behind it; while it waits, the upstream's answers go on being handled by
`conversation`. A step that waits for people is a page of straight code this way, not a dozen states.

Implements "Message Flow" of the PostgreSQL documentation (simple and extended query, COPY, pipelining, cancellation).
What may go upstream without a grant is a closed list: see `pep.core.wire.By` and the calls of `forward`.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence
from typing import Final

from pep.core.errors import ClientProtocolError, ProtocolError, UpstreamProtocolError
from pep.core.wire import (
    Approved,
    CancelRequested,
    CancelUpstream,
    ClientClosed,
    ClientData,
    Close,
    Decided,
    Effect,
    Event,
    Housekeeping,
    LookedUp,
    LookUp,
    PolicyChanged,
    Record,
    RecordFailed,
    Revoked,
    SetTimer,
    TimerFired,
    UpstreamClosed,
    UpstreamData,
)
from pep.postgres import copying, denial
from pep.postgres.backend import ErrorResponse, ReadyForQuery
from pep.postgres.codec import FrontendCodec, Oversized, Partial
from pep.postgres.conversation import Conversation, Skipping, timer_of
from pep.postgres.effects import Effects
from pep.postgres.extended import ExtendedQuery
from pep.postgres.fastpath import FastPath
from pep.postgres.frames import Frame, FrontendTag
from pep.postgres.names import Names
from pep.postgres.permits import Permits
from pep.postgres.resolution import Resolution, Turn
from pep.postgres.resolver import Resolver
from pep.postgres.simple import SimpleQuery
from pep.postgres.stepping import Exchanges, Refused, Settings, Step, Wait

# Answers that the server may owe before more is asked of it; the client then waits, as its bytes do.
MOST_OWED: Final = 4096
# Messages that are taken in one go.
MOST_AT_ONCE: Final = 64
# How long a server may take to end what it was asked to cancel; delivering the request alone may take five seconds.
UNANSWERED_SECONDS: Final = 10.0
# How long a session that ends lets its client finish the COPY that it feeds.
LAST_COPY_SECONDS: Final = 30.0


class PostgresSession:
    """One client connection after its login."""

    def __init__(self, settings: Settings) -> None:
        names = Names()
        self._settings = settings
        self._resolution = Resolution(settings.database, settings.server_version, news=settings.news)
        self._talk = Conversation(names, self._resolution, settings.encodings)
        self._exchanges = Exchanges()
        self._permits = Permits(self._talk, self._resolution, self._exchanges, settings)
        resolver = Resolver(self._talk, names, self._resolution, self._exchanges, settings.duties)
        effects = Effects(self._talk, names, self._resolution)
        parts = (self._talk, names, self._resolution, resolver, self._permits, effects)
        self._simple = SimpleQuery(*parts)
        self._extended = ExtendedQuery(*parts)
        self._copy = copying.CopyIn(self._talk, self._permits, effects)
        self._fast_path = FastPath(self._talk, resolver, self._permits, effects)
        self._codec = FrontendCodec(max_statement=settings.max_statement)
        self._inbox: deque[Frame | Partial | Oversized] = deque()
        self._waiting_bytes = 0
        self._step: Step | None = None
        self._wait = Wait.UPSTREAM
        self._leaving = False
        self._idle = False
        self._ending = ""
        self._last_copy = False
        # The limit of time whose end the server has been told of.
        self._canceled = ""
        self._ended = False

    @property
    def backlog(self) -> int:
        """See `pep.core.driver.DrivenSession`."""
        return self._waiting_bytes

    def receive(self, event: Event) -> Sequence[Effect]:
        """See `pep.core.wire.Session`."""
        if self._ended:
            return ()
        try:
            self._on(event)
            self._advance()
            self._watch_idleness()
            self._end_when_idle()
            if self._leaving and self._exchanges.asking:
                # It does not wait for the answer, so what it asked for must not happen any more.
                self._end(None, "client left")
        except ClientProtocolError as error:
            self._end(denial.fatal(error.code, error.message), "client broke the protocol")
        except UpstreamProtocolError as error:
            self._end(denial.fatal(error.code, error.message), f"upstream: {error.message}", cancel=True)
        return self._talk.take_effects()

    # --- events -------------------------------------------------------------------------------------------------------

    def _on(self, event: Event) -> None:
        match event:
            case ClientData(data):
                # While the server waits for the client's data, each of it begins the time anew.
                self._idle = self._idle and self._talk.copying is None
                for item in self._codec.feed(data):
                    self._inbox.append(item)
                    self._waiting_bytes += _size(item)
                    self._leaving = self._leaving or item.tag == FrontendTag.TERMINATE
            case UpstreamData(data):
                self._talk.receive(data)
                self._after_upstream()
            case Decided(exchange, outcome):
                self._answer(exchange, outcome)
            case Approved(exchange, _):
                self._answer(exchange, event)
            case LookedUp(exchange, facts):
                self._answer(exchange, facts)
            case TimerFired(name):
                self._timer(name)
            case CancelRequested():
                self._cancel_requested()
            case PolicyChanged(revision):
                self._talk.revision = revision
            case _:
                self._on_end(event)

    def _on_end(self, event: ClientClosed | UpstreamClosed | Revoked | RecordFailed) -> None:
        match event:
            case ClientClosed():
                self._end(None, "client left", cancel=self._talk.replies.executing)
            case UpstreamClosed():
                closed = denial.fatal(denial.CONNECTION_FAILURE, "the server closed the connection")
                self._end(None if self._talk.fatal else closed, "upstream left")
            case Revoked(reason, at_once=False):
                self._ending = reason
            case Revoked(reason):
                self._end(denial.fatal(denial.ADMIN_SHUTDOWN, reason), reason, cancel=self._talk.replies.executing)
            case RecordFailed():
                self._end(
                    denial.fatal("58030", "the session ends: its record cannot be written"),
                    "record failed",
                    cancel=True,
                )

    def _after_upstream(self) -> None:
        if self._talk.group_failed:
            self._talk.group_failed = False
            # What the client sent behind the failed message is skipped by the server, so it must not be decided either.
            self._abandon("the server skips it")
        if self._copy.lapsed:
            self._abandon("the COPY has ended")
        if self._step is not None and self._wait is Wait.UPSTREAM:
            self._resume(None)

    def _answer(self, exchange: int, answer: object) -> None:
        if exchange == self._exchanges.current and self._step is not None and self._wait is Wait.ANSWER:
            self._resume(answer)

    def _timer(self, name: str) -> None:
        if name == "catalog":
            self._resolution.catalog_due = True
        elif name == "held":
            self._permits.remind()
        elif name == "last copy":
            if self._talk.copying is not None:
                self._end(denial.fatal(denial.ADMIN_SHUTDOWN, self._ending), self._ending, cancel=True)
        elif name == "idle":
            self._end(denial.fatal(denial.IDLE_SESSION_TIMEOUT, "this session was idle for too long"), "idle")
        else:
            self._overdue(name)

    def _overdue(self, name: str) -> None:
        """A limit of time is over: the server is asked to stop, and left if it does not answer that either."""
        executions = (expected.execution for expected in self._talk.replies)
        execution = next((e for e in executions if e is not None and timer_of(e.grant) == name), None)
        if execution is None and (self._step is None or not self._talk.replies):
            return
        if name == self._canceled:
            words = (
                "this session ends: a statement took longer than policy allows, and the server does not answer; "
                "whether it takes effect is not known"
            )
            self._end(denial.fatal(denial.CONNECTION_FAILURE, words), "the server does not answer")
            return
        self._canceled = name
        if execution is not None:
            execution.timed_out = True
        self._talk.emit(CancelUpstream())
        self._talk.emit(SetTimer(name, UNANSWERED_SECONDS))

    def _cancel_requested(self) -> None:
        if self._exchanges.asking:
            self._resume(CancelRequested())
        elif self._talk.replies.executing:
            self._talk.emit(CancelUpstream())

    def _end(self, error: ErrorResponse | None, reason: str, *, cancel: bool = False) -> None:
        self._abandon(reason)
        for expected in self._talk.replies:
            if expected.execution is not None and not expected.execution.recorded:
                expected.execution.sqlstate = expected.execution.sqlstate or denial.CONNECTION_FAILURE
                self._talk.emit(Record(expected.execution.response()))
        if cancel:
            self._talk.emit(CancelUpstream())
        if error is not None:
            self._talk.send(error.encode())
        self._talk.emit(Close(reason))
        self._ended = True

    def _end_when_idle(self) -> None:
        """Once the server owes nothing: a statement that runs is finished, one that waits for people is given up."""
        busy = self._talk.replies or (self._step is not None and not self._exchanges.asking)
        if self._ending and not busy and not self._ended:
            self._end(denial.fatal(denial.ADMIN_SHUTDOWN, self._ending), self._ending)
        elif self._ending and self._talk.copying is not None and not self._last_copy:
            # It is the client who says when a COPY from it ends.
            self._last_copy = True
            self._talk.emit(SetTimer("last copy", LAST_COPY_SECONDS))

    def _watch_idleness(self) -> None:
        """The client is idle while nothing of it is being worked on."""
        waited_for = not self._talk.replies or self._talk.copying is not None
        idle = self._step is None and not self._inbox and waited_for
        if self._settings.idle is not None and idle != self._idle and not self._ended:
            self._idle = idle
            self._talk.emit(SetTimer("idle", self._settings.idle if idle else None))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        taken = 0
        while not self._ended and self._step is None and self._inbox and len(self._talk.replies) < MOST_OWED:
            taken += 1
            if taken > MOST_AT_ONCE:
                # Messages that wait for nothing would take the loop from everybody else.
                self._step = self._let_others()
                self._resume(None)
                return
            item = self._inbox.popleft()
            self._waiting_bytes -= _size(item)
            self._step = self._process(item)
            self._resume(None)
        if self._inbox and self._step is None and not self._ended:
            # Without being asked the server may keep the last of its answers to itself.
            self._talk.flush()

    def _let_others(self) -> Step:
        self._talk.emit(LookUp(self._exchanges.next(), Turn()))
        yield Wait.ANSWER

    def _resume(self, value: object) -> None:
        assert self._step is not None
        step = self._step
        try:
            self._wait = step.send(value)
        except StopIteration:
            if self._step is step:
                self._step = None

    def _abandon(self, reason: str) -> None:
        """Give the current step up; a pending question is withdrawn."""
        step, self._step = self._step, None
        # A step that ends the session is running: it cannot be closed from inside.
        if step is not None and inspect.getgeneratorstate(step) != inspect.GEN_RUNNING:
            step.close()
        self._permits.withdraw(reason)

    def _process(self, item: Frame | Partial | Oversized) -> Step:
        tag = item.tag
        if tag == FrontendTag.TERMINATE:
            self._talk.forward(copying.raw(item), Housekeeping())
            self._end(None, "client terminated")
        elif self._talk.copying is not None:
            yield from self._copy.take(item, self._talk.copying)
        elif tag in copying.MESSAGES:
            yield from self._copy.take_early(item)
        elif tag == FrontendTag.SYNC:
            self._sync()
        elif self._talk.skipping is not Skipping.NOT:
            return
        else:
            yield from self._decide_message(item)

    def _decide_message(self, item: Frame | Partial | Oversized) -> Step:
        ends_group = item.tag in (FrontendTag.QUERY, FrontendTag.FUNCTION_CALL)
        try:
            match item:
                case Oversized():
                    raise Refused(
                        denial.error(
                            denial.PROGRAM_LIMIT_EXCEEDED,
                            f"this message is refused: it has {item.length} bytes, the limit is "
                            f"{self._settings.max_statement}",
                        )
                    )
                case Frame():
                    yield from self._dispatch(item)
                case Partial():
                    raise ClientProtocolError(denial.PROTOCOL_VIOLATION, "data outside of COPY")
        except Refused as refused:
            self._talk.refuse(refused.error, ends_group=ends_group)
        except ProtocolError as error:
            if error.code == denial.PROTOCOL_VIOLATION or isinstance(error, UpstreamProtocolError):
                raise
            self._talk.refuse(denial.error(error.code, error.message), ends_group=ends_group)

    def _dispatch(self, frame: Frame) -> Step:
        match frame.tag:
            case FrontendTag.QUERY:
                yield from self._simple.query(frame)
            case FrontendTag.PARSE:
                yield from self._extended.parse(frame)
            case FrontendTag.BIND:
                yield from self._extended.bind(frame)
            case FrontendTag.DESCRIBE:
                yield from self._extended.describe(frame)
            case FrontendTag.EXECUTE:
                yield from self._extended.execute(frame)
            case FrontendTag.CLOSE:
                self._extended.close(frame)
            case FrontendTag.FLUSH:
                self._talk.flush()
            case FrontendTag.FUNCTION_CALL:
                yield from self._fast_path.call(frame)
            case unknown:
                raise ClientProtocolError(denial.PROTOCOL_VIOLATION, f"message type 0x{unknown:02X} is refused")

    def _sync(self) -> None:
        if self._talk.skipping is Skipping.HERE:
            self._talk.skipping = Skipping.NOT
            self._talk.send(ReadyForQuery(self._talk.status).encode())
            self._talk.end_group()
        else:
            self._talk.skipping = Skipping.NOT
            self._talk.sync()


def _size(item: Frame | Partial | Oversized) -> int:
    """What an item holds in memory, about."""
    match item:
        case Frame():
            return len(item.payload) + 64
        case Partial():
            return len(item.raw) + 64
        case Oversized():
            return 64
