"""The PostgreSQL session as conversations, second half: what comes back, how it ends, and what names mean."""

import pytest

from pep.core import wire
from pep.core.model import Grant, LimitRows, TimeLimit
from pep.core.records import EventType
from pep.postgres import messages as m
from pep.postgres.resolver import FACTS_NAME
from pep.postgres.session import UNANSWERED_SECONDS, PostgresSession
from tests.fix_session import Setting
from tests.pep.postgres.conversations import (
    ERROR,
    FLUSHED,
    IN_TRANSACTION,
    MASK,
    ORDERS,
    SECRET,
    SSNS,
    SYNCED,
    Driven,
    carried_out,
    client,
    described,
    drive,
    masks,
    ready,
    refusal,
    sent,
    told,
    upstream,
)
from tests.playbook import Playbook, any_of, asks, decided, denied, grant, record

COPY_IN = "copy orders from stdin"
COPY_OUT = "copy orders to stdout"
RESPONSE = record(EventType.RESPONSE)


@pytest.fixture
def driven(session_setting: Setting) -> Driven:
    return drive(session_setting)


@pytest.fixture
def session(driven: Driven) -> PostgresSession:
    return driven.session


@pytest.fixture
def masked(driven: Driven) -> Driven:
    driven.duties = masks
    return driven


def row(*values: str | None) -> m.DataRow:
    return m.DataRow(tuple(None if value is None else value.encode() for value in values))


def own(message: m.FrontendMessage, why: str) -> wire.SendUpstream:
    return sent(message, wire.Own(why))


def described_own(book: Playbook, text: str, description: m.RowDescription) -> Playbook:
    """The proxy asks the server where the output columns of this text come from, and the client sees nothing of it."""
    return (
        book
        << own(m.Parse(FACTS_NAME, text, ()), "describe")
        << own(m.Describe(m.Kind.STATEMENT, FACTS_NAME), "describe")
        << own(m.Close(m.Kind.PORTAL, FACTS_NAME), "look-up")
        << own(m.Close(m.Kind.STATEMENT, FACTS_NAME), "look-up")
        << own(m.Sync(), "look-up")
        >> upstream(
            m.ParseComplete(), m.ParameterDescription(()), description, m.CloseComplete(), m.CloseComplete(), ready()
        )
    )


def bound(session: PostgresSession, given: Grant, text: str, *, formats: tuple[int, ...] = ()) -> Playbook:
    """Parse and Bind, with these formats of the result, were granted and carried out."""
    parse, bind = m.Parse("", text, ()), m.Bind("", "", (), (), formats)
    return (
        Playbook(session)
        >> client(parse, bind, m.Flush())
        << asks(text, execution=False)
        >> decided(grant(execution_id="e-p"))
        << sent(parse, grant(execution_id="e-p"))
        << asks(text, execution=True)
        >> decided(given)
        << sent(bind, given)
        << FLUSHED
        >> upstream(m.ParseComplete(), m.BindComplete())
        << told(m.ParseComplete(), m.BindComplete())
    )


# --- masks ------------------------------------------------------------------------------------------------------------


