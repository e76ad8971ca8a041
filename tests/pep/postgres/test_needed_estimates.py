"""A policy that asks for an estimate gets one of a real planner, and is asked again (`tests/pep/core/test_facts`)."""

from collections.abc import Iterator
from typing import Any

import pytest

from pep.core.model import Action, Incomplete, LimitAffected
from pep.postgres.messages import Query
from tests.fix_postgres import PostgresServer
from tests.pep.postgres.wire import Wire, codes, errors, shape
from tests.relay import REVISION, Relay, allow, deny, relay

NAME = "needed"
SCHEMA = """
create table big (id int primary key, note text);
insert into big select n, 'x' from generate_series(1, 1000) n;
grant all on all tables in schema public to public;
analyze big;
"""


def policy(action: Action) -> Any:
    """What changes few rows by the planner's guess may change few rows."""
    if action.name != "query" or action.properties["class"] != "write":
        return allow()
    if action.estimate is None:
        return Incomplete("d-0", REVISION, ("estimate",))
    few = action.estimate.rows is None or action.estimate.rows <= 10
    return allow(LimitAffected(10)) if few else deny("too many rows", "many")


@pytest.fixture(scope="module")
def asking(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, SCHEMA)
    with relay(postgres18, NAME, policy, approval={"estimate": "45s"}) as running:
        yield running


def test_the_estimate_decides_and_the_count_has_the_last_word(asking: Relay, postgres18: PostgresServer):
    with Wire(asking.port).login(NAME) as client:
        client.socket.settimeout(60)
        said = client.ask(Query("delete from big where id > 100"))
        assert codes(said) == ["ERROR 42501"]
        assert "too many rows" in errors(said)[0]["M"]
        assert shape(client.ask(Query("delete from big where id <= 5"))) == "CZ"
        # The planner takes conditions that say the same for such that narrow each other.
        said = client.ask(Query("delete from big where note = 'x' and id % 2 = 0 and id % 4 = 0"))
        assert codes(said) == ["ERROR 54000"]
    assert postgres18.sql(NAME, "select count(*) from big") == [(995,)]


def test_what_cannot_be_estimated_or_where_nobody_is_asked_is_denied_in_words(
    asking: Relay, postgres18: PostgresServer
):
    with Wire(asking.port).login(NAME) as client:
        client.socket.settimeout(60)
        said = client.ask(Query("with a as (delete from big where id = 7 returning id) select pg_sleep(0) from a"))
        assert codes(said) == ["ERROR 42501"]
        assert "how many rows it would touch, which is not known" in errors(said)[0]["M"]
    with relay(postgres18, NAME, policy) as off, Wire(off.port).login(NAME) as client:
        said = client.ask(Query("delete from big where id = 7"))
        assert codes(said) == ["ERROR 42501"]
        assert "approval: {estimate: 1s}" in errors(said)[0]["M"]
    assert postgres18.sql(NAME, "select count(*) from big where id = 7") == [(1,)]
