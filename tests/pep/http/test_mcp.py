import json

import pytest

from pep.core.model import local_deny
from pep.http.bodies import Unclassifiable, read_json
from pep.http.coding import CannotMask
from pep.http.mcp import carried, denied, refused
from pep.http.mcp_fields import differs, mirrored, misrouted
from pep.http.mcp_lists import Events, Listing, filtered, tools
from pep.http.mcp_sessions import McpSessions, Place
from pep.http.messages import Fields

DENY = local_deny("d-1", "no", "this is not allowed")


def calls_of(message):
    return carried(read_json(json.dumps(message).encode()), "pay")


def request(method, params=None, id=1):
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return message if params is None else message | {"params": params}


def test_a_call_of_a_tool_is_an_action():
    (call,) = calls_of(
        request("tools/call", {"name": "refund", "arguments": {"amount": 2**60}, "_meta": {"k": 1}})
    ).calls
    assert (call.action.name, call.action.protocol, call.id, call.batched) == ("tool", "mcp", 1, False)
    assert call.action.properties == {
        "opaque": False,
        "mints_access": [],
        "server": "pay",
        "method": "tools/call",
        "tool": "refund",
        "arguments": {"amount": {"$int": str(2**60)}},
    }
    assert call.action.statement.text == "tools/call refund"
    assert call.action.statement.parameters[0]["_meta"] == {"k": 1}


CALL = request(
    "tools/call", {"name": "refund", "arguments": {"region": "eu", "order": {"id": 7, "big": 2**60}, "fast": True}}
)


@pytest.mark.parametrize(
    "fields",
    [
        [("Mcp-Method", "tools/call"), ("Mcp-Name", "refund"), ("Mcp-Param-Region", "eu")],
        [("Mcp-Method", "tools/call"), ("Mcp-Name", "=?base64?cmVmdW5k?=")],
        [("Mcp-Session-Id", "x"), ("MCP-Protocol-Version", "2025-11-25")],
    ],
)
def test_fields_that_repeat_what_the_body_says_pass(fields):
    assert misrouted(Fields(tuple(fields)), calls_of(CALL).calls) == ""


@pytest.mark.parametrize(
    "fields",
    [
        [("Mcp-Method", "tools/list")],
        [("Mcp_Method", "tools/list")],
        [("Mcp-Method", "tools/call"), ("mcp_method", "tools/call")],
        [("Mcp-Name", "drop")],
        [("Mcp-Param-Region", "eu"), ("MCP-PARAM-REGION", "us")],
        [("Mcp-Param-Region", "eu"), ("Mcp_Param_Region", "us")],
        [("Mcp-Name", "=?base64?!?=")],
    ],
)
def test_fields_that_say_something_else_than_the_body_are_refused(fields):
    assert misrouted(Fields(tuple(fields)), calls_of(CALL).calls)


VERSION = "io.modelcontextprotocol/protocolVersion"


@pytest.mark.parametrize(("said", "fits"), [("2026-07-28", True), ("2025-11-25", False)])
def test_the_version_in_a_field_is_that_of_the_body(said, fits):
    calls = calls_of(request("tools/call", {"name": "refund", "_meta": {VERSION: "2026-07-28"}})).calls
    assert (misrouted(Fields((("Mcp-Protocol-Version", said),)), calls) == "") is fits


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "note": {"type": "string"},
        "fast": {"type": "boolean", "x-mcp-header": "Fast"},
        "order": {
            "properties": {
                "id": {"type": "integer", "x-mcp-header": "Order"},
                "big": {"type": "integer", "x-mcp-header": "Big"},
            }
        },
        "twice": {"x-mcp-header": "again"},
        "thrice": {"x-mcp-header": "Again"},
        "broken": {"x-mcp-header": "no name"},
        "empty": {"x-mcp-header": ""},
        "number": {"x-mcp-header": 7},
        "list": {"items": {"properties": {"of": {"x-mcp-header": "Of"}}}},
        "x-mcp-header": {"type": "string"},
    },
    "anyOf": [{"properties": {"other": {"x-mcp-header": "Other"}}}],
    "x-mcp-header": "Root",
}