def test_under_a_mask_without_describe_the_proxy_describes_the_portal_itself_and_swallows_the_answer(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant(MASK)
    assert (
        bound(session, given, SSNS.text)
        >> client(m.Execute("", 0))
        << own(m.Describe(m.Kind.PORTAL, ""), "describe portal")
        << FLUSHED
        >> upstream(described(session_setting, "id", "ssn"))
        << sent(m.Execute("", 0), given)
        << FLUSHED
        >> upstream(row("1", "SSN-p1"))
        << told(row("1", "hidden"))
        >> upstream(m.CommandComplete("SELECT 1"))
        << RESPONSE
        << told(m.CommandComplete("SELECT 1"))
    )


@pytest.mark.parametrize("format", [0, 1])
def test_rows_are_masked_in_text_and_in_binary(session: PostgresSession, session_setting: Setting, format: int) -> None:
    given = grant(MASK)
    description = described(session_setting, "id", "ssn", format=format)
    assert (
        bound(session, given, SSNS.text, formats=(format,))
        >> client(m.Describe(m.Kind.PORTAL, ""), m.Execute("", 0))
        << sent(m.Describe(m.Kind.PORTAL, ""), given)
        << FLUSHED
        >> upstream(description)
        << told(description)
        << sent(m.Execute("", 0), given)
        << FLUSHED
        >> upstream(row("\0\0\0\1", "SSN-p1"), row("\0\0\0\2", None))
        << told(row("\0\0\0\1", "hidden"), row("\0\0\0\2", None))
    )


def test_under_a_mask_a_computed_column_is_refused_before_it_is_executed(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant(MASK)
    text = "select ssn || '' from customers"
    computed = m.RowDescription((m.Column("?column?", 0, 0, 25, -1, -1, 0),))
    assert (
        bound(session, given, text)
        >> client(m.Execute("", 0))
        << own(m.Describe(m.Kind.PORTAL, ""), "describe portal")
        << FLUSHED
        >> upstream(computed)
        << carried_out()
        << FLUSHED
        >> client(m.Sync())
        << SYNCED
        >> upstream(ERROR, ready())
        << refusal("42501", "not a plain column", ready())
    )


def test_under_a_mask_a_computed_column_of_a_simple_query_is_refused_before_it_is_executed(
    session: PostgresSession,
) -> None:
    text = "select ssn || '' from customers"
    computed = m.RowDescription((m.Column("?column?", 0, 0, 25, -1, -1, 0),))
    book = Playbook(session) >> client(m.Query(text)) << asks(text) >> decided(grant(MASK))
    assert described_own(book, text, computed) << refusal("42501", "not a plain column", ready())


def test_a_description_of_another_table_than_was_decided_about_cuts_the_rows(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant()
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> decided(given)
        << sent(m.Query(ORDERS.text), given)
        >> upstream(described(session_setting, "id", "ssn"), row("1", "SSN-p1"), m.CommandComplete("SELECT 1"), ready())
        << RESPONSE
        << refusal("42501", "another table", ready())
    )


def test_rows_that_are_cut_in_a_transaction_end_the_session_if_more_is_on_its_way(
    driven: Driven, session_setting: Setting
) -> None:
    """The server could refuse only behind that, and answers would come in another order than the statements."""
    driven.says(m.Query("begin"))
    given = grant()
    book = Playbook(driven.session)
    for _ in range(2):
        book = book >> client(m.Query(ORDERS.text)) << asks(ORDERS.text) >> decided(given)
        book = book << sent(m.Query(ORDERS.text), given)
    answer = described(session_setting, "id", "ssn"), row("1", "SSN-p1"), m.CommandComplete("SELECT 1")
    assert (
        book
        >> upstream(*answer, ready(IN_TRANSACTION))
        << RESPONSE
        << RESPONSE
        << wire.CancelUpstream()
        << refusal("42501", "another table")
        << any_of(wire.Close)
    )


def test_a_copy_behind_rows_that_were_cut_is_failed_by_the_proxy(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant(actions=2)
    text = f"{ORDERS.text}; {COPY_IN}"
    assert (
        Playbook(session)
        >> client(m.Query(text))
        << asks(ORDERS.text, COPY_IN)
        >> decided(given)
        << sent(m.Query(text), given)
        >> upstream(described(session_setting, "id", "ssn"), m.CommandComplete("SELECT 0"))
        >> upstream(m.CopyInResponse(0, (0, 0)))
        << own(m.CopyFail("checkrein refuses"), "refusal")
        >> upstream(ERROR, ready())
        << refusal("42501", "another table")
        << RESPONSE
        << told(ready())
    )


def test_a_portal_described_as_another_table_is_not_executed(
    session: PostgresSession, session_setting: Setting
) -> None:
    description = described(session_setting, "id", "ssn")
    assert (
        bound(session, grant(), ORDERS.text)
        >> client(m.Describe(m.Kind.PORTAL, ""), m.Flush())
        << sent(m.Describe(m.Kind.PORTAL, ""), grant())
        << FLUSHED
        >> upstream(description)
        << told(description)
        >> client(m.Execute("", 0), m.Sync())
        << carried_out()
        << FLUSHED
        << SYNCED
        >> upstream(ERROR, ready())
        << refusal("42501", "another table", ready())
    )


def test_a_cursor_that_was_read_to_its_end_and_moved_is_masked_again(masked: Driven) -> None:
    masked.says(m.Query("begin"))
    masked.says(m.Query("declare c scroll cursor for select id, ssn from customers"))
    for _ in range(2):
        shown = masked.says(m.Execute("c", 0), m.Sync())
        assert shown.count(b"hidden") == 3
        assert SECRET not in shown
        masked.says(m.Query("move absolute 0 in c"))


def test_a_portal_that_fetches_is_described_again_when_its_cursor_has_become_another(masked: Driven) -> None:
    masked.says(m.Query("begin"))
    masked.says(m.Query("declare c cursor for select id, status from orders"))
    masked.says(m.Parse("f", "fetch all from c", ()), m.Bind("f", "f", (), (), ()), m.Describe(m.Kind.PORTAL, "f"))
    masked.says(m.Sync())
    masked.says(m.Query("close c"))
    masked.says(m.Query("declare c scroll cursor for select id, ssn from customers"))
    shown = masked.says(m.Execute("f", 0), m.Sync())
    assert SECRET not in shown


# --- limits -----------------------------------------------------------------------------------------------------------


def test_rows_past_the_limit_are_dropped_and_the_statement_fails(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant(LimitRows(2))
    description = described(session_setting, "id", "status", table="orders")
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> decided(given)
        << sent(m.Query(ORDERS.text), given)
        >> upstream(description, row("1", "open"), row("2", "open"))
        << told(description, row("1", "open"), row("2", "open"))
        >> upstream(row("3", "open"), m.CommandComplete("SELECT 3"), ready())
        << RESPONSE
        << refusal("54000", "more than the 2 rows", ready())
    )


def test_a_limit_of_something_else_than_rows_is_a_refusal_before_anything_is_sent(driven: Driven) -> None:
    driven.duties = lambda asked: (LimitRows(2, path="$.items"),)
    shown = driven.says(m.Query(ORDERS.text))
    assert b"limits a list inside of an answer" in shown
    assert b"open" not in shown
    driven.duties = lambda asked: (LimitRows(1000),)
    assert b"open" in driven.says(m.Query(ORDERS.text))


def test_the_limit_of_rows_holds_for_all_slices_of_a_portal_together(driven: Driven) -> None:
    driven.duties = lambda asked: (LimitRows(2),)
    driven.says(m.Query("begin"))
    driven.says(m.Parse("p", ORDERS.text, ()), m.Bind("p", "p", (), (), ()), m.Sync())
    slices = [driven.says(m.Execute("p", 1), m.Sync()) for _ in range(3)]
    assert [shown.count(b"open") for shown in slices] == [1, 1, 0]
    assert b"C54000" in slices[2]


def test_a_time_limit_cancels_at_the_server_and_says_why(session: PostgresSession) -> None:
    given = grant(TimeLimit(1.5))
    timer = f"limit:{given.execution_id}"
    cancelled = m.ErrorResponse(
        {"S": "ERROR", "V": "ERROR", "C": "57014", "M": "canceling statement due to user request"}
    )
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> decided(given)
        << wire.SetTimer(timer, 1.5)
        << sent(m.Query(ORDERS.text), given)
        >> wire.TimerFired(timer)
        << wire.CancelUpstream()
        << wire.SetTimer(timer, UNANSWERED_SECONDS)
        >> upstream(cancelled, ready())
        << refusal("57014", "longer than policy allows")
        << wire.SetTimer(timer, None)
        << RESPONSE
        << told(ready())
    )


def test_a_server_that_does_not_even_cancel_is_left(session: PostgresSession) -> None:
    given = grant(TimeLimit(1.5))
    timer = f"limit:{given.execution_id}"
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> decided(given)
        << wire.SetTimer(timer, 1.5)
        << sent(m.Query(ORDERS.text), given)
        >> wire.TimerFired(timer)
        << wire.CancelUpstream()
        << wire.SetTimer(timer, UNANSWERED_SECONDS)
        >> wire.TimerFired(timer)
        << RESPONSE
        << refusal("08006", "whether it takes effect is not known")
        << wire.Close("the server does not answer")
    )


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_written_stops_everything(session: PostgresSession) -> None:
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> wire.RecordFailed("the disk is full")
        << any_of(wire.CancelAsk)
        << wire.CancelUpstream()
        << refusal("58030", "its record cannot be written")
        << wire.Close("record failed")
        >> decided(grant())
        >> client(m.Query(ORDERS.text))
    )


