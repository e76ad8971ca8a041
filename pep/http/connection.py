"""What the steps of one client connection share: the codecs, the state of the exchange, the effects to carry out.

It knows how things are said, not what is to be said when (`exchange`, `responses`, `tunnel`).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from pep.core.decision_client import Credential
from pep.core.decision_records import decided
from pep.core.model import Action, Deny, Grant
from pep.core.records import Event, EventType
from pep.core.wire import Ask, By, Effect, LookUp, Record, SendClient, SendUpstream, SetTimer
from pep.http.codec import RequestCodec, ResponseCodec
from pep.http.denial import Answer
from pep.http.messages import BodyData, Length, NoBody, RequestHead
from pep.http.questions import Question, Release
from pep.http.stepping import Settings, Step, Wait

T = TypeVar("T")

# What is still read of a request that is refused, so that its client reads the answer instead of a reset.
DRAINED_BYTES: Final = 64 * 1024
DRAIN_SECONDS: Final = 2.0
_WITHOUT_BODY: Final = (NoBody(), Length(0))


class Connection:
    """One client connection."""

    def __init__(self, settings: Settings, exchanges: Iterator[int], certificate: Credential | None) -> None:
        self.settings = settings
        self.certificate = certificate
        self.requests = RequestCodec(max_head=settings.head_bytes)
        self.responses = ResponseCodec()
        self.session = ""  # whose request is served at the moment
        self.subject = ""  # who that is
        self.payer = ""  # and who pays for it
        self.exchange = 0
        self.head: RequestHead | None = None
        self.answered = False  # something of the response has been sent
        self.body_read = True  # the request's body has been read to its end
        self.closing = ""  # why the connection ends with this exchange
        self.upstream_closed = False
        self.fired: set[str] = set()  # timers that fired and nobody has looked at
        self.received = 0  # bytes of the client, ever
        self.returned = 0  # bytes of the target, ever
        self.raw: Any = None  # what takes both sides' bytes after an upgrade
        self.held = False  # the request waits for people
        self.until_close = False  # the response ends with the connection: one that is cut must not look whole
        self.grants: list[Grant] = []  # of this exchange; how it ended for them is not on record yet
        # What goes on record of a response that is not complete yet, by why it never will be.
        self.unfinished: Callable[[str], Event] | None = None
        self._exchanges = exchanges
        self._effects: list[Effect] = []
        self._timers: set[str] = set()  # those that were set and not cleared, fired or not
        self._known: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def known(self, name: str, work: Callable[..., T], *of: Any) -> T:
        """What a pure function makes of these; of the very same values that it was asked for last, what it made."""
        last = self._known.get(name)
        if last is not None and len(last[0]) == len(of) and all(map(operator.is_, last[0], of)):
            found: T = last[1]
            return found
        found = work(*of)
        self._known[name] = of, found
        return found

    def take_effects(self) -> tuple[Effect, ...]:
        effects, self._effects = tuple(self._effects), []
        return effects

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def begin(self, head: RequestHead) -> None:
        """A request's head has arrived."""
        self.head, self.session, self.answered, self.upstream_closed = head, "", False, False
        # Of the next connection: nothing that an earlier one left behind is part of an answer to this request.
        self.responses = ResponseCodec(last=self.responses)
        self.body_read = self.until_close = False
        self.fired.clear()
        if head.framing in _WITHOUT_BODY:
            self.requests.next()  # its end, at once
            self.body_read = True

    def start_over(self) -> Step[None]:
        """Gives the target's connection up, for a new one."""
        yield from self.look_up(Release(reusable=False, returned=self.returned))
        self.upstream_closed = False
        self.responses = ResponseCodec()

    # --- asking -------------------------------------------------------------------------------------------------------

    def look_up(self, question: Question) -> Step[Any]:
        self.exchange = next(self._exchanges)
        self.emit(LookUp(self.exchange, question))
        return (yield Wait.ANSWER)

    def ask(self, actions: tuple[Action, ...], *, exchange: int | None = None, **options: Any) -> Step[Any]:
        """One answer to an Ask; a second one, after `Held`, is waited for by the caller."""
        self.exchange = next(self._exchanges) if exchange is None else exchange
        self.emit(Ask(self.exchange, actions, session=self.session, **options))
        return (yield Wait.ANSWER)

    def wait_on(self) -> Step[Any]:
        """The next answer to what was asked last, and is put forward to people."""
        self.held = True
        try:
            return (yield Wait.ANSWER)
        finally:
            self.held = False

    # --- sending and recording ----------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if data:
            self.answered = True
            self.emit(SendClient(data))

    def go_on(self) -> None:
        """The client may send the body that it holds back (RFC 9110, section 10.1.1)."""
        self.tell(b"HTTP/1.1 100 Continue\r\n\r\n")

    def tell(self, data: bytes) -> None:
        """What comes before a response and is no part of it."""
        self.emit(SendClient(data))

    def forward(self, data: bytes, by: By) -> None:
        if data:
            self.emit(SendUpstream(data, by))

    def timer(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self._timers.add(name)
        elif name not in self._timers:
            return
        else:
            self._timers.remove(name)
        self.emit(SetTimer(name, seconds))

    def record(self, event: Event) -> None:
        """In the chain of whose request it is; in the proxy's own where that is not known."""
        self.emit(Record(event, self.session))

    def record_denial(self, deny: Deny) -> None:
        """A refusal that no decision was asked for."""
        self.record(decided(deny, Ask(self.exchange, ()), None, bodies=False))

    def record_fault(self, status: int, why: str) -> None:
        self.record(Event(EventType.ERROR, facts={"error": "request refused", "status": status, "why": why}))

    def over(self, event: Event) -> None:
        """How the exchange ended, for what was forwarded last, and for what only carried it."""
        self.unfinished = None
        execution = event.facts["execution_id"]
        shared = {name: event.facts[name] for name in ("status", "cut", "withheld") if name in event.facts}
        for grant in self._taken_grants():
            if grant.execution_id != execution:
                self._record_end(grant, {**shared, "carries": execution})
        self.record(event)

    def cut(self, why: str) -> None:
        """A response that has begun, or was waited for, never becomes whole; or nothing was forwarded at all."""
        if self.unfinished is not None:
            self.over(self.unfinished(why))
        for grant in self._taken_grants():
            self._record_end(grant, {"status": 0, "cut": why, "forwarded": False})

    def _taken_grants(self) -> list[Grant]:
        grants, self.grants = self.grants, []
        return grants

    def _record_end(self, grant: Grant, facts: dict[str, Any]) -> None:
        facts = {"execution_id": grant.execution_id, "bytes": 0, "tags": [], **facts}
        self.record(Event(EventType.RESPONSE, grant.decision_ids[0], grant.policy_revision, facts))

    # --- the request's body -------------------------------------------------------------------------------------------

    def next_part(self) -> Step[Any]:
        """The next part of what the client sends."""
        while (part := self.requests.next()) is None:
            yield Wait.CLIENT
        return part

    def read_body(self, limit: int) -> Step[bytes | None]:
        """The whole body; None where it is longer than `limit` bytes."""
        parts: list[bytes] = []
        size, seen = 0, self.received
        self.timer("stalled", self.settings.stalled)
        try:
            while True:
                while (part := self.requests.next()) is None:
                    yield Wait.CLIENT
                    seen = self.keep_moving(seen)
                if not isinstance(part, BodyData):
                    self.body_read = True
                    return b"".join(parts)
                size += len(part.data)
                if size > limit:
                    return None
                parts.append(part.data)
        finally:
            self.timer("stalled", None)

    def keep_moving(self, seen: int) -> int:
        """As `moved`; raises TimeoutError where nothing came."""
        moved = self.moved(seen)
        if moved is None:
            raise TimeoutError
        return moved

    def moved(self, seen: int) -> int | None:
        """The bytes received by now, compared by the clock's tick with `seen`; None if none came."""
        if "stalled" not in self.fired:
            return seen
        self.fired.discard("stalled")
        if self.received == seen:
            return None
        self.timer("stalled", self.settings.stalled)
        return self.received

    def drain(self) -> Step[bool]:
        """Reads what is left of a refused request, not for long; whether it ended, so that another may follow."""
        left = DRAINED_BYTES
        self.timer("drain", DRAIN_SECONDS)
        try:
            while not self.body_read and left > 0:
                while (part := self.requests.next()) is None:
                    yield Wait.CLIENT
                    if "drain" in self.fired:
                        return False
                if isinstance(part, BodyData):
                    left -= len(part.data)
                else:
                    self.body_read = True
            return self.body_read
        finally:
            self.timer("drain", None)

    def answer(self, answer: Answer) -> None:
        """A response of the proxy's own."""
        head = self.head
        if head is not None and (said := self.settings.cors.said(head)):
            answer = dataclasses.replace(answer, fields=(*answer.fields, *said))
        head_only = head is not None and head.method == "HEAD"
        self.send(answer.encode(head_only=head_only, close=bool(self.closing)))
