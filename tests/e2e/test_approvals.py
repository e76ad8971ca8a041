"""A statement waits on the wire for people: who may answer, and what becomes of it in every case."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.clients import Waiting, refusal
from tests.fix_postgres import PostgresServer
from tests.fix_stack import ADMINISTRATION, AGENT, APPROVER, Stack, installed, seed

DELETE = "delete from orders where status = 'stale' and id = {}"
BRIEF = """package policies.brief

import data.checkrein.postgres as pg

require_approval contains {
	"code": "brief",
	"approvers": ["group:order-team"],
	"message": "Payments have a second.",
	"wait": "1s",
} if "public.payments" in pg.deleted
"""


@pytest.fixture(scope="module")
def held(postgres18: PostgresServer, opa_path: Path) -> Iterator[Stack]:
    """One installation, with short times where a test waits for their end."""

    def edit(document: dict[str, Any]) -> None:
        document["proxies"][0]["approval"] = {"hold_in_transaction": "1s", "estimate": "60s"}

    seed(postgres18, "approvals_shop")
    with installed(postgres18, opa_path, "approvals_shop", edit) as stack:
        folder = stack.policies / "policies" / "brief"
        folder.mkdir()
        (folder / "brief.rego").write_text(BRIEF)
        bindings = stack.policies / "bindings" / "data.yaml"
        more = "- {policy: brief, match: {id: shop}}\n- {policy: small_changes, match: {id: shop}}\n"
        bindings.write_text(bindings.read_text() + more)
        parameters = stack.policies / "parameters" / "data.yaml"
        of_the_node = "        public.orders: [read, delete]\n"
        shipped = parameters.read_text()
        assert shipped.count(of_the_node) == 1
        listed = "        public.orders: [read, delete, update]\n        public.payments: [read, delete]\n"
        parameters.write_text(shipped.replace(of_the_node, listed))
        stack.serve()
        yield stack


def left(stack: Stack, order: int) -> bool:
    return stack.truth(f"select count(*) from orders where id = {order}") == [(1,)]


def deleted_since(stack: Stack, position: int) -> list[str]:
    """What the server was told to delete; that it was asked for a plan is no such thing."""
    lines = stack.server.log_after(position).splitlines()
    return [line for line in lines if "delete from orders" in line and "EXPLAIN (FORMAT JSON" not in line]


def test_only_another_person_of_the_group_says_yes(held: Stack):
    """Not the requester, though it is in the group; not the person behind it; not who is in another group."""
    asking = held.token(AGENT, ("order-team",), node="delete_stale", on_behalf_of="user:dana")
    with held.connect(asking) as connection:
        waiting = Waiting(connection, DELETE.format(50))
        for who in (
            (AGENT, ("order-team",)),
            APPROVER,
            ("user:DANA", ("order-team",)),
            ("user:eve", ("customer-team",)),
        ):
            done = held.pdp("approvals", "approve", waiting.approval, "--yes", token=held.person(who))
            assert done.status == 4, (who, done)
        working_for = held.token("agent:dora-bot", ("order-team",), on_behalf_of="user:dora", audience=ADMINISTRATION)
        assert held.pdp("approvals", "approve", waiting.approval, "--yes", token=working_for).status == 4
        assert held.pdp("approvals", "approve", waiting.approval, "--yes", token=asking).status == 4
        assert waiting.waits
        assert left(held, 50)
        said = held.as_(("user:dora", ("order-team",)), "approvals", "approve", waiting.approval, "--yes")
        assert "delete from orders where status = 'stale' and id = 50" in said
        assert waiting.outcome() == "DELETE 1"
    assert not left(held, 50)


def test_a_no_reaches_the_client_with_its_comment(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, DELETE.format(100))
        held.as_(APPROVER, "approvals", "deny", waiting.approval, "--comment", "archive them instead")
        said = waiting.outcome()
        assert "the approval was refused: archive them instead" in said
        assert connection.execute("select 1").fetchone() == (1,)
    assert left(held, 100)


def test_a_yes_serves_once(held: Stack):
    statement = DELETE.format(150)
    with held.connect(held.node("delete_stale")) as connection:
        first = Waiting(connection, statement)
        held.as_(APPROVER, "approvals", "approve", first.approval, "--yes")
        assert first.outcome() == "DELETE 1"
        again = Waiting(connection, statement)
        assert again.approval != first.approval
        assert again.waits
        done = held.pdp("approvals", "approve", first.approval, "--yes", token=held.person(APPROVER))
        assert done.status == 5
        assert again.waits
        held.as_(APPROVER, "approvals", "deny", again.approval, "--comment", "once is enough")
        again.outcome()


def test_what_nobody_answers_in_time_is_refused(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, "delete from payments where id = 1")
        assert "nobody approved it in time" in waiting.outcome()
        assert connection.execute("select 1").fetchone() == (1,)
    assert held.truth("select count(*) from payments where id = 1") == [(1,)]
    assert held.pdp("approvals", "approve", waiting.approval, "--yes", token=held.person(APPROVER)).status == 5


def test_inside_a_transaction_it_is_held_briefly_and_the_transaction_fails(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        connection.execute("begin")
        connection.execute("select id from orders where id = 200")
        waiting = Waiting(connection, DELETE.format(200))
        assert "nobody approved it in time" in waiting.outcome()
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.execute("rollback")
        assert connection.execute("select 1").fetchone() == (1,)
    assert left(held, 200)


def test_when_the_client_leaves_its_question_is_withdrawn_and_nothing_happens(held: Stack):
    position = held.server.log_position()
    connection = held.connect(held.node("delete_stale"))
    waiting = Waiting(connection, DELETE.format(250))
    connection.close()

    def ended() -> bool:
        return "cancelled" in held.as_(APPROVER, "approvals", "show", waiting.approval)

    held.until(ended)
    done = held.pdp("approvals", "approve", waiting.approval, "--yes", token=held.person(APPROVER))
    assert done.status == 5
    assert not deleted_since(held, position)
    assert left(held, 250)


def test_a_question_survives_the_death_of_the_service(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, DELETE.format(350))
        held.kill("service")
        held.start_service()
        assert waiting.waits
        assert left(held, 350)
        held.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes")
        assert waiting.outcome() == "DELETE 1"
    assert not left(held, 350)


def test_a_question_survives_the_death_of_opa_and_is_decided_again_when_it_is_back(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, DELETE.format(400))
        os.kill(held.opa(), signal.SIGKILL)
        assert waiting.waits
        token = held.person(APPROVER)

        def agreed() -> bool:
            """Without OPA nobody may approve; the service starts it again."""
            return held.pdp("approvals", "approve", waiting.approval, "--yes", token=token).status == 0

        held.until(agreed, "service", "the answer is taken again")
        assert waiting.outcome() == "DELETE 1"
    assert not left(held, 400)


def test_what_a_proxy_waited_for_that_has_died_is_never_executed(held: Stack):
    position = held.server.log_position()
    lost = held.connect(held.node("delete_stale"))
    waiting = Waiting(lost, DELETE.format(450))
    held.kill("proxy")
    lost.close()
    # People may still say yes to it; there is nobody whom it would let through.
    held.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes")
    held.start_proxy()
    with held.connect(held.node("delete_stale")) as connection:
        # Nor does the same statement of the same agent find it: it is asked for itself.
        again = Waiting(connection, DELETE.format(450))
        assert again.approval != waiting.approval
        held.as_(APPROVER, "approvals", "deny", again.approval, "--comment", "no")
        assert "the approval was refused: no" in again.outcome()
    assert not deleted_since(held, position)
    assert left(held, 450)


def test_a_yes_for_five_rows_lets_no_more_than_five_go(held: Stack):
    stale = "from orders where status = 'stale' and id between {} and {}"
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, f"delete {stale.format(1000, 2000)}")
        said = held.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes", "--max-rows", "5")
        assert "is approved" in said
        told = waiting.outcome()
        assert "it changes 21 rows, and may change at most 5 rows; it had no effect" in told
        assert held.truth(f"select count(*) {stale.format(1000, 2000)}") == [(21,)]
        shown = held.as_(APPROVER, "approvals", "show", waiting.approval)
        assert "changing at most 5 rows" in shown
        few = Waiting(connection, f"delete {stale.format(2050, 2150)}")
        held.as_(APPROVER, "approvals", "approve", few.approval, "--yes", "--max-rows", "5")
        assert few.outcome() == "DELETE 3"
    assert held.truth(f"select count(*) {stale.format(2050, 2150)}") == [(0,)]


def test_few_rows_are_nobody_s_business_and_what_was_guessed_wrongly_has_no_effect(held: Stack):
    """The shipped policy small_changes: an estimate first, and the proxy holds the statement to it."""
    with held.connect(held.node("delete_stale")) as connection:
        assert connection.execute("update orders set note = 'few' where id between 1 and 3").rowcount == 3
        # The planner takes two conditions that say the same for two that narrow each other.
        refused = refusal(connection, "update orders set note = 'many' where status = 'stale' and id % 50 = 0")
        assert refused.sqlstate == "54000"
        assert "and may change at most 10 rows; it had no effect" in refused.message
        assert refused.detail["code"] == "limit-affected"
        waiting = Waiting(connection, "update orders set note = 'many' where id <= 100")
        held.as_(APPROVER, "approvals", "deny", waiting.approval, "--comment", "not all of them")
        assert "not all of them" in waiting.outcome()
    assert held.truth("select note, count(*) from orders where note in ('few', 'many') group by note") == [("few", 3)]


def test_what_has_changed_while_it_waited_is_not_what_was_approved(held: Stack):
    with held.connect(held.node("delete_stale")) as connection:
        waiting = Waiting(connection, DELETE.format(300))
        held.truth(
            "create function lose() returns trigger language plpgsql as "
            "$$ begin delete from payments; return old; end $$;"
            "create trigger lose before delete on orders for each row execute function lose()"
        )
        try:
            payments = held.truth("select count(*) from payments")
            held.as_(APPROVER, "approvals", "approve", waiting.approval, "--yes")
            said = waiting.outcome()
            assert "is refused" in said
            assert connection.execute("select 1").fetchone() == (1,)
            assert left(held, 300)
            assert held.truth("select count(*) from payments") == payments
        finally:
            held.truth("drop function lose() cascade")
