"""What stands on record: what was asked, decided and seen, before it runs, whatever dies meanwhile."""

import contextlib
import json
import re
import threading
import time

import psycopg
import pytest

from tests.e2e.clients import OnLock, Waiting, refusal
from tests.fix_postgres import PROXY_ROLE
from tests.fix_stack import APPROVER, OPERATOR, Stack

CUSTOMERS = "select id, name, email, ssn from customers order by id limit 1"
COUNTED = "select id from orders where id = {}"


def test_a_session_can_be_listed_shown_replayed_and_verified(stack: Stack):
    run = "records-1"
    ((email, ssn),) = stack.truth("select email, ssn from customers where id = 1")
    with stack.connect(stack.node("read_customers", run)) as connection:
        connection.execute(CUSTOMERS)
        told = refusal(connection, "select ssn || '' from customers")
    (session,) = stack.until(lambda: stack.sessions(run))

    replay = stack.recorded(session, "session closed", told.detail["id"])
    assert "agent:support-bot (support-agents), on behalf of user:sam" in replay
    assert f"support/read_customers/{run}" in replay
    asked, masked, forwarded, came_back, refused = (
        replay.index(each)
        for each in (CUSTOMERS, "mask  query", "forwarded as", "came back  SELECT 1", told.detail["id"])
    )
    assert asked < masked < forwarded < came_back < refused
    assert "must mask public.customers.email by PartialEmailMask, public.customers.ssn by NullMask" in replay
    assert re.search(r"1\s+Bruno Brandt\s+br\*\*\*\*@ex\*\*\*\*\.com\s+NULL", replay)
    assert str(email) not in replay
    assert str(ssn) not in replay

    listed = stack.as_(OPERATOR, "sessions", "list", "--run", run)
    assert "1 mask" in listed
    assert "1 deny" in listed
    shown = stack.as_(OPERATOR, "sessions", "show", session)
    assert "session.opened" in shown
    assert "intent" in shown
    assert "the chains hold" in stack.as_(OPERATOR, "sessions", "verify", session)
    assert "the chains hold" in stack.as_(OPERATOR, "records", "verify")
    shown = [json.loads(each) for each in who(stack, "public.customers.email")]
    assert {(each["session"], each["shown"], tuple(each["labels"])) for each in shown if each["run"] == run} == {
        (session, "masked", ("email",))
    }
    named = [json.loads(each) for each in who(stack, "public.customers.name")]
    assert {each["shown"] for each in named if each["run"] == run} == {"clear"}
    # Without the service, on what it has stored.
    store = f"sqlite:///{stack.state / 'pdp.db'}"
    assert "the chains hold" in stack.as_(OPERATOR, "records", "verify", "--store", store)


def who(stack: Stack, field: str) -> list[str]:
    return stack.as_(OPERATOR, "records", "who", field, "--json").splitlines()


def test_an_approval_is_on_record_with_who_was_asked_and_what_became_of_it(stack: Stack):
    run = "records-2"
    with stack.connect(stack.node("delete_stale", run)) as connection:
        waiting = Waiting(connection, "delete from orders where status = 'stale' and id = 1000")
        stack.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes")
        assert waiting.outcome() == "DELETE 1"
    (session,) = stack.until(lambda: stack.sessions(run))
    replay = stack.recorded(session, "session closed", "came back  DELETE 1")
    steps = [
        f"waits for approval {waiting.approval}",
        "deletes/delete needs 1 of group:order-team",
        f"approval {waiting.approval}: approved",
        f"approval {waiting.approval} is used; decided again: allow",
        "forwarded as execution",
        "came back  DELETE 1",
    ]
    places = [replay.index(step) for step in steps]
    assert places == sorted(places)


def test_who_may_not_see_records_does_not(stack: Stack):
    for who in (APPROVER, ("agent:support-bot", ("checkrein-admins",))):
        for words in (("sessions", "list"), ("sessions", "kill", "s-1", "--reason", "because")):
            done = stack.pdp(*words, token=stack.person(who))
            assert done.status == 4, done
            assert done.out == ""


@pytest.mark.alone
def test_a_kill_ends_a_running_statement_and_its_session_within_a_second(stack: Stack):
    run = "records-3"
    with stack.connect(stack.node("read_orders", run)) as connection:
        running = OnLock(stack, connection, COUNTED.format(1))
        try:
            (session,) = stack.until(lambda: stack.sessions(run))
            ended: list[float] = []
            watcher = threading.Thread(target=lambda: ended.append((running.outcome(), time.monotonic())[1]))
            watcher.start()
            stack.as_(OPERATOR, "sessions", "kill", session, "--reason", "runs wild since noon")
            killed = time.monotonic()
            watcher.join()
            assert ended[0] - killed < 1.0
            # At the target it has ended as well, though the lock is still held.
            there = "select count(*) from pg_stat_activity where state = 'active' and query like '%where id = 1'"
            stack.until(lambda: stack.truth(there) == [(0,)])
        finally:
            running.let_go()
        (error,) = running.got
        assert isinstance(error, psycopg.errors.AdminShutdown)
        assert "runs wild since noon" in str(error)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    stack.recorded(session, "session closed", "runs wild since noon")
    assert "the chains hold" in stack.as_(OPERATOR, "sessions", "verify", session)


def test_nothing_was_executed_that_is_not_on_record_when_the_proxy_is_killed(private_stack):
    stack = private_stack()
    stack.serve()
    runs = [f"ledger-{number}" for number in range(2)]
    tokens = [stack.node("read_orders", run) for run in runs]
    position = stack.server.log_position()
    answered: list[int] = []

    def client(number: int, token: str) -> None:
        with contextlib.suppress(psycopg.OperationalError), stack.connect(token) as connection:
            for each in range(number, 1_000_000, len(runs)):
                connection.execute(COUNTED.format(each).encode())
                answered.append(each)

    clients = [threading.Thread(target=client, args=each) for each in enumerate(tokens)]
    for each in clients:
        each.start()
    stack.until(lambda: len(answered) > 60, what="some statements have been answered")
    stack.kill("proxy")
    for each in clients:
        each.join()
    pattern = COUNTED.format(r"(\d+)")
    # The log line of a statement names the role and the database, so other tests' statements are not in it.
    lines = stack.server.log_after(position).splitlines()
    executed = {
        int(found[1])
        for line in lines
        if f" {stack.database} {PROXY_ROLE} " in line and (found := re.search(pattern + "$", line))
    }
    assert set(answered) <= executed

    stack.start_proxy()
    on_record: set[int] = set()
    for run in runs:
        (session,) = stack.until(lambda run=run: stack.sessions(run))
        replay = stack.recorded(session, "session lost")
        on_record |= {int(number) for number in re.findall(pattern, replay)}
    assert "the chains hold" in stack.as_(OPERATOR, "sessions", "verify", session)
    assert executed
    assert executed <= on_record
