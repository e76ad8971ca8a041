"""The HTTP proxy as it is deployed: real processes, the shipped policies, an agent's token, a real API."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fix_stack import HOST, OPERATOR, PATIENCE, Stack
from tests.http_api import CUSTOMERS, HttpApi
from tests.http_relay import SECRET
from tests.ports import free_port

OWNER = ("user:petra", ("payments-owners",))


class Api:
    """The API through the proxy, for one agent."""

    def __init__(self, stack: Stack, port: int, run: str = "r-http") -> None:
        self.stack = stack
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {stack.token(audience='pay', run=run)}"
        self.url = f"http://{HOST}:{port}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        # Longer than everything that people do meanwhile at the command line takes on a machine that is busy.
        return self.session.request(method, self.url + path, timeout=4 * PATIENCE, **options)


def pay_proxy(document: dict[str, Any], port: int, url: str) -> None:
    """Puts the proxy of an API at that address into the configuration of a stack."""
    secret = Path(document["state"]).parent / "api.token"
    secret.touch(0o600)
    secret.write_text(SECRET)
    document["pdp"]["resources"]["pay"] = {"type": "http"}
    document["proxies"].append(
        {
            "name": "pay",
            "resource": "pay",
            "protocol": "http",
            "listen": {"address": f"{HOST}:{port}"},
            "upstream": {"addresses": [url]},
            "credentials": {"default": {"bearer": {"file": str(secret)}}},
            "shutdown": {"drain": "1s"},
        }
    )


@pytest.fixture
def pay(private_stack: Callable[..., Stack], api: HttpApi) -> Iterator[Api]:
    port = free_port()
    stack = private_stack(lambda document: pay_proxy(document, port, api.url))
    stack.up()
    made = Api(stack, port)
    yield made
    made.session.close()


def approve(stack: Stack) -> None:
    def pending() -> str:
        found = re.search(r"\b(a-[a-z0-9]{8,})", stack.as_(OWNER, "approvals", "list"))
        return found[1] if found else ""

    approval = stack.until(pending, what="an approval is asked for")
    shown = stack.as_(OWNER, "approvals", "show", approval)
    assert "POST /refunds" in shown
    assert '"amount": 200' in shown
    stack.as_(OWNER, "approvals", "approve", approval, "--yes")


def test_the_four_verdicts_records_and_a_kill(pay: Api, api: HttpApi):
    allowed = pay.ask("GET", "/orders")
    assert allowed.status_code == 200
    assert allowed.json()

    masked = pay.ask("GET", "/customers")
    assert masked.status_code == 200, masked.text
    clear = {str(customer[name]) for customer in CUSTOMERS for name in ("email", "ssn")}
    assert not [value for value in clear if value in masked.text]
    assert [customer["id"] for customer in masked.json()] == [customer["id"] for customer in CUSTOMERS]

    seen = len(api.seen)
    denied = pay.ask("DELETE", "/customers/1")
    assert denied.status_code == 403
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert denied.json()["checkrein"]["verdict"] == "deny"
    assert pay.ask("POST", "/refunds", json={"amount": 5000}).status_code == 403
    assert len(api.seen) == seen
    assert pay.ask("POST", "/refunds", json={"amount": 20}).status_code == 201

    waiting: list[requests.Response] = []
    held = threading.Thread(target=lambda: waiting.append(pay.ask("POST", "/refunds", json={"amount": 200})))
    held.start()
    approve(pay.stack)
    held.join(PATIENCE)
    assert waiting[0].status_code == 201
    assert api.seen[-1].body == b'{"amount":200}'
    assert api.seen[-1].all("Authorization") == [f"Bearer {SECRET}"]

    (session,) = pay.stack.sessions("r-http")
    replayed = pay.stack.recorded(session, "DELETE /customers/1", "POST /refunds", "HTTP 201")
    assert "GET /customers" in replayed
    assert not [value for value in clear if value in replayed]
    assert SECRET not in pay.stack.logs() + replayed

    shown = [
        json.loads(each) for each in pay.stack.as_(OPERATOR, "records", "who", "--label", "pii", "--json").splitlines()
    ]
    mine = {
        (each["dataset"].split(" ")[0], each["field"], each["shown"]) for each in shown if each["session"] == session
    }
    # Every document of this API is looked into, so nothing else may have held one.
    assert mine == {("GET", "$[*].ssn", "masked")}

    pay.stack.as_(OPERATOR, "sessions", "kill", session, "--reason", "enough")
    # The token itself is good: the next request is another session, and on record as one.
    pay.stack.until(lambda: pay.ask("GET", "/orders").status_code == 200, what="another session")
    listed = pay.stack.sessions("r-http")
    assert session in listed
    assert len(listed) == 2