def test_a_revoked_session_ends_with_57p01_and_what_ran_is_on_record(session: PostgresSession) -> None:
    given = grant()
    assert (
        Playbook(session)
        >> client(m.Query(ORDERS.text))
        << asks(ORDERS.text)
        >> decided(given)
        << sent(m.Query(ORDERS.text), given)
        >> wire.Revoked("killed by an administrator")
        << RESPONSE
        << wire.CancelUpstream()
        << refusal("57P01", "killed by an administrator")
        << wire.Close("killed by an administrator")
    )


# --- COPY -------------------------------------------------------------------------------------------------------------


def test_data_of_a_granted_copy_goes_on_under_its_grant_and_late_data_does_not(session: PostgresSession) -> None:
    given = grant()
    more = wire.Continuation(given)
    data, done = m.CopyData(b"1\tx\n"), m.CopyDone()
    begun = m.CopyInResponse(0, (0, 0))
    assert (
        Playbook(session)
        >> client(m.Query(COPY_IN))
        << asks(COPY_IN)
        >> decided(given)
        << sent(m.Query(COPY_IN), given)
        >> upstream(begun)
        << told(begun)
        >> client(data, done)
        << sent(data, more)
        << sent(done, more)
        >> upstream(m.CommandComplete("COPY 1"), ready())
        << told(m.CommandComplete("COPY 1"))
        << RESPONSE
        << told(ready())
        >> client(data, done)
    )


