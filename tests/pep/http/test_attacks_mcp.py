# ruff: noqa: E501 - a table reads best with one attempt to a line
"""Attempts to see a tool that policy hides, and what a mask hides in what a tool says. See `tests.http_attacks`."""

import json
from collections.abc import Iterator

import pytest

from tests.http_attacks import (
    ALICE,
    BOB,
    CUSTOMER,
    SECRET,
    SSN,
    VISIBLE,
    Attacked,
    ask,
    attacked,
    leaks,
    packed,
    reply,
    shows,
    status_of,
)

EVENTS = "text/event-stream"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked(http={"mcp": ["/open/mcp", "/masked/mcp"]}) as running:
            yield running


@pytest.fixture(scope="module")
def uncredentialed() -> Iterator[Attacked]:
    """A proxy that looks for no credential in what comes back."""
    with attacked(http={"mcp": ["/open/mcp"]}, credentials={"default": {"none": True}}) as running:
        yield running


def call(proxy: Attacked, path: str, method: str, answer: bytes, **params: object) -> bytes:
    proxy.target.says(answer)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    fields = ("Content-Type: application/json", "Accept: application/json, text/event-stream")
    received = proxy.send(ask(path, *fields, method="POST", body=body))
    assert leaks(answer), "the target shows nothing, so this proves nothing"
    assert leaks(received) == [], received
    return received


def result(value: object, **more: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value, **more})


