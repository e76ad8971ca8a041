"""Reading names again: a change of the schema through this proxy is seen by its other sessions at once."""

from collections.abc import Iterator

import psycopg
import pytest

from pep.core.model import Action, Decision
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, allow, deny, relay

NAME = "schema_news"


def _understood(action: Action) -> Decision:
    return deny(str(action.properties["opaque"])) if action.properties["opaque"] else allow()


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, "grant all on schema public to public")
    with relay(postgres18, NAME, _understood, catalog={"max_age": "1h"}) as running:
        yield running


def test_a_table_that_one_session_makes_another_uses(proxy: Relay) -> None:
    with proxy.connect(autocommit=True) as maker, proxy.connect(autocommit=True) as user:
        user.execute("select 1 from pg_class limit 1")
        for _ in range(3):
            maker.execute("drop table if exists made")
            maker.execute("create table made (id serial primary key, name text)")
            returned = user.execute("insert into made (name) values ('a') returning id, name").fetchone()
            assert returned == (1, "a")
        with proxy.connect(autocommit=True) as later:
            assert later.execute("select name from made").fetchall() == [("a",)]


def test_it_is_seen_when_its_transaction_ends(proxy: Relay) -> None:
    with proxy.connect() as maker, proxy.connect(autocommit=True) as user:
        user.execute("select 1 from pg_class limit 1")
        maker.execute("create table in_time (id int)")
        maker.commit()
        assert user.execute("select id from in_time").fetchall() == []


def test_a_cancellation_that_meets_the_reading_of_names_is_told_as_one(
    proxy: Relay, postgres18: PostgresServer
) -> None:
    """The server ends the proxy's own statement by the client's time limit, because a lock keeps it waiting."""
    with proxy.connect(autocommit=True) as client, psycopg.connect(postgres18.dsn(NAME)) as locker:
        client.execute("set statement_timeout = '300ms'")
        client.execute("set search_path = public")
        locker.execute("lock table pg_catalog.pg_namespace in access exclusive mode")
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select 1 from pg_class limit 1")
        locker.rollback()
        client.execute("reset statement_timeout")
        assert client.execute("select 1 from pg_class limit 1").fetchall() == [(1,)]
