"""How many rows the planner guesses: asked beside the session, and only where nothing of the target's users can run."""

import json
from collections.abc import Iterator

import pytest

from pep.core.estimates import Estimate
from pep.core.model import Action, Decision
from pep.postgres.estimates import expected
from pep.postgres.messages import Bind, Execute, Parse, Query, Sync
from tests.attacks import Attacker, usable
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, allow, relay, require_approval

NAME = "estimated"

SCHEMA = """
create table big (id int primary key, note text);
insert into big select n, 'x' from generate_series(1, 10000) n;
create table child (id int references big on delete cascade);
create function theirs(int) returns int immutable language plpgsql as
  'begin raise warning ''it ran''; return $1; end';
create table checked (id int check (theirs(id) > 0));
create table defaulted (id int default theirs(1), note text);
create view through as select theirs(id) as id from big;
create table fired (id int);
create function trigger_of_theirs() returns trigger language plpgsql as 'begin return new; end';
create trigger t before update on fired for each row execute function trigger_of_theirs();
create table secret (id int);
grant all on all tables in schema public to public;
revoke all on secret from public;
analyze;
"""


def held(action: Action) -> Decision:
    known = action.properties
    touches = known["relations"] or known["functions"] or known["opaque"]
    return require_approval() if action.name == "query" and touches else allow()


@pytest.fixture(scope="module")
def asking(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, SCHEMA)
    with relay(postgres18, NAME, held, approval={"estimate": "45s"}) as running:
        yield running


def estimate(asking: Relay, *messages: object) -> Estimate:
    """What is sent with the question that these messages lead to. The statement is never executed."""
    with Attacker(asking.port, NAME) as client:
        before = len(asking.decisions.requested)
        client.send(*messages)
        asking.resolve("denied")
        assert client.read().codes == ["42501"]
        usable(client)
        (request,) = asking.decisions.requested[before:][:1]
    assert request.estimate is not None
    return request.estimate


def extended(text: str, *values: bytes) -> tuple[object, ...]:
    return Parse("", text), Bind("", "", (), values), Execute(""), Sync()


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("delete from big", 9_000, 11_000),
        ("update big set note = upper(note) where id <= 100", 50, 200),
        ("insert into big select id + 20000, note from big where id = 7", 1, 1),
        ("with gone as (delete from big returning id) select count(*) from gone", 9_000, 11_000),
        ("select * from big", 9_000, 11_000),
        ("delete from big where id = 3; ", 1, 1),
        ("update fired set id = 1", 1, 10_000),
    ],
)
def test_the_planner_is_asked_and_nothing_is_executed(
    asking: Relay, postgres18: PostgresServer, text: str, least: int, most: int
) -> None:
    position = postgres18.log_position()
    found = estimate(asking, Query(text))
    assert found.rows is not None, found.unavailable
    assert least <= found.rows <= most
    lines = [line for line in postgres18.log_after(position).splitlines() if "from big" in line or "fired" in line]
    assert all("EXPLAIN (FORMAT JSON)" in line and "ANALYZE" not in line for line in lines)


def test_values_that_come_apart_are_not_needed(asking: Relay) -> None:
    found = estimate(asking, *extended("delete from big where id = $1", b"7"))
    assert found == Estimate(1.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("delete from big where id = theirs(1)", "not understood|not known to be harmless|reaches beyond"),
        ("insert into checked values (1)", "functions of its own|reaches beyond"),
        ("select * from checked where id = 1", "functions of its own|reaches beyond"),
        ("insert into defaulted (note) values ('x')", "functions of its own|reaches beyond"),
        ("select * from through", "reaches beyond|not understood"),
        ("select pg_sleep(0)", "not known to be harmless|reaches beyond"),
        ("create table new (id int)", "only queries"),
        ("delete from secret", "42501"),
        ("delete from nowhere", "not understood|other sessions"),
    ],
)
def test_what_may_run_code_of_somebody_else_is_not_planned(
    asking: Relay, postgres18: PostgresServer, text: str, why: str
) -> None:
    position = postgres18.log_position()
    found = estimate(asking, Query(text))
    assert found.rows is None
    assert any(part in found.unavailable for part in why.split("|")), found.unavailable
    assert "it ran" not in postgres18.log_after(position)


def test_a_table_of_the_session_alone_is_not_planned(asking: Relay) -> None:
    asking.decisions.policy = lambda action: allow() if action.properties["class"] == "schema" else held(action)
    try:
        with Attacker(asking.port, NAME) as client:
            client.send(Query("create temp table big (id int)"))
            assert not client.read().codes
            client.send(Query("delete from big"))
            asking.resolve("denied")
            client.read()
    finally:
        asking.decisions.policy = held
    assert asking.decisions.requested[-1].estimate == Estimate(None, "it names a table that other sessions do not see")


def test_a_lock_that_is_held_is_waited_for_no_longer_than_configured(postgres18: PostgresServer) -> None:
    postgres18.sql(NAME, "create table if not exists locked (id int); grant all on locked to public")
    policy = lambda action: allow() if action.properties["kind"] == "lock" else held(action)  # noqa: E731
    with (
        relay(postgres18, NAME, policy, approval={"estimate": "100ms"}) as asking,
        Attacker(asking.port, NAME) as client,
    ):
        client.send(Query("begin"))
        client.read()
        client.send(Query("lock table locked in access exclusive mode"))
        assert not client.read().codes
        client.send(Query("delete from locked"))
        asking.resolve("denied")
        client.read()
        found = asking.decisions.requested[-1].estimate
    assert found is not None
    assert found.rows is None


def plan(*nodes: dict) -> bytes:
    return json.dumps([{"Plan": nodes[0]}]).encode()


@pytest.mark.parametrize(
    ("raw", "kind", "rows"),
    [
        (plan({"Node Type": "Seq Scan", "Plan Rows": 7}), "select", 7.0),
        (plan({"Node Type": "Seq Scan", "Plan Rows": "7"}), "select", None),
        (plan({"Node Type": "Seq Scan", "Plan Rows": True}), "select", None),
        (plan({"Node Type": "Seq Scan", "Plan Rows": -1}), "select", None),
        (plan({"Node Type": "Result", "Plan Rows": 1}), "delete", None),
        (
            plan(
                {
                    "Node Type": "ModifyTable",
                    "Plan Rows": 0,
                    "Plans": [
                        {"Node Type": "Seq Scan", "Plan Rows": 5, "Parent Relationship": "Outer"},
                        {"Node Type": "Result", "Plan Rows": 9, "Parent Relationship": "InitPlan"},
                    ],
                }
            ),
            "delete",
            5.0,
        ),
        (b"", "select", None),
        (b"[]", "select", None),
        (b"{}", "delete", None),
        (b"[" * 5000, "delete", None),
        (b'[{"Plan": {"Plans": [1]}}]', "delete", None),
    ],
)
def test_a_plan_is_read_or_said_to_be_unreadable(raw: bytes, kind: str, rows: float | None) -> None:
    assert expected(raw, kind) == rows
