"""Bodies, framing, time and faults on a running proxy: what a request and its response go through on the wire."""

import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from pep.core.model import Action, Decision, LimitRows, OnExcess
from tests.http_api import BLOCK, HttpApi
from tests.http_relay import PASSWORD, HttpRelay, allow, deny, http_relay, require_approval
from tests.stub_service import eventually

BODY = "action.properties.http.body"
MIB = 1 << 20
# A POST that does not say so might be a form, which may name another method: it is always read.
BYTES = {"Content-Type": "application/octet-stream"}
BINARY = "Content-Type: application/octet-stream"


def policy(action: Action) -> Decision:
    """The body decides: an order of more than a hundred is refused. The head decides about DELETE and PUT."""
    method, body = action.properties["method"], action.properties["body"]
    if method == "DELETE":
        return deny("orders stay where they are", "no_delete")
    if action.name == "prepare":
        return allow()
    if method == "PUT":
        return require_approval()
    if body["kind"] == "json" and isinstance(body["json"], dict) and body["json"].get("total", 0) > 100:
        return deny("too much", "too_much")
    return allow()


@pytest.fixture
def relay(api: HttpApi) -> Iterator[HttpRelay]:
    """Its policy does not read bodies."""
    with http_relay(api.url, policy) as running:
        yield running


@pytest.fixture
def reading(api: HttpApi) -> Iterator[HttpRelay]:
    """Its policy reads bodies, of 64 KiB at most."""
    with http_relay(api.url, policy, input_paths={BODY}, http={"body_limit": "64KiB"}) as running:
        yield running