def test_copy_data_that_nobody_asked_for_goes_nowhere(session: PostgresSession) -> None:
    assert Playbook(session) >> client(m.CopyData(b"1\tx\n"), m.CopyDone(), m.CopyFail("x"))


def test_a_statement_inside_copy_ends_the_session(session: PostgresSession) -> None:
    given = grant()
    begun = m.CopyInResponse(0, (0, 0))
    book = Playbook(session) >> client(m.Query(COPY_IN)) << asks(COPY_IN) >> decided(given)
    assert (
        book
        << sent(m.Query(COPY_IN), given)
        >> upstream(begun)
        << told(begun)
        >> client(m.Query("drop table orders"))
        << RESPONSE
        << refusal("08P01", "inside COPY")
        << any_of(wire.Close)
    )


def test_copy_out_passes_and_under_a_mask_it_is_refused(session: PostgresSession) -> None:
    given = grant()
    begun = m.CopyOutResponse(0, (0, 0))
    data = m.CopyData(b"1\topen\n")
    assert (
        Playbook(session)
        >> client(m.Query(COPY_OUT))
        << asks(COPY_OUT)
        >> decided(given)
        << sent(m.Query(COPY_OUT), given)
        >> upstream(begun, data, m.CopyDone(), m.CommandComplete("COPY 1"), ready())
        << told(begun, data, m.CopyDone(), m.CommandComplete("COPY 1"))
        << RESPONSE
        << told(ready())
        >> client(m.Query("copy customers to stdout"))
        << asks("copy customers to stdout")
        >> decided(grant(MASK))
        << RESPONSE
        << refusal("42501", "COPY of masked columns", ready())
    )


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_means_what_it_meant_until_the_server_confirms_another(driven: Driven) -> None:
    """A second Parse that fails with 42P05 leaves the first one, and the Bind is decided on that."""
    driven.says(m.Parse("p", SSNS.text, ()), m.Sync())
    driven.says(m.Parse("p", ORDERS.text, ()), m.Sync())
    driven.asked.clear()
    driven.says(m.Bind("", "p", (), (), ()), m.Sync())
    assert [ask.actions[0].statement.text for ask in driven.asked] == [SSNS.text]


