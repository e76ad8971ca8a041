"""Attempts to kill the proxy, to stretch an approval, and to profit from what fails. See `tests.attacks`."""

import asyncio
import json
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from pep.core.model import Action, Decision
from pep.postgres.config import PostgresUpstream
from pep.postgres.messages import Bind, Execute, Parse, Query, Sync
from pep.postgres.upstream import Account, OwnConnection, Target
from tests.attacks import Attacker, extended, leaks, shop, team_policy, usable
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, relay, require_approval

NAME = "attacked_faults"

# Longer than any answer of a proxy that is well, on a machine that is not.
BLOCKED = 5.0


@pytest.fixture(scope="module")
def team(postgres18: PostgresServer) -> Iterator[Relay]:
    shop(postgres18, NAME)
    with relay(postgres18, NAME, team_policy) as running:
        yield running


HEAVY = {
    "plus": "select 1" + "+1" * 100_000,
    "concatenation": "select ''" + "||''" * 50_000,
    "union all": "select 1" + " union all select 1" * 10_000,
    "cast": "select 1" + "::int" * 40_000,
    "collate": "select ''" + ' collate "C"' * 16_000,
    "is null": "select 1" + " is null" * 25_000,
    "cross join": "select 1 from orders" + " cross join orders" * 10_000,
    "not": "select " + "not " * 50_000 + "true",
    "minus": "select " + "- " * 90_000 + "1",
    "and": "select true" + " and true" * 22_000,
    "parentheses": "select " + "(" * 60_000 + "1" + ")" * 60_000,
    "arrays": "select " + "array[" * 20_000 + "1" + "]" * 20_000,
    "subqueries": "select " + "(select " * 20_000 + "1" + ")" * 20_000,
    "functions": "select " + "abs(" * 20_000 + "1" + ")" * 20_000,
    "case": "select " + "case when true then " * 9_000 + "1" + " end" * 9_000,
    "comments": "select " + "/*" * 60_000 + "*/" * 60_000 + " 1",
    "list": "select 1 where 1 in (" + ",".join(map(str, range(150_000))) + ")",
    "statements": "select 1;" * 60_000,
    "columns": "select " + ",".join(["ssn"] * 100_000) + " from customers",
    "joins of itself": "select count(*) from " + ", ".join(f"customers c{n}" for n in range(8_000)),
    "rows to insert": "insert into notes values " + ",".join(["(1, 'x')"] * 100_000),
    "ten megabytes": "insert into notes values " + ",".join(["(1, 'xxxxxxxxxx')"] * 550_000),
    "one long string": f"select '{'x' * 900_000}'",
    "one long name": f'select 1 as "{"x" * 900_000}"',
    "quotes": "select " + "'a''" * 100_000 + "'",
    "open quote": "select '" + "x" * 500_000,
    "open comment": "select /*" * 100_000,
    "open dollar": "select $x$" + "$y$" * 100_000,
}


