"""On both proxies alike: how much policy has kept of what came back, a change of policy, and what outlives kills."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.e2e.test_http import OWNER, Api, pay_proxy
from tests.fix_postgres import PostgresServer
from tests.fix_stack import OPERATOR, PATIENCE, Stack, installed, seed
from tests.http_api import CUSTOMERS, HttpApi
from tests.ports import free_port

KEPT = """package policies.kept

oblige contains {"record": {"level": "none"}} if input.subject.properties.workflow.run == "r-none"

oblige contains {"record": {"level": 2}} if input.subject.properties.workflow.run == "r-rows"

oblige contains {"record": {"level": "everything"}} if input.subject.properties.workflow.run == "r-everything"
"""
FREEZE = """package policies.freeze

import data.checkrein.postgres as pg

deny contains {"code": "freeze", "message": "Counted."} if "public.orders" in pg.touched

deny contains {"code": "freeze", "message": "Counted."} if input.action.properties.http.segments == ["orders"]
"""
ORDERS = "select id, status from orders order by id limit 5"
ASYNC = {"Prefer": "respond-async"}
NAMES = [str(customer["name"]) for customer in CUSTOMERS]


@dataclass(frozen=True)
class Both:
    """One installation with the service and, in another process, both proxies."""

    stack: Stack
    port: int

    @contextlib.contextmanager
    def api_as(self, run: str) -> Iterator[Api]:
        made = Api(self.stack, self.port, run)
        try:
            yield made
        finally:
            made.session.close()

    def policy(self, name: str, text: str) -> None:
        folder = self.stack.policies / "policies" / name
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.rego").write_text(text)

    def bind(self, *lines: str) -> None:
        bindings = self.stack.policies / "bindings" / "data.yaml"
        bindings.write_text(bindings.read_text() + "".join(f"{line}\n" for line in lines))

    def in_force(self) -> str:
        """The revision, once the service says that it is in force everywhere."""
        said = self.stack.as_(OPERATOR, "status", "--wait", "--timeout", "60s")
        assert "in force everywhere" in said
        return re.findall(r"sha256:[0-9a-f]{64}", said)[0]

    def events(self, true: Callable[[dict[str, Any]], bool], what: str) -> list[dict[str, Any]]:
        """Those of the store's records, once there are any."""

        def found() -> list[dict[str, Any]]:
            with contextlib.closing(sqlite3.connect(self.stack.state / "pdp.db", timeout=PATIENCE)) as store:
                events = [json.loads(event) for (event,) in store.execute("select event from records")]
            return [event for event in events if true(event)]

        return list(self.stack.until(found, what=what))

    def came_back(self, run: str, resource: str) -> str:
        """What the replay of the run's session there says from the first answer on."""
        opened = self.events(
            lambda event: (
                event["type"] == "session.opened"
                and event["facts"]["resource"] == resource
                and event["facts"]["workflow"].endswith(run)
            ),
            f"the session of {run} at {resource}",
        )
        session = str(opened[0]["session"])
        self.events(lambda event: (event["session"], event["type"]) == (session, "response"), "its response")
        replay = self.stack.recorded(session, "came back")
        return replay[replay.index("came back") :]


@pytest.fixture(scope="module")
def both(postgres18: PostgresServer, opa_path: Path, running_api: HttpApi) -> Iterator[Both]:
    port = free_port()
    seed(postgres18, "both_shop")
    with installed(
        postgres18, opa_path, "both_shop", lambda document: pay_proxy(document, port, running_api.url)
    ) as stack:
        made = Both(stack, port)
        made.policy("kept", KEPT)
        made.bind("- {policy: kept, match: {id: [shop, pay]}}")
        stack.serve()
        yield made


# --- how much is kept of what came back -------------------------------------------------------------------------------


SAID = {
    "r-none": ([], "policy: none"),
    "r-rows": ([1, 2], "policy: 2 rows, cut at: rows"),
    "r-everything": ([1, 2, 3, 4, 5], "policy: everything"),
}


def test_policy_says_how_much_of_what_came_back_is_in_the_replay(both: Both):
    stack = both.stack
    for run in SAID:
        with stack.connect(stack.node("read_orders", run)) as connection:
            assert [row[0] for row in connection.execute(ORDERS)] == [1, 2, 3, 4, 5]
        with both.api_as(run) as pay:
            assert [json.loads(line)["name"] for line in pay.ask("GET", "/ndjson").text.splitlines()] == NAMES
    for run, (rows, said) in SAID.items():
        came_back = {resource: both.came_back(run, resource) for resource in ("shop", "pay")}
        shown = re.findall(r"^\s+(\d)\s+(?:paid|open|stale)\s*$", came_back["shop"], re.MULTILINE)
        assert list(map(int, shown)) == rows
        assert [name for name in NAMES if name in came_back["pay"]] == NAMES[: len(rows)]
        for text in came_back.values():
            assert f"kept of it: {said}\n" in re.sub(r" +\n", "\n", text)


# --- a change of policy -----------------------------------------------------------------------------------------------


