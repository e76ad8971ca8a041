"""A limit of changed rows as conversations: what the proxy sends of its own, what is on record, and what goes wrong."""

import pytest

from pep.core import wire
from pep.core.model import Grant, LimitAffected
from pep.core.records import Event, EventType
from pep.postgres import messages as m
from pep.postgres.session import PostgresSession
from tests.fix_session import Setting
from tests.pep.postgres.conversations import (
    ERROR,
    IDLE,
    IN_TRANSACTION,
    Driven,
    carried_out,
    client,
    drive,
    ready,
    refusal,
    sent,
    told,
    upstream,
)
from tests.playbook import Match, Playbook, any_of, asks, decided, grant, record

DELETE = "delete from orders"
MOST = 3
RESPONSE = record(EventType.RESPONSE)
CANCEL = any_of(wire.CancelUpstream)
FAILED = m.TransactionStatus.FAILED


@pytest.fixture
def driven(session_setting: Setting) -> Driven:
    return drive(session_setting)


@pytest.fixture
def session(driven: Driven) -> PostgresSession:
    return driven.session


def own(verb: str) -> wire.SendUpstream:
    return sent(m.Query(verb), wire.Own("own transaction"))


def limited(most: int = MOST) -> Grant:
    return grant(LimitAffected(most))


def tag(text: str) -> m.CommandComplete:
    return m.CommandComplete(text)


def responded(**facts: object) -> Match:
    """A record of the response that says this."""

    def matches(effect: wire.Effect) -> bool:
        if not isinstance(effect, wire.Record):
            return False
        event: Event = effect.event
        said = {name: event.facts.get(name) for name in facts}
        return event.type is EventType.RESPONSE and said == facts

    return Match(f"response with {facts}", matches)


def begun(session: PostgresSession, given: Grant) -> Playbook:
    """A simple Query was granted, and the transaction around it stands."""
    return (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(given)
        << own("begin")
        >> upstream(tag("BEGIN"), ready(IN_TRANSACTION))
        << sent(m.Query(DELETE), given)
    )


def test_few_enough_rows_are_committed_before_the_client_is_told(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 3"), ready(IN_TRANSACTION))
        << own("commit")
        >> upstream(tag("COMMIT"), ready())
        << responded(affected=3, limit_affected=3, own=["begin", "commit"], sqlstate=None)
        << told(tag("DELETE 3"), ready())
    )


def test_too_many_are_rolled_back_before_the_client_is_told(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 4"), ready(IN_TRANSACTION))
        << own("rollback")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(affected=4, limit_affected=3, own=["begin", "rollback"], sqlstate="54000")
        << refusal("54000", "it changes 4 rows, and may change at most 3 rows", ready())
    )


def test_a_tag_without_a_count_is_too_many(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE"), ready(IN_TRANSACTION))
        << own("rollback")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(affected=None, sqlstate="54000")
        << refusal("54000", "no number of rows", ready())
    )


def test_no_row_may_change_at_all(session: PostgresSession):
    assert (
        begun(session, limited(0))
        >> upstream(tag("DELETE 0"), ready(IN_TRANSACTION))
        << own("commit")
        >> upstream(tag("COMMIT"), ready())
        << RESPONSE
        << told(tag("DELETE 0"), ready())
    )


def test_an_error_of_the_statement_is_the_client_s_and_the_transaction_the_proxy_s(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(ERROR, ready(FAILED))
        << told(ERROR)
        << own("rollback")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(own=["begin", "rollback"], sqlstate="42601")
        << told(ready())
    )


def test_an_error_of_the_commit_is_told_in_place_of_the_result(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 1"), ready(IN_TRANSACTION))
        << own("commit")
        >> upstream(ERROR, ready())
        << responded(affected=1, own=["begin", "commit"], sqlstate="42601", rows=0)
        << told(ERROR, ready())
    )


def test_a_cancel_request_that_meets_the_commit_is_told_once_all_is_undone(session: PostgresSession):
    canceled = m.ErrorResponse(
        {"S": "ERROR", "V": "ERROR", "C": "57014", "M": "canceling statement due to user request"}
    )
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 1"), ready(IN_TRANSACTION))
        << own("commit")
        >> wire.CancelRequested()
        << CANCEL
        >> upstream(canceled, ready(FAILED))
        << own("rollback")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(affected=1, own=["begin", "commit", "rollback"], sqlstate="57014", rows=0)
        << told(canceled, ready())
    )


