"""What comes back: from the target's connection to the client's, through the transform that the decision asks for.

The request's body and the response are relayed at the same time, as HTTP/1.1 has it (RFC 9112, section 9.5). A head is
sent at once unless the transform has to see the whole body first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from pep.core.errors import UpstreamProtocolError
from pep.core.keeping import Kept
from pep.core.model import Grant, local_deny
from pep.core.records import Body, Event, EventType
from pep.core.wire import PauseUpstream, ResumeUpstream
from pep.http import denial
from pep.http import work as work_module
from pep.http.classify import Request
from pep.http.codec import chunk, encode_response, last_chunk
from pep.http.connection import Connection
from pep.http.disclosed import dataset, disclosed
from pep.http.holding import TooMuchHeld
from pep.http.large import Failed
from pep.http.mcp_sessions import Place
from pep.http.messages import (
    BodyData,
    Chunked,
    EndOfMessage,
    Fields,
    Framing,
    Length,
    NoBody,
    RequestHead,
    ResponseHead,
    ResponsePart,
    UntilClose,
)
from pep.http.obligations import CannotMask, Duties, Plan, plan, scrubbed_plan, shown_heads
from pep.http.questions import Release, Rewrite, TakesMore, Turn
from pep.http.request_body import RequestBody
from pep.http.shown_tools import ShownTools
from pep.http.stepping import Cut, Refused, Stale, Step, TargetStalls, Wait
from pep.http.tunnel import Tunnel
from pep.http.work import Pause, Work


def relay(
    connection: Connection,
    head: RequestHead,
    request: Request,
    grant: Grant,
    duties: Duties,
    kept: Kept,
    place: Place | None,
    *,
    streams: bool,
) -> Step[None]:
    """Until the response is complete, and on record. `streams`: the request's body is still to be forwarded.

    `place` is where the request meets MCP, if it does.

    Raises Stale where the connection was over before an answer began.
    """
    response = _Response(connection, head, request, grant, duties, kept, place)
    connection.responses.expect(head.method)
    connection.unfinished = response.cut
    body = RequestBody(connection, head, grant, going=streams and not connection.body_read)
    if connection.settings.response is not None:
        connection.timer("response", connection.settings.response)
    try:
        while not response.over:
            moved = yield from body.send()
            if (arrived := _arrived(connection, response)) is not None:
                yield from response.take(arrived)
            elif not moved:
                yield Wait.EITHER
                if body.stalls():
                    # The client may be kept from sending by a target that takes nothing.
                    takes_more = yield from connection.look_up(TakesMore())
                    raise TimeoutError if takes_more else TargetStalls
    finally:
        body.stop()
        response.let_go()
    if response.tunnel is not None:
        while True:
            yield Wait.EITHER
    if body.going:
        connection.closing = connection.closing or "the target answered before the request was complete"
    clean = not connection.upstream_closed and not connection.responses.waiting
    reusable = not body.going and response.reusable and clean
    yield from connection.look_up(Release(reusable, connection.returned))


def _arrived(connection: Connection, response: _Response) -> ResponsePart | None:
    """The next part of the response, if it is there. Raises UpstreamProtocolError and Stale where none will come."""
    part = connection.responses.next()
    if part is None and connection.upstream_closed:
        if not response.begun and not connection.responses.waiting:
            raise Stale("it closed the connection before it answered")
        connection.responses.eof()
        part = connection.responses.next()
    return part


class _Response:
    """One response."""

    def __init__(
        self,
        connection: Connection,
        head: RequestHead,
        request: Request,
        grant: Grant,
        duties: Duties,
        kept: Kept,
        place: Place | None,
    ) -> None:
        self._connection = connection
        self._request_head = head
        self._request = request
        self._grant = grant
        self._duties = duties
        self._head: ResponseHead | None = None
        self._plan: Plan | None = None
        self._framing: Framing = NoBody()
        self._tools = ShownTools(connection, request, place) if place is not None else None
        self._collected: list[bytes] = []
        self._holding = 0
        self._size = 0
        self._told = False  # whether any of the body went to the client
        # The end of the message: it is sent once the response is on record.
        self._last = b""
        self._left = 0  # of a body of a known length, what is still to be sent
        self._interim: list[int] = []
        self._kept = kept
        self._sample: list[bytes] = []
        self.begun = False
        self.over = False
        self.reusable = False
        self.tunnel: Tunnel | None = None

    def take(self, part: ResponsePart) -> Step[None]:
        """One part of what the target sends."""
        self.begun = True
        try:
            match part:
                case ResponseHead() as head if head.interim:
                    self._pass_on(head)
                case ResponseHead(status=101) as head:
                    self._upgraded(head)
                case ResponseHead() as head:
                    self._begin(head)
                case BodyData(data):
                    body = self._planned.body
                    fed = body.feed(data) if body.quick else (yield from self._worked(body.feeding(data)))
                    if self._held:
                        self._hold()
                    self._body((yield from self._tools.passing(fed)) if self._tools else fed)
                case EndOfMessage(trailers):
                    yield from self._finish(trailers)
        except CannotMask as error:
            self._fail(error)

    @property
    def _planned(self) -> Plan:
        assert self._plan is not None, "a body follows its head"
        return self._plan

    def _pass_on(self, head: ResponseHead) -> None:
        """An interim response goes to the client (RFC 9110, section 15.2), who of HTTP/1.0 would not know it.

        Not 100: what a client expects, this proxy answers itself. And not where the response is rewritten: the fields
        of an interim one tell of it what may be what the rewriting takes out.
        """
        if head.status == 100 or self._request_head.minor == 0 or self._duties.rewrites:
            return
        settings = self._connection.settings
        planned = plan(
            head, self._request_head.method, self._duties, settings.scrub, decoded_limit=settings.decoded_limit
        )
        self._interim.append(head.status)
        fields = settings.cors.stripped(planned.head.fields)
        self._connection.tell(encode_response(head.status, planned.head.reason, fields, NoBody()))

    def _begin(self, head: ResponseHead) -> None:
        connection = self._connection
        self._head, self.reusable = head, head.keep_alive
        settings = connection.settings
        if settings.response is not None:
            connection.timer("response", None)
        began = head.fields.first("Mcp-Session-Id")
        if began and any(call.method == "initialize" for call in self._request.calls):
            settings.mcp_sessions.began(began, connection.subject)
        self._plan = self._planned_for(head)
        if self._tools is not None:
            self._plan = replace(self._plan, head=self._tools.begin(self._plan.head))
        if not self._held:
            self._send_head(self._plan.head.framing)

    @property
    def _held(self) -> bool:
        return self._planned.body.held or (self._tools is not None and self._tools.collects)

    def _planned_for(self, head: ResponseHead) -> Plan:
        settings, method = self._connection.settings, self._request_head.method
        if not self._duties.rewrites:
            # Heads repeat, and a secret that was learnt meanwhile makes it another question.
            scrub = settings.scrub
            heads = self._connection.known("shown", shown_heads, head, scrub, scrub.secrets)
            return scrubbed_plan(heads, method, scrub, settings.decoded_limit)
        return plan(
            head,
            method,
            self._duties,
            settings.scrub,
            decoded_limit=settings.decoded_limit,
            graphql=self._request.graphql,
            hash_keys=settings.hash_keys,
        )

    def _send_head(self, framing: Framing) -> None:
        """The head as the client gets it: its framing is what this client can read."""
        connection, planned = self._connection, self._planned
        cors = connection.settings.cors
        fields = cors.stripped(planned.head.fields)
        if origins := cors.said(self._request_head):
            fields = Fields((*fields, *origins))
        size = planned.head.fields.first("Content-Length") or ""
        if self._request_head.method == "HEAD" and size.isdecimal():
            # The length that a GET would have (RFC 9110, section 9.3.2); nothing follows it.
            framing = Length(int(size))
        if isinstance(framing, UntilClose):
            framing = Chunked()
        if isinstance(framing, Chunked) and self._request_head.minor == 0:
            framing = UntilClose()
            connection.closing = connection.closing or "the response ends with the connection"
        self._framing = framing
        if connection.closing:
            fields = Fields((*fields.items, ("Connection", "close")))
        elif self._request_head.minor == 0:
            fields = Fields((*fields.items, ("Connection", "keep-alive")))
        connection.until_close = isinstance(framing, UntilClose)
        said = (planned.head.status, planned.head.reason, fields, framing)
        encoded = connection.known("answer", encode_response, *said)
        self._left = framing.size if isinstance(framing, Length) and self._request_head.method != "HEAD" else 0
        if isinstance(framing, Length | NoBody) and not self._left:
            self._last = encoded
        else:
            connection.send(encoded)

    def _body(self, data: bytes) -> None:
        if not data:
            return
        self._size += len(data)
        if self._held:
            if self._size > self._connection.settings.decoded_limit:
                raise CannotMask("the response is longer than what can be looked at")
            self._collected.append(data)
            return
        self._emit(data)

    def _hold(self) -> None:
        """Counts what is held of the body until it is whole: here, or where it is rewritten. Raises CannotMask."""
        connection = self._connection
        holding = self._planned.body.holding + (self._size if self._held else 0)
        connection.settings.holding.change(connection.payer, holding - self._holding)
        self._holding = holding

    def let_go(self) -> None:
        """Nothing of the body is held any more."""
        self._connection.settings.holding.change(self._connection.payer, -self._holding)
        self._holding = 0

    def _worked(self, work: Work[bytes]) -> Step[bytes]:
        """What comes of the work, others having had their turns; meanwhile no more of the response is read."""
        connection = self._connection
        answer: bytes | None = None
        failed: Failed | None = None
        paused = False
        try:
            while True:
                try:
                    wanted = work.send(answer) if failed is None else work.throw(CannotMask(failed.reason))
                except StopIteration as end:
                    done: bytes = end.value
                    return done
                if not paused:
                    paused = True
                    connection.emit(PauseUpstream())
                match wanted:
                    case Pause():
                        found = yield from connection.look_up(Turn())
                    case work_module.Rewrite():
                        found = yield from connection.look_up(Rewrite(connection.session, wanted))
                    case never:
                        assert_never(never)
                answer, failed = (None, found) if isinstance(found, Failed) else (found, None)
        finally:
            if paused:
                connection.emit(ResumeUpstream())

    def _emit(self, data: bytes) -> None:
        self._told = True
        if kept := self._kept.lines(data):
            self._sample.append(kept)
        if isinstance(self._framing, Length):
            self._left -= len(data)
            if self._left <= 0:
                self._last = data
                return
        self._connection.send(chunk(data) if isinstance(self._framing, Chunked) else data)

    def _finish(self, trailers: Fields) -> Step[None]:
        planned, connection = self._planned, self._connection
        body = planned.body
        last = body.finish() if body.quick else (yield from self._worked(body.finishing()))
        if self._tools is not None:
            last = (yield from self._tools.passing(last)) + self._tools.rest()
        self._body(last)
        if self._held:
            whole = b"".join(self._collected)
            if self._tools is not None and self._tools.collects:
                whole = yield from self._tools.whole(whole)
            self._size = len(whole)
            self._send_head(self._whole_framing(len(whole)))
            if whole:
                self._emit(whole)
        connection.over(self._event())
        connection.send(last_chunk(self._shown(trailers)) if isinstance(self._framing, Chunked) else self._last)
        self.over = True

    def _whole_framing(self, size: int) -> Framing:
        """Of a body that was held until it was there."""
        if isinstance(self._planned.head.framing, NoBody):
            return NoBody()
        sent = None if self._head is None else self._head.framing
        return sent if isinstance(sent, Length) and sent.size == size else Length(size)

    def _shown(self, trailers: Fields) -> Fields:
        """The trailer fields for a client that asks for them, where nothing has to be rewritten."""
        if self._duties.rewrites or "trailers" not in self._request_head.fields.tokens("TE"):
            return Fields()
        return self._connection.settings.scrub.in_fields(trailers)

    def cut(self, why: str) -> Event:
        """What goes on record where it never becomes whole."""
        return self._event(cut=why)

    def _event(self, **more: Any) -> Event:
        """What goes on record about the response; the body is what the client saw, as far as it is kept."""
        status = 0 if self._head is None else self._head.status
        facts: dict[str, Any] = {
            "execution_id": self._grant.execution_id,
            "status": status,
            "bytes": self._size,
            "tags": [f"HTTP {status}"],
            **more,
        }
        if self._interim:
            facts["interim"] = self._interim
        if self._plan is not None:
            facts |= self._plan.body.summary()
        if self._told:
            rewriter = None if self._plan is None else self._plan.body.rewriter
            seen = () if rewriter is None else rewriter.places.seen()
            aliases = {} if rewriter is None else rewriter.aliases
            of = self._connection.known("dataset", dataset, self._request)
            facts |= disclosed(of, self._grant, seen, facts.get("rows", 0), aliases)
        facts |= self._kept.facts()
        bodies = (Body("response", b"".join(self._sample)),) if self._sample else ()
        grant = self._grant
        return Event(EventType.RESPONSE, grant.decision_ids[0], grant.policy_revision, facts, bodies)

    def _fail(self, error: CannotMask) -> None:
        """What cannot be masked is not shown: an answer in its place, or, behind a head that is sent, the end."""
        self._connection.over(self._event(withheld=str(error)))
        if self._connection.answered:
            raise Cut(f"the response was cut: {error}")
        self._connection.closing = self._connection.closing or "the response could not be relayed"
        retry = isinstance(error, TooMuchHeld)
        deny = local_deny(self._grant.decision_ids[0], "cannot-mask", f"the response is withheld: {error}", retry=retry)
        what = f"{self._request_head.method} {self._request_head.path}"[:120]
        raise Refused(denial.refused(deny, what))

    # --- other protocols ----------------------------------------------------------------------------------------------

    def _upgraded(self, head: ResponseHead) -> None:
        """The target speaks another protocol from here on, as the client asked and policy allowed."""
        connection, wanted = self._connection, self._request_head.upgrade
        if not wanted or wanted not in head.fields.tokens("Upgrade"):
            raise UpstreamProtocolError("502", "it switches to a protocol that nobody asked for")
        if connection.settings.injects and head.fields.all("Sec-WebSocket-Extensions"):
            # They were not asked for (see `exchange`), and what is compressed cannot be watched for the credential.
            raise UpstreamProtocolError("502", "it uses extensions that nobody asked for")
        scrub = connection.settings.scrub
        fields = scrub.in_fields(head.fields).without(("Connection", "Upgrade"))
        fields = Fields((*fields.items, ("Connection", "Upgrade"), ("Upgrade", wanted)))
        connection.send(encode_response(101, head.reason or "Switching Protocols", fields, NoBody()))
        self._head = head
        connection.body_read = True
        connection.closing = "the connection was upgraded"
        if connection.settings.response is not None:
            connection.timer("response", None)
        connection.unfinished = None
        connection.raw = self.tunnel = Tunnel(connection, self._request, self._grant, wanted, self._kept)
        self.over = True
        # What either side has sent behind its head belongs to the new protocol.
        if rest := connection.responses.rest():
            self.tunnel.upstream(rest)
        if rest := connection.requests.rest():
            self.tunnel.client(rest)