def first_answers(pay: Api, connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The ids of the decisions that refuse, by protocol, at the first try."""
    refused = {}
    try:
        connection.execute(ORDERS).fetchall()
    except psycopg.Error as error:
        refused["postgres"] = json.loads(error.diag.message_detail or "")["checkrein"]["id"]
    answer = pay.ask("GET", "/orders")
    if answer.status_code == 403:
        refused["http"] = answer.json()["checkrein"]["id"]
    return refused


def test_a_change_is_in_force_for_the_first_statement_on_both_proxies_and_on_their_records(both: Both):
    stack = both.stack
    bindings = stack.policies / "bindings" / "data.yaml"
    before = bindings.read_text()
    with stack.connect(stack.node("read_orders", run="r-both")) as connection, both.api_as("r-both") as pay:
        assert first_answers(pay, connection) == {}
        # Added, with bindings that change.
        both.policy("freeze", FREEZE)
        both.bind("- {policy: freeze, match: {id: [shop, pay]}}")
        added = both.in_force()
        refused = first_answers(pay, connection)
        assert set(refused) == {"postgres", "http"}
        # Broken: the last good one stays in force on both.
        both.policy("freeze", FREEZE + "\ndney contains {}\n")
        done = stack.pdp("status", "--wait", "--timeout", "60s", token=stack.person(OPERATOR))
        assert (done.status, "freeze.rego:9: dney is no contribution" in done.out) == (1, True), done.out
        refused_still = first_answers(pay, connection)
        assert set(refused_still) == {"postgres", "http"}
        # Removed.
        bindings.write_text(before)
        (stack.policies / "policies" / "freeze" / "freeze.rego").unlink()
        removed = both.in_force()
        assert removed != added
        assert first_answers(pay, connection) == {}
        # What people go back to comes to both as a change of the files does.
        stack.as_(OPERATOR, "policy", "rollback", added)
        assert both.in_force() == added
        again = first_answers(pay, connection)
        assert set(again) == {"postgres", "http"}
        stack.as_(OPERATOR, "policy", "resume")
        assert both.in_force() == removed
        assert first_answers(pay, connection) == {}
    for decision in (*refused.values(), *refused_still.values(), *again.values()):
        of_it = both.events(lambda event, of=decision: event.get("decision_id") == of, f"{decision} on record")
        assert {event["policy_revision"] for event in of_it} == {added}


# --- a request that people are asked about, while its client does not wait --------------------------------------------


def refund(pay: Api, amount: int) -> requests.Response:
    """Asked until a proxy answers that has decided: one that is being started refuses connections, or tells to wait."""

    def answer() -> requests.Response | None:
        with contextlib.suppress(requests.ConnectionError):
            got = pay.ask("POST", "/refunds", json={"amount": amount}, headers=ASYNC)
            return None if got.status_code == 503 else got
        return None

    got = pay.stack.until(lambda: (answer(),)[0], what="an answer")
    assert isinstance(got, requests.Response)
    return got


def asked(pay: Api, amount: int) -> str:
    got = refund(pay, amount)
    assert got.status_code == 202, got.text
    return str(got.json()["checkrein"]["approval"])


def executed(api: HttpApi, amount: int) -> int:
    return sum(seen.method == "POST" and json.loads(seen.body) == {"amount": amount} for seen in api.seen)


def standing(pay: Api, approval: str) -> dict[str, Any]:
    """What the client that comes back is told of it, whichever process it reaches."""

    def told() -> tuple[int, dict[str, Any]] | None:
        with contextlib.suppress(requests.ConnectionError):
            answer = pay.ask("GET", f"/.checkrein/approvals/{approval}")
            return None if answer.status_code == 503 else (answer.status_code, answer.json())
        return None

    return dict(pay.stack.until(told, what=f"how {approval} stands")[1])


def killed_proxy(stack: Stack) -> None:
    stack.kill("proxy")
    stack.start_proxy()


def killed_service(stack: Stack) -> None:
    stack.kill("service")
    stack.start_service()


@pytest.mark.parametrize(("kill", "amount"), [(killed_proxy, 101), (killed_service, 102)])
def test_what_people_are_asked_about_outlives_kills_and_is_done_exactly_once(
    both: Both, api: HttpApi, kill: Callable[[Stack], None], amount: int
):
    stack = both.stack
    with both.api_as(f"r-{amount}") as pay:
        approval = asked(pay, amount)
        kill(stack)
        # The same request is the same question, not a second one.
        assert asked(pay, amount) == approval
        assert standing(pay, approval)["state"] == "pending"
        stack.as_(OWNER, "approvals", "approve", approval, "--yes")
        kill(stack)
        assert executed(api, amount) == 0
        done = refund(pay, amount)
        assert done.status_code == 201, done.text
        # It was used: the same request asks anew.
        assert asked(pay, amount) != approval
        assert executed(api, amount) == 1
    redeemed = both.events(
        lambda event: event["type"] == "approval.redeemed" and event["facts"].get("approval_id") == approval,
        f"{approval} is used on record",
    )
    assert len({event["facts"]["execution_id"] for event in redeemed}) == 1
    # The intent stands before it, the response behind it, once each.
    (execution,) = {event["facts"]["execution_id"] for event in redeemed}
    intents = both.events(
        lambda event: event["type"] == "intent" and event["facts"]["execution_id"] == execution, "the intent"
    )
    assert len(intents) == 1
    assert "the chains hold" in stack.as_(OPERATOR, "sessions", "verify", intents[0]["session"])
