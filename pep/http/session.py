"""The HTTP session machine: one client connection, its requests one after the other, each of whoever sent it.

Sans-I/O (`pep.core.wire.Session`). One step, a generator, serves the connection: it waits for the client, for an answer
or for either side, and is resumed by the event that brings it. What one request needs before it may reach the target is
`exchange`; what becomes of the response is `responses`.

Implements the connection handling of RFC 9112, section 9: persistence, pipelining (served in order), time-outs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pep.core.decision_client import Credential
from pep.core.errors import ClientProtocolError, UpstreamProtocolError
from pep.core.wire import (
    Approved,
    CancelAsk,
    CancelRequested,
    ClientClosed,
    ClientData,
    Close,
    Decided,
    Effect,
    Ending,
    Event,
    LookedUp,
    PolicyChanged,
    RecordFailed,
    Revoked,
    SetTimer,
    TimerFired,
    UpstreamClosed,
    UpstreamData,
)
from pep.http import denial
from pep.http.connection import Connection
from pep.http.exchange import serve_request
from pep.http.messages import RequestHead
from pep.http.stepping import Cut, Settings, Stale, Step, Wait


class HttpSession:
    """One client connection; `certificate` is who its client is by its own word in TLS, if it gave one."""

    def __init__(self, settings: Settings, exchanges: Iterator[int], certificate: Credential | None = None) -> None:
        self._settings = settings
        self._connection = Connection(settings, exchanges, certificate)
        self._step: Step[None] = self._serve()
        self._ended = False
        self._wait = next(self._step)

    @property
    def backlog(self) -> int:
        """See `pep.core.driver.DrivenSession`."""
        return 0 if self._wait is Wait.CLIENT else self._connection.requests.waiting

    @property
    def serving(self) -> str:
        """The name of the session whose request is served at the moment; "" between requests."""
        return self._connection.session

    def receive(self, event: Event) -> Sequence[Effect]:
        """See `pep.core.wire.Session`."""
        if self._ended:
            return ()
        try:
            self._on(event)
        except ClientProtocolError as error:
            self._fail(int(error.code), error.message)
        except UpstreamProtocolError as error:
            self._fail(502, f"the target broke the protocol: {error.message}")
        except Stale as stale:
            self._fail(502, f"the target did not answer: {stale}")
        except Cut as cut:
            self._end(str(cut))
        except StopIteration:
            self._end(self._connection.closing or "the connection is not kept", whole=True)
        return self._connection.take_effects()

    def _on(self, event: Event) -> None:
        connection = self._connection
        match event:
            case ClientData(data):
                connection.received += len(data)
                if connection.raw is not None:
                    connection.raw.client(data)
                    return
                connection.requests.feed(data)
                self._resume(Wait.CLIENT)
            case UpstreamData(data):
                connection.returned += len(data)
                if connection.raw is not None:
                    connection.raw.upstream(data)
                    return
                connection.responses.feed(data)
                self._resume(Wait.EITHER)
            case Decided(exchange, outcome):
                self._answered(exchange, outcome)
            case Approved(exchange, _):
                self._answered(exchange, event)
            case LookedUp(exchange, facts):
                self._answered(exchange, facts)
            case TimerFired(name):
                self._timer(name)
            case CancelRequested():
                pass
            case PolicyChanged():
                pass  # each request is decided by itself
            case _:
                self._on_end(event)

    def _on_end(self, event: ClientClosed | UpstreamClosed | Revoked | RecordFailed) -> None:
        connection = self._connection
        match event:
            case ClientClosed():
                self._end("the client left", client_left=True)
            case UpstreamClosed():
                connection.upstream_closed = True
                if connection.raw is not None:
                    self._end("the target closed the connection")
                    return
                self._resume(Wait.EITHER)
            case Revoked(reason, at_once, session):
                self._revoked(reason, session, at_once=at_once)
            case RecordFailed() if connection.head is None:
                self._end("nothing can be put on record")
            case RecordFailed():
                self._fail(503, "the request ends: its record cannot be written")

    def _revoked(self, reason: str, session: str, *, at_once: bool) -> None:
        serving = self._connection.session
        if session and session != serving:
            return
        if at_once and serving:
            self._fail(403, reason)
        elif self._connection.held:
            # Nothing is waited for any more.
            self._fail(503, reason)
        elif serving or self._connection.head is not None:
            self._connection.closing = reason
        else:
            self._end(reason)

    # --- the step -----------------------------------------------------------------------------------------------------

    def _serve(self) -> Step[None]:
        """Request after request, until one says that none follows."""
        connection = self._connection
        connection.timer("head", self._settings.head)
        while not connection.closing:
            head = yield from self._head()
            connection.begin(head)
            yield from serve_request(connection, head)
            connection.head, connection.session, connection.answered = None, "", False
            if not connection.closing:
                connection.timer("idle", self._settings.idle)

    def _head(self) -> Step[RequestHead]:
        """The next request's head; the time for it runs from its first byte."""
        connection = self._connection
        late = False
        while (part := connection.requests.next()) is None:
            if connection.requests.waiting and not late:
                late = True
                connection.timer("idle", None)
                connection.timer("head", self._settings.head)
            yield Wait.CLIENT
        connection.timer("head", None)
        connection.timer("idle", None)
        assert isinstance(part, RequestHead)
        return part

    def _resume(self, arrived: Wait, value: Any = None) -> None:
        """Goes on if the step waits for this. What arrives from a side also ends a wait for either."""
        if self._wait is arrived or (self._wait is Wait.EITHER and arrived is Wait.CLIENT):
            self._wait = Wait.EITHER  # for nothing more, where it ends here
            self._wait = self._step.send(value)
            if self._connection.raw is not None:
                self._wait = Wait.EITHER

    def _answered(self, exchange: int, value: Any) -> None:
        if exchange == self._connection.exchange and self._wait is Wait.ANSWER:
            self._resume(Wait.ANSWER, value)

    def _timer(self, name: str) -> None:
        connection = self._connection
        match name:
            case "head" if connection.head is None:
                if connection.received and connection.requests.waiting:
                    self._fail(408, "the request's head did not arrive in time")
                else:
                    self._end("no request came")
            case "idle" if connection.head is None:
                self._end("the connection was idle")
            case "limit":
                self._fail(504, "the request took longer than policy allows")
            case "response":
                self._fail(504, "the target did not begin to answer in time")
            case _:
                connection.fired.add(name)
                self._resume(Wait.CLIENT)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _fail(self, status: int, why: str) -> None:
        """The connection ends with an answer where none has begun."""
        connection = self._connection
        connection.record_fault(status, why)
        if not connection.answered:
            connection.closing = why
            connection.answer(denial.problem(status, why))
        self._end(why)

    def _end(self, reason: str, *, whole: bool = False, client_left: bool = False) -> None:
        """`whole`: every answer is complete; `client_left`: there is nobody to be told."""
        self._ended = True
        connection = self._connection
        if connection.raw is not None:
            connection.over(connection.raw.event())
        else:
            connection.cut(reason)
        self._step.close()
        if connection.exchange and self._wait is Wait.ANSWER:
            connection.emit(CancelAsk(connection.exchange, reason))
        connection.emit(SetTimer("head", None))
        connection.emit(Close(reason, self._ending(whole=whole, client_left=client_left)))

    def _ending(self, *, whole: bool, client_left: bool) -> Ending:
        connection = self._connection
        if connection.until_close and not whole:
            return Ending.CUT
        if client_left or connection.raw is not None:
            return Ending.FLUSHED
        # A client that is refused may be sending still: the rest of a body, or what was no request.
        return Ending.FLUSHED if connection.body_read and not connection.requests.waiting else Ending.LINGERING
