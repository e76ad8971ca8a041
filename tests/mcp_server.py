"""An MCP server with every feature, made with the official SDK: `python -m tests.mcp_server`.

Its tools, resources and prompts are those that the official conformance suite calls by name. It runs in a process of
its own, listens where the system pleases, and prints the port once it does.
"""

import asyncio
import base64
import json
import logging
import socket
import sys
import threading
import warnings
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    JSONRPCMessage,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()
DIALECT = "https://json-schema.org/draft/2020-12/schema"
WATCHED = "test://watched-resource"
RETRY_MILLISECONDS = 100

# Sampling, logging and resource subscriptions belong to revisions that the suite still covers.
warnings.simplefilter("ignore", MCPDeprecationWarning)

server = MCPServer("fixture", version="1.0", log_level="CRITICAL")


class Events(EventStore):
    """Every event of every stream, so that a client may come back for what it missed."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        if not 0 < last <= len(self._events):
            return None
        wanted = self._events[last - 1][0]
        for number, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == wanted and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return wanted


# --- tools ------------------------------------------------------------------------------------------------------------


@server.tool()
def test_simple_text() -> str:
    """A text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[ImageContent]:
    """A picture."""
    return [ImageContent(type="image", data=PIXEL, mime_type="image/png")]


@server.tool()
def test_audio_content() -> list[AudioContent]:
    """A sound."""
    return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


@server.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """A resource inside a result."""
    return [_embedded("test://embedded-resource", "This is an embedded resource content.")]


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """A text, a picture and a resource in one result."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        ImageContent(type="image", data=PIXEL, mime_type="image/png"),
        _embedded("test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json"),
    ]


@server.tool()
async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
    """Three log messages, with time between them."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@server.tool()
async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
    """Three reports of progress, with time between them."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return "done"


@server.tool()
async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
    """Asks the client's model."""
    asked = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([asked], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else ''}"


class Answer(BaseModel):
    """What `test_elicitation` asks for."""

    response: str = Field(description="User's response")


class Defaults(BaseModel):
    """A default for every primitive type."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def _titled(*names: str) -> list[dict[str, str]]:
    return [{"const": name, "title": name.title()} for name in names]


class Choices(BaseModel):
    """Every way of offering a choice. Their names are the suite's."""

    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})  # noqa: N815
    titledSingle: str = Field(json_schema_extra={"oneOf": _titled("value1", "value2", "value3")})  # noqa: N815
    legacyEnum: str = Field(  # noqa: N815
        json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]}
    )
    untitledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"anyOf": _titled("value1", "value2", "value3")}}
    )


async def _elicited(ctx: Context[Any, Any], message: str, schema: type[BaseModel]) -> str:
    answer = await ctx.elicit(message, schema)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={content}"


@server.tool()
async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
    """Asks the person behind the client."""
    return f"User response: {await _elicited(ctx, message, Answer)}"


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
    """Asks with defaults."""
    return f"Elicitation completed: {await _elicited(ctx, 'Please confirm', Defaults)}"


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
    """Asks with choices."""
    return f"Elicitation completed: {await _elicited(ctx, 'Please choose', Choices)}"


@server.tool()
def test_error_handling() -> str:
    """Fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
async def test_reconnection(ctx: Context[Any, Any]) -> str:
    """Ends its stream in the middle; the rest is for whoever comes back for it."""
    await ctx.info("Before disconnect")
    await ctx.close_sse_stream()
    await asyncio.sleep(3 * RETRY_MILLISECONDS / 1000)
    await ctx.info("After reconnect")
    return "Reconnection test completed"


@server.tool()
async def touch_watched_resource(ctx: Context[Any, Any]) -> str:
    """Says to whoever listens that the watched resource changed."""
    await ctx.session.send_resource_updated(WATCHED)
    return "touched"


@server.tool()
def headers(ctx: Context[Any, Any]) -> str:
    """The request's header fields as the server sees them."""
    return json.dumps(dict(ctx.headers or {}))


class Address(BaseModel):
    """A part with a definition of its own."""

    street: str = ""
    city: str = ""


@server.tool()
def json_schema_2020_12_tool(name: str = "", address: Address | None = None) -> str:
    """Tool with JSON Schema 2020-12 features"""
    return f"{name} {address}"


def _as_2020_12() -> None:
    """The schema that the suite looks for in the list of tools; the SDK derives a plainer one."""
    tool = server._tool_manager.get_tool("json_schema_2020_12_tool")
    assert tool is not None
    text = {"type": "string"}
    tool.parameters = {
        "$schema": DIALECT,
        "type": "object",
        "$defs": {"address": {"type": "object", "properties": {"street": text, "city": text}}},
        "properties": {"name": text, "address": {"$ref": "#/$defs/address"}},
        "additionalProperties": False,
    }


# --- resources and prompts --------------------------------------------------------------------------------------------


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """A picture."""
    return base64.b64decode(PIXEL)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """A resource for each name."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.resource(WATCHED, mime_type="text/plain")
def watched() -> str:
    """A resource that one may subscribe to."""
    return "Watched resource content"


@server.prompt()
def test_simple_prompt() -> str:
    """A prompt."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's own name
    """A prompt with a resource in it."""
    return [
        UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
        UserMessage("Please process the embedded resource above."),
    ]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt with a picture in it."""
    return [
        UserMessage(ImageContent(type="image", data=PIXEL, mime_type="image/png")),
        UserMessage("Please analyze the image above."),
    ]


@server.completion()
async def complete(ref: object, argument: object, context: object) -> Completion:
    """Proposes what goes with the first letters."""
    return Completion(values=["paris", "park", "party"], total=3, has_more=False)


async def _taken(_ctx: object, _params: object) -> EmptyResult:
    return EmptyResult()


for method, params in (
    ("logging/setLevel", SetLevelRequestParams),
    ("resources/subscribe", SubscribeRequestParams),
    ("resources/unsubscribe", UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, _taken)


def main() -> None:
    """Until standard input ends."""
    logging.disable(logging.CRITICAL)
    _as_2020_12()
    app = server.streamable_http_app(event_store=Events(), retry_interval=RETRY_MILLISECONDS)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))

    def stop() -> None:
        sys.stdin.buffer.read()
        serving.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    print(listening.getsockname()[1], flush=True)  # noqa: T201 - the port is what the starting process waits for
    serving.run(sockets=[listening])


if __name__ == "__main__":
    main()