def schema_of(tool):
    return next(
        iter(Listing.read(json.dumps({"result": {"tools": [tool]}}).encode(), "application/json").tools.values())
    )


def test_a_schema_says_which_argument_a_field_repeats():
    found = schema_of({"name": "refund", "inputSchema": SCHEMA})
    assert found == {"region": ("region",), "fast": ("fast",), "order": ("order", "id"), "big": ("order", "big")}
    assert mirrored({"name": "a"}) == mirrored({"name": "a", "inputSchema": []}) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"Region": "eu", "order": "7"},
        {"FAST": "true", "Big": str(2**60), "Region": "=?base64?ZXU=?="},
        {"Order": "7.0", "Big": f"{2**60}.00"},
        {},
    ],
)
def test_fields_that_repeat_their_own_arguments_fit(fields):
    said = Fields(tuple((f"Mcp-Param-{name}", value) for name, value in fields.items()))
    (call,) = calls_of(CALL).calls
    assert differs(said, call, schema_of({"name": "refund", "inputSchema": SCHEMA})) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"Region": "us"},
        {"Region": "7"},  # an argument, and not the one
        {"Order": "eu"},
        {"Order": "07.5"},
        {"Order": "7e0"},
        {"Order": "NaN"},
        {"Fast": "True"},
        {"Big": str(2**60 + 1)},
        {"Region": "=?base64?dXM=?="},
        {"Region": "=?base64?!?="},
        {"Again": "x"},  # no argument
        {"Note": "x"},  # not annotated
        {"Of": "x"},
        {"Other": "x"},
        {"Root": "x"},
    ],
)
def test_fields_that_repeat_something_else_do_not(fields):
    said = Fields(tuple((f"Mcp-Param-{name}", value) for name, value in fields.items()))
    (call,) = calls_of(CALL).calls
    assert differs(said, call, schema_of({"name": "refund", "inputSchema": SCHEMA}))
    assert "not known" in differs(said, call, None)


def test_fields_that_name_a_call_where_there_is_none_are_refused():
    assert misrouted(Fields((("Mcp-Param-Region", "eu"),)), ())
    assert misrouted(Fields((("Mcp-Param-Region", "eu"),)), calls_of(request("tools/list", {"cursor": "eu"})).calls)
    assert misrouted(Fields((("Mcp-Method", "tools/call"),)), calls_of([CALL, CALL]).calls)


def test_a_call_without_arguments_has_none_and_is_no_question():
    (call,) = calls_of(request("tools/call", {"name": "refund"})).calls
    assert call.action.properties["arguments"] == {}


def test_other_requests_and_notifications_are_messages():
    (read,) = calls_of(request("resources/read", {"uri": "file:///a"}, "x")).calls
    assert (read.action.name, read.action.properties["uri"], read.id) == ("message", "file:///a", "x")
    (prompt,) = calls_of(request("prompts/get", {"name": "p", "arguments": {"a": "b"}})).calls
    assert prompt.action.properties["arguments"] == {"name": "p", "arguments": {"a": "b"}}
    (note,) = calls_of({"jsonrpc": "2.0", "method": "notifications/initialized"}).calls
    assert (note.action.name, note.id, note.action.properties["opaque"]) == ("message", None, False)


def test_a_batch_is_each_of_its_requests():
    found = calls_of([request("tools/list"), {"jsonrpc": "2.0", "id": 5, "result": {}}, request("ping", id=2)])
    assert [call.method for call in found.calls] == ["tools/list", "ping"]
    assert all(call.batched for call in found.calls)


def test_an_answer_to_the_server_is_no_call():
    assert calls_of({"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}}) == carried(
        read_json(b'[{"jsonrpc":"2.0","id":1,"error":{}}]'), "pay"
    )


@pytest.mark.parametrize(
    "message",
    [
        [],
        1,
        "text",
        {},
        {"method": "tools/call", "id": 1},
        request("tools/list") | {"jsonrpc": "1.0"},
        request("tools/list") | {"result": {}},
        request("tools/list") | {"extra": 1},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "Method": "tools/call"},
        {"jsonrpc": "2.0", "id": 1, "Method": "tools/call"},
        request("tools/list", [1]),
        request("tools/list", id=None),
        request("tools/list", id=True),
        request("tools/list", id=1.5),
        request("", {}),
        request(1, {}),
        [request("tools/list"), {}],
        [[request("tools/list")]],
    ],
)
def test_an_unknown_shape_is_opaque_as_a_whole(message):
    found = calls_of(message)
    assert found.opaque
    assert found.calls == ()


