package no_api_deletes_test

import data.checkrein.testing as t

_decide(request) := answer if {
	answer := t.decide(request, {"no_api_deletes", "open"}) with data.policies.open as {"allow": {{"code": "all", "opaque": true}}}
}

_bot := t.agent("bot", [])

_delete(subject) := t.request(subject, "DELETE", "/customers/7", null)

test_an_agent_deletes_nothing if {
	_decide(_delete(_bot)).reasons == {{
		"policy": "no_api_deletes",
		"code": "no-api-deletes",
		"message": "Agents delete nothing through this API.",
		"instead": ["Ask the people who own the data."],
	}}
}

test_nor_does_a_service if {
	_decide(_delete({"type": "service", "id": "x", "properties": {"groups": []}})).verdict == "deny"
}

test_a_delete_by_another_name_is_denied if {
	_decide(t.http(_bot, {"method": "POST", "overrides": ["x-http-method-override"]})).verdict == "deny"
	_decide(t.http(_bot, {"method": "DELETE", "opaque": "cut"})).verdict == "deny"
}

test_a_person_may_delete if _decide(_delete(t.user("ana", []))).verdict == "allow"

test_what_deletes_nothing_is_not_denied if {
	every request in [t.http(_bot, {}), t.request(_bot, "POST", "/orders", {}), t.mcp(_bot, "delete", {}), t.connect(_bot)] {
		_decide(request).verdict == "allow"
	}
}

test_only_the_policy_that_is_named_lifts_it if {
	exempting := {"exempt": {{"code": "no-api-deletes", "reason": "mine"}}}
	t.decide(_delete(_bot), {"no_api_deletes", "open", "x"}).verdict == "deny" with data.policies.open as {"allow": {{"code": "all"}}}
		with data.policies.x as exempting
	t.decide(_delete(_bot), {"no_api_deletes", "open", "mcp_tools"}).verdict == "allow" with data.policies.open as {"allow": {{"code": "all"}}}
		with data.policies.mcp_tools as exempting
}
