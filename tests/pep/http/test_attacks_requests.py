# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts of clients: questions whose answer tells, other protocols, other targets, what follows a refusal.

See `tests.http_attacks`.
"""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.http_attacks import (
    DOCUMENT,
    SECRET,
    SSN,
    VISIBLE,
    Attacked,
    ask,
    attacked,
    chunked,
    leaks,
    packed,
    reply,
    status_of,
    statuses,
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
    assert status_of(received) == 200, received
    assert leaks(received) == []
    assert proxy.target.seen[0].field(field.partition(":")[0]) == ""


@pytest.mark.parametrize("field", ['If-None-Match: "a"', 'If-Match: "a", "b"', 'If: (["a"])'])
def test_a_guess_is_no_condition_of_a_change(proxy: Attacked, field: str) -> None:
    """To leave the condition out would make a change that was not asked for."""
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(ask("/masked/x", field, "Content-Type: application/json", method="PUT", body=b"{}"))
    assert status_of(received) == 403, received
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
    assert status_of(received) == 403 or VISIBLE.encode() in received


def test_a_name_that_is_taken_hides_nothing(proxy: Attacked) -> None:
    received = graphql(proxy, "{ c { ssn: name name: ssn } }", {"data": {"c": {"ssn": VISIBLE, "name": SSN}}})
    assert status_of(received) == 200
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
    assert status_of(received) == 403, received
    assert proxy.target.seen == []


@pytest.mark.parametrize("wanted", ["h2c", "TLS/1.2", "h2c, websocket", "websocket, h2c", "connect-udp"])
def test_no_other_protocol_is_asked_for(proxy: Attacked, wanted: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    fields = ("Connection: Upgrade, HTTP2-Settings, close", f"Upgrade: {wanted}", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert leaks(proxy.send(ask("/masked/x", *fields))) == []
    raw = proxy.target.seen[0].raw.lower()
    assert b"upgrade" not in raw
    assert b"http2-settings" not in raw


@pytest.mark.parametrize(
    "start", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /masked/x\r\n\r\n"]
)
def test_what_is_no_request_reaches_nobody(proxy: Attacked, start: bytes) -> None:
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(start, ask("/masked/x"))
    assert not received.startswith(b"HTTP/1.1 2"), received
    assert proxy.target.seen == []


# --- another target than was decided ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Host",
        "X-Forwarded-Path",
        "X-Host",
        "X-Original-URI",
        "Forwarded",
    ],
)
def test_no_field_names_another_target(proxy: Attacked, field: str) -> None:
    proxy.target.says(reply(b"{}"))
    received = proxy.send(ask("/open/x", f"{field}: /masked/x"))
    assert status_of(received) == 200
    assert b"/masked" not in proxy.target.received


@pytest.mark.parametrize(
    "path",
    ["/open/../masked/x", "/open/%2e%2e/masked/x", "/open/..;/masked/x", "/open/..%2fmasked/x", "//masked/x", "/open\\..\\masked", "/open/%252e%252e/masked/x"],
)  # fmt: skip
def test_no_path_leads_elsewhere(proxy: Attacked, path: str) -> None:
    proxy.target.says(reply(DOCUMENT))
    received = proxy.send(ask(path))
    assert status_of(received) == 400, received
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
    assert status_of(received) == 413, received
    assert reading.target.seen == []


@pytest.mark.parametrize(
    "body", [b'{"op":"read","op":"delete"}', b'{"op":"read","OP":"delete"}', b'{"op":"read"', b"\xff"]
)
def test_a_body_that_reads_in_two_ways_reaches_nobody(reading: Attacked, body: bytes) -> None:
    reading.target.says(reply(b"{}"))
    received = reading.send(ask("/open/x", "Content-Type: application/json", method="POST", body=body))
    assert status_of(received) in (400, 403) or all(seen.body != body for seen in reading.target.seen), received
    assert b"delete" not in reading.target.received


# --- a method that a body names ---------------------------------------------------------------------------------------

NAMED = b'{"_method": "DELETE", "pad": "' + b"x" * 100 + b'"}'
JSON = "Content-Type: application/json"


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((JSON,), NAMED),
        ((JSON,), NAMED.upper()),
        ((JSON, "Content-Encoding: gzip"), packed(NAMED, "gzip")),
        ((JSON, "Content-Encoding: br"), packed(NAMED, "br")),
        ((JSON, "Content-Encoding: gzip, zstd"), packed(NAMED, "gzip", "zstd")),
        ((JSON, "Content-Encoding: compress"), NAMED),
        ((JSON, "Content-Encoding: gzip"), NAMED),
        ((JSON + "; charset=utf-7",), b'{"+AF8-method": "DELETE"}'),
        ((JSON + "; charset=utf-16",), NAMED.decode().encode("utf-16")),
    ],
    ids=["plain", "capitals", "gzip", "br", "twice packed", "another coding", "not packed", "utf-7", "utf-16"],
)
def test_a_body_that_names_a_method_is_never_whole(
    proxy: Attacked, fields: tuple[str, ...], body: bytes, chunks: bool
) -> None:
    proxy.target.says(reply(b"{}"))
    if chunks:
        sent = ask("/open/x", *fields, "Transfer-Encoding: chunked", method="POST") + chunked(body)
    else:
        sent = ask("/open/x", *fields, method="POST", body=body)
    received = proxy.send(sent)
    assert status_of(received) == 403, received
    assert b"method-in-body" in received or b"_method" in received
    assert all(seen.body != body for seen in proxy.target.seen)


def test_a_packed_body_that_names_none_goes_on_as_it_came(proxy: Attacked) -> None:
    proxy.target.says(reply(b"{}"))
    body = packed(json.dumps([{"payment_method": 1}] * 5000).encode(), "gzip")
    received = proxy.send(ask("/open/x", JSON, "Content-Encoding: gzip", method="POST", body=body))
    assert status_of(received) == 200, received
    (seen,) = proxy.target.seen
    assert seen.body == body
