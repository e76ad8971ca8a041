"""The official MCP SDK on both sides of a running proxy: what policy says of tools, and streams that stay streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    ElicitResult,
    ListToolsResult,
    ServerNotification,
    TextContent,
)

from pep.core.model import Action, Decision, RedactText
from tests.fix_mcp import McpServer
from tests.http_relay import PASSWORD, SECRET, HttpRelay, allow, deny, http_relay, require_approval

# Of the two ways of speaking to a server: with a session that is opened first, and without one (2026-07-28).
MODES = ["legacy", "2026-07-28"]
HIDDEN = "test_error_handling"
HELD = "test_image_content"
WATCHED = "test://watched-resource"


def policy(action: Action) -> Decision:
    """One tool that is denied, one that needs approval, one resource that is denied."""
    if action.protocol != "mcp":
        return allow()
    match action.properties:
        case {"tool": "test_error_handling"}:
            return deny("it only fails", "no_failing")
        case {"tool": "test_image_content"}:
            return require_approval()
        case {"method": "resources/read", "uri": "test://static-binary"}:
            return deny("texts only", "no_binaries")
    return allow()


OPENING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": ClientCapabilities().model_dump(exclude_none=True),
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture
def relay(mcp_server: McpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpRelay]:
    monkeypatch.setenv("CHECKREIN_TEST_UPSTREAM", SECRET)
    with http_relay(mcp_server.origin, policy, http={"mcp": ["/mcp"]}) as running:
        yield running


@asynccontextmanager
async def connected(relay: HttpRelay, mode: str = "legacy", **options: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {PASSWORD}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20, trust_env=False) as http:
        transport = streamable_http_client(f"{relay.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, read_timeout_seconds=20, **options) as client:
            yield client


def text(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def names(listed: ListToolsResult) -> set[str]:
    return {tool.name for tool in listed.tools}


@pytest.mark.parametrize("mode", MODES)
def test_the_list_of_tools_holds_what_policy_would_allow_and_asks_nobody(
    relay: HttpRelay, mcp_server: McpServer, mode: str
) -> None:
    async def listed() -> tuple[ListToolsResult, ListToolsResult]:
        async with Client(mcp_server.url, mode=mode) as direct, connected(relay, mode) as client:
            return await direct.list_tools(), await client.list_tools()

    direct, seen = asyncio.run(listed())
    assert names(direct) - names(seen) == {HIDDEN}
    assert {tool.name: tool for tool in seen.tools}.items() <= {tool.name: tool for tool in direct.tools}.items()
    assert HELD in names(seen)
    assert not relay.decisions.requested


@pytest.mark.parametrize("mode", MODES)
def test_calls_are_actions_of_their_own_with_their_arguments(relay: HttpRelay, mode: str) -> None:
    async def called() -> CallToolResult:
        async with connected(relay, mode) as client:
            return await client.call_tool("json_schema_2020_12_tool", {"name": "Ada"})

    assert not asyncio.run(called()).is_error
    (action,) = [
        action for action in relay.decisions.asked if "arguments" in action.properties and action.name == "tool"
    ]
    assert (action.name, action.protocol) == ("tool", "mcp")
    assert action.properties["arguments"] == {"name": "Ada"}


@pytest.mark.parametrize("mode", MODES)
def test_a_denied_call_is_a_result_that_says_so_and_the_session_goes_on(relay: HttpRelay, mode: str) -> None:
    async def called() -> tuple[CallToolResult, CallToolResult]:
        async with connected(relay, mode) as client:
            return await client.call_tool(HIDDEN), await client.call_tool("test_simple_text")

    refused, allowed = asyncio.run(called())
    assert refused.is_error
    assert "it only fails" in text(refused)
    assert not allowed.is_error
    assert text(allowed) == "This is a simple text response for testing."


@pytest.mark.parametrize("mode", MODES)
def test_a_denied_request_that_is_no_call_is_an_error(relay: HttpRelay, mode: str) -> None:
    async def read() -> str:
        async with connected(relay, mode) as client:
            with pytest.raises(MCPError) as refused:
                await client.read_resource("test://static-binary")
            found = await client.read_resource("test://static-text")
            assert found.contents
            return str(refused.value)

    assert "texts only" in asyncio.run(read())


@pytest.mark.parametrize("state", ["approved", "denied"])
def test_a_call_that_needs_approval_waits_for_it(relay: HttpRelay, state: str) -> None:
    async def called() -> CallToolResult:
        async with connected(relay) as client:
            waiting = asyncio.create_task(client.call_tool(HELD))
            await asyncio.to_thread(relay.resolve, state, "as you like")
            return await waiting

    result = asyncio.run(called())
    assert result.is_error == (state == "denied")
    assert result.content[0].type == ("text" if state == "denied" else "image")
    assert len(relay.decisions.redeemed) == (state == "approved")


def test_other_calls_go_on_while_one_waits(relay: HttpRelay) -> None:
    async def called() -> tuple[CallToolResult, CallToolResult]:
        async with connected(relay) as client:
            waiting = asyncio.create_task(client.call_tool(HELD))
            meanwhile = await client.call_tool("test_simple_text")
            assert not waiting.done()
            await asyncio.to_thread(relay.resolve, "approved")
            return meanwhile, await waiting

    meanwhile, held = asyncio.run(called())
    assert not meanwhile.is_error
    assert not held.is_error


def test_a_question_of_the_servers_reaches_the_client_in_the_middle_of_a_call(relay: HttpRelay) -> None:
    """The stream of the call is open as long as the server waits for the answer: nothing of it may be held back."""

    async def answer(_context: object, _params: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"response": "blue"})

    async def called() -> CallToolResult:
        async with connected(relay, elicitation_callback=answer) as client:
            return await client.call_tool("test_elicitation", {"message": "Which colour?"})

    assert "blue" in text(asyncio.run(called()))


def test_progress_arrives_before_the_result(relay: HttpRelay) -> None:
    seen: list[float] = []

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        seen.append(done)

    async def called() -> CallToolResult:
        async with connected(relay) as client:
            return await client.call_tool("test_tool_with_progress", progress_callback=progress)

    assert not asyncio.run(called()).is_error
    assert seen == [0, 50, 100]


def test_what_the_server_says_unasked_arrives_on_the_open_stream(relay: HttpRelay) -> None:
    heard: list[str] = []

    async def called() -> None:
        arrived = asyncio.Event()

        async def hear(message: object) -> None:
            if isinstance(message, ServerNotification):
                heard.append(message.method)
                arrived.set()

        async with connected(relay, message_handler=hear) as client:
            while not arrived.is_set():
                # The stream is opened beside the first calls; what is said before it is open is not kept.
                await client.call_tool("touch_watched_resource")
                await asyncio.wait({asyncio.ensure_future(arrived.wait())}, timeout=0.1)

    asyncio.run(asyncio.wait_for(called(), 20))
    assert set(heard) == {"notifications/resources/updated"}


def test_a_stream_that_ends_early_is_resumed(relay: HttpRelay) -> None:
    """The server ends the call's stream; the SDK comes back with Last-Event-ID for what is missing."""

    async def called() -> CallToolResult:
        async with connected(relay) as client:
            return await client.call_tool("test_reconnection")

    assert text(asyncio.run(called())) == "Reconnection test completed"
    methods = [action.properties["method"] for action in relay.decisions.asked if action.protocol == "http"]
    assert methods.count("GET") >= 2, "one is the stream of the session, the other the resumed one"


