"""Ways past a verdict that were found by reading the proxy, each kept shut on a running one."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pep.core.model import Action, Decision, ReadOnly, digest_of
from pep.http.classify import ClassifySettings, classify
from pep.http.messages import Fields, Length, RequestHead
from pep.http.paths import normalise
from tests.http_api import HttpApi
from tests.http_relay import PASSWORD, HttpRelay, allow, http_relay, require_approval
from tests.stub_service import eventually

ASYNC = {"Prefer": "respond-async"}


def policy(action: Action) -> Decision:
    if action.properties["path"].startswith("/read"):
        return allow(ReadOnly())
    return require_approval() if action.properties["method"] == "PUT" else allow()


@pytest.fixture
def relay(api: HttpApi) -> Iterator[HttpRelay]:
    with http_relay(api.url, policy) as running:
        yield running


@pytest.fixture
def client(relay: HttpRelay) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=relay.url, headers={"Authorization": f"Bearer {PASSWORD}"}) as running:
        yield running


def test_a_decision_that_says_read_only_is_held_to(client: httpx.Client, api: HttpApi) -> None:
    refused = client.post("/read/1", content=b"x")
    assert refused.status_code == 403
    assert refused.json()["checkrein"]["code"] == "read-only"
    assert api.seen == []


@pytest.mark.parametrize(
    "fields",
    [
        {"X-HTTP-Method-Override": "DELETE"},
        {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
         "Sec-WebSocket-Version": "13"},
    ],
    ids=["override", "upgrade"],
)  # fmt: skip
def test_a_get_that_may_change_something_is_no_read(client: httpx.Client, api: HttpApi, fields: dict[str, str]) -> None:
    assert client.get("/read/1", headers=fields).status_code == 403
    assert api.seen == []


def test_an_approval_is_bound_to_what_the_request_prefers(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    location = client.put("/orders/1", json={}, headers=ASYNC).headers["Location"]
    relay.resolve("approved")
    eventually(lambda: client.get(location).json()["state"] == "approved")
    other = client.put("/orders/1", json={}, headers={"Prefer": "respond-async, resolution=merge-duplicates"})
    assert other.status_code == 202
    assert other.headers["Location"] != location
    assert api.seen == []
    # How long the client waits is no part of it.
    assert client.put("/orders/1", json={}, headers={"Prefer": "respond-async, wait=5"}).status_code == 201


def test_an_approval_that_two_come_back_for_is_used_once(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    location = client.put("/orders/1", json={}, headers=ASYNC).headers["Location"]
    relay.resolve("approved")
    eventually(lambda: client.get(location).json()["state"] == "approved")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.put("/orders/1", json={}, headers=ASYNC).status_code, range(8)))
    # Every one of them is answered: once with the target's answer, else refused or asked anew.
    assert sorted(set(answers) - {202, 403}) == [201]
    assert answers.count(201) == 1
    assert api.targets() == ["PUT /orders/1"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
def test_an_approval_of_what_is_no_json_at_a_graphql_endpoint_is_bound_to_it(kind: str) -> None:
    settings = ClassifySettings(scheme="https", graphql_paths=("/graphql",))

    def digest(body: bytes) -> bytes:
        fields = Fields((("Content-Type", kind),))
        head = RequestHead("POST", "/graphql", "/graphql", None, "x", 1, fields, Length(len(body)), True, False, "")
        return digest_of(classify(head, normalise("/graphql"), body, settings).actions[0], "a", "b")

    said = [json.dumps({"query": f"mutation {{ pay(amount: {amount}) }}"}).encode() for amount in (1, 9)]
    assert digest(said[0]) != digest(said[1])
