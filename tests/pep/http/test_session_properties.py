"""The promise itself: the target gets exactly what was granted, in order, for the session that it was granted to.

A client sends any requests, cut anywhere and one behind the other; decisions, look-ups and the target's answers come at
any later moment, or never. Each request says its number, and each answer the number of what it answers.
"""

import itertools
import sys
from collections import Counter
from dataclasses import dataclass, field

import httptools
import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pep.core import wire
from pep.core.model import Action, ConstantMask, FieldMask, Grant, Held, MaskFields
from pep.core.records import EventType
from pep.http.codec import ResponseCodec
from pep.http.messages import BodyData, ResponseHead
from pep.http.questions import Connect, Connected, Known, Outgoing, Release, Unreachable, WhoIs
from pep.http.session import HttpSession
from tests.pep.http.conversations import BODY, HOST, settings_for_tests
from tests.playbook import denied, grant, held

TOKENS = ("anna", "bert")
SAFE = {"GET", "HEAD"}
SSN = b"SSN-"
MASK = MaskFields((FieldMask("/r", "$.ssn", ConstantMask("hidden")),))
METHODS = ("GET", "GET", "HEAD", "POST", "PUT", "DELETE")
BODIES = (None, b'{ "a": 1 }', b'{"b":[1,2,3],"c":"' + b"x" * 40 + b'"}', b"true")
# What shrinks and chances do not make of a number by themselves.
SELDOM = 7
KINDS = ("length", "length", "chunked", "interim", "closing", "none", "stray")


@dataclass
class Sent:
    """A request that the client sent."""

    number: int
    token: str
    method: str
    body: bytes | None
    head_end: int  # among all bytes of the client


@dataclass
class Issued:
    """A grant that this test gave."""

    grant: Grant
    number: int
    session: str
    masked: bool


@dataclass
class Target:
    """One connection of the target: it reads with a parser of its own, and answers when it is told to."""

    session: str
    output: bytearray = field(default_factory=bytearray)
    number: int = 0  # of the request that it is reading or has read
    method: str = ""
    body: bytes = b""
    complete: bool = True
    answered: bool = True
    closed: bool = False

    def __post_init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        assert self.complete, "a request inside of another one"
        assert self.answered, "a request before the answer to the one before"
        self.number = int(url.rpartition(b"/")[2])
        self.body, self.complete, self.answered = b"", False, False

    def on_headers_complete(self) -> None:
        self.method = self.parser.get_method().decode()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

    def answer(self, kind: str) -> None:
        """Some answer that says the number."""
        self.answered = True
        content = orjson.dumps({"answer": self.number, "ssn": f"SSN-{self.number}"})
        head = b"Content-Type: application/json\r\n"
        if self.method == "HEAD":
            content = b""
        match kind:
            case "length":
                said = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(content), content)
            case "chunked" if self.method != "HEAD":
                parts = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, content[:5], len(content) - 5, content[5:])
                said = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (head, parts)
            case "interim":
                said = b"HTTP/1.1 103 Early Hints\r\n\r\n"
                said += b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(content), content)
            case "closing":
                said = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n%b" % (head, content)
                self.closed = True
            case "stray":
                said = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            case _:
                said = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.output += said


running = precondition(lambda self: not self.closed)