class Neighbours:
    """Eight sessions that ask `select 1` again and again, and how long each answer took."""

    def __init__(self, port: int) -> None:
        self._clients = [Attacker(port, NAME) for _ in range(8)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.waits: list[float] = []
        for client in self._clients:
            usable(client)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        for client in self._clients:
            client.vanish(reset=False)

    def _ask(self) -> None:
        with selectors.DefaultSelector() as selector:
            begun = {client: time.monotonic() for client in self._clients}
            for client in self._clients:
                selector.register(client.socket, selectors.EVENT_READ, client)
                client.send(Query("select 1"))
            while not self._stop.is_set() or not self.waits:
                for key, _ in selector.select(0.1):
                    client = key.data
                    assert client.read().rows == 1
                    self.waits.append(time.monotonic() - begun[client])
                    # A pause, or the measuring itself would be the load.
                    self._stop.wait(0.005)
                    begun[client] = time.monotonic()
                    client.send(Query("select 1"))


@pytest.mark.alone
@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.parametrize("way", ["simple", "extended"])
def test_a_statement_made_to_kill(team: Relay, name: str, way: str) -> None:
    with Attacker(team.port, NAME) as client:
        text = HEAVY[name]
        with Neighbours(team.port) as neighbours:
            reply = client.query(text) if way == "simple" else client.batch(*extended(text))
        assert not reply.closed
        assert not leaks(bytes(client.received))
        assert set(reply.codes) <= {"42501", "54000", "54001", "42601", "54011", "42622"}, reply.errors
        usable(client)
    waits = sorted(neighbours.waits)
    assert waits
    assert waits[-1] < BLOCKED


# --- approvals --------------------------------------------------------------------------------------------------------


def updates_wait(action: Action) -> Decision:
    if action.name == "query" and action.properties["kind"] == "update":
        return require_approval()
    return team_policy(action)


@pytest.fixture
def asking(team: Relay) -> Iterator[Relay]:
    team.decisions.policy = updates_wait
    yield team
    team.decisions.policy = team_policy


UPDATE = "update notes set body = 'approved' where id = 11"


def executions(server: PostgresServer, position: int) -> int:
    return sum(
        UPDATE in line and ("statement: " in line or "execute " in line)
        for line in server.log_after(position).splitlines()
        if "duration" not in line
    )


def until(what: Callable[[], object], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not come to pass"
        threading.Event().wait(0.01)


def test_one_approval_is_for_one_execution(asking: Relay, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    with Attacker(asking.port, NAME) as client:
        client.batch(Parse("p", UPDATE))
        once = (Bind("", "p"), Execute(""))
        before = len(asking.decisions.requested)
        client.send(*once, *once, *once, Sync())
        asking.resolve("approved")
        until(lambda: len(asking.decisions.requested) == before + 2)
        asking.resolve("denied")
        reply = client.read()
        assert reply.codes == ["42501"]
        usable(client)
    assert executions(postgres18, position) == 1
    assert len(asking.decisions.requested) == before + 2


def test_an_approval_cannot_be_used_again(asking: Relay, postgres18: PostgresServer) -> None:
    position = postgres18.log_position()
    with Attacker(asking.port, NAME) as client:
        client.send(Query(UPDATE))
        asking.resolve("approved")
        assert not client.read().codes
        client.send(Query(UPDATE))
        asking.resolve("denied")
        assert client.read().codes == ["42501"]
        usable(client)
    assert executions(postgres18, position) == 1


@pytest.mark.parametrize(
    "change",
    [
        "create or replace view changing as select id, body, ssn from notes, (select ssn from customers limit 1) s",
        "drop view changing; alter table notes add also text; create view changing as select * from notes",
        "create rule r as on update to changing do instead delete from orders",
    ],
)
def test_what_was_approved_changed_while_it_waited(asking: Relay, postgres18: PostgresServer, change: str) -> None:
    postgres18.sql(NAME, "drop view if exists changing; alter table notes drop column if exists also")
    postgres18.sql(NAME, "create view changing as select id, body from notes; grant all on changing to public")
    position = postgres18.log_position()
    with Attacker(asking.port, NAME) as client:
        client.send(Query("update changing set body = 'y'"))
        until(lambda: any(not future.done() for future in asking.decisions.approvals.values()))
        postgres18.sql(NAME, change + "; grant all on changing to public")
        asking.resolve("approved")
        assert client.read().codes == ["42501"]
        usable(client)
    assert "statement: update changing" not in postgres18.log_after(position)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("way", ["simple", "extended", "transaction"])
def test_a_held_client_goes_away(asking: Relay, postgres18: PostgresServer, reset: bool, way: str) -> None:
    position = postgres18.log_position()
    client = Attacker(asking.port, NAME)
    if way == "transaction":
        client.query("begin")
    client.send(*(extended(UPDATE) if way == "extended" else (Query(UPDATE),)))
    client.send(Sync())
    waiting = asking.decisions.approvals
    until(lambda: any(not future.done() for future in waiting.values()))
    (approval,) = [name for name, future in waiting.items() if not future.done()]
    client.vanish(reset=reset)
    until(lambda: approval in asking.decisions.cancelled)
    asking.resolve("approved")
    with Attacker(asking.port, NAME) as other:
        usable(other)
    assert executions(postgres18, position) == 0
    assert not any(name == approval for name, _ in asking.decisions.redeemed)


# --- what fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["simple", "extended", "transaction"])
def test_no_decision_is_a_denial_that_may_be_tried_again(team: Relay, postgres18: PostgresServer, way: str) -> None:
    position = postgres18.log_position()
    with Attacker(team.port, NAME) as client:
        if way == "transaction":
            client.query("begin")
        team.decisions.down = True
        try:
            reply = client.batch(*extended(UPDATE)) if way == "extended" else client.query(UPDATE)
        finally:
            team.decisions.down = False
        assert reply.codes == ["42501"]
        assert json.loads(reply.errors[0]["D"])["checkrein"]["retry"] is True
        usable(client)
    assert executions(postgres18, position) == 0


def test_nobody_gets_in_without_decisions(team: Relay) -> None:
    team.decisions.down = True
    try:
        with Attacker(team.port, NAME) as client:
            assert client.greeting.closed
            assert client.greeting.errors
    finally:
        team.decisions.down = False


@pytest.mark.parametrize("way", ["text", "binary"])
def test_an_open_policy_lets_the_markers_through(postgres18: PostgresServer, team: Relay, way: str) -> None:
    """What shows that the attempts would be noticed if they succeeded."""
    with relay(postgres18, NAME) as running, Attacker(running.port, NAME) as client:
        texts = ("select ssn || '' from customers", "select salary from customers", "select ssn::bytea from customers")
        for text in (*texts, "select ssn::int from customers"):
            before = len(client.received)
            client.batch(*extended(text, binary=way == "binary"))
            assert leaks(bytes(client.received[before:])), text


def test_whoever_leaves_while_the_catalog_is_read_shifts_no_answers(postgres18: PostgresServer, team: Relay) -> None:
    """The shared connection of the catalog: an answer that nobody took must not be taken for the next one's."""
    upstream = {"addresses": [f"{postgres18.host}:{postgres18.port}"], "database": NAME, "tls": {"mode": "disable"}}
    target = Target(PostgresUpstream.model_validate_json(json.dumps(upstream)))
    active = "select from pg_stat_activity where query like '%pg_sleep(0.3)' and state = 'active'"

    async def leave_and_ask() -> None:
        own = OwnConnection(target, Account("checkrein_trust", None))
        assert await own.rows("select 'one'") == [("one",)]
        leaving = asyncio.create_task(own.rows("select 'two' from pg_sleep(0.3)"))
        while not await asyncio.to_thread(postgres18.sql, NAME, active):
            pass
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await own.rows("select 'three'") == [("three",)]
        await own.close()

    asyncio.run(leave_and_ask())
