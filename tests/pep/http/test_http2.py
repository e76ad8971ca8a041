"""HTTP/2 towards clients on a running proxy: verdicts, identities, approvals and bodies, of each stream by itself."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame

from pep.core.model import Action, Decision, FieldMask, NullMask
from pep.core.sessions import SessionEnded
from pep.http.http2 import connection
from tests.http_api import HttpApi
from tests.http_relay import PASSWORD, SECRET, HttpRelay, allow, deny, http_relay, mask, require_approval
from tests.pep.http.frames import PATIENCE, Answer, Frames, request
from tests.stub_service import eventually

MIB = 1 << 20
CLEAR = {"address": "127.0.0.1:0", "http2": True}
BYTES = ("content-type", "application/octet-stream")
ASYNC = ("prefer", "respond-async")


def policy(action: Action) -> Decision:
    match action.properties["method"], action.properties["segments"][:1]:
        case "DELETE", _:
            return deny("orders stay where they are", "no_delete")
        case "PUT", _:
            return require_approval()
        case _, ["customers"]:
            return mask(FieldMask("customers", "$..ssn", NullMask()))
        case _:
            return allow()


@pytest.fixture
def relay(api: HttpApi) -> Iterator[HttpRelay]:
    with http_relay(api.url, policy, listen=CLEAR) as running:
        yield running


@pytest.fixture
def client(relay: HttpRelay) -> Iterator[Frames]:
    with Frames(relay.port) as frames:
        yield frames


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_what_is_allowed_passes(client: Frames, relay: HttpRelay, api: HttpApi) -> None:
    answer = client.answer(request("/orders/1?a=b", ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")))
    assert (answer.status, json.loads(answer.body)["id"]) == (200, 1)
    assert {"connection", "transfer-encoding"}.isdisjoint(answer.heads[0])
    (seen,) = api.seen
    assert (seen.method, seen.target) == ("GET", "/orders/1?a=b")
    assert seen.all("Cookie") == ["a=1; b=2"]
    assert seen.all("Authorization") == [f"Bearer {SECRET}"]
    assert seen.all("Host") == [f"127.0.0.1:{api.url.rpartition(':')[2]}"]
    assert (seen.all("TE"), seen.all("Connection")) == ([], [])
    (asked,) = relay.decisions.asked
    assert (asked.properties["host"], asked.properties["path"]) == ("api.test", "/orders/1")


def test_what_is_denied_does_not_and_the_connection_stays(client: Frames, api: HttpApi) -> None:
    refused = client.answer(request(method="DELETE"))
    assert (refused.status, json.loads(refused.body)["checkrein"]["code"]) == (403, "no_delete")
    assert client.answer(request()).status == 200
    assert api.targets() == ["GET /orders/1"]


def test_a_request_without_a_credential_is_nobody_s(client: Frames, api: HttpApi) -> None:
    refused = client.answer(list(request())[:4])
    assert (refused.status, refused.heads[0]["www-authenticate"]) == (401, "Bearer")
    assert client.answer(request(token="wrong")).status == 401
    assert api.seen == []


def test_what_is_masked_is_masked(client: Frames) -> None:
    answer = client.answer(request("/customers/1"))
    assert answer.status == 200
    assert json.loads(answer.body)["ssn"] is None


def test_a_held_request_passes_once_it_is_approved_and_stops_nobody_else(
    client: Frames, relay: HttpRelay, api: HttpApi
) -> None:
    held = client.open(request(method="PUT"), end=False)
    client.data(held, b"{}", end=True)
    assert client.answer(request()).status == 200
    eventually(lambda: bool(relay.decisions.approvals), PATIENCE)
    assert not client.answers[held].over
    assert api.targets() == ["GET /orders/1"]
    relay.resolve("approved", timeout=PATIENCE)
    assert client.wait(held).status == 201
    assert api.targets() == ["GET /orders/1", "PUT /orders/1"]
    assert api.seen[1].body == b"{}"


@pytest.mark.parametrize("leaves", ["the stream", "the connection"])
def test_a_client_that_leaves_while_its_request_waits_is_not_served(
    relay: HttpRelay, api: HttpApi, leaves: str
) -> None:
    with Frames(relay.port) as client:
        held = client.open(request(method="PUT"), end=False)
        client.data(held, b"{}", end=True)
        eventually(lambda: bool(relay.decisions.approvals), PATIENCE)
        if leaves == "the stream":
            client.reset(held)
            eventually(lambda: bool(relay.decisions.cancelled), PATIENCE)
            assert client.answer(request()).status == 200
    eventually(lambda: bool(relay.decisions.cancelled), PATIENCE)
    with Frames(relay.port) as other:
        assert other.answer(request("/orders/2")).status == 200
    assert [target for target in api.targets() if target.startswith("PUT")] == []


def test_a_client_may_come_back_for_its_approval(client: Frames, relay: HttpRelay, api: HttpApi) -> None:
    accepted = client.answer(request("/orders/1", ASYNC, method="PUT"), b"{}")
    assert accepted.status == 202
    location = accepted.heads[0]["location"]
    assert client.answer(request(location)).status == 202
    relay.resolve("approved", timeout=PATIENCE)
    eventually(lambda: client.answer(request(location)).status == 200, PATIENCE)
    assert client.answer(request("/orders/1", ASYNC, method="PUT"), b"{}").status == 201
    assert api.targets() == ["PUT /orders/1"]


def test_two_credentials_on_one_connection_are_two_sessions(client: Frames, relay: HttpRelay, api: HttpApi) -> None:
    relay.decisions.passwords.add("another")
    streams = [
        client.open(request(f"/orders/{number}", token=token)) for number, token in enumerate([PASSWORD, "another"], 1)
    ]
    assert [client.wait(stream).status for stream in streams] == [200, 200]
    assert sorted(relay.decisions.sessions.values()) == ["another", PASSWORD]
    by = dict(
        zip((action.properties["path"] for action in relay.decisions.asked), relay.decisions.asked_by, strict=True)
    )
    assert relay.decisions.sessions[by["/orders/1"]] == PASSWORD
    assert relay.decisions.sessions[by["/orders/2"]] == "another"
    # Nor do two of them share a connection to the target.
    assert len({seen.peer for seen in api.seen}) == 2


def test_the_end_of_a_session_ends_its_streams_and_no_other(client: Frames, relay: HttpRelay, api: HttpApi) -> None:
    relay.decisions.passwords.add("another")
    ended, other = (client.open(request("/halfway", token=token)) for token in (PASSWORD, "another"))
    client.until(lambda: all(client.answers[number].body == b"the beginning" for number in (ended, other)))
    (session,) = [name for name, token in relay.decisions.sessions.items() if token == PASSWORD]
    relay.decisions.ended.append(SessionEnded(session, "it was revoked"))
    assert client.wait(ended).reset == 2
    assert not client.answers[other].over
    api.open()
    assert client.wait(other).body == b"the beginning, the end"


def test_what_cannot_be_recorded_is_not_forwarded(client: Frames, relay: HttpRelay, api: HttpApi) -> None:
    assert client.answer(request()).status == 200
    relay.runtime.spool._max_bytes = 0
    assert client.answer(request("/orders/2")).status == 503
    client.answer([*request(), ("connection", "close")])
    client.finish()
    assert api.targets() == ["GET /orders/1"]


def test_how_the_bytes_arrive_does_not_matter(client: Frames, api: HttpApi) -> None:
    number = client.open(request("/echo", BYTES, method="POST"), end=False)
    last = DataFrame(number, b"body", flags=["END_STREAM"]).serialize()
    for byte in (
        HeadersFrame(number + 2, client.block(request()), flags=["END_HEADERS", "END_STREAM"]).serialize() + last
    ):
        client.raw(bytes((byte,)))
    client.answers[number + 2] = Answer()
    assert client.wait(number).body == b"body"
    assert client.wait(number + 2).status == 200
    assert sorted(api.targets()) == ["GET /orders/1", "POST /echo"]


def test_connect_is_refused_for_its_stream(client: Frames, api: HttpApi) -> None:
    fields = [(":method", "CONNECT"), (":authority", "api.test:443"), ("authorization", f"Bearer {PASSWORD}")]
    assert client.answer(fields).status == 405
    extended = [*fields, (":protocol", "websocket"), (":scheme", "http"), (":path", "/socket")]
    assert client.answer(sorted(extended)).reset == 1
    client.settle()
    assert client.settings.get(8, 0) == 0, "SETTINGS_ENABLE_CONNECT_PROTOCOL is not offered"
    assert client.answer(request()).status == 200
    assert api.targets() == ["GET /orders/1"]


def test_a_policy_of_a_body_reads_it(api: HttpApi) -> None:
    def reading(action: Action) -> Decision:
        body = action.properties["body"]
        return deny("too much", "too_much") if body["kind"] == "json" and body["json"]["total"] > 100 else allow()

    options = {"input_paths": {"action.properties.http.body"}, "listen": CLEAR}
    with http_relay(api.url, reading, **options) as relay, Frames(relay.port) as client:
        json_type = ("content-type", "application/json")
        assert client.answer(request("/orders", json_type, method="POST"), b'{"total": 7}').status == 201
        assert client.answer(request("/orders", json_type, method="POST"), b'{"total": 700}').status == 403
        twice = client.answer(request("/orders", json_type, method="POST"), b'{"total": 7, "total": 700}')
    assert json.loads(twice.body)["checkrein"]["code"] == "not-understood"
    assert api.targets() == ["POST /orders"]


# --- answers before the end of their requests -------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, PASSWORD])
def test_a_malformed_request_is_refused_although_it_was_answered(
    client: Frames, relay: HttpRelay, api: HttpApi, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """Trailers with a pseudo-header field, behind an answer of the proxy's own (RFC 9113, section 8.1.1)."""
    monkeypatch.setattr(connection, "_LINGER", 3600.0)
    fields = list(request("/orders/1", method="DELETE", token=token or ""))
    number = client.open(fields if token else fields[:4], end=False)
    client.until(lambda: client.answers[number].ended)
    assert client.answers[number].status == (403 if token else 401)
    client.trailers(number, [(":method", "POST")])
    client.until(lambda: client.answers[number].reset is not None)
    assert client.answers[number].reset == ErrorCodes.PROTOCOL_ERROR
    assert client.answer(request()).status == 200
    assert api.targets() == ["GET /orders/1"]


