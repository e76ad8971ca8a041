"""Attempts to see a tool that policy hides, and what a mask hides in what a tool says. See `tests.http_attacks`."""

import json
from collections.abc import Iterator

import pytest

from tests.http_attacks import CUSTOMER, SECRET, SSN, VISIBLE, Attacked, ask, attacked, leaks, packed, reply, shows

EVENTS = "text/event-stream"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
        with attacked(http={"mcp": ["/open/mcp", "/masked/mcp"]}) as running:
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
