"""The promise itself: the upstream gets exactly what was granted, in order, plus a closed list of own frames.

A client sends any frames, cut anywhere; decisions, look-ups and the server's answers come at any later moment. The
server is `model_server`; its tables are those of a real one, whose catalog is read once.
"""

import itertools
import re
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
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
from pep.core.model import (
    Action,
    Deny,
    FieldMask,
    Grant,
    Held,
    LimitAffected,
    LimitRows,
    MaskFields,
    NullMask,
    Obligation,
)
from pep.core.records import EventType
from pep.postgres import messages as m
from pep.postgres.catalog import Catalog
from pep.postgres.catalog_sql import FINGERPRINT_QUERY, SESSION_QUERY, USER_QUERY
from pep.postgres.codec import BackendCodec, FrontendCodec, Partial, Run
from pep.postgres.conversation import REFUSAL_NAME
from pep.postgres.frames import BackendTag, Frame, FrontendTag
from pep.postgres.resolution import BuildCatalog, CatalogUnavailable, FreshCatalog
from pep.postgres.resolver import FACTS_NAME
from pep.postgres.session import PostgresSession
from pep.postgres.stepping import Settings
from tests.fix_session import TEMPORARY, Setting
from tests.pep.postgres.model_server import (
    Executed,
    ModelServer,
    Statement,
    declare,
    prepare,
    script,
    select,
)
from tests.playbook import denied, grant, held

HOUSEKEEPING = {FrontendTag.SYNC, FrontendTag.FLUSH, FrontendTag.CLOSE, FrontendTag.TERMINATE}
CONTINUED = {FrontendTag.EXECUTE, FrontendTag.COPY_DATA, FrontendTag.COPY_DONE, FrontendTag.COPY_FAIL}
LOOK_UPS = {SESSION_QUERY, USER_QUERY, FINGERPRINT_QUERY}
MASKED = ("public.customers", "other.customers")
LIMIT = 2
TRANSACTION = ("begin", "commit", "rollback", "rollback_to")
SECRET = b"SSN-"


CUSTOMERS = select("customers", "id", "name", "ssn")
SSNS = select("customers", "id", "ssn")
ORDERS = select("orders", "id", "status")
INSERT = Statement("insert into orders values (9, 'x')", "insert", "orders")
FAILING = Statement("select 1/0", "fail")
FEW = Statement("delete from orders where id = 1", "delete", "orders", count=1)
MANY = Statement("delete from orders", "delete", "orders", count=3)
FEW_SHOWN = Statement("delete from orders where id = 1 returning id", "delete", "orders", ("id",), count=1)
MANY_SHOWN = Statement("delete from orders returning id", "delete", "orders", ("id",), count=3)
SCROLLED = declare("c", SSNS, scroll=True)
PATH = Statement("set search_path to other", "set_path", name="other")
TEMP = Statement(TEMPORARY, "create_temp")

SINGLE = (
    CUSTOMERS,
    SSNS,
    ORDERS,
    select("orders", "status"),
    select("customers", "count(*)"),
    select("other.customers", "ssn"),
    INSERT,
    FEW,
    MANY,
    FEW_SHOWN,
    MANY_SHOWN,
    FAILING,
    Statement("begin", "begin"),
    Statement("commit", "commit"),
    Statement("rollback", "rollback"),
    Statement("savepoint a", "savepoint", name="a"),
    Statement("rollback to a", "rollback_to", name="a"),
    Statement("release a", "release", name="a"),
    PATH,
    Statement("set search_path to public", "set_path", name="public"),
    TEMP,
    prepare("p", ORDERS),
    prepare("p", SSNS),
    Statement("execute p", "execute", name="p"),
    Statement("execute q", "execute", name="q"),
    Statement("deallocate p", "deallocate", name="p"),
    Statement("deallocate all", "deallocate", name=None),
    SCROLLED,
    declare("c", ORDERS, scroll=True),
    declare("c", ORDERS),
    Statement("fetch all from c", "fetch", name="c"),
    Statement("fetch 1 from c", "fetch", name="c", count=1),
    Statement("move absolute 0 in c", "move", name="c"),
    Statement("close c", "close", name="c"),
    Statement("copy orders from stdin", "copy_in", "orders"),
    Statement("copy orders to stdout", "copy_out", "orders"),
)
SEVERAL = (
    (Statement("begin", "begin"), INSERT),
    (INSERT, ORDERS),
    (FEW, MANY),
    (TEMP, SSNS),
    (PATH, SSNS),
    (FAILING, INSERT),
    (SCROLLED, Statement("fetch all from c", "fetch", name="c")),
    (CUSTOMERS, Statement("commit", "commit"), ORDERS),
    (Statement("copy orders from stdin", "copy_in", "orders"), INSERT),
)
SCRIPT = script(*((statement,) for statement in SINGLE), *SEVERAL) | {"": ()}
TEXTS = tuple(SCRIPT)
BROKEN = "selec 1"
NAMES = ("", "p", "c")
SETTLE = st.sampled_from((True, True, False))