def client_of(relay: HttpRelay) -> httpx.Client:
    return httpx.Client(base_url=relay.url, headers=relay.headers, timeout=10, trust_env=False)


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    head = [line, "Host: x", f"Authorization: Bearer {PASSWORD}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


class Wire:
    """A connection on which a test sends and receives what it likes."""

    def __init__(self, relay: HttpRelay, timeout: float = 5.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", relay.port), timeout=timeout)
        self.received = b""
        self.over = False

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self._socket.recv(65536)
            assert data, f"closed after {self.received!r}"
            self.received += data
        return self.received

    def rest(self) -> bytes:
        """Until the other end closes."""
        while data := self._socket.recv(65536):
            self.received += data
        return self.received

    def drip(self, data: bytes) -> None:
        """Sends that, and takes for a moment what comes; `over` then says whether the other end has closed."""
        try:
            self._socket.sendall(data)
            while piece := self._socket.recv(65536):
                self.received += piece
        except TimeoutError:
            return
        except ConnectionError:
            pass
        self.over = True

    def close(self) -> None:
        self._socket.close()


# --- what of a body is decided ----------------------------------------------------------------------------------------


def test_a_body_that_no_policy_reads_is_neither_read_nor_changed(relay: HttpRelay, api: HttpApi) -> None:
    sent = b'{"total" : 1e3, "total": 7}'
    with client_of(relay) as client:
        assert client.post("/echo", content=sent, headers=BYTES).content == sent
    (asked,) = relay.decisions.asked
    assert asked.properties["body"]["kind"] == "unread"


def test_a_body_that_a_policy_reads_is_decided_after_the_head(reading: HttpRelay, api: HttpApi) -> None:
    with client_of(reading) as client:
        assert client.post("/orders", json={"total": 7}).status_code == 201
        refused = client.post("/orders", json={"total": 700})
    assert refused.status_code == 403
    assert refused.json()["checkrein"]["code"] == "too_much"
    names = [(action.name, action.properties["body"]["kind"]) for action in reading.decisions.asked]
    assert names == [("prepare", "unread"), ("request", "json"), ("prepare", "unread"), ("request", "json")]
    assert reading.decisions.asked[0].properties["awaits"] == [BODY]
    assert api.targets() == ["POST /orders"]


def test_what_a_policy_has_read_is_forwarded_as_this_proxy_writes_it(reading: HttpRelay, api: HttpApi) -> None:
    sent = b'{ "t\\u006ftal" : 7 ,\r\n "name":"\\u00e9" }'
    fields = ("Content-Type: application/json", f"Content-Length: {len(sent)}", "Connection: close")
    assert statuses(reading.raw(request("POST /orders HTTP/1.1", *fields, body=sent))) == [201]
    (seen,) = api.seen
    assert json.loads(seen.body) == {"total": 7, "name": "é"}
    assert b"\\u006f" not in seen.body
    assert b"\r\n" not in seen.body
    assert seen.all("Content-Length") == [str(len(seen.body))]


@pytest.mark.parametrize(
    "sent",
    [
        b'{"total":7,"total":700}',
        b'{"total":7,"TOTAL":700}',
        b'{"total":7,"t\\u006ftal":700}',
        b'{"order":{"a":1,"a":2}}',
        b'{"total":7',
        b'{"total":NaN}',
        b'{"total":1e400}',
        b"\xff\xfe{}",
    ],
)
def test_json_that_can_be_read_in_two_ways_is_refused(reading: HttpRelay, api: HttpApi, sent: bytes) -> None:
    with client_of(reading) as client:
        refused = client.post("/orders", content=sent, headers={"Content-Type": "application/json"})
        assert client.get("/orders/1").status_code == 200
    assert refused.status_code == 403
    assert refused.json()["checkrein"]["code"] == "not-understood"
    # Nobody was asked with a hole in place of the body.
    assert [action.name for action in reading.decisions.asked] == ["prepare", "request"]
    assert api.targets() == ["GET /orders/1"]


def test_a_body_past_the_limit_is_refused_and_nothing_arrives(reading: HttpRelay, api: HttpApi) -> None:
    with client_of(reading) as client:
        refused = client.post("/orders", content=b"[" + b"1," * 40_000 + b"1]")
    assert refused.status_code == 413
    assert refused.json()["checkrein"]["code"] == "body-too-large"
    assert api.seen == []


def test_a_chunked_body_past_the_limit_is_refused_and_nothing_arrives(reading: HttpRelay, api: HttpApi) -> None:
    with client_of(reading) as client:
        refused = client.post("/orders", content=itertools.repeat(b"x" * 4096, 20))
    assert refused.status_code == 413
    assert api.seen == []


def test_a_body_that_is_denied_by_its_head_is_not_waited_for(reading: HttpRelay, api: HttpApi) -> None:
    with closing(Wire(reading)) as wire:
        wire.send(request("DELETE /orders/1 HTTP/1.1", "Content-Length: 1000000"))
        wire.until(b"no_delete")
        assert b"Connection: close" in wire.received or b"connection: close" in wire.received
    assert api.seen == []


# --- 100-continue -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [False, True])
def test_the_body_is_called_for_only_once_the_head_is_allowed(api: HttpApi, reads: bool) -> None:
    fields = ("Expect: 100-continue", "Content-Type: application/json", "Content-Length: 11")
    with http_relay(api.url, policy, input_paths={BODY} if reads else ()) as relay:
        with closing(Wire(relay)) as wire:
            wire.send(request("POST /orders HTTP/1.1", *fields, "Connection: close"))
            wire.until(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert relay.decisions.asked[0].name == ("prepare" if reads else "request")
            wire.send(b'{"total":7}')
            assert statuses(wire.rest()) == [100, 201]
        with closing(Wire(relay)) as wire:
            wire.send(request("DELETE /orders/1 HTTP/1.1", *fields))
            assert statuses(wire.rest()) == [403]
    assert api.targets() == ["POST /orders"]
    assert api.seen[0].all("Expect") == []


# --- framing ----------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(relay: HttpRelay, api: HttpApi) -> None:
    sent = b"".join(request(f"GET /orders/{number} HTTP/1.1") for number in range(1, 10))
    sent += request("POST /echo HTTP/1.1", "Content-Length: 4", body=b"body")
    sent += request("DELETE /orders/1 HTTP/1.1") + request("GET /orders/10 HTTP/1.1", "Connection: close")
    answer = relay.raw(sent)
    assert statuses(answer) == [200] * 10 + [403, 200]
    assert [int(number) for number in re.findall(rb'"id": (\d+)', answer)] == list(range(1, 11))
    assert api.targets() == [f"GET /orders/{number}" for number in range(1, 10)] + ["POST /echo", "GET /orders/10"]


def test_a_connection_serves_many_requests_and_so_does_the_target_s(relay: HttpRelay, api: HttpApi) -> None:
    with client_of(relay) as client:
        for number in range(1, 11):
            assert client.get(f"/orders/{number}").json()["id"] == number
    assert len({seen.peer for seen in api.seen}) == 1
    assert len(relay.decisions.sessions) == 1


def test_an_old_client_gets_what_it_can_read(relay: HttpRelay) -> None:
    answer = relay.raw(request("GET /chunked HTTP/1.0"))
    assert statuses(answer) == [200]
    assert answer.endswith(b"\r\n\r\none two three")
    assert b"chunked" not in answer.lower()


def test_bodies_of_every_framing_arrive(relay: HttpRelay, api: HttpApi) -> None:
    with client_of(relay) as client:
        assert client.post("/echo", content=b"x" * 100_000, headers=BYTES).content == b"x" * 100_000
        assert client.post("/echo", content=iter([b"one ", b"two"]), headers=BYTES).content == b"one two"
        assert client.post("/echo", content=b"").content == b""
    assert api.seen[1].all("Transfer-Encoding") == ["chunked"]
    assert api.seen[1].all("Content-Length") == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH"])
def test_other_methods_pass(relay: HttpRelay, api: HttpApi, method: str) -> None:
    with client_of(relay) as client:
        answer = client.request(method, "/orders", **({"json": {}} if method == "PATCH" else {}))
    assert answer.status_code == {"HEAD": 200, "OPTIONS": 204, "PATCH": 201}[method]
    assert api.targets() == [f"{method} /orders"]


@pytest.mark.parametrize("code", [201, 204, 304, 400, 404, 418, 500, 503])
def test_statuses_pass(relay: HttpRelay, code: int) -> None:
    with client_of(relay) as client:
        assert client.get(f"/status/{code}").status_code == code
        assert client.get("/orders/1").status_code == 200


def test_large_bodies_pass_both_ways_without_being_kept(relay: HttpRelay, api: HttpApi) -> None:
    size = 100 * MIB
    with client_of(relay) as client:
        with client.stream("GET", f"/large/{size}") as response:
            received = 0
            for piece in response.iter_raw(1 << 16):
                assert piece == (BLOCK + BLOCK)[received % len(BLOCK) :][: len(piece)]
                received += len(piece)
            assert received == size
        pieces = itertools.repeat(BLOCK, size // len(BLOCK))
        assert client.post("/swallow", content=pieces, headers=BYTES).json() == {"size": size}


def test_a_response_begins_before_it_is_complete(relay: HttpRelay, api: HttpApi) -> None:
    with client_of(relay) as client, client.stream("GET", "/halfway") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"the beginning"
        api.open()
        assert b"".join(pieces) == b", the end"


def test_a_request_begins_before_it_is_complete(relay: HttpRelay, api: HttpApi) -> None:
    with closing(Wire(relay)) as wire:
        wire.send(request("POST /swallow HTTP/1.1", BINARY, "Content-Length: 10", "Connection: close"))
        eventually(lambda: len(api.seen) == 1)
        before = api.bodies
        wire.send(b"12345")
        eventually(lambda: api.bodies == before + 5)
        wire.send(b"67890")
        assert b'{"size": 10}' in wire.rest()


def test_an_answer_before_the_whole_request_ends_the_connection(relay: HttpRelay, api: HttpApi) -> None:
    with closing(Wire(relay)) as wire:
        wire.send(request("POST /early HTTP/1.1", BINARY, "Content-Length: 1000000") + b"x" * 1000)
        assert statuses(wire.rest()) == [413]


def test_an_event_stream_that_never_ends_passes_event_by_event(relay: HttpRelay) -> None:
    with client_of(relay) as client, client.stream("GET", "/events") as response:
        events = [line for line in itertools.islice(response.iter_lines(), 40) if line.startswith("id: ")]
    assert events == [f"id: {number}" for number in range(1, len(events) + 1)]
    assert len(events) == 10


# --- what the target is told ------------------------------------------------------------------------------------------


def test_fields_of_this_hop_and_of_the_client_alone_go_no_further(relay: HttpRelay, api: HttpApi) -> None:
    answer = relay.raw(
        request(
            "GET /orders/1 HTTP/1.1",
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: 5",
            "TE: trailers",
            "Proxy-Authorization: Basic eDp5",
            "Range: bytes=0-5",
            "X-Kept: yes",
        )
    )
    (seen,) = api.seen
    assert statuses(answer) == [200]
    assert seen.all("Host") == [api.url.removeprefix("http://")]
    for name in ("X-Hop", "Keep-Alive", "TE", "Proxy-Authorization", "Range"):
        assert seen.all(name) == [], name
    assert seen.all("X-Kept") == ["yes"]


@pytest.mark.parametrize(
    ("asked", "told"), [("deflate, gzip, br;q=0", "gzip"), ("*", "gzip, br, zstd"), ("deflate", "identity")]
)
def test_the_target_is_asked_for_codings_that_can_be_undone(
    relay: HttpRelay, api: HttpApi, asked: str, told: str
) -> None:
    relay.raw(request("GET /orders/1 HTTP/1.1", f"Accept-Encoding: {asked}", "Connection: close"))
    assert api.seen[0].all("Accept-Encoding") == [told]


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_head_that_does_not_come_is_not_waited_for(api: HttpApi) -> None:
    with http_relay(api.url, limits={"head": "300ms"}) as relay:
        began = time.monotonic()
        with closing(Wire(relay)) as wire:
            wire.send(b"GET /orders HTTP/1.1\r\nHost: x\r\n")
            assert statuses(wire.rest()) == [408]
        with closing(Wire(relay)) as silent:
            assert silent.rest() == b""
        assert time.monotonic() - began < 4
    assert api.seen == []


def test_a_head_that_drips_is_not_waited_for(api: HttpApi) -> None:
    with http_relay(api.url, limits={"head": "300ms"}) as relay, closing(Wire(relay, timeout=0.02)) as wire:
        began = time.monotonic()
        # A byte at a time, none of which is late by itself.
        while not wire.over:
            assert time.monotonic() - began < 4, "it is waited for"
            wire.drip(b"G")
        # What is sent meanwhile may have made its answer get lost.
        assert statuses(wire.received) in ([408], [])
    assert api.seen == []


def test_an_idle_connection_is_closed(api: HttpApi) -> None:
    with http_relay(api.url, limits={"idle": "300ms"}) as relay, closing(Wire(relay)) as wire:
        wire.send(request("GET /orders/1 HTTP/1.1"))
        began = time.monotonic()
        assert statuses(wire.rest()) == [200]
        assert 0.2 < time.monotonic() - began < 4


@pytest.mark.parametrize("reads", [False, True])
def test_a_body_of_which_nothing_comes_is_not_waited_for(api: HttpApi, reads: bool) -> None:
    settings: dict[str, Any] = {"limits": {"stalled": "300ms"}, "input_paths": {BODY} if reads else ()}
    with http_relay(api.url, policy, **settings) as relay, closing(Wire(relay)) as wire:
        wire.send(request("POST /orders HTTP/1.1", "Content-Type: application/json", "Content-Length: 10") + b"1234")
        assert statuses(wire.rest()) == [408]


def test_a_target_that_does_not_begin_to_answer_is_not_waited_for(api: HttpApi) -> None:
    with http_relay(api.url, limits={"response": "300ms"}) as relay, client_of(relay) as client:
        assert client.get("/gate").status_code == 504


# --- faults of the target ---------------------------------------------------------------------------------------------


def test_a_target_that_cannot_be_reached_is_a_bad_gateway(api: HttpApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with http_relay(f"http://127.0.0.1:{port}") as relay, client_of(relay) as client:
        for _ in range(2):
            answer = client.get("/orders")
            assert answer.status_code == 502
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_target_that_says_nothing_is_a_bad_gateway(relay: HttpRelay) -> None:
    with client_of(relay) as client:
        assert client.get("/silent").status_code == 502
        assert client.get("/orders/1").status_code == 200


def test_a_response_that_is_cut_does_not_look_whole(relay: HttpRelay) -> None:
    with client_of(relay) as client:
        # So short a body is looked at whole before anything of it is shown.
        assert client.get("/cut").status_code == 502
        with client.stream("GET", "/cut?chunked=1") as response:
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                list(response.iter_raw())
        assert client.get("/orders/1").status_code == 200


def test_rows_past_the_limit_can_be_refused(api: HttpApi) -> None:
    with http_relay(api.url, lambda _: allow(LimitRows(5, OnExcess.FAIL))) as relay, client_of(relay) as client:
        refused = client.get("/orders")
        assert refused.status_code == 403
        assert b'"customer"' not in refused.content
        assert client.get("/customers").status_code == 200