def test_a_session_is_named_by_its_server_and_ends_when_the_client_deletes_it(relay: HttpRelay) -> None:
    accepts = {"Accept": "application/json, text/event-stream", **relay.headers}
    with httpx.Client(base_url=relay.url, headers=accepts, timeout=10, trust_env=False) as client:
        opened = client.post("/mcp", json=OPENING)
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert client.post("/mcp", json=ping, headers=session).status_code == 200
        assert client.delete("/mcp", headers=session).status_code == 200
        assert client.post("/mcp", json=ping, headers=session).status_code == 404


def test_a_session_is_of_who_began_it(relay: HttpRelay) -> None:
    """The server sees one credential for everybody, so it would serve whoever knows the name."""
    relay.decisions.passwords.add("another")
    accepts = {"Accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=relay.url, headers=accepts, timeout=10, trust_env=False) as client:
        opened = client.post("/mcp", json=OPENING, headers=relay.headers)
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        other = {"Authorization": "Bearer another", **session}
        assert client.post("/mcp", json=ping, headers=other).status_code == 404
        assert client.delete("/mcp", headers=other).status_code == 404
        with client.stream("GET", "/mcp", headers=other) as listening:
            assert listening.status_code == 404
        guessed = {"Mcp-Session-Id": "0" * 32, **relay.headers}
        assert client.post("/mcp", json=ping, headers=guessed).status_code == 404
        assert client.post("/mcp", json=ping, headers={**relay.headers, **session}).status_code == 200


def test_a_stream_is_not_resumed_where_policy_rewrites_what_it_would_bring(relay: HttpRelay) -> None:
    accepts = {"Accept": "application/json, text/event-stream", **relay.headers}
    relay.decisions.policy = lambda action: allow(
        *([RedactText(patterns=("secret",))] if action.name == "tool" else [])
    )
    with httpx.Client(base_url=relay.url, headers=accepts, timeout=10, trust_env=False) as client:
        opened = client.post("/mcp", json=OPENING)
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        resumed = {**session, "Last-Event-ID": "1"}
        called = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "headers"}}
        assert client.post("/mcp", json=called, headers=session).status_code == 200
        refused = client.get("/mcp", headers=resumed)
        assert refused.status_code == 403
        assert "cannot be resumed" in refused.json()["detail"]
        with client.stream("GET", "/mcp", headers=session) as listening:
            assert listening.status_code == 200