Move = tuple[m.FrontendMessage, ...]


def _sql(*texts: str) -> Move:
    return tuple(map(m.Query, texts))


def _bound(text: str, *then: m.FrontendMessage) -> Move:
    again = m.Close(m.Kind.PORTAL, "f"), m.Close(m.Kind.STATEMENT, "f")
    return *again, m.Parse("f", text, ()), m.Bind("f", "f", (), (), ()), *then


def _run(text: str) -> Move:
    return m.Parse("", text, ()), m.Bind("", "", (), (), ()), m.Execute("", 0)


# Who plays with names makes them mean something else, and uses what was made when they meant what they did.
ROLLED = declare("c", ORDERS, scroll=True)
FETCHED, EXECUTED, ADMINISTERED = "fetch all from c", "execute p", "execute q"
MEANINGS: tuple[Move, ...] = (
    _sql("close c", SCROLLED.text),
    (*_run("close c"), *_run(SCROLLED.text)),
    _sql("deallocate p", prepare("p", SSNS).text),
    (*_run("deallocate p"), *_run(prepare("p", SSNS).text)),
    (m.Close(m.Kind.STATEMENT, "p"), m.Parse("p", SSNS.text, ())),
    (m.Parse("p", ORDERS.text, ()),),
    *(
        (m.Close(m.Kind.STATEMENT, "q"), m.Parse("q", text, ()), m.Query(ADMINISTERED))
        for text in ("deallocate p", prepare("p", SSNS).text)
    ),
    (m.Close(m.Kind.STATEMENT, "q"), m.Parse("q", FETCHED, ())),
    (m.Close(m.Kind.PORTAL, "c"), m.Bind("c", "p", (), (), ())),
)
USES: tuple[Move, ...] = (
    *(_bound(text) for text in (FETCHED, EXECUTED, ADMINISTERED)),
    _bound(FETCHED, m.Describe(m.Kind.PORTAL, "f")),
    *((m.Execute(portal, 0),) for portal in ("c", "f")),
    *(_sql(text) for text in (FETCHED, EXECUTED, "move absolute 0 in c")),
    (m.Bind("", "p", (), (), ()), m.Execute("", 0)),
)
MOVES = st.sampled_from(USES) | st.sampled_from(MEANINGS)

PLAYING = st.sampled_from(("waits", "groups", "pipelines"))

COPYING = {text for text in SCRIPT if "from stdin" in text}


@dataclass(frozen=True)
class Issued:
    """A grant that this test gave, and what for."""

    grant: Grant
    actions: tuple[Action, ...]

    @property
    def texts(self) -> set[str]:
        return {action.statement.text for action in self.actions}

    @property
    def datasets(self) -> set[str]:
        return {relation["dataset"] for action in self.actions for relation in action.properties["relations"]}