class SessionMachine(RuleBasedStateMachine):
    """One client connection, and whatever connections of the target serve it."""

    @initialize()
    def start(self) -> None:
        self.session = HttpSession(settings_for_tests(response=30.0), itertools.count(1))
        self.sent: list[Sent] = []
        self.to_session = bytearray()
        self.said = 0
        self.asked: wire.Ask | None = None
        self.waiting: Held | None = None
        self.approved: wire.Ask | None = None  # what is to be asked again in the same words
        self.looking: wire.LookUp | None = None
        self.timers: set[str] = set()
        self.issued: list[Issued] = []
        self.refused: set[int] = set()
        self.counter = itertools.count(1)
        self.targets: list[Target] = []
        self.target: Target | None = None
        self.pool: list[Target] = []
        self.granted: Issued | None = None  # by which the request goes that is on its way
        self.reached: Counter[int] = Counter()
        self.newest = 0
        self.from_session = ResponseCodec()
        self.answers: list[tuple[int, bytes]] = []
        self.reading: ResponseHead | None = None
        self.content = b""
        self.expecting = False
        self.sessions = dict.fromkeys(TOKENS, 1)
        self.left = self.record_failed = self.records_fail = False
        self.intents: set[str] = set()
        self.recorded: Counter[str] = Counter()
        self.closed = ""

    def name_of(self, token: str) -> str:
        return f"s-{token}-{self.sessions[token]}"

    # --- the client ---------------------------------------------------------------------------------------------------

    @running
    @rule(
        token=st.sampled_from(TOKENS),
        method=st.sampled_from(METHODS),
        body=st.sampled_from(BODIES),
        how=st.sampled_from(("length", "chunked", "expect", "async") * 4 + ("close", "old")),
        path=st.sampled_from(("/r/{}", "/r/{}", "/r/{}", "/r%2f{}")),
    )
    def client_says(self, token: str, method: str, body: bytes | None, how: str, path: str) -> None:
        number = len(self.sent) + 1
        body = None if method in SAFE else body
        fields = [f"Host: {HOST}", f"Authorization: Bearer {token}"]
        content = body or b""
        if body is not None:
            fields.append("Content-Type: application/json")
            if how == "chunked":
                content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                fields.append("Transfer-Encoding: chunked")
            else:
                fields.append(f"Content-Length: {len(body)}")
        if how == "expect" and body is not None:
            fields.append("Expect: 100-continue")
        if how == "async":
            fields.append("Prefer: respond-async")
        if how == "close":
            fields.append("Connection: close")
        version = "1.0" if how == "old" else "1.1"
        encoded = "\r\n".join([f"{method} {path.format(number)} HTTP/{version}", *fields, "", ""]).encode() + content
        self.said += len(encoded)
        self.sent.append(Sent(number, token, method, body, self.said - len(content)))
        self.to_session += encoded

    @precondition(lambda self: not self.closed and self.to_session)
    @rule(size=st.integers(1, 400))
    def client_sends(self, size: int) -> None:
        data = bytes(self.to_session[:size])
        del self.to_session[:size]
        self.event(wire.ClientData(data))

    @precondition(lambda self: not self.closed and not self.to_session)
    @rule(
        junk=st.sampled_from((b"GET /r/0 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x00", b"GET / HTTP/2.0\r\n\r\n")),
        odd=st.integers(0, 40),
    )
    def client_breaks_the_protocol(self, junk: bytes, odd: int) -> None:
        if odd == SELDOM:
            self.event(wire.ClientData(junk))

    # --- the decision service and people ------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed and self.asked is not None and self.waiting is None)
    @rule(answer=st.sampled_from(("grant", "grant", "grant", "mask", "deny", "hold", "hold")))
    def decide(self, answer: str) -> None:
        asked = self.asked
        assert asked is not None
        number = number_of(asked.actions[0])
        if answer == "hold" and asked.execution and asked.redeem is None:
            if not asked.whole:
                self.asked = None
                self.event(wire.Decided(asked.exchange, denied(code=wire.NEEDS_WHOLE)))
                return
            self.waiting = held(f"a-{next(self.counter)}")
            if asked.detached:
                waiting, self.asked, self.waiting = self.waiting, None, None
                self.refused.add(number)
                self.event(wire.Decided(asked.exchange, waiting, final=True))
                return
            self.event(wire.Decided(asked.exchange, self.waiting))
            return
        self.asked = None
        if answer == "deny":
            self.refused.add(number)
            self.event(wire.Decided(asked.exchange, denied()))
            return
        masked = answer == "mask" and asked.execution
        given = grant(*((MASK,) if masked else ()), execution_id=f"e-{next(self.counter)}")
        if asked.execution:
            self.issued.append(Issued(given, number, asked.session, masked))
            self.intents.add(given.execution_id)
        self.event(wire.Decided(asked.exchange, given))

    @precondition(lambda self: not self.closed and self.waiting is not None)
    @rule(agree=st.booleans())
    def resolve(self, agree: bool) -> None:
        asked, waiting = self.asked, self.waiting
        assert asked is not None
        assert waiting is not None
        self.asked = self.waiting = None
        if agree:
            self.approved = asked
            self.event(wire.Approved(asked.exchange, waiting.approval_id))
            return
        self.refused.add(number_of(asked.actions[0]))
        self.event(wire.Decided(asked.exchange, denied("the owners say no")))

    @running
    @rule(back=st.integers(1, 4), approves=st.booleans())
    def late_answer(self, back: int, approves: bool) -> None:
        """An answer to a question that nobody waits for any more."""
        current = [each.exchange for each in (self.asked, self.looking) if each is not None]
        exchange = (current[0] if current else self.session._connection.exchange + 1) - back
        late = wire.Approved(exchange, "a-0") if approves else wire.Decided(exchange, grant(execution_id="late"))
        self.event(late)

    # --- look-ups -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed and self.looking is not None)
    @rule(well=st.sampled_from((True, True, True, True, False)), reads=st.booleans(), kept=st.booleans())
    def look_up(self, well: bool, reads: bool, kept: bool) -> None:
        looking, self.looking = self.looking, None
        assert looking is not None
        match looking.question:
            case WhoIs(credential, _) if well:
                token = credential.secret  # type: ignore[union-attr]
                answer: object = Known(self.name_of(token), (), BODY if reads else frozenset())
            case WhoIs():
                answer = denied(code="authentication-failed")
            case Connect(session, wanted, _) if well:
                assert self.target is None, "the connection before was not given up"
                found = [each for each in self.pool if each.session == session and kept]
                self.target = found[0] if found else Target(session)
                self.pool = [each for each in self.pool if each is not self.target]
                fields = type(wanted.fields)((*wanted.fields.items, ("X-Key", "ours")))
                answer = Connected(Outgoing(wanted.method, wanted.target, wanted.host, fields))
            case Connect():
                answer = Unreachable("no route")
            case Release(reusable, _):
                if reusable:
                    target = self.target
                    assert target is not None
                    assert target.complete, "kept within a request"
                    assert target.answered, "kept before its answer"
                    if not target.output and not target.closed:
                        self.pool.append(target)
                self.target, answer = None, None
            case other:
                raise AssertionError(other)
        self.event(wire.LookedUp(looking.exchange, answer))

    # --- the target ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed and self.target is not None and not self.target.answered)
    @rule(
        kind=st.sampled_from(("length", "length", "chunked", "interim", "closing", "none", "stray")),
        early=st.booleans(),
    )
    def target_answers(self, kind: str, early: bool) -> None:
        target = self.target
        assert target is not None
        if target.complete or early:
            target.answer(kind)

    @precondition(lambda self: not self.closed and self.target is not None and self.target.output)
    @rule(size=st.integers(1, 200))
    def target_sends(self, size: int) -> None:
        target = self.target
        assert target is not None
        data = bytes(target.output[:size])
        del target.output[:size]
        self.event(wire.UpstreamData(data))

    @precondition(lambda self: not self.closed and self.target is not None)
    @rule(odd=st.integers(0, 9))
    def target_closes(self, odd: int) -> None:
        """When it has said so, or at any moment."""
        target = self.target
        assert target is not None
        if (target.closed and not target.output) or odd == SELDOM:
            target.closed, target.answered = True, True
            target.output.clear()
            self.event(wire.UpstreamClosed())

    # --- everything else ----------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed and self.timers)
    @rule(data=st.data(), odd=st.integers(0, 25))
    def timer(self, data: st.DataObject, odd: int) -> None:
        if odd == SELDOM:
            name = data.draw(st.sampled_from(sorted(self.timers)))
            self.timers.discard(name)
            self.event(wire.TimerFired(name))

    @running
    @rule(token=st.sampled_from(TOKENS), at_once=st.booleans(), odd=st.integers(0, 12))
    def revoke(self, token: str, at_once: bool, odd: int) -> None:
        """The session of one of the identities ends; its next request opens another."""
        if odd == SELDOM:
            name = self.name_of(token)
            self.sessions[token] += 1
            self.event(wire.Revoked("revoked", at_once, name))
            if at_once and not self.closed:
                assert self.session.serving != name, "a revoked session is still served"

    @running
    @rule(token=st.sampled_from(TOKENS))
    def policy_changes(self, token: str) -> None:
        """The next request opens another session; what was decided stays decided."""
        self.sessions[token] += 1
        self.event(wire.PolicyChanged("r-2"))

    @running
    @rule(how=st.integers(0, 60))
    def leave(self, how: int) -> None:
        """Seldom, because nothing follows."""
        match 60 - how:
            case 0:
                self.left = True
                self.event(wire.ClientClosed())
            case 1:
                self.record_failed = True
                self.event(wire.RecordFailed("disk full"))
            case 2:
                self.event(wire.Revoked("the proxy is stopping", at_once=False))
            case 3:
                self.records_fail = True

    @precondition(lambda self: bool(self.closed))
    @rule()
    def nothing_after_the_end(self) -> None:
        exchange = self.session._connection.exchange
        for event in (
            wire.ClientData(b"GET /r/1 HTTP/1.1\r\n\r\n"),
            wire.UpstreamData(b"HTTP/1.1 200 OK\r\n\r\n"),
            wire.Decided(exchange, grant(execution_id="too late")),
            wire.Approved(exchange, "a-1"),
            wire.LookedUp(exchange, Connected(Outgoing("GET", "/", HOST, None))),  # type: ignore[arg-type]
            wire.TimerFired("stalled"),
        ):
            assert not self.session.receive(event)

    @running
    @rule(answer=st.sampled_from(("grant", "grant", "deny")))
    def drain(self, answer: str) -> None:
        """Everybody answers; then nothing may be stuck, and every request has its answer."""
        for _ in range(10_000):
            if self.closed:
                return
            if not self.advances(answer, "length", 10_000):
                break
        else:
            raise AssertionError("it does not come to rest")
        self.nothing_is_stuck()

    @running
    @rule(
        steps=st.integers(1, 12),
        answer=st.sampled_from(("grant", "grant", "grant", "mask", "hold", "deny")),
        kind=st.sampled_from((*KINDS, *KINDS, "stale", "early", "early", "stalled")),
        size=st.integers(20, 400),
    )
    def advance(self, steps: int, answer: str, kind: str, size: int) -> None:
        """What is due next, so many times; of another request where nothing is."""
        if not self.busy():
            self.client_says(
                TOKENS[steps % 2], METHODS[size % len(METHODS)], BODIES[steps % len(BODIES)], "length", "/r/{}"
            )
        while steps and not self.closed and self.advances(answer, kind, size):
            steps -= 1

    def busy(self) -> bool:
        return bool(self.to_session or self.asked or self.looking or self.target)

    def advances(self, answer: str, kind: str, size: int) -> bool:
        target = self.target
        if self.waiting is not None:
            self.resolve(agree=answer != "deny")
        elif self.asked is not None:
            self.decide(answer)
        elif self.looking is not None:
            self.look_up(well=True, reads=size % 2 == 0, kept=True)
        elif target is not None and target.output:
            self.target_sends(size)
        elif kind == "stalled" and "stalled" in self.timers:
            self.timers.discard("stalled")
            self.event(wire.TimerFired("stalled"))
        elif kind == "early" and target is not None and not target.answered:
            target.answer("length")
        elif target is not None and not target.answered and target.complete:
            self.target_closes(SELDOM) if kind == "stale" else self.target_answers(kind, early=False)
        elif target is not None and target.closed and not self.session._connection.upstream_closed:
            self.target_closes(0)
        elif self.to_session:
            self.client_sends(size)
        else:
            return False
        return True

    def nothing_is_stuck(self) -> None:
        assert not self.session.serving
        assert not self.session.backlog
        assert self.target is None
        assert [number for number, _ in self.answers] == [each.number for each in self.sent]
        assert not self.intents_without_record()

    def intents_without_record(self) -> set[str]:
        """What was sent to the target, of which no response is on record."""
        return {one.grant.execution_id for one in self.issued if self.reached[one.number]} - set(self.recorded)

    # --- effects ------------------------------------------------------------------------------------------------------

    def event(self, event: wire.Event) -> None:
        failed = False
        for effect in self.session.receive(event):
            if failed and not isinstance(effect, wire.Close):
                continue  # as the driver does
            if self.records_fail and isinstance(effect, wire.Record) and not self.record_failed:
                failed = self.record_failed = True
                continue
            self.effect(effect)
        if failed and not self.closed:
            self.event(wire.RecordFailed("disk full"))
            assert self.closed

    def effect(self, effect: wire.Effect) -> None:
        assert not self.closed, f"after the end: {effect!r}"
        match effect:
            case wire.SendUpstream(data, by):
                self.sent_upstream(data, by)
            case wire.SendClient(data):
                self.sent_client(data)
            case wire.Ask():
                self.asks(effect)
            case wire.CancelAsk(exchange, _):
                pending = [each.exchange for each in (self.asked, self.looking) if each is not None]
                # What was to be asked behind a record that failed never was.
                assert pending == [exchange] or (self.record_failed and not pending)
                self.asked = self.waiting = self.looking = None
            case wire.LookUp():
                assert self.asked is None, "two questions at once"
                assert self.looking is None, "two questions at once"
                self.looking = effect
            case wire.SetTimer(name, seconds):
                (self.timers.discard if seconds is None else self.timers.add)(name)
            case wire.Record(event, session):
                if event.type is EventType.RESPONSE:
                    self.recorded[event.facts["execution_id"]] += 1
                    issued = self.issued_by(event.facts["execution_id"])
                    assert session == issued.session, "on the chain of another session"
            case wire.Close(reason):
                self.closed = reason
            case other:
                raise AssertionError(other)

    def asks(self, asked: wire.Ask) -> None:
        assert self.asked is None, "two questions at once"
        assert self.looking is None, "two questions at once"
        sent = self.sent[number_of(asked.actions[0]) - 1]
        assert asked.session.startswith(f"s-{sent.token}-"), "asked for somebody else"
        assert asked.session == self.session.serving
        if asked.redeem is not None:
            approved, self.approved = self.approved, None
            assert approved is not None
            assert (approved.exchange, approved.actions) == (asked.exchange, asked.actions)
        self.asked = asked

    def issued_by(self, execution_id: str) -> Issued:
        return next(issued for issued in self.issued if issued.grant.execution_id == execution_id)

    def sent_upstream(self, data: bytes, by: wire.By) -> None:
        assert not self.left, "for a client that left"
        assert not self.record_failed, "without a record"
        target = self.target
        assert target is not None, "to nobody"
        given = by if isinstance(by, Grant) else by.grant if isinstance(by, wire.Continuation) else None
        issued = next((issued for issued in self.issued if issued.grant is given), None)
        assert issued is not None, "by a grant that this test never gave"
        assert target.session == issued.session, "on a connection of another session"
        assert issued.session == self.session.serving
        begins = isinstance(by, Grant)
        if begins:
            assert target.complete
        else:
            assert self.granted is issued, "the continuation of something else"
        was_complete = target.complete
        if not target.closed:
            target.parser.feed_data(data)
        if begins:
            self.granted = issued
            if not target.closed:
                assert target.number == issued.number
            self.begins(issued)
        elif not target.closed:
            assert not was_complete, "more than a whole request"
        if target.complete and not target.closed:
            self.arrived(target)

    def begins(self, issued: Issued) -> None:
        sent = self.sent[issued.number - 1]
        self.reached[issued.number] += 1
        most = 2 if sent.method in SAFE else 1
        assert self.reached[issued.number] <= most, "it was sent again"
        assert issued.number not in self.refused, "it was refused"
        assert issued.number >= self.newest, "out of order"
        self.newest = issued.number

    def arrived(self, target: Target) -> None:
        """The target has read a whole request: it is what the client sent."""
        sent = self.sent[target.number - 1]
        assert target.method == sent.method
        assert (target.body or None) == sent.body or orjson.loads(target.body) == orjson.loads(sent.body or b"")

    def sent_client(self, data: bytes) -> None:
        assert not self.left, "to a client that left"
        self.from_session.feed(data)
        while True:
            if not self.expecting:
                number = len(self.answers) + 1
                if not self.from_session.waiting:
                    return
                self.from_session.expect(self.method_of(number))
                self.expecting = True
            part = self.from_session.next()
            match part:
                case None:
                    return
                case ResponseHead() as head if head.interim:
                    pass
                case ResponseHead() as head:
                    self.reading, self.content = head, b""
                case BodyData(content):
                    self.content += content
                    self.belongs()
                case _:
                    self.answers.append((len(self.answers) + 1, self.content))
                    self.expecting = False

    def method_of(self, number: int) -> str:
        """What is answered; a head that did not arrive in full has no method that the session could know of."""
        if number <= len(self.sent) and self.said - len(self.to_session) >= self.sent[number - 1].head_end:
            return self.sent[number - 1].method
        return "GET"

    def belongs(self) -> None:
        """What is read of a response is of the request that is next in order, and masked where that is due."""
        number = len(self.answers) + 1
        assert self.reading is not None
        if self.reading.status != 200:
            return
        whole = {orjson.dumps({"answer": number, "ssn": ssn}) for ssn in (f"SSN-{number}", "hidden")}
        assert any(each.startswith(self.content) for each in whole), "the answer to something else"
        masked = [issued.masked for issued in self.issued if issued.number == number]
        assert masked, "an answer to what was never granted"
        assert not (masked[-1] and SSN in self.content), "a masked value in clear"

    @invariant()
    def the_end_leaves_nothing_open(self) -> None:
        if self.closed:
            assert self.asked is None
            assert self.looking is None
            if not self.record_failed:
                assert not self.intents_without_record()

    def teardown(self) -> None:
        # After a failure it would only hide what failed.
        if hasattr(self, "session") and not self.closed and sys.exc_info()[0] is None:
            self.drain("grant")


def number_of(action: Action) -> int:
    return int(action.properties["segments"][-1])


@pytest.mark.untraced
def test_what_reaches_the_target_is_what_was_granted() -> None:
    run_state_machine_as_test(
        SessionMachine,
        settings=settings(
            max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
