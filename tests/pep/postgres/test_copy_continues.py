"""COPY while something changes: policies, the session's right to exist, the client's will to send more."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pep.core import wire
from pep.core.model import Action, Decision, LimitAffected, TimeLimit
from pep.core.records import EventType
from pep.core.sessions import SessionEnded
from pep.postgres import messages as m
from pep.postgres.session import LAST_COPY_SECONDS, PostgresSession
from tests.fix_postgres import PostgresServer
from tests.fix_session import Setting
from tests.pep.postgres.conversations import ERROR, client, drive, ready, refusal, sent, told, upstream
from tests.pep.postgres.wire import Wire, codes, errors, shape
from tests.playbook import Playbook, any_of, asks, decided, denied, grant, held, record
from tests.relay import Relay, allow, deny, relay, require_approval
from tests.stub_service import eventually

NAME = "copy_continues"
COPY_IN = "copy orders from stdin"
BEGUN = m.CopyInResponse(0, (0, 0))
DATA, DONE = m.CopyData(b"1\tx\n"), m.CopyDone()
CHANGED = wire.PolicyChanged("r-2")
RESPONSE = record(EventType.RESPONSE)
FAILED_BY_US = sent(m.CopyFail("checkrein refuses"), wire.Own("refusal"))


@pytest.fixture
def session(session_setting: Setting) -> PostgresSession:
    driven = drive(session_setting)
    driven.session.receive(wire.PolicyChanged("r-1"))
    return driven.session


def copying(session: PostgresSession, *duties: Any) -> Playbook:
    """A COPY from the client was granted, and the server waits for its data."""
    given = grant(*duties)
    return (
        Playbook(session)
        >> client(m.Query(COPY_IN))
        << asks(COPY_IN)
        >> decided(given)
        << sent(m.Query(COPY_IN), given)
        >> upstream(BEGUN)
        << told(BEGUN)
        >> client(DATA)
        << sent(DATA, wire.Continuation(given))
    )


def test_under_new_policies_the_rest_goes_on_under_their_grant(session: PostgresSession) -> None:
    again = grant(execution_id="e-2", revision="r-2")
    assert (
        copying(session)
        >> CHANGED
        >> client(DATA, DATA)
        << asks(COPY_IN, execution=True)
        >> decided(again)
        << RESPONSE
        << sent(DATA, wire.Continuation(again))
        << sent(DATA, wire.Continuation(again))
        >> client(DONE)
        << sent(DONE, wire.Continuation(again))
        >> upstream(m.CommandComplete("COPY 3"), ready())
        << told(m.CommandComplete("COPY 3"))
        << RESPONSE
        << told(ready())
    )


@pytest.mark.parametrize("message", [DATA, DONE])
def test_what_they_refuse_is_failed_and_what_the_client_still_sends_is_dropped(
    session: PostgresSession, message: m.FrontendMessage
) -> None:
    assert (
        copying(session)
        >> CHANGED
        >> client(message)
        << asks(COPY_IN)
        >> decided(denied("no more"))
        << FAILED_BY_US
        >> client(DATA, DONE)
        >> upstream(ERROR, ready())
        << refusal("42501", "no more")
        << RESPONSE
        << told(ready())
        >> client(DATA, DONE)
    )


def test_a_new_limit_of_changed_rows_fails_it_as_it_would_have_refused_it(session: PostgresSession) -> None:
    assert (
        copying(session)
        >> CHANGED
        >> client(DATA)
        << asks(COPY_IN)
        >> decided(grant(LimitAffected(3), execution_id="e-2", revision="r-2"))
        << RESPONSE
        << FAILED_BY_US
        >> upstream(ERROR, ready())
        << refusal("42501", "COPY brings rows before they are counted")
        << RESPONSE
        << told(ready())
    )


def test_a_new_limit_of_time_takes_the_place_of_the_old(session: PostgresSession) -> None:
    given = grant(TimeLimit(5.0))
    again = grant(TimeLimit(7.0), execution_id="e-2", revision="r-2")
    assert (
        Playbook(session)
        >> client(m.Query(COPY_IN))
        << asks(COPY_IN)
        >> decided(given)
        << wire.SetTimer("limit:e-1", 5.0)
        << sent(m.Query(COPY_IN), given)
        >> upstream(BEGUN)
        << told(BEGUN)
        >> CHANGED
        >> client(DATA)
        << asks(COPY_IN)
        >> decided(again)
        << RESPONSE
        << wire.SetTimer("limit:e-1", None)
        << wire.SetTimer("limit:e-2", 7.0)
        << sent(DATA, wire.Continuation(again))
        >> wire.TimerFired("limit:e-2")
        << any_of(wire.CancelUpstream)
        << any_of(wire.SetTimer)
    )


def test_a_message_that_has_begun_is_finished_before_they_are_asked(session: PostgresSession) -> None:
    long = m.CopyData(b"x" * 200_000).encode()
    book = copying(session) >> wire.ClientData(long[:100_000])
    assert all(isinstance(effect.by, wire.Continuation) for effect in book.take())  # type: ignore[union-attr]
    book = book >> CHANGED >> wire.ClientData(long[100_000:])
    rest = b"".join(effect.data for effect in book.take() if isinstance(effect, wire.SendUpstream))
    assert long.endswith(rest)
    assert len(rest) >= 100_000
    assert book >> client(DONE) << asks(COPY_IN) >> decided(denied()) << FAILED_BY_US


def test_a_server_that_ends_it_meanwhile_ends_the_question(session: PostgresSession) -> None:
    assert (
        copying(session)
        >> CHANGED
        >> client(DATA)
        << asks(COPY_IN)
        >> decided(held())
        << any_of(wire.SendClient)
        << any_of(wire.SetTimer)
        >> upstream(ERROR, ready())
        << told(ERROR)
        << RESPONSE
        << told(ready())
        << any_of(wire.CancelAsk)
        << wire.SetTimer("held", None)
        >> client(DATA, DONE, m.Query("select id, status from orders"))
        << asks("select id, status from orders")
    )


def test_a_session_that_ends_gives_a_copy_so_much_time_and_no_more(session: PostgresSession) -> None:
    assert (
        copying(session)
        >> wire.Revoked("the credential has expired", at_once=False)
        << wire.SetTimer("last copy", LAST_COPY_SECONDS)
        >> client(DATA)
        << any_of(wire.SendUpstream)
        >> wire.TimerFired("last copy")
        << RESPONSE
        << any_of(wire.CancelUpstream)
        << refusal("57P01", "the credential has expired")
        << any_of(wire.Close)
    )


def test_a_copy_that_ends_in_that_time_has_ended_well(session: PostgresSession) -> None:
    assert (
        copying(session)
        >> wire.Revoked("the credential has expired", at_once=False)
        << any_of(wire.SetTimer)
        >> client(DONE)
        << any_of(wire.SendUpstream)
        >> upstream(m.CommandComplete("COPY 1"), ready())
        << told(m.CommandComplete("COPY 1"))
        << RESPONSE
        << any_of(wire.SendClient)
        << any_of(wire.Close)
    )


def test_a_client_that_sends_no_data_is_idle(session_setting: Setting) -> None:
    given = grant()
    assert (
        Playbook(drive(session_setting, idle=60.0).session)
        >> client(m.Query(COPY_IN))
        << asks(COPY_IN)
        << wire.SetTimer("idle", None)
        >> decided(given)
        << sent(m.Query(COPY_IN), given)
        >> upstream(BEGUN)
        << told(BEGUN)
        << wire.SetTimer("idle", 60.0)
        >> client(DATA)
        << sent(DATA, wire.Continuation(given))
        << wire.SetTimer("idle", 60.0)
        >> wire.TimerFired("idle")
        << RESPONSE
        << refusal("57P05")
        << any_of(wire.Close)
    )


# --- with a real server -----------------------------------------------------------------------------------------------


class Policy:
    """Allows everything until it is told otherwise; what it answers is of the revision that it was told."""

    def __init__(self) -> None:
        self.revision = "sha256:test"
        self.answer: Decision = allow()

    def __call__(self, action: Action) -> Decision:
        answer = self.answer if action.properties["kind"] == "copy" else allow()
        return dataclasses.replace(answer, policy_revision=self.revision)

    def change(self, relay: Relay, answer: Decision) -> None:
        """From now on this is what a COPY gets, and the proxy knows that something has changed."""
        self.answer, self.revision = answer, self.revision + "+"
        relay.decisions.revision = self.revision
        eventually(lambda: relay.runtime.sessions.policy_revision == self.revision, 30.0)


@pytest.fixture
def policy() -> Policy:
    return Policy()


@pytest.fixture
def proxy(postgres18: PostgresServer, policy: Policy) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, "drop table if exists items, many")
    postgres18.sql(NAME, "create table items (id int); create table many as select g from generate_series(1, 200000) g")
    postgres18.sql(NAME, "grant all on items, many to public")
    with relay(postgres18, NAME, policy) as running:
        yield running


def stored(server: PostgresServer) -> int:
    ((count,),) = server.sql(NAME, "select count(*) from items")
    assert isinstance(count, int)
    return count


def unnamed(text: str) -> tuple[m.FrontendMessage, ...]:
    return m.Parse("", text), m.Bind("", "", ()), m.Execute("")


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_refused_copy_leaves_nothing_and_the_connection_is_usable(
    proxy: Relay, policy: Policy, postgres18: PostgresServer, protocol: str
) -> None:
    with Wire(proxy.port).login(NAME) as through:
        begin = (m.Query("copy items from stdin"),) if protocol == "simple" else unnamed("copy items from stdin")
        through.send(*begin)
        through.until(m.BackendTag.COPY_IN_RESPONSE)
        through.send(m.CopyData(b"1\n"))
        policy.change(proxy, deny("no more of it"))
        end = () if protocol == "simple" else (m.Sync(),)
        through.send(m.CopyData(b"2\n"), m.CopyData(b"3\n"), m.CopyDone(), *end)
        said = through.until()
        assert codes(said) == ["ERROR 42501"]
        assert "no more of it" in errors(said)[0]["M"]
        assert stored(postgres18) == 0
        assert shape(through.ask(m.Query("select 1"))) == "TDCZ"


@pytest.mark.parametrize("format", ["text", "csv", "binary"])
def test_an_allowed_one_is_stored_whole_across_changes(
    proxy: Relay, policy: Policy, postgres18: PostgresServer, format: str
) -> None:
    with proxy.connect(autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"copy items from stdin (format {format})") as copy:
            if format == "binary":
                copy.set_types(["int4"])
            write = copy.write if format == "csv" else copy.write_row
            for number in range(30):
                write(f"{number}\n" if format == "csv" else (number,))  # type: ignore[arg-type]
                if number % 10 == 5:
                    policy.change(proxy, allow())
        assert connection.execute("select count(*) from items").fetchone() == (30,)
    assert stored(postgres18) == 30


def test_people_may_have_to_agree_to_the_rest(proxy: Relay, policy: Policy, postgres18: PostgresServer) -> None:
    for state, expected in (("approved", 2), ("denied", 2)):
        with Wire(proxy.port).login(NAME) as through:
            policy.answer = allow()
            through.send(m.Query("copy items from stdin"))
            through.until(m.BackendTag.COPY_IN_RESPONSE)
            through.send(m.CopyData(b"1\n"))
            policy.change(proxy, require_approval())
            through.send(m.CopyData(b"2\n"), m.CopyDone())
            through.until(m.BackendTag.NOTICE_RESPONSE)
            policy.answer = allow()
            proxy.resolve(state, timeout=30.0)
            said = through.until()
            assert (codes(said) == []) is (state == "approved"), [errors(said)]
            assert stored(postgres18) == expected


@pytest.mark.parametrize("statement", ["copy items from stdin", "copy (select repeat('x', 1000) from many) to stdout"])
def test_a_killed_session_ends_in_the_middle_and_the_server_lets_go(
    proxy: Relay, postgres18: PostgresServer, statement: str
) -> None:
    with Wire(proxy.port).login(NAME) as through:
        through.send(m.Query(statement))
        through.frame()
        through.send(*([m.CopyData(b"1\n")] if "stdin" in statement else []))
        proxy.decisions.ended.append(SessionEnded(proxy.decisions.asked_by[-1], "enough of it"))
        assert codes(through.rest())[-1:] == ["FATAL 57P01"]
        eventually(lambda: not _at_work(postgres18), 30.0)
    assert stored(postgres18) == 0


def test_what_streams_to_the_client_was_decided_and_comes_to_its_end(proxy: Relay, policy: Policy) -> None:
    with proxy.connect(autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy("copy many to stdout") as copy:
            first = copy.read()
            policy.change(proxy, deny("no more"))
            rest = b"".join(bytes(piece) for piece in copy)
        assert (bytes(first) + rest).count(b"\n") == 200_000
        with pytest.raises(psycopg.errors.InsufficientPrivilege), cursor.copy("copy many to stdout") as copy:
            copy.read()


def _at_work(server: PostgresServer) -> bool:
    return bool(
        server.sql(NAME, "select from pg_stat_activity where query ilike 'copy %' and datname = current_database()")
    )
