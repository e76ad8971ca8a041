"""Every verdict and obligation on a running proxy, between a real client and a real API."""

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from pep.core.model import (
    Action,
    Decision,
    FieldMask,
    LimitRows,
    NullMask,
    OnExcess,
    PartialEmailMask,
    ReadOnly,
    RemoveHeaders,
    SetHeaders,
    TimeLimit,
)
from pep.core.sessions import SessionEnded
from tests.http_api import ORDERS, HttpApi
from tests.http_relay import PASSWORD, SECRET, HttpRelay, allow, deny, http_relay, mask, require_approval
from tests.stub_service import eventually

MASKS = (FieldMask("customers", "$..email", PartialEmailMask()), FieldMask("customers", "$..ssn", NullMask()))
MASKED = [
    {"id": 1, "name": "Ada", "email": "ad****@ex****.org", "ssn": None},
    {"id": 2, "name": "Bob", "email": "bo****@ex****.org", "ssn": None},
    {"id": 3, "name": "Cyd", "email": None, "ssn": None},
]
OTHER = "another-token"
BODY = "action.properties.http.body"
MASKED_PATHS = ("/customers", "/encoded/", "/ndjson", "/events", "/socket", "/file", "/chunked")


def policy(action: Action) -> Decision:
    """One path or method for each verdict and obligation."""
    method, path = action.properties["method"], action.properties["path"]
    if method == "DELETE":
        return deny("orders stay where they are", "no_delete")
    if action.name == "prepare":
        return allow()
    if method == "PUT":
        return require_approval()
    if path.startswith(MASKED_PATHS):
        return mask(*MASKS)
    match path:
        case "/orders/few" | "/orders":
            return allow(LimitRows(5, OnExcess.TRUNCATE)) if method == "GET" else allow()
        case "/gate":
            return allow(TimeLimit(0.3))
        case "/reflect":
            return allow(SetHeaders((("X-Tenant", "acme"),)), RemoveHeaders(frozenset({"X-Debug"})))
    return allow()


@pytest.fixture
def relay(api: HttpApi) -> Iterator[HttpRelay]:
    with http_relay(api.url, policy) as running:
        yield running


@pytest.fixture
def client(relay: HttpRelay) -> Iterator[httpx.Client]:
    with client_of(relay) as opened:
        yield opened