@pytest.mark.parametrize(
    "params", [{}, {"name": 1}, {"name": ""}, {"name": "a", "arguments": []}, {"name": "a", "arguments": None}]
)
def test_a_call_that_names_no_tool_is_an_opaque_message(params):
    (call,) = calls_of(request("tools/call", params)).calls
    assert call.action.name == "message"
    assert call.action.properties["opaque"]
    assert "tool" not in call.action.properties


def test_a_read_that_names_no_resource_is_opaque():
    (call,) = calls_of(request("resources/read", {"uri": 1})).calls
    assert call.action.properties["opaque"]


@pytest.mark.parametrize("params", [{"Name": "a"}, {"name": "a", "ARGUMENTS": {}}, {"URI": "x"}])
def test_a_parameter_in_other_letters_is_refused(params):
    with pytest.raises(Unclassifiable):
        calls_of(request("tools/call", params))


def test_names_that_differ_by_case_are_refused():
    with pytest.raises(Unclassifiable):
        calls_of(request("tools/call", {"name": "a", "arguments": {"op": 1, "Op": 2}}))


def test_too_many_messages_are_refused():
    with pytest.raises(Unclassifiable):
        calls_of([request("ping")] * 101)


def test_a_denied_tool_is_a_result_and_another_request_an_error():
    tool, ping, note = calls_of(
        [
            request("tools/call", {"name": "refund"}, "a"),
            request("resources/list", id=2),
            {"jsonrpc": "2.0", "method": "n"},
        ]
    ).calls
    answer = denied(tool, DENY)
    assert (answer["id"], answer["result"]["isError"]) == ("a", True)
    assert "this is not allowed" in answer["result"]["content"][0]["text"]
    assert answer["result"]["_meta"]["checkrein"]["verdict"] == "deny"
    answer = denied(ping, DENY)
    assert (answer["id"], answer["error"]["code"]) == (2, -32003)
    assert answer["error"]["data"]["checkrein"]["id"] == "d-1"
    assert denied(note, DENY) is None
    assert [each["id"] for each in json.loads(refused((tool, ping, note), DENY))] == ["a", 2]
    assert refused((note,), DENY) is None
    (single,) = calls_of(request("ping")).calls
    assert json.loads(refused((single,), DENY))["id"] == 1


LISTED = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","n":1.50},{"name":"b"}],"nextCursor":"é"}}'


def test_a_list_is_filtered_and_nothing_else_of_it_changes():
    listing = Listing.read(LISTED.encode(), "application/json")
    assert tuple(listing.tools) == ("a", "b")
    assert listing.write({"a"}) == LISTED.replace(',{"name":"b"}', "").encode()
    assert listing.write({"a", "b"}) == LISTED.encode()
    assert json.loads(listing.write(set()))["result"] == {"tools": [], "nextCursor": "é"}
    assert filtered({"tools": [{"name": "x"}]}, {"y"}) == {"tools": []}
    assert tools({"other": 1}) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_in_an_event_stream_is_filtered(end):
    half = LISTED.index(",") + 1
    lines = [
        "id: 0",
        "data:",
        "",
        "event: message",
        f"data: {LISTED[:half]}",
        f"data:{LISTED[half:]}",
        "id: 7",
        "",
        ": ping",
        "",
        "data: cut",
    ]
    listing = Listing.read(end.join(lines).encode(), "text/event-stream")
    assert tuple(listing.tools) == ("a", "b")
    expected = LISTED.replace('{"name":"a","n":1.50},', "")
    assert listing.write({"b"}).decode() == f"id: 0\ndata:\n\nevent: message\nid: 7\ndata: {expected}\n\n: ping\n\n"


