package api_reads_test

import data.checkrein.testing as t

_bot := t.agent("bot", [])

_decide(request) := t.decide(request, {"api_reads"})

test_agents_read if {
	every method in ["GET", "HEAD", "OPTIONS"] { t.codes(_decide(t.request(_bot, method, "/orders", null))) == {"api-read"} }
}

test_anything_else_is_denied_with_what_may_be_done if {
	every method in ["POST", "PUT", "PATCH", "DELETE", "TRACE"] {
		answer := _decide(t.request(_bot, method, "/orders", {}))
		answer.verdict == "deny"
		some reason in answer.reasons
		reason.hints == {{"policy": "api_reads", "message": "Agents may read this API: GET, HEAD and OPTIONS."}}
	}
}

test_a_reading_in_disguise_is_denied if {
	_decide(t.http(_bot, {"overrides": ["x-http-method-override"]})).verdict == "deny"
	_decide(t.http(_bot, {"opaque": "cut"})).verdict == "deny"
}

test_an_upgrade_is_no_reading if _decide(t.upgrade(_bot, "/events")).verdict == "deny"

test_a_call_of_a_tool_is_no_reading if {
	_decide(t.mcp(_bot, "search", {})).verdict == "deny"
	_decide(t.mcp_message(_bot, "tools/list")).verdict == "deny"
}

test_who_is_no_agent_is_denied if {
	every who in [t.user("ana", []), t.agent("", []), {"type": "service", "id": "x", "properties": {"groups": []}}] {
		_decide(t.request(who, "GET", "/orders", null)).verdict == "deny"
	}
}