def test_a_cancel_request_that_meets_the_rollback_changes_nothing(session: PostgresSession):
    canceled = m.ErrorResponse(
        {"S": "ERROR", "V": "ERROR", "C": "57014", "M": "canceling statement due to user request"}
    )
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 4"), ready(IN_TRANSACTION))
        << own("rollback")
        >> upstream(canceled, ready(FAILED))
        << own("rollback")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(affected=4, own=["begin", "rollback", "rollback"], sqlstate="54000")
        << refusal("54000", "it changes 4 rows", ready())
    )


def test_a_commit_that_was_none_is_told_as_an_error(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 1"), ready(IN_TRANSACTION))
        << own("commit")
        >> upstream(tag("ROLLBACK"), ready())
        << responded(sqlstate="58000")
        << refusal("58000", "did not commit", ready())
    )


def test_where_the_transaction_cannot_begin_the_statement_is_not_sent(session: PostgresSession):
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(limited())
        << own("begin")
        >> upstream(ERROR, ready())
        << responded(own=["begin"], sqlstate="42601")
        << told(ERROR, ready())
    )


@pytest.mark.parametrize("status", [IN_TRANSACTION, FAILED])
def test_a_rollback_that_does_not_end_the_transaction_ends_the_session(
    session: PostgresSession, status: m.TransactionStatus
):
    book = begun(session, limited()) >> upstream(tag("DELETE 4"), ready(IN_TRANSACTION)) << own("rollback")
    if status is FAILED:
        # A cancel request may have met it; so it is said once more.
        book = book >> upstream(ERROR, ready(FAILED)) << own("rollback")
    assert (
        book
        >> upstream(ERROR, ready(status))
        << CANCEL
        << refusal("08P01", "is not in the transaction")
        << any_of(wire.Close)
    )


def test_a_statement_that_ends_the_transaction_around_it_ends_the_session(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 1"), ready(IDLE))
        << CANCEL
        << refusal("08P01", "is not in the transaction")
        << any_of(wire.Close)
    )


def test_a_client_that_leaves_leaves_nothing_committed(session: PostgresSession):
    assert (
        begun(session, limited())
        >> wire.ClientClosed()
        << responded(own=["begin"], sqlstate="08006")
        << CANCEL
        << any_of(wire.Close)
    )


def test_who_leaves_during_the_commit_may_have_committed_and_the_record_says_so(session: PostgresSession):
    assert (
        begun(session, limited())
        >> upstream(tag("DELETE 1"), ready(IN_TRANSACTION))
        << own("commit")
        >> wire.ClientClosed()
        << responded(own=["begin", "commit"], affected=1, sqlstate="08006")
        << CANCEL
        << any_of(wire.Close)
    )


def test_a_notice_passes_at_once_and_the_rest_waits(session: PostgresSession):
    notice = m.NoticeResponse({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "hello"})
    assert (
        begun(session, limited())
        >> upstream(notice)
        << told(notice)
        >> upstream(tag("DELETE 1"))
        >> upstream(ready(IN_TRANSACTION))
        << own("commit")
        >> upstream(tag("COMMIT"), ready())
        << RESPONSE
        << told(tag("DELETE 1"), ready())
    )


def test_in_the_client_s_transaction_the_server_carries_the_refusal_out(driven: Driven, session: PostgresSession):
    driven.says(m.Query("begin"))
    given = limited()
    refused = m.ErrorResponse({"S": "ERROR", "V": "ERROR", "C": "42601", "M": "syntax error at checkrein refuses"})
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(given)
        << sent(m.Query(DELETE), given)
        >> upstream(tag("DELETE 4"), ready(IN_TRANSACTION))
        << responded(affected=4, own=["refusal"], sqlstate="54000")
        << carried_out()
        << sent(m.Sync(), wire.Own("refusal"))
        >> upstream(refused, ready(FAILED))
        << refusal("54000", "it changes 4 rows", ready(FAILED))
    )