def test_what_the_server_skips_changes_no_name(driven: Driven) -> None:
    driven.says(m.Parse("p", SSNS.text, ()), m.Sync())
    driven.says(m.Parse("", "select 1/0", ()), m.Close(m.Kind.STATEMENT, "p"), m.Parse("p", ORDERS.text, ()), m.Sync())
    driven.asked.clear()
    driven.says(m.Bind("", "p", (), (), ()), m.Sync())
    assert [ask.actions[0].statement.text for ask in driven.asked] == [SSNS.text]


def test_a_bind_behind_an_unconfirmed_change_of_an_earlier_group_waits(session: PostgresSession) -> None:
    text = "prepare p as select id, status from orders"
    given = grant()
    waiting = (
        Playbook(session)
        >> client(m.Query(text))
        << asks(text)
        >> decided(given)
        << sent(m.Query(text), given)
        >> client(m.Bind("", "p", (), (), ()))
    )
    assert (
        waiting
        >> upstream(m.CommandComplete("PREPARE"), ready())
        << told(m.CommandComplete("PREPARE"))
        << RESPONSE
        << told(ready())
        << asks(text)
        >> decided(denied())
        << refusal("42501")
    )


def test_a_name_is_the_same_in_sql_and_in_the_protocol(masked: Driven) -> None:
    masked.says(m.Parse("p", ORDERS.text, ()), m.Sync())
    masked.says(m.Query("deallocate p"))
    masked.says(m.Query("prepare p as select id, ssn from customers"))
    shown = masked.says(m.Bind("", "p", (), (), ()), m.Execute("", 0), m.Sync())
    assert SECRET not in shown
    assert shown.count(b"hidden") == 3


def test_sql_execute_cannot_change_names_behind_the_registry(masked: Driven) -> None:
    """PREPARE and DEALLOCATE can be prepared by Parse, and the server runs them by EXECUTE."""
    masked.says(m.Query("prepare p as select id, status from orders"))
    masked.says(m.Parse("q", "deallocate p", ()), m.Sync())
    assert b"C0A000" in masked.says(m.Query("execute q"))
    masked.says(
        m.Close(m.Kind.STATEMENT, "q"), m.Parse("q", "prepare p as select id, ssn from customers", ()), m.Sync()
    )
    assert b"C0A000" in masked.says(m.Query("execute q"))
    shown = masked.says(m.Bind("", "p", (), (), ()), m.Execute("", 0), m.Sync())
    assert b"open" in shown


def test_an_unknown_name_is_refused(driven: Driven) -> None:
    assert b"C26000" in driven.says(m.Bind("", "nobody", (), (), ()), m.Sync())
    assert b"C34000" in driven.says(m.Execute("nobody", 0), m.Sync())
    assert not driven.asked


@pytest.mark.parametrize(
    "message",
    [
        m.Parse(FACTS_NAME, ORDERS.text, ()),
        m.Bind(FACTS_NAME, "", (), (), ()),
        m.Close(m.Kind.STATEMENT, FACTS_NAME),
        m.Query(f"deallocate {FACTS_NAME}"),
    ],
)
def test_reserved_names_are_refused(driven: Driven, message: m.FrontendMessage) -> None:
    assert b"C42939" in driven.says(message, m.Sync())
    assert not driven.asked