def test_a_request_that_ends_well_after_its_answer_is_not_reset(
    client: Frames, relay: HttpRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_LINGER", 3600.0)
    number = client.open(request(method="DELETE"), end=False)
    client.until(lambda: client.answers[number].ended)
    client.data(number, b"what nobody wants", end=True)
    client.settle()
    assert client.answers[number].reset is None
    assert client.answer(request()).status == 200


@pytest.mark.parametrize("stops", ["without a word", "at the end of its window"])
def test_one_that_does_not_end_is_told_that_the_rest_is_not_wanted(
    client: Frames, relay: HttpRelay, monkeypatch: pytest.MonkeyPatch, stops: str
) -> None:
    monkeypatch.setattr(connection, "_LINGER", 3600.0 if "window" in stops else 0.05)
    number = client.open(request(method="DELETE"), end=False)
    client.until(lambda: client.answers[number].ended)
    while "window" in stops and (piece := min(client.room(number), 16_384)):
        client.data(number, b"x" * piece)
    client.until(lambda: client.answers[number].reset is not None)
    assert client.answers[number].reset == ErrorCodes.NO_ERROR


def test_what_nobody_reads_any_more_gets_no_window(relay: HttpRelay) -> None:
    """The client does not take its refusal, and goes on sending."""
    with Frames(relay.port, settings={4: 0}) as client:
        number = client.open(request(method="DELETE"), end=False)
        client.until(lambda: bool(client.answers[number].heads))
        sent = still = 0
        while still < 5:
            client.settle()
            piece = min(client.room(number), 16_384)
            still = 0 if piece else still + 1
            client.data(number, b"x" * piece)
            sent += piece
            assert sent < 4 * MIB


# --- bodies and streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sized", [True, False])
def test_a_body_arrives_as_it_was_sent(client: Frames, api: HttpApi, sized: bool) -> None:
    sent = bytes(range(256)) * 40
    fields = [BYTES, *([("content-length", str(len(sent)))] if sized else [])]
    number = client.open(request("/echo", *fields, method="POST"), end=False)
    for at in range(0, len(sent), 1000):
        client.data(number, sent[at : at + 1000])
    client.data(number, b"", end=True)
    assert client.wait(number).body == sent
    (seen,) = api.seen
    assert seen.all("Content-Length") == ([str(len(sent))] if sized else [])
    assert seen.all("Transfer-Encoding") == ([] if sized else ["chunked"])


def test_a_request_that_has_no_body_says_so(client: Frames, api: HttpApi) -> None:
    assert client.answer(request("/echo", BYTES, method="POST")).status == 200
    head = client.answer(request(method="HEAD"))
    assert (head.status, head.body, head.heads[0]["content-length"]) == (200, b"", "39")
    assert client.answer(request("/status/204")).status == 204
    assert api.seen[0].all("Content-Length") == ["0"]


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(client: Frames, api: HttpApi) -> None:
    number = client.open(request("/echo", BYTES, ("expect", "100-continue"), method="POST"), end=False)
    client.until(lambda: bool(client.answers[number].heads))
    assert client.answers[number].heads[0] == {":status": "100"}
    client.data(number, b"body", end=True)
    assert client.wait(number).body == b"body"
    refused = client.open(request("/echo", BYTES, ("expect", "100-continue"), method="DELETE"), end=False)
    assert client.wait(refused).status == 403
    assert len(api.seen) == 1


def test_trailers_of_the_target_pass_to_who_asks_for_them(relay: HttpRelay) -> None:
    """As gRPC has them: what became of the call comes behind the body."""
    body = b"\0\0\0\0\4body"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"%x\r\n%b\r\n0\r\nGrpc-Status: 0\r\nGrpc-Message: %b\r\n\r\n" % (len(body), body, SECRET.encode())
    with answering(answer) as url, http_relay(url, listen=CLEAR) as running, Frames(running.port) as client:
        call = request("/pay.Orders/Get", ("content-type", "application/grpc"), ("te", "trailers"), method="POST")
        got = client.answer(call, body)
        without = client.answer(request("/pay.Orders/Get", BYTES, method="POST"), body)
    assert (got.status, got.body, got.ended) == (200, body, True)
    assert got.heads[1:] == [{"grpc-status": "0", "grpc-message": "[removed]"}]
    assert (without.body, without.ended, without.heads[1:]) == (body, True, [])


def test_trailers_of_a_request_are_read_and_go_no_further(client: Frames, api: HttpApi) -> None:
    number = client.open(request("/echo", BYTES, method="POST"), end=False)
    client.data(number, b"body")
    client.trailers(number, [("x-checksum", "1")])
    assert client.wait(number).body == b"body"
    assert "x-checksum" not in str(api.seen).lower()


def test_events_come_as_they_happen_and_stop_with_the_client(client: Frames, api: HttpApi) -> None:
    api.left.clear()
    number = client.open(request("/halfway"))
    client.until(lambda: client.answers[number].body == b"the beginning")
    events = client.open(request("/events"))
    client.until(lambda: client.answers[events].body.count(b"\n\n") >= 3)
    assert not client.answers[events].over
    client.reset(number)
    client.reset(events)
    assert api.left.wait(PATIENCE)


def test_a_response_that_is_cut_is_reset_and_not_ended(api: HttpApi) -> None:
    # Without a credential that might be in it: nothing of the body is held back.
    options = {"credentials": {"default": {"none": True}}, "listen": CLEAR}
    with http_relay(api.url, **options) as relay, Frames(relay.port) as client:
        for path in ("/cut", "/cut?chunked=1"):
            answer = client.answer(request(path))
            assert (answer.body, answer.ended, answer.reset) == (b"a part", False, 2)
        assert client.answer(request()).status == 200


def test_a_client_that_takes_nothing_stops_the_target(relay: HttpRelay, api: HttpApi) -> None:
    size = 64 * MIB
    with Frames(relay.port, greedy=False) as client:
        slow = client.open(request(f"/large/{size}"))
        client.until(lambda: client.answers[slow].size == 65535)
        client.settle()
        client.window(0, 1 * MIB)
        assert client.answer(request()).status == 200, "the others go on"
        assert client.answers[slow].size == 65535
        client.window(slow, 100_000)
        client.until(lambda: client.answers[slow].size == 165_535)
        client.reset(slow)


def test_a_target_that_takes_nothing_stops_the_client() -> None:
    total = 64 * MIB
    settings = {"credentials": {"default": {"none": True}}, "listen": CLEAR}
    with deaf() as url, http_relay(url, **settings) as relay, Frames(relay.port) as client:
        upload = client.open(request("/swallow", BYTES, method="POST"), end=False)
        sent, still = 0, 0
        while still < 5:
            client.settle()
            piece = min(client.room(upload), 16_384)
            still = 0 if piece else still + 1
            client.data(upload, b"x" * piece)
            sent += piece
            assert sent < total


def test_much_passes_in_both_directions(client: Frames) -> None:
    assert client.wait(client.open(request(f"/large/{8 * MIB}"))).size == 8 * MIB
    upload = client.open(request("/swallow", BYTES, method="POST"), end=False)
    sent, total = 0, 4 * MIB
    while sent < total:
        client.until(lambda: client.room(upload) > 0)
        piece = min(16_384, client.room(upload), total - sent)
        client.data(upload, b"x" * piece, end=sent + piece == total)
        sent += piece
    assert json.loads(client.wait(upload).body) == {"size": total}


# --- the connection ---------------------------------------------------------------------------------------------------


def test_many_streams_at_once(client: Frames) -> None:
    bodies = [b"body %d" % number for number in range(50)]
    streams = [client.open(request("/echo", BYTES, method="POST"), end=False) for _ in bodies]
    for stream, body in zip(streams, bodies, strict=True):
        client.data(stream, body, end=True)
    assert [client.wait(stream).body for stream in streams] == bodies


def test_a_client_that_goes_away_gets_its_answers(client: Frames, api: HttpApi) -> None:
    number = client.open(request("/gate"))
    eventually(lambda: bool(api.seen), PATIENCE)
    client.send(GoAwayFrame(0))
    client.settle()
    api.open()
    assert client.wait(number).status == 200
    client.finish()


def test_a_proxy_that_stops_lets_what_it_serves_end(api: HttpApi) -> None:
    with http_relay(api.url, listen=CLEAR, shutdown={"drain": "60s"}) as relay, Frames(relay.port) as client:
        number = client.open(request("/gate"))
        eventually(lambda: bool(api.seen), PATIENCE)
        relay.loop.call_soon_threadsafe(relay.runtime.stopping.set)
        client.until(lambda: client.goaway is not None)
        assert client.goaway == (0, number)
        assert client.wait(client.open(request())).reset == 7
        api.open()
        assert client.wait(number).status == 200
        client.finish()
    assert api.targets() == ["GET /gate"]


def test_without_the_setting_nothing_of_it_is_spoken(api: HttpApi) -> None:
    with http_relay(api.url) as relay:
        assert relay.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    assert api.seen == []


def test_both_versions_are_spoken_on_one_port(relay: HttpRelay, api: HttpApi) -> None:
    assert httpx.get(relay.url + "/orders/1", headers=relay.headers, trust_env=False).status_code == 200
    begun = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"
    assert relay.raw(begun[:5], begun[5:]).startswith(b"HTTP/1.1 505 ")
    upgrade = b"GET /orders/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    upgrade += b"HTTP2-Settings: AAMAAABk\r\nAuthorization: Bearer " + PASSWORD.encode() + b"\r\n\r\n"
    assert relay.raw(upgrade, until=b"}").startswith(b"HTTP/1.1 200 ")
    assert len(api.seen) == 2


# --- real clients -----------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(api: HttpApi) -> Iterator[HttpRelay]:
    own = api.authority.issue("proxy", dns=["localhost"])
    tls = {"cert": str(own.certificate), "key": str(own.key)}
    with http_relay(api.url, policy, listen={"address": "127.0.0.1:0", "tls": tls}) as running:
        yield running


def test_curl_speaks_it(secure: HttpRelay, api: HttpApi) -> None:
    def curl(*arguments: str) -> str:
        fields = ["-H", f"Authorization: Bearer {PASSWORD}", "--cacert", api.ca, "--noproxy", "*", "--max-time", "45"]
        command = ["curl", "-q", "-sS", *fields, "-w", "\n%{http_code} %{http_version}", *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()

    base = f"https://localhost:{secure.port}"
    assert curl("--http2", base + "/orders/1").endswith("}\n200 2")
    assert curl("--http2", "-X", "DELETE", base + "/orders/1").endswith("403 2")
    assert curl("--http2", "--data-binary", "x" * 100_000, "-H", "Content-Type: text/plain", base + "/echo").endswith(
        "x\n200 2"
    )
    assert curl("--http1.1", base + "/orders/1").endswith("}\n200 1.1")
    assert '"ssn":null' in curl("--http2", base + "/customers/1").replace(" ", "")


def test_httpx_speaks_it_and_cannot_tell(secure: HttpRelay, api: HttpApi) -> None:
    trusted = ssl.create_default_context(cafile=api.ca)
    base = f"https://localhost:{secure.port}"

    async def everything(http2: bool) -> list[tuple[str, int, bytes]]:
        options: dict[str, Any] = {"http1": not http2, "http2": http2, "verify": trusted, "headers": secure.headers}
        async with httpx.AsyncClient(base_url=base, timeout=45, trust_env=False, **options) as client:
            paths = [
                "/orders",
                "/chunked",
                "/large/300000",
                "/status/404",
                "/events?count=3",
                "/customers/1",
                "/nothing",
            ]
            answers = await asyncio.gather(*(client.get(path) for path in paths))
            sent = await client.post("/echo", content=b"z" * 200_000, headers={"Content-Type": "text/plain"})
        return [(each.http_version, each.status_code, each.content) for each in (*answers, sent)]

    first, second = asyncio.run(everything(False)), asyncio.run(everything(True))
    assert {version for version, _, _ in first} == {"HTTP/1.1"}
    assert {version for version, _, _ in second} == {"HTTP/2"}
    assert [each[1:] for each in first] == [each[1:] for each in second]


def test_a_client_certificate_is_a_credential_here_as_well(api: HttpApi) -> None:
    own, agent = api.authority.issue("proxy", dns=["localhost"]), api.authority.issue("agent")
    tls = {"cert": str(own.certificate), "key": str(own.key), "client_ca": api.ca}
    trusting = ssl.create_default_context(cafile=api.ca)
    trusting.load_cert_chain(agent.certificate, agent.key)
    with http_relay(api.url, listen={"address": "127.0.0.1:0", "tls": tls}) as relay:
        relay.decisions.passwords.add("ClientCertificate")
        with httpx.Client(http2=True, verify=trusting, trust_env=False, timeout=45) as client:
            answer = client.get(f"https://localhost:{relay.port}/orders/1")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        assert list(relay.decisions.sessions.values()) == ["ClientCertificate"]


# ----------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """A target that takes connections and reads nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class answering:  # noqa: N801 - reads as a context
    """A target that answers every request with the same bytes, once it has come to its end."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._run, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        try:
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection:
            while data := connection.recv(65536):
                received += data
                if received.endswith(b"0\r\n\r\n"):
                    connection.sendall(self._answer)
                    received = b""