def test_an_error_lists_nothing():
    assert Listing.read(b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}', "application/json").tools == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"result":{"tools":{}}}', "application/json"),
        (b'{"result":{"tools":[{"name":1}]}}', "application/json"),
        (b'{"result":{"tools":["a"]}}', "application/json"),
        (b"text", "text/plain"),
    ],
)
def test_a_list_that_is_not_understood_is_none(body, content_type):
    assert Listing.read(body, content_type) is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"result":{"tools":[]},"result":{}}', "application/json"),
        (b"data: {\n\n", "text/event-stream"),
        (b"data: \xff\n\n", "text/event-stream"),
        (b"{}", ""),
    ],
)
def test_a_list_that_can_be_read_in_two_ways_is_refused(body, content_type):
    with pytest.raises(CannotMask):
        Listing.read(body, content_type)


STREAM = "id: 1\ndata: {}\n\n: ping\r\ndata: a\r\n\r\n:\n:\n\ndata: b\r\rdata: c\n\nrest"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_events_come_whole_and_nothing_is_lost(step):
    data = STREAM.encode()
    events = Events(1 << 10)
    pieces = [piece for at in range(0, len(data), step) for piece in events.feed(data[at : at + step])]
    assert b"".join(pieces) + events.rest() == data
    for end in (b"data: {}", b"data: a", b"data: b", b"data: c"):
        assert any(piece.rstrip(b"\r\n").endswith(end) for piece in pieces)


def test_what_keeps_a_stream_alive_goes_on_at_once():
    events = Events(100)
    assert list(events.feed(b":\r\n")) == [b":\r\n"]
    assert list(events.feed(b": still there\n")) == [b": still there\n"]


def test_an_event_larger_than_is_looked_at_is_refused():
    with pytest.raises(CannotMask):
        list(Events(100).feed(b"data: " + b"x" * 100))


def test_sessions_of_one_client_do_not_displace_those_of_another():
    sessions = McpSessions(most=3)
    sessions.began("a", "alice")
    for number in range(10):
        sessions.began(f"b{number}", "bob")
    assert sessions.is_of("a", "alice")
    assert [number for number in range(10) if sessions.is_of(f"b{number}", "bob")] == [8, 9]


def test_a_stream_that_must_not_be_taken_up_again_is_not_forgotten_for_newer_ones():
    sessions = McpSessions(most=3)
    sessions.began("a", "alice")
    assert sessions.may_resume("a", "alice")
    sessions.rewrote("a", "alice")
    sessions.rewrote("", "alice")
    for number in range(10):
        sessions.began(f"a{number}", "alice")
        sessions.rewrote(f"a{number}", "alice")
    assert not sessions.may_resume("a", "alice")
    assert not sessions.may_resume("", "alice")
    assert sessions.may_resume("", "bob")


def test_that_somebody_was_forgotten_counts_against_everybody():
    sessions = McpSessions(most=2)
    for name in ("alice", "bob", "carol"):
        sessions.rewrote("", name)
    assert not any(sessions.may_resume("", name) for name in ("alice", "bob", "carol", "dora"))


def test_a_session_that_the_target_gives_to_another_client_is_no_longer_the_first_ones():
    sessions = McpSessions()
    sessions.began("a", "alice")
    sessions.began("a", "bob")
    assert sessions.is_of("a", "bob")
    assert not sessions.is_of("a", "alice")
    assert not sessions.may_resume("a", "alice")


def test_what_a_tool_wants_repeated_is_known_where_it_was_listed():
    sessions, here = McpSessions(), Place("alice", "s", "/mcp")
    sessions.listed(here, {"a": {"region": ("region",)}, "b": {}})
    assert sessions.mirrored(here, "a") == {"region": ("region",)}
    assert sessions.mirrored(here, "b") is None
    for elsewhere in (Place("bob", "s", "/mcp"), Place("alice", "t", "/mcp"), Place("alice", "s", "/other")):
        assert sessions.mirrored(elsewhere, "a") is None
    sessions.listed(here, {"a": {}})
    assert sessions.mirrored(here, "a") is None
