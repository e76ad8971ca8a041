"""On both proxies alike: how much policy has kept of what came back. And what people are asked about outlives kills."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