class SessionMachine(RuleBasedStateMachine):
    """One connection. Frames sent upstream are carried out by the server at once, its answers come later."""

    setting: Setting

    @initialize(mode=st.sampled_from(("masked", "masked", "any", "any", "limited", "affected", "affected")))
    def start(self, mode: str) -> None:
        self.mode = mode
        self.session = PostgresSession(Settings("shop", 180000))
        self.server = ModelServer(self.setting.world(SCRIPT))
        self.to_session = bytearray()
        self.backend = BackendCodec()
        self.frontend = FrontendCodec()
        self.asked: wire.Ask | None = None
        self.waiting: Held | None = None
        self.looking: wire.LookUp | None = None
        self.timers: set[str] = set()
        self.issued: list[Issued] = []
        self.denied: list[Action] = []
        self.numbers = itertools.count(1)
        self.from_client: deque[bytes] = deque()
        self.executions: set[str] = set()
        self.recorded: Counter[str] = Counter()
        self.ended_transactions = self.told_of_transactions = 0
        self.reads_of_result = 0
        self.readies = 0
        self.owed_readies = 0
        self.group_open = False
        self.copy_outstanding = False
        self.exact = True
        self.last_ready = m.TransactionStatus.IDLE
        self.closed = ""
        self.failed = False

    # --- the client ---------------------------------------------------------------------------------------------------

    def client(self, *messages: m.FrontendMessage) -> None:
        for message in messages:
            encoded = message.encode()
            self.from_client.append(encoded)
            self.to_session += encoded

    def settled(self, settle: bool) -> None:
        """Some clients wait for their answers."""
        if settle:
            self.drain("grant")

    running = precondition(lambda self: not self.closed)
    not_copying = precondition(lambda self: not self.closed and not self.copy_outstanding)

    @not_copying
    @rule(text=st.sampled_from((*TEXTS, BROKEN)), settle=SETTLE)
    def query(self, text: str, settle: bool) -> None:
        if self.group_open:
            # The server skips it if anything before it in the group fails.
            self.exact = False
        self.client(m.Query(text))
        self.owed_readies += 1
        self.copy_outstanding = text in COPYING
        self.settled(settle)

    @not_copying
    @rule(name=st.sampled_from(NAMES), text=st.sampled_from((*TEXTS, BROKEN)))
    def parse(self, name: str, text: str) -> None:
        if text in COPYING:
            self.exact = False
        self.group_open = True
        self.client(m.Parse(name, text, ()))

    @not_copying
    @rule(portal=st.sampled_from(NAMES), name=st.sampled_from((*NAMES, "checkrein_facts")))
    def bind(self, portal: str, name: str) -> None:
        self.group_open = True
        self.client(m.Bind(portal, name, (), (), ()))

    @not_copying
    @rule(kind=st.sampled_from(m.Kind), name=st.sampled_from(NAMES))
    def describe(self, kind: m.Kind, name: str) -> None:
        self.group_open = True
        self.client(m.Describe(kind, name))

    @not_copying
    @rule(name=st.sampled_from(NAMES), rows=st.sampled_from((0, 0, 1)), settle=SETTLE)
    def execute(self, name: str, rows: int, settle: bool) -> None:
        self.group_open = True
        self.client(m.Execute(name, rows))
        self.settled(settle)

    @not_copying
    @rule(kind=st.sampled_from(m.Kind), name=st.sampled_from((*NAMES, REFUSAL_NAME)))
    def close(self, kind: m.Kind, name: str) -> None:
        self.group_open = True
        self.client(m.Close(kind, name))

    @not_copying
    @rule(
        text=st.sampled_from([statement.text for statement in SINGLE if statement.kind != "copy_in"]),
        name=st.sampled_from(NAMES),
        portal=st.sampled_from(NAMES),
        described=st.sampled_from(("", "statement", "portal")),
        end=st.booleans(),
        settle=SETTLE,
    )
    def run_prepared(self, text: str, name: str, portal: str, described: str, end: bool, settle: bool) -> None:
        """As drivers do it."""
        self.group_open = True
        messages: list[m.FrontendMessage] = [m.Parse(name, text, ())]
        if described == "statement":
            messages.append(m.Describe(m.Kind.STATEMENT, name))
        messages.append(m.Bind(portal, name, (), (), ()))
        if described == "portal":
            messages.append(m.Describe(m.Kind.PORTAL, portal))
        self.client(*messages, m.Execute(portal, 0))
        if end:
            self.sync()
        self.settled(settle)

    @not_copying
    @rule(moves=st.lists(MOVES, min_size=2, max_size=8), how=PLAYING)
    def play_with_names(self, moves: list[Move], how: str) -> None:
        """In a transaction. The client waits for each answer, or sends all but a Query in one group, or all at once."""
        if self.group_open:
            self.sync()
        for text in (
            "rollback",
            "begin",
            "deallocate p",
            "rollback",
            "begin",
            prepare("p", ORDERS).text,
            SCROLLED.text,
        ):
            if not self.closed:
                self.query(text, settle=True)
        bound = False
        for message in itertools.chain.from_iterable(moves):
            if self.closed:
                return
            bound = bound or (isinstance(message, m.Bind) and message.portal == "f")
            if message == m.Execute("f", 0) and not bound:
                continue  # it would end the transaction, and the play
            if isinstance(message, m.Query):
                if self.group_open:
                    self.sync()
                self.query(message.text, settle=how != "pipelines")
                continue
            self.group_open = True
            self.client(message)
            if how != "groups":
                self.sync()
            if how == "waits":
                self.drain("grant")
        if not self.closed:
            self.sync()
            self.drain("grant")

    @not_copying
    @rule()
    def sync(self) -> None:
        self.client(m.Sync())
        self.group_open = False
        self.owed_readies += 1

    @running
    @rule()
    def flush(self) -> None:
        self.client(m.Flush())

    @running
    @rule(frame=st.sampled_from((m.CopyData(b"1\tx\n"), m.CopyDone(), m.CopyFail("no"))))
    def copy(self, frame: m.CopyData | m.CopyDone | m.CopyFail) -> None:
        self.client(frame)

    @running
    @rule(size=st.sampled_from((10_000, 1000, 40, 7, 1)))
    def client_sends(self, size: int) -> None:
        data, self.to_session = bytes(self.to_session[:size]), self.to_session[size:]
        if data:
            self.event(wire.ClientData(data))

    # --- the rest of the world ----------------------------------------------------------------------------------------

    @running
    @rule(size=st.sampled_from((10_000, 1000, 30, 6)))
    def upstream_sends(self, size: int) -> None:
        data = bytes(self.server.output[:size])
        del self.server.output[:size]
        if data:
            self.event(wire.UpstreamData(data))

    @precondition(lambda self: not self.closed and self.asked is not None and self.waiting is None)
    @rule(answer=st.sampled_from(("grant", "grant", "grant", "grant", "deny", "hold")))
    def decide(self, answer: str) -> None:
        asked = self.asked
        assert asked is not None
        if answer == "hold" and asked.execution and asked.redeem is None:
            self.waiting = held(f"a-{next(self.numbers)}")
            self.event(wire.Decided(asked.exchange, self.waiting))
            return
        self.asked = None
        self.event(wire.Decided(asked.exchange, self.decision(asked, grant_it=answer != "deny")))

    @precondition(lambda self: not self.closed and self.waiting is not None)
    @rule(approved=st.booleans())
    def resolve(self, approved: bool) -> None:
        asked, waiting = self.asked, self.waiting
        assert asked is not None
        assert waiting is not None
        self.asked = self.waiting = None
        if approved:
            self.event(wire.Approved(asked.exchange, waiting.approval_id))
        else:
            self.denied += asked.actions
            self.event(wire.Decided(asked.exchange, denied("the owners say no")))

    def decision(self, asked: wire.Ask, *, grant_it: bool) -> Grant | Deny:
        opaque = any(action.properties["opaque"] for action in asked.actions)
        if not grant_it or (opaque and self.mode != "any"):
            self.denied += asked.actions
            return denied()
        number = next(self.numbers)
        given = grant(execution_id=f"e-{number}", decision_id=f"d-{number}")
        obligations = tuple(self.obligations(action) if asked.execution else () for action in asked.actions)
        ids = given.decision_ids * len(asked.actions)
        given = Grant(given.seal, given.execution_id, ids, given.policy_revision, obligations)
        self.issued.append(Issued(given, asked.actions))
        return given

    def obligations(self, action: Action) -> tuple[Obligation, ...]:
        if self.mode == "limited":
            return (LimitRows(LIMIT),)
        if self.mode == "affected":
            return (LimitAffected(LIMIT),)
        touched = {relation["dataset"] for relation in action.properties["relations"]}
        if self.mode == "masked" and touched & set(MASKED):
            return (MaskFields(tuple(FieldMask(dataset, "ssn", NullMask()) for dataset in MASKED)),)
        return ()

    @precondition(lambda self: not self.closed and self.looking is not None)
    @rule(available=st.sampled_from((True, True, True, True, True, False)))
    def look_up(self, available: bool) -> None:
        looking, self.looking = self.looking, None
        assert looking is not None
        match looking.question:
            case BuildCatalog(rows, builtins, previous):
                answer: object = Catalog.build(rows, builtins, previous)
            case FreshCatalog():
                answer = self.setting.shared if available else CatalogUnavailable()
            case other:
                raise AssertionError(other)
        self.event(wire.LookedUp(looking.exchange, answer))

    @running
    @rule(back=st.integers(1, 5))
    def late_answer(self, back: int) -> None:
        """An answer to a question that nobody waits for any more."""
        current = self.session._exchanges.current
        exchange = current - back
        if self.asked is None or self.asked.exchange != exchange:
            self.event(wire.Decided(exchange, grant(execution_id="late")))

    @precondition(lambda self: not self.closed and self.timers)
    @rule(data=st.data())
    def timer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.timers)))
        self.timers.discard(name)
        self.event(wire.TimerFired(name))

    @running
    @rule()
    def cancel(self) -> None:
        self.event(wire.CancelRequested())

    @running
    @rule(how=st.integers(0, 99))
    def leave(self, how: int) -> None:
        """Seldom, because nothing follows."""
        match 99 - how:
            case 0:
                self.event(wire.ClientClosed())
            case 1:
                self.event(wire.Revoked("killed"))
            case 2:
                self.event(wire.RecordFailed("disk full"))
            case 3:
                self.event(wire.UpstreamClosed())
            case 4:
                self.client(m.Terminate())

    @precondition(lambda self: bool(self.closed))
    @rule()
    def nothing_after_the_end(self) -> None:
        exchange = self.session._exchanges.current
        for event in (
            wire.ClientData(m.Query(INSERT.text).encode()),
            wire.UpstreamData(m.ReadyForQuery(m.TransactionStatus.IDLE).encode()),
            wire.Decided(exchange, grant(execution_id="too late")),
            wire.Approved(exchange, "a-1"),
            wire.TimerFired("held"),
        ):
            assert not self.session.receive(event)

    @running
    @rule(answer=st.sampled_from(("grant", "grant", "deny")))
    def drain(self, answer: str) -> None:
        """Everybody answers; then nothing may be stuck."""
        while not self.closed:
            if self.to_session:
                self.client_sends(10_000)
            elif self.asked is not None and self.waiting is not None:
                self.resolve(approved=answer == "grant")
            elif self.asked is not None:
                self.decide(answer)
            elif self.looking is not None:
                self.look_up(available=True)
            elif self.server.output:
                self.upstream_sends(10_000)
            else:
                break
        if not self.closed:
            self.nothing_is_stuck()

    def nothing_is_stuck(self) -> None:
        session = self.session
        assert session._step is None, "a step waits although everything has been answered"
        assert session.backlog == 0
        if self.copy_outstanding and session._talk.copying is None:
            self.copy_outstanding = False
        if self.exact and not self.copy_outstanding:
            assert self.readies == self.owed_readies
        if not session._talk.replies and not self.group_open:
            assert self.last_ready == self.server.status
            missing = self.executions - set(self.recorded)
            assert not missing, f"no response on record: {missing}"

    # --- effects ------------------------------------------------------------------------------------------------------

    def event(self, event: wire.Event) -> None:
        for effect in self.session.receive(event):
            self.effect(effect)

    def effect(self, effect: wire.Effect) -> None:
        assert not self.closed, f"after the end: {effect!r}"
        match effect:
            case wire.SendUpstream(data, by):
                self.sent_upstream(data, by)
            case wire.SendClient(data):
                self.sent_client(data)
            case wire.Ask():
                assert self.asked is None
                assert self.looking is None
                self.asked, self.waiting = effect, None
            case wire.CancelAsk(exchange, _):
                assert self.asked is not None
                assert self.asked.exchange == exchange
                self.asked = self.waiting = None
            case wire.LookUp():
                self.looking = effect
            case wire.SetTimer(name, seconds):
                (self.timers.discard if seconds is None else self.timers.add)(name)
            case wire.Record(event):
                if event.type is EventType.RESPONSE:
                    self.recorded[event.facts["execution_id"]] += 1
            case wire.Close(reason):
                self.closed = reason
                assert not reason.startswith("upstream:"), reason
            case _:
                pass

    def sent_upstream(self, data: bytes, by: wire.By) -> None:
        (frame,) = self.frontend.feed(data)
        assert isinstance(frame, Frame)
        tag = FrontendTag(frame.tag)
        match by:
            case wire.Own(why):
                self.own_frame(tag, frame, why)
            case wire.Housekeeping():
                assert tag in HOUSEKEEPING
                if tag is not FrontendTag.FLUSH:
                    self.next_of_client(data)
            case wire.Continuation(granted):
                assert tag in CONTINUED
                self.next_of_client(data)
                self.granted(granted)
            case Grant():
                self.next_of_client(data)
                self.covered(tag, frame, self.granted(by))
        before = len(self.server.executed)
        self.server.receive(data)
        self.executed_covered(by, self.server.executed[before:])

    def own_frame(self, tag: FrontendTag, frame: Frame, why: str) -> None:
        message = m.decode_frontend(frame)
        match (why, message):
            case ("refusal", m.Parse(name, text)):
                assert name == REFUSAL_NAME
                assert text.startswith("checkrein refuses: ")
            case ("refusal", m.Sync()) | ("look-up", m.Sync()) | ("refusal", m.CopyFail()):
                pass
            case ("own transaction", m.Query(text)):
                assert self.mode == "affected"
                assert text in ("begin", "commit", "rollback")
            case ("look-up", m.Parse(name, text)):
                assert name == FACTS_NAME
                assert text in LOOK_UPS
            case ("describe", m.Parse(name, text)):
                # Under a mask, of a statement that was granted, before it is executed.
                assert name == FACTS_NAME
                assert text in {text for issued in self.issued for text in issued.texts}
            case ("look-up", m.Bind(portal, name)):
                assert (portal, name) == (FACTS_NAME, FACTS_NAME)
            case ("look-up", m.Execute(name) | m.Close(_, name)):
                assert name == FACTS_NAME
            case ("describe", m.Describe(kind, name)):
                if name != FACTS_NAME:
                    # The client's own, of what SQL made: no frame was ever granted for it.
                    assert name in (("c",) if kind is m.Kind.PORTAL else ("p",))
                    self.next_of_client(frame.encode())
            case ("describe portal", m.Describe(kind, _)):
                assert kind is m.Kind.PORTAL
            case _:
                raise AssertionError(f"not on the closed list: {why} {message!r}")

    def next_of_client(self, data: bytes) -> None:
        """It is the client's, comes after everything of it that was forwarded before, and comes once."""
        while self.from_client:
            if self.from_client.popleft() == data:
                return
        raise AssertionError(f"the client did not send {data!r} here")

    def granted(self, given: Grant) -> Issued:
        found = next((issued for issued in self.issued if issued.grant is given), None)
        assert found is not None, "a grant that this test never gave"
        return found

    def covered(self, tag: FrontendTag, frame: Frame, issued: Issued) -> None:
        """The grant was given for this very statement, and for this kind of message."""
        names = {action.name for action in issued.actions}
        message = m.decode_frontend(frame)
        match message:
            case m.Query(text):
                assert names == {"query"}
                assert [s.text for s in SCRIPT[text]] == [a.statement.text for a in issued.actions if a.statement.text]
            case m.Parse(_, text):
                assert names == {"prepare"}
                assert issued.texts == {text}
            case m.Describe(m.Kind.STATEMENT, _):
                assert names == {"prepare"}
            case m.Bind() | m.Execute() | m.Describe():
                assert names == {"query"}
            case _:
                raise AssertionError(f"{tag!r} needs no grant")

    def executed_covered(self, by: wire.By, executed: list[Executed]) -> None:
        """Whatever the server carried out was granted, with every table that it really touched."""
        for done in executed:
            if by == wire.Own("own transaction"):
                assert done.statement.kind in TRANSACTION
                continue
            if isinstance(by, wire.Own):
                assert done.statement.kind in ("session", "user_catalog")
                continue
            self.ended_transactions += done.statement.kind in TRANSACTION
            assert isinstance(by, Grant | wire.Continuation)
            issued = self.granted(by if isinstance(by, Grant) else by.grant)
            assert {action.name for action in issued.actions} == {"query"}
            self.executions.add(issued.grant.execution_id)
            # What SQL prepared is asked about in the words of its PREPARE.
            assert any(text in (done.statement.text, f"prepare p as {done.statement.text}") for text in issued.texts)
            if not any(action.properties["opaque"] for action in issued.actions):
                assert done.touched <= issued.datasets, done

    def sent_client(self, data: bytes) -> None:
        if self.mode == "masked":
            assert SECRET not in data, "a masked value in clear"
        if self.mode == "affected":
            assert b"gone 3" not in data, "a row of what had too many"
        for item in self.backend.feed(data):
            if isinstance(item, Run | Partial):
                if item.tag == BackendTag.DATA_ROW:
                    self.reads_of_result += item.count if isinstance(item, Run) else int(item.last)
                    assert self.mode != "limited" or self.reads_of_result <= LIMIT
                continue
            self.reads_of_result = 0
            if item.tag == BackendTag.COMMAND_COMPLETE:
                self.told_of_transactions += item.payload in (b"BEGIN\0", b"COMMIT\0", b"ROLLBACK\0")
            if item.tag == BackendTag.READY_FOR_QUERY:
                self.readies += 1
                self.last_ready = m.ReadyForQuery.decode(item.payload).status
                # After an error nothing of a transaction can be committed, whoever refused.
                assert not (self.failed and self.last_ready is m.TransactionStatus.IN_TRANSACTION)
                self.failed = False
                assert not self.exact or self.readies <= self.owed_readies
            elif item.tag == BackendTag.ERROR_RESPONSE:
                self.failed = True
                fields = m.ErrorResponse.decode(item.payload).fields
                assert "checkrein refuses" not in fields["M"]
                assert re.fullmatch("[0-9A-Z]{5}", fields["C"])

    @invariant()
    def nothing_stays_that_changed_too_many_rows(self) -> None:
        if self.mode == "affected":
            assert all(count <= LIMIT for count in self.server.committed)
            assert self.told_of_transactions <= self.ended_transactions, "told of a transaction that is not its own"

    @invariant()
    def all_that_is_known_of_the_end(self) -> None:
        if self.closed:
            assert self.session._ended

    def teardown(self) -> None:
        # After a failure it would only hide what failed.
        if hasattr(self, "session") and not self.closed and sys.exc_info()[0] is None:
            self.drain("grant")


def run(setting: Setting, examples: int, steps: int, **more: object) -> None:
    machine: Callable[[], SessionMachine] = type("Machine", (SessionMachine,), {"setting": setting})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **more,  # type: ignore[arg-type]
        ),
    )


@pytest.mark.untraced
def test_no_play_with_names_shows_a_masked_value(session_setting: Setting) -> None:
    machine = type("Machine", (SessionMachine,), {"setting": session_setting})

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(MOVES, min_size=2, max_size=8), PLAYING)
    def play(moves: list[Move], how: str) -> None:
        player = machine()
        player.start("masked")
        player.play_with_names(moves, how)

    play()


@pytest.mark.untraced
def test_what_reaches_the_upstream_is_what_was_granted(session_setting: Setting) -> None:
    run(session_setting, examples=100, steps=50)
