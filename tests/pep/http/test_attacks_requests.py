# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts of clients: questions whose answer tells a masked value, other identities, approvals, what follows a refusal.

See `tests.http_attacks`.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.http_attacks import (
    ALICE,
    BOB,
    DOCUMENT,
    EMAIL,
    SECRET,
    SSN,
    VISIBLE,
    Attacked,
    Seen,
    ask,
    attacked,
    chunked,
    leaks,
    reply,
    rest,
)

GRAPHQL = "/masked/graphql"
BODY_LIMIT = 4096


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked(http={"graphql": [GRAPHQL], "body_limit": BODY_LIMIT}) as running:
            yield running


@pytest.fixture(scope="module")
def reading() -> Iterator[Attacked]:
    """A proxy whose policies read bodies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        paths = ["action.properties.http.body"]
        with attacked(http={"body_limit": BODY_LIMIT}, input_paths=paths) as running:
            yield running


def status(received: bytes) -> int:
    return int(received[9:12])


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


# --- questions whose answer tells -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "field",
    [
        'If-None-Match: "a"',
        'If-None-Match: W/"a", "b"',
        "If-None-Match: *",
        'If-Match: "a"',
        "If-Modified-Since: Tue, 24 Nov 2026 10:00:00 GMT",
        "If-Unmodified-Since: Tue, 24 Nov 2026 10:00:00 GMT",
        'If: (["a"])',
        'If-Range: "a"',
        "Range: bytes=0-5",
        "Range: bytes=40-, 5-9",
    ],
)
def test_a_guess_is_not_put_to_the_target(proxy: Attacked, field: str, method: str) -> None:
    proxy.target.follows(lambda seen: (reply(DOCUMENT if method == "GET" else b"", "application/json"),))
    received = proxy.send(ask("/masked/x", field, method=method))
    assert status(received) == 200, received
    assert leaks(received) == []
    assert proxy.target.seen[0].field(field.partition(":")[0]) == ""


@pytest.mark.parametrize("field", ['If-None-Match: "a"', 'If-Match: "a", "b"', 'If: (["a"])'])
def test_a_guess_is_no_condition_of_a_change(proxy: Attacked, field: str) -> None:
    """To leave the condition out would make a change that was not asked for."""
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(ask("/masked/x", field, "Content-Type: application/json", method="PUT", body=b"{}"))
    assert status(received) == 403, received
    assert proxy.target.seen == []


@pytest.mark.parametrize(
    "field", ["If-None-Match: *", "If-Match: *", "If-Unmodified-Since: Tue, 24 Nov 2026 10:00:00 GMT"]
)
def test_a_condition_that_tells_nothing_stays_with_its_change(proxy: Attacked, field: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    proxy.send(ask("/masked/x", field, "Content-Type: application/json", method="PUT", body=b"{}"))
    name, _, value = field.partition(": ")
    assert proxy.target.seen[0].field(name) == value


def test_the_length_of_a_masked_document_is_not_told(proxy: Attacked) -> None:
    answers = []
    for length in (11, 12, 400):
        proxy.target.says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length)
        answers.append(proxy.send(ask("/masked/x", method="HEAD")))
    assert len(set(answers)) == 1, answers
    assert b"ontent-Length" not in answers[0]


@pytest.mark.parametrize("value", [SSN, SSN[:6], "x" * 400, ""])
def test_what_a_masked_value_was_changes_nothing(proxy: Attacked, value: str) -> None:
    proxy.target.says(reply(json.dumps({"name": VISIBLE, "ssn": value}), "application/json", f'ETag: "{len(value)}"'))
    received = proxy.send(ask("/masked/x"))
    assert received.endswith(b'Content-Length: 34\r\n\r\n{"name":"plainly-seen","ssn":null}'), received
    assert b"ETag" not in received


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("gzip, deflate, br, zstd", "gzip, br, zstd"),
        ("compress, dcb, dcz, exi, aes128gcm", "identity"),
        ("identity;q=0, x-custom", "identity"),
        ("*", "gzip, br, zstd"),
        ("gzip;q=0, br", "br"),
        ("gzip;q=0.0,*", "br, zstd"),
    ],
)
def test_only_codings_that_can_be_undone_are_asked_for(proxy: Attacked, asked: str, told: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    assert leaks(proxy.send(ask("/masked/x", f"Accept-Encoding: {asked}"))) == []
    assert proxy.target.seen[0].field("Accept-Encoding") == told


def test_hop_by_hop_fields_of_the_client_are_its_own(proxy: Attacked) -> None:
    proxy.target.says(reply(DOCUMENT))
    proxy.send(ask("/masked/x", "Connection: close, TE, X-Hop", "TE: trailers", "X-Hop: 1", "Trailer: X"))
    raw = proxy.target.seen[0].raw.lower()
    assert not any(name in raw for name in (b"\r\nte:", b"\r\nx-hop:", b"\r\ntrailer:", b"trailers"))


# --- GraphQL ----------------------------------------------------------------------------------------------------------


def graphql(proxy: Attacked, query: str, answer: object, **more: object) -> bytes:
    proxy.target.says(reply(json.dumps(answer)))
    body = json.dumps({"query": query, **more}).encode()
    return proxy.send(ask(GRAPHQL, "Content-Type: application/json", method="POST", body=body))


TWO = "query A { c { x: name } } query B { c { x: ssn name } }"
SPREAD = "{ c { ...F name } } fragment F on C { ...G } fragment G on C { x: ssn }"


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("{ c { x: ssn name } }", {}),
        ("{ c { x:ssn,name } }", {}),
        ("{ c { x # a comment\n : # another\n ssn name } }", {}),
        ("query Q($y: Boolean!) { c { x: ssn @include(if: $y) name } }", {"variables": {"y": True}}),
        ("{ a: b { c: d { x: ssn name } } }", {}),
        ("{ c { ... on C { x: ssn } name } }", {}),
        ("{ c { ... { ... @skip(if: false) { x: ssn } } name } }", {}),
        (SPREAD, {}),
        (TWO, {"operationName": "B"}),
        ("{ c { name: name x: SSN } }", {}),
        ("subscription { c { x: ssn name } }", {}),
        ("mutation { c(ssn: 1) { x: ssn name } }", {}),
        ("{ x: ssn c { name } d { x: name } }", {}),
    ],
)
def test_an_alias_hides_nothing(proxy: Attacked, query: str, more: dict[str, object]) -> None:
    received = graphql(proxy, query, {"data": {"c": {"x": SSN, "name": VISIBLE}, "x": SSN}}, **more)
    assert leaks(received) == [], received
    assert status(received) == 403 or VISIBLE.encode() in received


def test_a_name_that_is_taken_hides_nothing(proxy: Attacked) -> None:
    received = graphql(proxy, "{ c { ssn: name name: ssn } }", {"data": {"c": {"ssn": VISIBLE, "name": SSN}}})
    assert status(received) == 200
    assert leaks(received) == [], received


def test_an_error_of_graphql_tells_nothing(proxy: Attacked) -> None:
    errors = [{"message": f'Expected ID, found {{ssn: "{SSN}"}}', "extensions": {"input": {"ssn": SSN}}}]
    assert leaks(graphql(proxy, "{ c { x: ssn } }", {"data": None, "errors": errors})) == []


PART = '--b\r\nContent-Disposition: form-data; name="operations"'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "00"}}})),
        ("application/json", json.dumps({"id": "kept"})),
        ("application/json", json.dumps({"documentId": "kept"})),
        ("application/json", json.dumps({"query": "{ c { name } }", "id": "kept"})),
        ("application/json", json.dumps([{"query": "{ c { x: ssn } }"}, {"query": "{ c { name } }"}])),
        ("application/json", json.dumps({"query": "{ c { x: ssn"})),
        ("application/json", json.dumps({"query": TWO})),
        ("application/json", '{"query":"{ c { name } }","query":"{ c { x: ssn } }"}'),
        ("application/json", '{"query":"{ c { name } }","Query":"{ c { x: ssn } }"}'),
        ("application/graphql", "{ c { x: ssn } }"),
        ("application/x-www-form-urlencoded", f"query={quote('{ c { x: ssn } }')}"),
        ("multipart/form-data; boundary=b", f"{PART}\r\n\r\n{{}}\r\n--b--"),
        ("text/plain", json.dumps({"query": "{ c { x: ssn } }"})),
    ],
)
def test_a_document_that_is_not_known_is_answered_without_the_value(proxy: Attacked, kind: str, body: str) -> None:
    proxy.target.says(reply(json.dumps({"data": {"c": {"x": SSN}}})))
    received = proxy.send(ask(GRAPHQL, f"Content-Type: {kind}", method="POST", body=body.encode()))
    assert leaks(received) == [], received


@pytest.mark.parametrize("path", [GRAPHQL, GRAPHQL + "/", "/masked/GraphQL", "/MASKED/graphql", "/masked/%67raphql"])
@pytest.mark.parametrize("query", ["{c{x:ssn}}", "query A{c{x:name}}query B{c{x:ssn}}"])
def test_a_document_in_the_query_hides_nothing(proxy: Attacked, path: str, query: str) -> None:
    proxy.target.says(reply(json.dumps({"data": {"c": {"x": SSN}}})))
    assert leaks(proxy.send(ask(f"{path}?operationName=B&query={quote(query, safe='')}"))) == []


# --- other protocols --------------------------------------------------------------------------------------------------

SOCKET = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")


@pytest.mark.parametrize("path", ["/masked/socket", "/redacted/socket", "/named/socket", "/denied/socket"])
def test_no_socket_opens_where_something_is_masked(proxy: Attacked, path: str) -> None:
    switched = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    proxy.target.says(switched + b"\x81\x0d" + SSN.encode())
    received = proxy.send(ask(path, "Connection: Upgrade, close", *SOCKET))
    assert status(received) == 403, received
    assert proxy.target.seen == []


@pytest.mark.parametrize("wanted", ["h2c", "TLS/1.2", "h2c, websocket", "websocket, h2c", "connect-udp"])
def test_no_other_protocol_is_asked_for(proxy: Attacked, wanted: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    fields = ("Connection: Upgrade, HTTP2-Settings, close", f"Upgrade: {wanted}", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert leaks(proxy.send(ask("/masked/x", *fields))) == []
    raw = proxy.target.seen[0].raw.lower()
    assert b"upgrade" not in raw
    assert b"http2-settings" not in raw


@pytest.mark.parametrize("start", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /masked/x\r\n\r\n"])
def test_what_is_no_request_reaches_nobody(proxy: Attacked, start: bytes) -> None:
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(start, ask("/masked/x"))
    assert not received.startswith(b"HTTP/1.1 2"), received
    assert proxy.target.seen == []


# --- another target than was decided ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Host", "X-Forwarded-Path", "X-Host", "X-Original-URI", "Forwarded"],
)
def test_no_field_names_another_target(proxy: Attacked, field: str) -> None:
    proxy.target.says(reply(b"{}"))
    received = proxy.send(ask("/open/x", f"{field}: /masked/x"))
    assert status(received) == 200
    assert b"/masked" not in proxy.target.received


@pytest.mark.parametrize(
    "path",
    ["/open/../masked/x", "/open/%2e%2e/masked/x", "/open/..;/masked/x", "/open/..%2fmasked/x", "//masked/x", "/open\\..\\masked", "/open/%252e%252e/masked/x"],
)  # fmt: skip
def test_no_path_leads_elsewhere(proxy: Attacked, path: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(ask(path))
    assert status(received) == 400, received
    assert proxy.target.seen == []


# --- what follows a refusal -------------------------------------------------------------------------------------------

INNER = ask("/open/smuggled")


@pytest.mark.parametrize(
    "request_",
    [
        ask("/denied/x", method="POST", body=INNER, close=False),
        ask("/denied/x", "Expect: 100-continue", method="POST", body=INNER, close=False),
        ask("/denied/x", "Transfer-Encoding: chunked", method="POST", close=False) + chunked(INNER),
        ask("/denied/x", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST", close=False) + INNER,
        ask("/denied/x", "Content-Length: 5", "Content-Length: 6", method="POST", close=False) + INNER,
        ask("/denied/x", "Transfer-Encoding: chunked, identity", method="POST", close=False) + INNER,
        ask("/denied/x", "Transfer-Encoding : chunked", method="POST", close=False) + INNER,
        ask("/denied/x", "Upgrade: websocket", "Connection: Upgrade", close=False) + b"\x81\x05" + INNER,
        ask("/denied/x", method="POST", body=b"x" * 200_000 + INNER, close=False),
    ],
    ids=["length", "continue", "chunks", "both", "two lengths", "codings", "white space", "upgrade", "long"],
)
def test_the_body_of_a_refused_request_is_no_request(proxy: Attacked, request_: bytes) -> None:
    proxy.target.says(reply(b"{}"))
    received = proxy.send(request_, ask("/denied/last"))
    assert statuses(received), "there is no answer at all"
    assert all(code >= 400 for code in statuses(received)), received
    assert b"smuggled" not in proxy.target.received


def test_requests_behind_a_refused_one_are_decided_each(proxy: Attacked) -> None:
    proxy.target.says(reply(DOCUMENT))
    paths = ["/denied/1", "/masked/2", "/denied/3", "/open/4"]
    sent = b"".join(ask(path, close=path.endswith("4")) for path in paths)
    received = proxy.send(sent)
    assert statuses(received) == [403, 200, 403, 200]
    assert [seen.target for seen in proxy.target.seen] == ["/masked/2", "/open/4"]
    assert leaks(received.partition(b"HTTP/1.1 403")[2].rpartition(b"HTTP/1.1 403")[0]) == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_longer_than_is_read_reaches_nobody(reading: Attacked, framing: str) -> None:
    reading.target.says(reply(b"{}"))
    body = json.dumps({"op": "read", "pad": "x" * BODY_LIMIT, "then": "write"}).encode()
    if framing == "length":
        sent = ask("/open/x", "Content-Type: application/json", method="POST", body=body)
    else:
        fields = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        sent = ask("/open/x", *fields, method="POST") + chunked(body)
    received = reading.send(sent)
    assert status(received) == 413, received
    assert reading.target.seen == []


@pytest.mark.parametrize("body", [b'{"op":"read","op":"delete"}', b'{"op":"read","OP":"delete"}', b'{"op":"read"', b"\xff"])
def test_a_body_that_reads_in_two_ways_reaches_nobody(reading: Attacked, body: bytes) -> None:
    reading.target.says(reply(b"{}"))
    received = reading.send(ask("/open/x", "Content-Type: application/json", method="POST", body=body))
    assert status(received) in (400, 403) or all(seen.body != body for seen in reading.target.seen), received
    assert b"delete" not in reading.target.received


# --- a response that is not this request's ----------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["/open/b", "/masked/b"])
@pytest.mark.parametrize("token", [ALICE, BOB])
def test_what_a_target_sends_too_much_answers_no_other_request(proxy: Attacked, token: str, second: str) -> None:
    planted = reply(DOCUMENT, "text/plain")
    proxy.target.follows(
        lambda seen: (reply(b'{"n":1}') + planted,) if seen.target == "/masked/a" else (reply(b'{"n":2}'),)
    )
    received = proxy.send(ask("/masked/a", close=False) + ask(second, token=token))
    assert leaks(received) == [], received


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_body_of_head_answers_no_other_request(proxy: Attacked, method: str) -> None:
    planted = reply(DOCUMENT, "text/plain")
    proxy.target.follows(
        lambda seen: (reply(planted),) if seen.method == "HEAD" else (reply(b'{"n":2}'),)
    )
    received = proxy.send(ask("/open/a", method="HEAD", close=False) + ask("/open/b", method=method))
    assert leaks(received) == [], received


def test_what_arrives_between_requests_answers_none(proxy: Attacked) -> None:
    def script(seen: Seen) -> Iterator[bytes]:
        yield reply(b'{"n":1}')
        if seen.target == "/open/a":
            yield reply(DOCUMENT, "text/plain")

    proxy.target.follows(script)
    with proxy.connect() as connection:
        connection.sendall(ask("/open/a", close=False))
        first = rest(connection, b"}")
        connection.sendall(ask("/open/b"))
        assert leaks(first + rest(connection)) == []


# --- identities -------------------------------------------------------------------------------------------------------


def who(proxy: Attacked) -> dict[str, str]:
    return {action.properties["path"]: subject for subject, action in proxy.decisions.by}


@pytest.mark.parametrize("pipelined", [True, False])
def test_each_request_is_its_own_senders(proxy: Attacked, pipelined: bool) -> None:
    proxy.decisions.by.clear()
    proxy.target.follows(lambda seen: (reply(json.dumps({"path": seen.target})),))
    tokens = [ALICE, BOB, BOB, ALICE, BOB, ALICE]
    requests = [
        ask(f"/open/{number}", token=token, close=number == len(tokens) - 1) for number, token in enumerate(tokens)
    ]
    with proxy.connect() as connection:
        if pipelined:
            connection.sendall(b"".join(requests))
        else:
            for number, request in enumerate(requests[:-1]):
                connection.sendall(request)
                assert f'"/open/{number}"'.encode() in rest(connection, b"}")
            connection.sendall(requests[-1])
        rest(connection)
    names = {ALICE: "agent:alice", BOB: "agent:bob"}
    assert who(proxy) == {f"/open/{number}": names[token] for number, token in enumerate(tokens)}
    peers: dict[str, set[int]] = {ALICE: set(), BOB: set()}
    for seen, token in zip(proxy.target.seen, tokens, strict=True):
        peers[token].add(seen.peer)
    assert peers[ALICE].isdisjoint(peers[BOB]), "two clients shared a connection to the target"
    assert leaks(proxy.target.received, (ALICE, BOB)) == []


@pytest.mark.parametrize("shown", ["", "Authorization: Bearer wrong", "Authorization: Bearer", "Authorization: Digest x"])
def test_a_request_without_its_own_credential_is_nobodys(proxy: Attacked, shown: str) -> None:
    """The one before it on the connection lends it none."""
    proxy.target.says(reply(DOCUMENT))
    lines = [line for line in ("GET /open/b HTTP/1.1", "Host: api.test", shown, "Connection: close") if line]
    received = proxy.send(ask("/open/a", close=False) + "\r\n".join([*lines, "", ""]).encode())
    assert statuses(received) == [200, 401], received
    assert len(proxy.target.seen) == 1


def test_an_answer_is_not_kept_for_another(proxy: Attacked) -> None:
    numbers = iter(range(100, 200))
    fields = ("Cache-Control: public, max-age=600", 'ETag: "a"')
    proxy.target.follows(lambda _seen: (reply(json.dumps({"n": next(numbers)}), "application/json", *fields),))
    answers = {proxy.send(ask("/open/same", token=token))[-5:] for token in (ALICE, BOB, ALICE)}
    assert len(answers) == 3
    assert len(proxy.target.seen) == 3


# --- approvals --------------------------------------------------------------------------------------------------------

ASYNC = "Prefer: respond-async"
JSON = "Content-Type: application/json"
ORDER = b'{"amount":10}'


def asked_for(proxy: Attacked, path: str, *fields: str, method: str = "POST", body: bytes | None = ORDER) -> str:
    """Alice asks for it, and comes back later: the place where it stands."""
    proxy.target.says(reply(b'{"done":true}'))
    received = proxy.send(ask(path, ASYNC, *(fields or (JSON,)), method=method, body=body))
    assert status(received) == 202, received
    assert proxy.target.seen == []
    return next(line[10:] for line in received.decode().split("\r\n") if line.startswith("Location: "))


def again(path: str, *fields: str, token: str = ALICE, method: str = "POST", body: bytes | None = ORDER) -> bytes:
    return ask(path, ASYNC, *(fields or (JSON,)), token=token, method=method, body=body)


def test_nobody_else_learns_how_an_approval_stands(proxy: Attacked) -> None:
    place = asked_for(proxy, "/held/poll")
    assert status(proxy.send(ask(place))) == 202
    assert status(proxy.send(ask(place, token=BOB))) == 404
    assert status(proxy.send(ask("/.checkrein/approvals/A-0"))) == 404
    proxy.proxy.resolve("approved")
    assert status(proxy.send(ask(place, token=BOB))) == 404


@pytest.mark.parametrize(
    "tried", ["another client", "body", "longer body", "query", "path", "method", "no body", "type", "fields"]
)
def test_only_what_was_approved_is_sent(proxy: Attacked, tried: str) -> None:
    path = f"/held/{tried.replace(' ', '-')}"
    asked_for(proxy, path)
    proxy.proxy.resolve("approved")
    other = {
        "another client": again(path, token=BOB),
        "body": again(path, body=b'{"amount":99}'),
        "longer body": again(path, body=ORDER + b" " * 8),
        "query": again(path + "?amount=99"),
        "path": again(path + "/more"),
        "method": again(path, method="PUT"),
        "no body": again(path, body=b""),
        "type": again(path, "Content-Type: application/xml"),
        "fields": again(path, JSON, "X-Dry-Run: no"),
    }[tried]
    received = proxy.send(other)
    if tried == "longer body" and proxy.target.seen:
        # It is the same document.
        assert [seen.body for seen in proxy.target.seen] == [ORDER]
        return
    assert status(received) in (202, 403), received
    assert proxy.target.seen == []
    assert status(proxy.send(again(path))) == 200
    assert [(seen.target, seen.body) for seen in proxy.target.seen] == [(path, ORDER)]


def test_an_approval_is_good_for_one_request(proxy: Attacked) -> None:
    asked_for(proxy, "/held/once")
    proxy.proxy.resolve("approved")
    assert status(proxy.send(again("/held/once"))) == 200
    assert status(proxy.send(again("/held/once"))) == 202
    assert len(proxy.target.seen) == 1


def test_an_approval_is_good_for_one_of_many_at_once(proxy: Attacked) -> None:
    asked_for(proxy, "/held/race")
    proxy.proxy.resolve("approved")
    answers: list[int] = []
    start = threading.Barrier(8)

    def replay() -> None:
        start.wait()
        answers.append(status(proxy.send(again("/held/race"))))

    threads = [threading.Thread(target=replay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(200) == len(proxy.target.seen) == 1, answers


def test_what_is_denied_is_not_sent(proxy: Attacked) -> None:
    asked_for(proxy, "/held/denied")
    proxy.proxy.resolve("denied", "no")
    assert status(proxy.send(again("/held/denied"))) == 403
    assert proxy.target.seen == []


def test_the_request_of_a_client_that_left_is_never_sent(proxy: Attacked) -> None:
    proxy.target.says(reply(b"{}"))
    asked, cancelled = len(proxy.decisions.requested), len(proxy.decisions.cancelled)
    connection = proxy.connect()
    connection.sendall(ask("/held/left", JSON, method="POST", body=ORDER))
    until(lambda: len(proxy.decisions.requested) > asked)
    connection.close()
    until(lambda: len(proxy.decisions.cancelled) > cancelled)
    proxy.proxy.resolve("approved")
    assert status(proxy.send(ask("/denied/behind"))) == 403
    assert proxy.target.seen == []


def test_what_follows_a_held_request_waits(proxy: Attacked) -> None:
    proxy.target.follows(lambda seen: (reply(json.dumps({"path": seen.target})),))
    asked = len(proxy.decisions.requested)
    with proxy.connect() as connection:
        connection.sendall(ask("/held/first", close=False) + ask("/open/second"))
        until(lambda: len(proxy.decisions.requested) > asked)
        assert proxy.target.seen == []
        proxy.proxy.resolve("approved")
        received = rest(connection)
    assert statuses(received) == [200, 200]
    assert [seen.target for seen in proxy.target.seen] == ["/held/first", "/open/second"]


def until(true: object, seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.005)


def test_the_length_of_what_is_sent_is_the_targets_to_know(proxy: Attacked) -> None:
    """A client that stops in the middle of a body leaves nothing whole behind."""
    proxy.target.says(reply(b"{}"))
    sent = ask("/open/x", JSON, "Content-Length: 100", method="POST", close=False) + ORDER
    with proxy.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)
    assert all(len(seen.body) < 100 for seen in proxy.target.seen)
    assert EMAIL.encode() not in proxy.target.received