TOOLS = [{"name": VISIBLE, "inputSchema": {}}, {"name": SSN, "inputSchema": {}}]
LIST = result({"tools": TOOLS})
ESCAPED = LIST.replace(SSN, "".join(f"\\u{ord(character):04x}" for character in SSN))
LISTS = {
    "JSON": reply(LIST),
    "JSON in chunks": reply(LIST, framing="chunked", step=3),
    "the name escaped": reply(ESCAPED),
    "a batch": reply(f"[{LIST}]"),
    "packed": reply(packed(LIST.encode(), "gzip"), "application/json", "Content-Encoding: gzip"),
    "an event": reply(f"data: {LIST}\n\n", EVENTS, framing="chunked", step=7),
    "an event on lines": reply("data: " + LIST.replace(", ", ",\ndata: ") + "\n\n", EVENTS, framing="chunked"),
    "two events": reply(f'data: {{"jsonrpc":"2.0","method":"x"}}\n\ndata: {LIST}\n\n', EVENTS, framing="chunked"),
    "a status of its own": reply(LIST, status="203 Non-Authoritative Information"),
    "accepted": reply(LIST, status="202 Accepted"),
}
ODD = {
    "the list twice": reply(f'{{"id":1,"result":{{"tools":[],"tools":{json.dumps(TOOLS)}}}}}'),
    "the result twice": reply(f'{{"id":1,"result":{{"tools":[]}},"result":{{"tools":{json.dumps(TOOLS)}}}}}'),
    "text": reply(LIST, "text/plain"),
    "no type": reply(LIST, None),
    "another charset": reply(LIST.encode("utf-16"), "application/json; charset=utf-16"),
    "no JSON": reply(f"{LIST},"),
    "an event that is no JSON": reply(f"data: {SSN}\n\n", EVENTS),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_hidden_tool_is_not_listed(proxy: Attacked, name: str) -> None:
    received = call(proxy, "/open/mcp", "tools/list", LISTS[name])
    assert shows(received), received


@pytest.mark.parametrize("name", ODD)
def test_a_list_that_is_not_understood_is_withheld(proxy: Attacked, name: str) -> None:
    received = call(proxy, "/open/mcp", "tools/list", ODD[name])
    assert not shows(received), received


STREAMS = {
    "one event": f"id: 1\ndata: {LIST}\n\n",
    "behind others": f"event: endpoint\ndata: /mcp?session=1\n\ndata: {{}}\n\ndata: {LIST}\n\n",
    "escaped": f"data: {ESCAPED.replace('tools', chr(92) + 'u0074ools')}\n\n",
    "other line ends": f"data: {LIST}\r\n\r\n",
    "on lines": "data: " + LIST.replace(", ", ",\rdata: ") + "\r\r",
    "no end": f"data: {{}}\n\ndata: {LIST}\n",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("step", [3, 10_000])
def test_a_hidden_tool_is_not_listed_on_another_stream(proxy: Attacked, name: str, step: int) -> None:
    answer = reply(STREAMS[name], EVENTS, framing="chunked", step=step)
    proxy.target.says(answer)
    received = proxy.send(ask("/open/mcp", "Accept: text/event-stream"))
    assert received.startswith(b"HTTP/1.1 200 "), received
    assert leaks(received) == [], received
    assert shows(received) or name == "no end"


def test_an_encoded_stream_is_withheld(proxy: Attacked) -> None:
    proxy.target.says(reply(packed(f"data: {LIST}\n\n".encode(), "gzip"), EVENTS, "Content-Encoding: gzip"))
    received = proxy.send(ask("/open/mcp", "Accept: text/event-stream", "Accept-Encoding: gzip"))
    assert leaks(received) == []


# An answer to tools/list need not come where it was asked for: another request's answer may bring it.
OTHER = result({"content": [{"type": "text", "text": "done"}]})
ELSEWHERE = {
    "events": reply(f"data: {OTHER}\n\nid: 7\ndata: {LIST}\n\n", EVENTS, framing="chunked"),
    "events in pieces": reply(f"data: {OTHER}\n\ndata: {ESCAPED}\n\n", EVENTS, framing="chunked", step=5),
    "events of a known length": reply(f"data: {OTHER}\n\ndata: {LIST}\n\n", EVENTS),
    "a batch in an event": reply(f"data: [{OTHER},{LIST}]\n\n", EVENTS, framing="chunked"),
    "the name of the member escaped": reply(f"data: {LIST.replace('tools', chr(92) + 'u0074ool' + chr(92) + 'u0073')}\n\n", EVENTS),
    "JSON": reply(LIST),
    "JSON in chunks": reply(LIST, framing="chunked", step=3),
    "a batch": reply(f"[{OTHER},{LIST}]"),
    "an error's status": reply(LIST, status="500 Internal Server Error"),
    "no error, and a tag": reply(LIST, "application/json", 'ETag: "a"', status="404 Not Found"),
}  # fmt: skip
ELSEWHERE_ODD = {
    "packed": reply(packed(LIST.encode(), "gzip"), "application/json", "Content-Encoding: gzip"),
    "events packed": reply(packed(f"data: {LIST}\n\n".encode(), "gzip"), EVENTS, "Content-Encoding: gzip"),
    "a part": reply(LIST, "application/json", "Content-Range: bytes 0-99/200", status="206 Partial Content"),
    "a part of events": reply(f"data: {LIST}\n\n", EVENTS, "Content-Range: bytes 0-99/200", status="206 Partial Content"),
    "no type": reply(LIST, None),
    "another type of JSON": reply(f"{LIST}\n", "application/x-ndjson"),
    "UTF-16": reply(LIST.encode("utf-16-le"), "application/json"),
    "events in UTF-16": reply(f"data: {LIST}\n\n".encode("utf-16-le"), EVENTS),
    "behind a mark": reply(f"\ufeff{LIST}"),
    "the list twice": reply(f'{{"id":1,"result":{{"tools":[],"tools":{json.dumps(TOOLS)}}}}}'),
    "more than is looked at": reply(result({"tools": TOOLS, "pad": "x" * (1 << 20)})),
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("method", ["tools/call", "ping"])
def test_a_hidden_tool_is_not_listed_in_another_answer(proxy: Attacked, method: str, name: str) -> None:
    received = call(proxy, "/open/mcp", method, ELSEWHERE[name], name="find", arguments={})
    assert shows(received), received
    assert b"etag" not in received.lower()


@pytest.mark.parametrize("name", ELSEWHERE_ODD)
@pytest.mark.parametrize("path", ["/open/mcp", "/open/MCP/"])
def test_another_answer_with_a_list_that_is_not_understood_is_withheld(
    uncredentialed: Attacked, proxy: Attacked, path: str, name: str
) -> None:
    for each in (uncredentialed, proxy):
        received = call(each, path, "tools/call", ELSEWHERE_ODD[name], name="find", arguments={})
        # What the proxy itself decodes, to look for its credential, it filters.
        assert not shows(received) or (each is proxy and "packed" in name), received


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_hidden_tool_is_not_listed_whatever_the_method(proxy: Attacked, method: str) -> None:
    proxy.target.says(reply(LIST))
    received = proxy.send(ask("/open/mcp", method=method))
    assert leaks(received) == [], received
    assert shows(received)


def test_an_answer_of_mcp_is_asked_for_whole_and_unpacked(uncredentialed: Attacked) -> None:
    uncredentialed.target.says(reply(OTHER))
    fields = ("Range: bytes=0-9", "If-Range: x", "Accept-Encoding: gzip")
    uncredentialed.send(ask("/open/mcp", *fields, method="DELETE"))
    (seen,) = uncredentialed.target.seen
    assert (seen.field("Range"), seen.field("If-Range"), seen.field("Accept-Encoding")) == ("", "", "identity")


def test_an_answer_without_a_list_stays_as_it_is(proxy: Attacked) -> None:
    """Also one in which the word stands, or that is no JSON: only lists are looked at."""
    for text in ('{"result": {"structuredContent": {"tools": [1]}},  "n": 1.0}', '{"tools": NaN', '{"x": "\\u0000"}'):
        proxy.target.says(reply(text.replace('"tools": NaN', '"tool": NaN')))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
        received = proxy.send(ask("/open/mcp", "Content-Type: application/json", method="POST", body=body))
        assert received.endswith(text.replace('"tools": NaN', '"tool": NaN').encode()), received


# --- arguments that fields repeat -------------------------------------------------------------------------------------

ROUTED = {
    "name": VISIBLE,
    "inputSchema": {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "to": {"type": "string"}}},
}
JSON = "Content-Type: application/json"
ARGUMENTS = {"region": "eu", "to": "us"}


def tell(proxy: Attacked, method: str, *fields: str, token: str = ALICE, **params: object) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).encode()
    return proxy.send(ask("/open/mcp", JSON, *fields, method="POST", body=body, token=token))


def test_a_field_repeats_the_argument_that_the_schema_says(proxy: Attacked) -> None:
    proxy.target.says(reply(result({"tools": [ROUTED]})))
    assert status_of(tell(proxy, "tools/list")) == 200
    proxy.target.says(reply(OTHER))
    for field, status in {
        "Mcp-Param-Region: eu": 200,
        "mcp-param-region: =?base64?ZXU=?=": 200,
        "Mcp-Param-Region: us": 400,  # an argument, and another one
        "Mcp-Param-To: us": 400,
        "Mcp-Param-Region: ": 400,
    }.items():
        proxy.target.seen.clear()
        received = tell(proxy, "tools/call", field, name=VISIBLE, arguments=ARGUMENTS)
        assert status_of(received) == status, received
        assert len(proxy.target.seen) == (status == 200)
        if status == 400:
            error = json.loads(received.partition(b"\r\n\r\n")[2])
            assert (error["id"], error["error"]["code"]) == (5, -32020)
            assert error["error"]["data"]["checkrein"]["verdict"] == "deny"


def test_a_field_is_refused_where_no_schema_says_what_it_repeats(proxy: Attacked) -> None:
    proxy.target.says(reply(OTHER))
    # Nobody but Alice was shown the tool; of another tool nobody knows.
    proxy.target.says(reply(result({"tools": [ROUTED]})))
    tell(proxy, "tools/list")
    proxy.target.says(reply(OTHER))
    for token, name in ((BOB, VISIBLE), (ALICE, "other")):
        received = tell(proxy, "tools/call", "Mcp-Param-Region: eu", token=token, name=name, arguments=ARGUMENTS)
        assert status_of(received) == 400, received
        assert b"listed the tool" in received
    assert proxy.target.seen == []


def test_a_notification_with_such_a_field_is_refused_in_plain_words(proxy: Attacked) -> None:
    proxy.target.says(reply(OTHER))
    params = {"name": "other", "arguments": ARGUMENTS}
    body = json.dumps({"jsonrpc": "2.0", "method": "tools/call", "params": params}).encode()
    received = proxy.send(ask("/open/mcp", JSON, "Mcp-Param-Region: eu", method="POST", body=body))
    assert status_of(received) == 400
    assert b"application/problem+json" in received
    assert proxy.target.seen == []


def test_a_hidden_tool_cannot_be_called(proxy: Attacked) -> None:
    proxy.target.says(reply(result({})))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": SSN}}).encode()
    received = proxy.send(ask("/open/mcp", "Content-Type: application/json", method="POST", body=body))
    assert b'"isError":true' in received, received
    assert proxy.target.seen == []


TEXT = json.dumps(CUSTOMER)
CONTENTS: dict[str, object] = {
    "structured": {"content": [], "structuredContent": {"rows": [CUSTOMER]}},
    "JSON in text": {"content": [{"type": "text", "text": TEXT}]},
    "JSON behind words in text": {"content": [{"type": "text", "text": f"found {TEXT}"}], "name": VISIBLE},
    "an embedded resource": {"content": [{"type": "resource", "resource": {"uri": "x:1", "text": TEXT}}]},
    "an address": {"content": [{"type": "resource_link", "uri": f"x://y?ssn={SSN}", "name": VISIBLE}]},
    "what is beside": {"content": [], "_meta": {"x/y": {"customer": CUSTOMER}}},
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("kind", ["application/json", EVENTS])
def test_what_a_tool_says_is_masked(proxy: Attacked, name: str, kind: str) -> None:
    text = result(CONTENTS[name])
    answer = reply(f"data: {text}\n\n" if kind == EVENTS else text, kind, framing="chunked", step=11)
    assert shows(call(proxy, "/masked/mcp", "tools/call", answer, name="find", arguments={}))


@pytest.mark.parametrize("kind", ["application/json", EVENTS])
def test_an_error_of_a_tool_is_masked(proxy: Attacked, kind: str) -> None:
    error = {"code": -32000, "message": f"Key (ssn)=({SSN})", "data": {**CUSTOMER, "cause": TEXT}}
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "error": error})
    answer = reply(f"event: message\ndata: {text}\n\n" if kind == EVENTS else text, kind)
    assert shows(call(proxy, "/masked/mcp", "tools/call", answer, name="find", arguments={}))
