"""A server that is stopped while it has work: limits of time hold, a session can be ended, nothing is half done."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from pep.core.model import Action, Decision, FieldMask, LimitAffected, NullMask, TimeLimit
from pep.core.sessions import SessionEnded
from pep.postgres import session
from pep.postgres.messages import FrontendMessage, Query, Sync
from tests.attacks import Attacker, extended
from tests.fix_postgres import PostgresServer
from tests.relay import Relay, allow, mask, relay
from tests.stub_service import eventually

NAME = "paused"
CHANGE, READ = "delete from items where id = 1", "select id, secret from items"
LONG = "select count(*) from items"


def policy(action: Action) -> Decision:
    limit = TimeLimit(0.2)
    if action.name == "prepare" or action.properties["class"] == "catalog":
        return allow()
    if action.properties["kind"] == "delete":
        return allow(limit, LimitAffected(3))
    if action.statement is not None and action.statement.text == LONG:
        return allow()
    return mask(FieldMask("public.items", "secret", NullMask()), also=(limit,))


@pytest.fixture(scope="module")
def running(postgres18: PostgresServer) -> Iterator[Relay]:
    postgres18.create_database(NAME)
    postgres18.sql(NAME, "create table items (id int primary key, secret text); grant all on items to public")
    postgres18.sql(NAME, "insert into items values (1, 'x')")
    with relay(postgres18, NAME, policy) as found:
        yield found


@contextlib.contextmanager
def stopped_backend(client: Attacker) -> Iterator[None]:
    """The server's process for this client stands still."""
    (pid,) = (int.from_bytes(payload[:4]) for tag, payload in client.greeting.frames if tag == "K")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def sent(text: str, way: str) -> tuple[FrontendMessage | bytes, ...]:
    return (Query(text),) if way == "simple" else (*extended(text, describe=way == "described"), Sync())


@pytest.mark.parametrize("way", ["simple", "described", "undescribed"])
@pytest.mark.parametrize("text", [CHANGE, READ])
def test_a_limit_of_time_holds(
    running: Relay, postgres18: PostgresServer, monkeypatch: pytest.MonkeyPatch, text: str, way: str
) -> None:
    monkeypatch.setattr(session, "UNANSWERED_SECONDS", 0.2)
    with Attacker(running.port, NAME) as client:
        client.query("select 1 from pg_class limit 1")
        with stopped_backend(client):
            client.send(*sent(text, way))
            reply = client.read()
        assert reply.closed
        assert reply.codes == ["08006"]
        assert reply.rows == 0
    with Attacker(running.port, NAME) as other:
        assert other.query(LONG).frames[1] == ("D", b"\0\x01\0\0\0\x011")


def test_its_session_can_be_ended(running: Relay) -> None:
    with Attacker(running.port, NAME) as client:
        client.query("select 1 from pg_class limit 1")
        with stopped_backend(client):
            asked = len(running.decisions.asked)
            client.send(Query(LONG))
            eventually(lambda: len(running.decisions.asked) > asked, 30)
            running.decisions.ended.append(SessionEnded(running.decisions.asked_by[-1], "enough"))
            reply = client.read()
        assert reply.closed
        assert reply.codes == ["57P01"]
        assert reply.errors[0]["M"].endswith("enough")