@pytest.mark.parametrize("mode", MODES)
def test_the_server_sees_the_proxys_credential_and_the_client_none(relay: HttpRelay, mode: str) -> None:
    async def called() -> CallToolResult:
        async with connected(relay, mode) as client:
            return await client.call_tool("headers")

    said = text(asyncio.run(called()))
    assert json.loads(said)["authorization"] == "Bearer [removed]"
    assert SECRET not in said
    assert f"Bearer {PASSWORD}" not in said


@pytest.mark.parametrize("mode", MODES)
def test_everything_else_is_as_without_a_proxy(relay: HttpRelay, mcp_server: McpServer, mode: str) -> None:
    async def asked(client: Client) -> list[Any]:
        return [
            client.server_capabilities,
            await client.list_resources(),
            await client.list_resource_templates(),
            await client.list_prompts(),
            await client.read_resource("test://template/7/data"),
            await client.read_resource(WATCHED),
            await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "ü"}),
            await client.call_tool("test_multiple_content_types"),
            await client.call_tool("test_audio_content"),
        ]

    async def both() -> tuple[list[Any], list[Any]]:
        async with Client(mcp_server.url, mode=mode) as direct, connected(relay, mode) as client:
            return await asked(direct), await asked(client)

    direct, through = asyncio.run(both())
    assert through == direct


@pytest.mark.parametrize(
    "fields",
    [
        {"Mcp-Method": "tools/call", "Mcp-Name": HIDDEN},
        {"Mcp-Name": HIDDEN},
        {"Mcp-Name": "=?base64?dGVzdF9lcnJvcl9oYW5kbGluZw==?="},
        {"Mcp-Name": "=?base64?%?="},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
    ],
)
def test_a_head_that_names_another_call_than_the_body_is_refused(relay: HttpRelay, fields: dict[str, str]) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "test_simple_text"}}
    accepts = {"Accept": "application/json, text/event-stream", **relay.headers}
    answer = httpx.post(f"{relay.url}/mcp", json=call, headers={**accepts, **fields}, timeout=10, trust_env=False)
    assert answer.status_code == 403
    assert answer.json()["checkrein"]["code"] == "not-understood"
    assert not relay.decisions.asked or {action.name for action in relay.decisions.asked} == {"prepare"}
