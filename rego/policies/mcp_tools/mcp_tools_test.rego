package mcp_tools_test

import data.checkrein.testing as t

_parameters := {"pay": {"mcp_tools": {"paths": ["/mcp"], "tools": ["search", "order"], "destructive": ["forget"]}}}

_decide(request) := answer if {
	answer := t.decide(request, {"mcp_tools", "no_api_deletes"}) with data.parameters as _parameters
		with data.owners as {"pay": {"tools": ["group:tool-owners"]}}
}

_bot := t.agent("bot", [])

test_a_tool_that_is_listed_may_be_called if {
	t.codes(_decide(t.mcp(_bot, "search", {"q": "x"}))) == {"mcp-tool"}
	_decide(json.remove(t.mcp(_bot, "search", {}), ["/action/properties/mcp/arguments"])).verdict == "allow"
}

test_another_tool_is_denied_with_what_is_listed if {
	every tool in ["drop", "Search", "", null] {
		answer := _decide(t.mcp(_bot, tool, {}))
		answer.verdict == "deny"
		some reason in answer.reasons
		reason.hints == {{"policy": "mcp_tools", "message": "Tools here: forget, order, search."}}
	}
}

test_a_destructive_tool_needs_its_owners if {
	request := t.mcp(_bot, "forget", {"customer": 7})
	answer := _decide(request)
	answer.verdict == "require_approval"
	some requirement in answer.requirements
	requirement.approvers == ["group:tool-owners"]
	requirement.message == "To call forget needs the owners of the tools."
	_decide(t.approved(request, answer.requirements)).verdict == "allow"
}

test_sessions_and_lists_of_tools_and_resources_are_allowed_and_no_other_message if {
	every method in ["initialize", "notifications/initialized", "ping"] { t.codes(_decide(t.mcp_message(_bot, method))) == {"mcp-session"} }
	every method in ["tools/list", "resources/list"] { t.codes(_decide(t.mcp_message(_bot, method))) == {"mcp-listing"} }
	every method in ["resources/read", "prompts/get", "completion/complete"] { _decide(t.mcp_message(_bot, method)).verdict == "deny" }
}

test_requests_to_the_endpoint_are_allowed_and_to_no_other_path if {
	every method in ["GET", "POST", "DELETE"] { t.codes(_decide(t.request(_bot, method, "/mcp", null))) == {"mcp-endpoint"} }
	_decide(t.request(_bot, "PUT", "/mcp", null)).verdict == "deny"
	_decide(t.request(_bot, "POST", "/mcp/x", null)).verdict == "deny"
	_decide(t.upgrade(_bot, "/mcp")).verdict == "deny"
}

test_to_end_the_session_is_no_deletion_and_everything_else_is if {
	lifted := {"policy": "no_api_deletes", "code": "no-api-deletes", "by": "mcp_tools", "reason": "An MCP session is ended with DELETE."}
	_decide(t.request(_bot, "DELETE", "/mcp", null)).exempted == {lifted}
	t.codes(_decide(t.request(_bot, "DELETE", "/customers/7", null))) == {"no-api-deletes"}
	disguised := object.union(t.request(_bot, "DELETE", "/mcp", null), {"action": {"properties": {"http": {"overrides": ["x"]}}}})
	t.codes(_decide(disguised)) == {"no-api-deletes"}
}

test_who_is_no_agent_is_denied if {
	every who in [t.user("ana", []), t.agent("", [])] {
		_decide(t.mcp(who, "search", {})).verdict == "deny"
		_decide(t.mcp_message(who, "initialize")).verdict == "deny"
		_decide(t.mcp_message(who, "tools/list")).verdict == "deny"
		_decide(t.request(who, "POST", "/mcp", {})).verdict == "deny"
	}
}

test_without_parameters_nothing_is_allowed if {
	every request in [t.mcp(_bot, "search", {}), t.request(_bot, "POST", "/mcp", {})] {
		answer := t.decide(request, {"mcp_tools"}) with data.parameters as {}
		answer.reasons == {{"code": "no-policy-allows", "message": "No policy allows this."}}
	}
}
