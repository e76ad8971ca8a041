"""The PostgreSQL session as conversations, first half: refusing, and waiting for people.

Each test is named after the sentence that it proves.
"""

import dataclasses

import pytest

from pep.core import wire
from pep.core.model import digest_of
from pep.postgres import messages as m
from pep.postgres.permits import NOTICE_EVERY
from pep.postgres.resolution import CatalogUnavailable, FreshCatalog, SharedCatalog
from pep.postgres.session import PostgresSession
from tests.fix_session import Setting
from tests.pep.postgres.conversations import (
    DELETE,
    ERROR,
    FAILED,
    FLUSHED,
    NOTICE,
    ORDERS,
    SYNCED,
    Driven,
    carried_out,
    client,
    drive,
    ready,
    refusal,
    sent,
    tags,
    told,
    upstream,
)
from tests.pep.postgres.model_server import ModelServer
from tests.playbook import Match, Playbook, any_of, approved, asks, decided, denied, grant, held, looked_up


@pytest.fixture
def driven(session_setting: Setting) -> Driven:
    return drive(session_setting)


@pytest.fixture
def session(driven: Driven) -> PostgresSession:
    return driven.session


@pytest.fixture
def within(driven: Driven) -> PostgresSession:
    """Inside a transaction."""
    driven.says(m.Query("begin"))
    return driven.session


# --- denying ----------------------------------------------------------------------------------------------------------


def test_a_denied_query_never_reaches_the_upstream(session: PostgresSession) -> None:
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(denied("not permitted"))
        << refusal("42501", "not permitted", ready())
    )


def test_one_denied_statement_of_a_query_stops_them_all(session: PostgresSession) -> None:
    assert (
        Playbook(session)
        >> client(m.Query(f"{ORDERS.text}; {DELETE}"))
        << asks(ORDERS.text, DELETE)
        >> decided(denied())
        << refusal("42501", "", ready())
    )


def test_a_denial_inside_a_transaction_is_carried_out_by_the_server(within: PostgresSession) -> None:
    assert (
        Playbook(within)
        >> client(m.Query(DELETE))
        << asks(DELETE, in_transaction=True, hold=30.0)
        >> decided(denied("not permitted"))
        << carried_out()
        << sent(m.Sync(), wire.Own("refusal"))
        >> upstream(ERROR, ready(FAILED))
        << refusal("42501", "not permitted", ready(FAILED))
    )


def test_a_denial_behind_unsynced_messages_is_carried_out_by_the_server(session: PostgresSession) -> None:
    prepared = grant(execution_id="e-p")
    assert (
        Playbook(session)
        >> client(m.Parse("", ORDERS.text, ()))
        << asks(ORDERS.text, execution=False)
        >> decided(prepared)
        << sent(m.Parse("", ORDERS.text, ()), prepared)
        >> client(m.Parse("x", DELETE, ()), m.Bind("", "x", (), (), ()), m.Sync())
        << asks(DELETE, execution=False)
        >> decided(denied())
        << carried_out()
        << FLUSHED
        << SYNCED
        >> upstream(m.ParseComplete(), ERROR, ready())
        << Match("confirmed, refused, ready", lambda e: tags(e) == b"1EZ")
    )


def test_a_denied_message_is_skipped_to_sync_by_the_proxy_alone_when_nothing_is_at_stake(
    session: PostgresSession,
) -> None:
    assert (
        Playbook(session)
        >> client(m.Parse("", DELETE, ()), m.Bind("", "", (), (), ()), m.Execute("", 0))
        << asks(DELETE)
        >> decided(denied())
        << refusal("42501")
        >> client(m.Sync())
        << told(ready())
    )


def test_an_error_upstream_drops_the_pending_question(session: PostgresSession) -> None:
    prepared = grant()
    assert (
        Playbook(session)
        >> client(m.Parse("", ORDERS.text, ()))
        << asks(ORDERS.text)
        >> decided(prepared)
        << sent(m.Parse("", ORDERS.text, ()), prepared)
        >> client(m.Flush(), m.Parse("x", DELETE, ()))
        << FLUSHED
        << asks(DELETE)
        >> upstream(ERROR)
        << told(ERROR)
        << any_of(wire.CancelAsk)
        >> decided(grant())
        >> client(m.Sync())
        << SYNCED
        >> upstream(ready())
        << told(ready())
    )


