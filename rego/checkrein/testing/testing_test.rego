package checkrein.testing_test

import data.checkrein.testing as t

_bound(bindings) := t.codes(answer) if {
	answer := t.decide_as_bound(t.select(t.agent("bot", []), {"a.b"})) with data.bindings as bindings
		with data.policies as {"p": {"allow": {{"code": "granted"}}}}
}

_p(match) := [{"policy": "p", "match": match}]

test_what_matches_is_bound if {
	every match in [{"id": "*"}, {"id": "shop"}, {"id": ["shop", "x"]}, {"type": "postgres"}, {"type": "postgres", "id": "shop", "labels": {}}] {
		_bound(_p(match)) == {"granted"}
	}
}

test_what_does_not_match_is_not if {
	every match in [{"id": "x"}, {"id": ["x"]}, {"type": "http"}, {"labels": {"env": "prod"}}, {"type": "postgres", "id": "x"}] {
		_bound(_p(match)) == {"no-policy-allows"}
	}
}

test_what_is_bound_as_a_shadow_is_not if {
	_bound([{"policy": "p", "match": {"id": "*"}, "mode": "shadow"}]) == {"no-policy-allows"}
}

test_http_makes_requests_that_the_decision_reads if {
	bot := t.agent("bot", [])
	sent := t.request(bot, "POST", "/a/b", {"n": 1})
	sent.resource.type == "http"
	sent.action.name == "request"
	sent.action.properties.http.segments == ["a", "b"]
	sent.action.properties.http.body == {"kind": "json", "json": {"n": 1}}
	t.request(bot, "GET", "/", null) == t.http(bot, {})
	t.upgrade(bot, "/").action.name == "upgrade"
}

test_mcp_makes_requests_that_the_decision_reads if {
	bot := t.agent("bot", [])
	mcp := {"opaque": false, "mints_access": [], "server": "pay"}
	call := object.union(mcp, {"method": "tools/call", "tool": "search", "arguments": {"q": "x"}})
	t.mcp(bot, "search", {"q": "x"}).action == {"name": "tool", "properties": {"mcp": call}}
	ping := object.union(mcp, {"method": "ping"})
	t.mcp_message(bot, "ping").action == {"name": "message", "properties": {"mcp": ping}}
}
