package checkrein.mcp_test

import data.checkrein.mcp
import data.checkrein.testing as t

_bot := t.agent("bot", [])

_call(arguments) := t.mcp(_bot, "search", arguments)

_changed(request, change) := object.union(request, {"action": {"properties": {"mcp": change}}})

test_calls_holds_of_a_call_of_that_tool_alone if {
	mcp.calls("search") with input as _call({})
	mcp.tool == "search" with input as _call({})
	mcp.server == "pay" with input as _call({})
	not mcp.calls("other") with input as _call({})
	every change in [{"opaque": "cut"}, {"method": "tools/list"}, {"tool": null}] { not mcp.calls("search") with input as _changed(_call({}), change) }
	not mcp.calls(null) with input as _changed(_call({}), {"tool": null})
	not mcp.calls("search") with input as object.union(_call({}), {"action": {"name": "message"}})
	not mcp.calls("search") with input as t.http(_bot, {})
}

test_a_tool_without_arguments_is_a_call_too if mcp.calls("search") with input as json.remove(_call({}), ["/action/properties/mcp/arguments"])

test_a_list_of_what_there_is_is_a_listing if {
	every what in ["tools", "resources", "resources/templates", "prompts"] {
		mcp.is_listing with input as t.mcp_message(_bot, sprintf("%s/list", [what]))
	}
	every other in [t.mcp_message(_bot, "resources/read"), t.mcp_message(_bot, "initialize"), _changed(_call({}), {"method": "tools/list"})] {
		not mcp.is_listing with input as other
	}
	not mcp.is_listing with input as _changed(t.mcp_message(_bot, "tools/list"), {"opaque": "x"})
}

test_to_begin_and_to_ping_is_housekeeping if {
	every method in ["initialize", "ping", "notifications/initialized"] { mcp.housekeeping with input as t.mcp_message(_bot, method) }
	every method in ["tools/list", "tools/call", "sampling/createMessage", "completion/complete", "", null] {
		not mcp.housekeeping with input as t.mcp_message(_bot, method)
	}
	not mcp.housekeeping with input as _changed(t.mcp_message(_bot, "ping"), {"opaque": "x"})
	not mcp.housekeeping with input as t.connect(_bot)
}

test_reads_holds_of_a_resource_that_is_named if {
	read := _changed(t.mcp_message(_bot, "resources/read"), {"uri": "doc://a"})
	mcp.reads({"doc://a", "doc://b"}) with input as read
	not mcp.reads({"doc://b"}) with input as read
	not mcp.reads(set()) with input as read
	not mcp.reads({"doc://a"}) with input as _changed(read, {"method": "resources/subscribe"})
	not mcp.reads({null}) with input as _changed(read, {"uri": null})
	not mcp.reads({"doc://a"}) with input as t.mcp_message(_bot, "resources/read")
	not mcp.reads({"doc://a"}) with input as _changed(read, {"opaque": "x"})
	not mcp.reads({"doc://a"}) with input as object.union(read, {"action": {"name": "tool"}})
}

test_a_number_between_among_arguments_is_a_number if {
	every amount in [1, 9, 2.5] { mcp.number_between(["amount"], 1, 9) with input as _call({"amount": amount}) }
	every amount in [0, 10, "5", null, [5], {}] { not mcp.number_between(["amount"], 1, 9) with input as _call({"amount": amount}) }
	every bound in ["9", null, []] {
		not mcp.number_between(["amount"], 1, bound) with input as _call({"amount": 5})
		not mcp.number_between(["amount"], bound, 9) with input as _call({"amount": 5})
	}
	every arguments in [null, [], 5] { not mcp.number_between(["amount"], 1, 9) with input as _call(arguments) }
	not mcp.number_between("amount", 1, 9) with input as _call({"amount": 5})
}

test_a_text_among_arguments_is_one_of_those_named if {
	mcp.text_in(["to", "kind"], {"a", "b"}) with input as _call({"to": {"kind": "a"}})
	every value in ["c", null, 1, ["a"]] { not mcp.text_in(["to", "kind"], {"a", null, 1}) with input as _call({"to": {"kind": value}}) }
	not mcp.text_in(["to"], {"a"}) with input as _call({})
}