def client_of(relay: HttpRelay, password: str = PASSWORD) -> httpx.Client:
    headers = {"Authorization": f"Bearer {password}"}
    return httpx.Client(base_url=relay.url, headers=headers, timeout=10, trust_env=False)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def problem(response: httpx.Response, status: int = 403) -> dict[str, Any]:
    """The document of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    document = response.json()
    assert document["status"] == status
    assert document["detail"]
    return document  # type: ignore[no-any-return]


# --- allow, deny, mask ------------------------------------------------------------------------------------------------


def test_what_is_allowed_passes_and_is_put_on_record(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    assert client.get("/orders/3").json() == ORDERS[2]
    assert api.targets() == ["GET /orders/3"]
    assert [(action.name, action.protocol) for action in relay.decisions.asked] == [("request", "http")]
    eventually(lambda: len(relay.decisions.sessions) == 1)


def test_what_is_denied_is_a_problem_document_and_the_connection_still_usable(
    client: httpx.Client, relay: HttpRelay, api: HttpApi
) -> None:
    first = client.get("/orders/1")
    refused = client.delete("/orders/1")
    document = problem(refused)
    assert document["checkrein"]["verdict"] == "deny"
    assert document["checkrein"]["code"] == "no_delete"
    assert document["checkrein"]["id"]
    assert "orders stay where they are" in document["detail"]
    again = client.get("/orders/1")
    assert again.json() == first.json()
    streams = {response.extensions["network_stream"].get_extra_info("client_addr") for response in (first, again)}
    assert len(streams) == 1
    assert api.targets() == ["GET /orders/1", "GET /orders/1"]


def test_a_denied_request_with_a_short_body_leaves_the_connection_usable(relay: HttpRelay, api: HttpApi) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {PASSWORD}\r\n"
    sent = (
        f"DELETE /orders/1 HTTP/1.1\r\n{head}Content-Length: 5\r\n\r\nhello"
        f"GET /orders/2 HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
    )
    answer = relay.raw(sent.encode())
    assert answer.count(b"HTTP/1.1 403") == 1
    assert answer.count(b"HTTP/1.1 200") == 1
    assert api.targets() == ["GET /orders/2"]


@pytest.mark.parametrize("path", ["/customers", "/encoded/gzip", "/encoded/br", "/encoded/zstd", "/encoded/identity"])
def test_masks_hold_in_every_coding(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == MASKED
    assert "ETag" not in response.headers
    assert len(response.content) == int(response.headers["Content-Length"])


def test_masks_hold_in_lines_and_events(client: httpx.Client) -> None:
    lines = client.get("/ndjson").text.splitlines()
    assert list(map(json.loads, lines)) == MASKED
    events = client.get("/events", params={"count": 3}).text
    assert events.count("us****@ex****.org") == 3
    assert "user1@" not in events


def test_masks_hold_for_one_object_and_keep_its_head_to_itself(client: httpx.Client) -> None:
    assert client.get("/customers/1").json() == MASKED[0]
    head = client.head("/customers/1")
    assert head.status_code == 200
    assert head.content == b""
    assert "ETag" not in head.headers


@pytest.mark.parametrize("path", ["/file", "/chunked"])
def test_what_cannot_be_masked_is_withheld(client: httpx.Client, path: str) -> None:
    document = problem(client.get(path))
    assert document["checkrein"]["code"] == "cannot-mask"


def test_a_websocket_is_denied_where_a_mask_is_due(client: httpx.Client, api: HttpApi) -> None:
    wanted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert problem(client.get("/socket", headers=wanted))["checkrein"]["code"] == "cannot-mask"
    assert api.seen == []


# --- obligations of the request and of its length ---------------------------------------------------------------------


def test_rows_are_limited(client: httpx.Client) -> None:
    assert client.get("/orders").json() == ORDERS[:5]


def test_header_fields_are_set_and_removed(client: httpx.Client, api: HttpApi) -> None:
    client.get("/reflect", headers={"X-Tenant": "mine", "X-Debug": "1", "X-Other": "2"})
    (seen,) = api.seen
    assert seen.all("X-Tenant") == ["acme"]
    assert seen.all("X-Debug") == []
    assert seen.all("X-Other") == ["2"]


def test_a_request_that_takes_longer_than_policy_allows_ends(client: httpx.Client) -> None:
    problem(client.get("/gate"), 504)


def test_a_session_that_may_only_read_writes_nothing(api: HttpApi) -> None:
    with http_relay(api.url, obligations=(ReadOnly(),)) as relay, client_of(relay) as client:
        assert client.get("/orders/1").status_code == 200
        assert problem(client.post("/orders", json={}))["checkrein"]["code"] == "read-only"
    assert api.targets() == ["GET /orders/1"]


# --- approval ---------------------------------------------------------------------------------------------------------


def held(threads: ThreadPoolExecutor, client: httpx.Client, **options: Any) -> Future[httpx.Response]:
    return threads.submit(client.put, "/orders/1", json={"total": 3}, **options)


def test_a_held_request_goes_on_once_approved(
    client: httpx.Client, relay: HttpRelay, api: HttpApi, threads: ThreadPoolExecutor
) -> None:
    answer = held(threads, client)
    eventually(lambda: bool(relay.decisions.approvals))
    assert api.seen == []
    assert not answer.done()
    relay.resolve("approved")
    response = answer.result(10)
    assert response.status_code == 201
    assert response.json()["made"] == {"total": 3}
    assert api.targets() == ["PUT /orders/1"]
    assert len(relay.decisions.redeemed) == 1


def test_a_held_request_that_is_refused_says_why_and_never_arrives(
    client: httpx.Client, relay: HttpRelay, api: HttpApi, threads: ThreadPoolExecutor
) -> None:
    answer = held(threads, client)
    relay.resolve("denied", "not on a Friday")
    document = problem(answer.result(10))
    assert document["checkrein"]["code"] == "approval-denied"
    assert "not on a Friday" in document["detail"]
    assert client.get("/orders/1").status_code == 200
    assert api.targets() == ["GET /orders/1"]


def test_a_held_request_of_which_nobody_says_anything_ends(api: HttpApi) -> None:
    settings = {"approval": {"hold": "200ms"}}
    with http_relay(api.url, policy, **settings) as relay, client_of(relay) as client:
        document = problem(client.put("/orders/1", json={}))
        assert document["checkrein"]["code"] == "approval-expired"
    assert api.seen == []


def test_a_request_whose_client_leaves_while_it_waits_is_never_sent(relay: HttpRelay, api: HttpApi) -> None:
    body = b'{"total":3}'
    head = f"PUT /orders/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PASSWORD}\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        eventually(lambda: bool(relay.decisions.approvals))
    eventually(lambda: bool(relay.decisions.cancelled))
    relay.resolve("approved")
    with client_of(relay) as client:
        assert client.get("/orders/1").status_code == 200
    assert api.targets() == ["GET /orders/1"]
    assert relay.decisions.redeemed == []


def test_a_client_that_prefers_not_to_wait_comes_back(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    wanted = {"Prefer": "respond-async"}
    accepted = client.put("/orders/1", json={"total": 3}, headers=wanted)
    assert accepted.status_code == 202
    assert accepted.headers["Preference-Applied"] == "respond-async"
    assert int(accepted.headers["Retry-After"]) > 0
    assert accepted.json()["state"] == "pending"
    location = accepted.headers["Location"]
    pending = client.get(location)
    assert (pending.status_code, pending.json()["state"]) == (202, "pending")
    assert api.seen == []
    relay.resolve("approved")
    eventually(lambda: client.get(location).json()["state"] == "approved")
    done = client.put("/orders/1", json={"total": 3}, headers=wanted)
    assert done.status_code == 201, done.text
    assert api.targets() == ["PUT /orders/1"]
    # It was used: the same request asks anew.
    assert client.put("/orders/1", json={"total": 3}, headers=wanted).status_code == 202
    assert len(api.seen) == 1


def test_a_client_that_comes_back_after_a_refusal_is_told_of_it(
    client: httpx.Client, relay: HttpRelay, api: HttpApi
) -> None:
    wanted = {"Prefer": "respond-async"}
    location = client.put("/orders/1", json={}, headers=wanted).headers["Location"]
    relay.resolve("denied", "not on a Friday")
    eventually(lambda: client.get(location).json()["state"] == "denied")
    assert client.get(location).json()["comment"] == "not on a Friday"
    assert problem(client.put("/orders/1", json={}, headers=wanted))["checkrein"]["code"] == "approval-denied"
    assert api.seen == []


@pytest.mark.parametrize("reads", [True, False], ids=["policy-reads-bodies", "policy-does-not"])
@pytest.mark.parametrize("changed", [{"json": {"total": 4}}, {"json": {"total": 3}, "params": {"force": "1"}}])
def test_an_approval_fits_no_other_request(api: HttpApi, changed: dict[str, Any], reads: bool) -> None:
    wanted = {"Prefer": "respond-async"}
    with http_relay(api.url, policy, input_paths={BODY} if reads else ()) as relay, client_of(relay) as client:
        location = client.put("/orders/1", json={"total": 3}, headers=wanted).headers["Location"]
        relay.resolve("approved")
        eventually(lambda: client.get(location).json()["state"] == "approved")
        other = client.put("/orders/1", headers=wanted, **changed)
        assert other.status_code == 202
        assert other.headers["Location"] != location
        assert api.seen == []
        assert client.put("/orders/1", json={"total": 3}, headers=wanted).status_code == 201
        assert api.targets() == ["PUT /orders/1"]


def test_an_approval_of_another_session_is_not_told(relay: HttpRelay, client: httpx.Client) -> None:
    location = client.put("/orders/1", json={}, headers={"Prefer": "respond-async"}).headers["Location"]
    relay.decisions.passwords.add(OTHER)
    with client_of(relay, OTHER) as other:
        problem(other.get(location), 404)
    assert client.get(location).status_code == 202


# --- who --------------------------------------------------------------------------------------------------------------


def test_two_tokens_on_one_connection_are_two_sessions(relay: HttpRelay, api: HttpApi) -> None:
    relay.decisions.passwords.add(OTHER)
    requests = "".join(
        f"GET /orders/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        for number, token, last in (
            (1, PASSWORD, ""),
            (2, OTHER, ""),
            (3, "wrong", ""),
            (4, PASSWORD, "Connection: close\r\n"),
        )
    )
    answer = relay.raw(requests.encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"401", b"200"]
    names = {password: name for name, password in relay.decisions.sessions.items()}
    assert relay.decisions.asked_by == [names[PASSWORD], names[OTHER], names[PASSWORD]]
    assert api.targets() == ["GET /orders/1", "GET /orders/2", "GET /orders/4"]
    # A connection to the target serves one session, ever.
    peers = [seen.peer for seen in api.seen]
    assert peers[0] != peers[1]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Digest x"}])
def test_who_shows_no_good_credential_is_asked_for_one(relay: HttpRelay, api: HttpApi, headers: dict[str, str]) -> None:
    response = httpx.get(f"{relay.url}/orders", headers=headers, trust_env=False)
    problem(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert api.seen == []


@pytest.mark.parametrize("shown", ["basic", "key", "bearer"])
def test_the_ways_to_show_a_credential(relay: HttpRelay, api: HttpApi, shown: str) -> None:
    options: dict[str, Any] = {
        "basic": {"auth": ("anybody", PASSWORD)},
        "key": {"headers": {"X-Checkrein-Key": PASSWORD}},
        "bearer": {"headers": relay.headers},
    }[shown]
    assert httpx.get(f"{relay.url}/orders/1", trust_env=False, **options).status_code == 200
    (seen,) = api.seen
    assert seen.all("Authorization") == [f"Bearer {SECRET}"]
    assert seen.all("X-Checkrein-Key") == []
    assert PASSWORD not in str(seen.fields)


def test_a_certificate_is_a_credential_where_the_request_shows_no_other(api: HttpApi) -> None:
    own = api.authority.issue("proxy", dns=["localhost"])
    agent = api.authority.issue("agent", uris=["spiffe://test/agent"])
    tls = {"cert": str(own.certificate), "key": str(own.key), "client_ca": api.ca}
    trusting = ssl.create_default_context(cafile=api.ca)
    with http_relay(api.url, policy, listen={"address": "127.0.0.1:0", "tls": tls}) as relay:
        relay.decisions.passwords.add("ClientCertificate")
        url = f"https://localhost:{relay.port}/orders/1"
        assert httpx.get(url, verify=trusting, trust_env=False).status_code == 401
        trusting.load_cert_chain(agent.certificate, agent.key)
        assert httpx.get(url, verify=trusting, trust_env=False).status_code == 200
        assert httpx.get(url, verify=trusting, headers=relay.headers, trust_env=False).status_code == 200
        assert (
            httpx.get(url, verify=trusting, headers={"Authorization": "Bearer no"}, trust_env=False).status_code == 401
        )
        assert sorted(relay.decisions.sessions.values()) == ["ClientCertificate", PASSWORD]
    assert len(api.seen) == 2


def in_base64(secret: bytes) -> Iterator[bytes]:
    """What base64 makes of it wherever it begins, without the characters that its neighbours have a part in."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret)
        yield coded[-(-before * 8 // 6) : len(coded) - 4]


# --- the target's credential ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
@pytest.mark.parametrize("shape", ["json", "text", "base64", "percent", "escaped", "chunks"])
def test_the_target_sees_its_own_credential_and_nobody_else_does(
    client: httpx.Client, api: HttpApi, shape: str, coding: str
) -> None:
    response = client.post("/reflect", params={"as": shape, "coding": coding}, content=b"what was sent")
    assert response.status_code == 200
    (seen,) = api.seen
    assert seen.all("Authorization") == [f"Bearer {SECRET}"]
    assert PASSWORD not in str(seen.fields)
    shown = response.content + str(response.headers.raw).encode()
    for form in (SECRET.encode(), *in_base64(SECRET.encode())):
        assert form not in shown
    assert "removed" in response.text


# --- the decision service and the records -----------------------------------------------------------------------------


def test_without_the_decision_service_nothing_passes_and_a_retry_is_advised(
    client: httpx.Client, relay: HttpRelay, api: HttpApi
) -> None:
    assert client.get("/orders/1").status_code == 200
    relay.decisions.down = True
    refused = client.get("/orders/1")
    document = problem(refused, 503)
    assert document["checkrein"]["retry"] is True
    assert int(refused.headers["Retry-After"]) > 0
    with client_of(relay, "not seen before") as other:
        problem(other.get("/orders/1"), 503)
    relay.decisions.down = False
    assert client.get("/orders/1").status_code == 200
    assert len(api.seen) == 2


def test_a_session_that_ends_cuts_its_response(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    with client.stream("GET", "/halfway") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"the beginning"
        relay.decisions.ended.append(SessionEnded(next(iter(relay.decisions.sessions)), "it was revoked"))
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert api.left.wait(5)


def test_the_end_of_one_session_leaves_another_alone(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    relay.decisions.passwords.add(OTHER)
    with client_of(relay, OTHER) as other, other.stream("GET", "/halfway") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"the beginning"
        client.get("/orders/1")
        ended = next(name for name, password in relay.decisions.sessions.items() if password == PASSWORD)
        relay.decisions.ended.append(SessionEnded(ended, "it was revoked"))
        eventually(lambda: not relay.decisions.ended)
        # It is told no more than that its next request opens a session.
        eventually(lambda: client.get("/orders/1").status_code == 200 and len(relay.decisions.sessions) == 3)
        api.open()
        assert b"".join(pieces) == b", the end"


def test_what_cannot_be_recorded_is_not_forwarded(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    assert client.get("/orders/1").status_code == 200
    relay.runtime.spool._max_bytes = 0
    problem(client.get("/orders/2"), 503)
    assert api.targets() == ["GET /orders/1"]


def test_a_response_whose_record_fails_is_cut(client: httpx.Client, relay: HttpRelay, api: HttpApi) -> None:
    with client.stream("GET", "/halfway") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"the beginning"
        relay.runtime.spool._max_bytes = 0
        api.open()
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_one_held_request_holds_up_no_other_connection(
    client: httpx.Client, relay: HttpRelay, threads: ThreadPoolExecutor
) -> None:
    answer = held(threads, client)
    eventually(lambda: bool(relay.decisions.approvals))
    passed = threading.Event()

    def ask() -> None:
        with client_of(relay) as other:
            assert other.get("/orders/1").status_code == 200
        passed.set()

    threads.submit(ask).result(5)
    assert passed.is_set()
    assert not answer.done()
    relay.resolve("denied")
    problem(answer.result(10))