def test_a_look_up_that_fails_refuses(session: PostgresSession) -> None:
    assert (
        Playbook(session)
        >> wire.TimerFired("catalog")
        >> client(m.Query(ORDERS.text))
        << any_of(wire.LookUp)
        >> looked_up(CatalogUnavailable())
        << refusal("58000", "the catalog cannot be read", ready())
    )


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_held_statement_tells_the_client_again_every_20_seconds(session: PostgresSession) -> None:
    again = wire.SetTimer("held", NOTICE_EVERY)
    assert NOTICE_EVERY == 20
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE, hold=600.0)
        >> decided(held("a-1"))
        << NOTICE
        << again
        >> wire.TimerFired("held")
        << NOTICE
        << again
        >> wire.TimerFired("held")
        << NOTICE
        << again
        >> decided(denied("the owners say no"))
        << wire.SetTimer("held", None)
        << refusal("42501", "the owners say no", ready())
        >> wire.TimerFired("held")
    )


@pytest.mark.parametrize("leaves", [client(m.Terminate()), wire.ClientClosed()])
def test_a_client_that_leaves_while_it_is_held_withdraws(session: PostgresSession, leaves: wire.Event) -> None:
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(held())
        << NOTICE
        << any_of(wire.SetTimer)
        >> leaves
        << any_of(wire.CancelAsk)
        << wire.SetTimer("held", None)
        << wire.Close("client left")
        >> approved("a-1")
        >> decided(grant())
    )


def test_a_cancel_request_while_held_refuses(session: PostgresSession) -> None:
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE)
        >> decided(held())
        << NOTICE
        << any_of(wire.SetTimer)
        >> wire.CancelRequested()
        << wire.SetTimer("held", None)
        << any_of(wire.CancelAsk)
        << refusal("57014", "", ready())
        >> approved("a-1")
        >> decided(grant())
    )


def test_an_approved_statement_is_resolved_again_and_redeems_its_approval(
    session: PostgresSession, session_setting: Setting
) -> None:
    given = grant()
    assert (
        Playbook(session)
        >> client(m.Query(DELETE))
        << asks(DELETE, redeem=None)
        >> decided(held("a-7"))
        << NOTICE
        << any_of(wire.SetTimer)
        >> approved("a-7")
        << wire.SetTimer("held", None)
        << Match("the catalog of now", lambda e: isinstance(e, wire.LookUp) and e.question == FreshCatalog(force=True))
        >> looked_up(session_setting.shared)
        << wire.SetTimer("catalog", 1.0)
        << asks(DELETE, redeem="a-7")
        >> decided(given)
        << sent(m.Query(DELETE), given)
    )


def test_an_approval_behind_a_changed_catalog_asks_with_the_action_as_it_is_now(
    session: PostgresSession, session_setting: Setting
) -> None:
    book = Playbook(session) >> client(m.Query(ORDERS.text))
    (before,) = book.take()
    assert isinstance(before, wire.Ask)
    book = book >> decided(held()) << NOTICE << any_of(wire.SetTimer) >> approved("a-1")
    book = book << wire.SetTimer("held", None) << any_of(wire.LookUp) >> looked_up(_changed(session_setting.shared))
    *others, after = book.take()
    while not isinstance(after, wire.Ask):
        # Another catalog: the session reads its own view again.
        document = session_setting.world({})
        server = ModelServer(document)
        for effect in [*others, after]:
            if isinstance(effect, wire.SendUpstream):
                server.receive(effect.data)
        event = wire.UpstreamData(bytes(server.output)) if server.output else None
        book = book >> (event or looked_up(_changed(session_setting.shared)))
        *others, after = book.take()
    assert after.redeem == "a-1"
    assert digest_of(before.actions[0], "agent:bot", "shop") != digest_of(after.actions[0], "agent:bot", "shop")
    assert book


def _changed(shared: SharedCatalog) -> SharedCatalog:
    """The same names, but `orders` is defined in another way."""
    catalog = shared.catalog
    found = catalog.relation("public", "orders")
    assert found is not None
    changed = dataclasses.replace(found, definition=f"{found.definition} changed")
    newer = dataclasses.replace(
        catalog,
        version="newer",
        relations={**catalog.relations, found.oid: changed},
        relations_by_name={**catalog.relations_by_name, ("public", "orders"): changed},
    )
    return dataclasses.replace(shared, catalog=newer)
