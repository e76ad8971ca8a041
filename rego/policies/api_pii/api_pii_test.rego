package api_pii_test

import data.checkrein.testing as t

_labels := {"pay": {"customers": {"$..email": ["email"], "$..ssn": ["pii", "ssn"], "$..name": ["public"], "$..phone": ["pii"]}}}

_decide(request) := _under(request, _labels)

_under(request, labels) := answer if {
	answer := t.decide(request, {"api_pii", "open"}) with data.classification as labels
		with data.policies.open as {"allow": {{"code": "all"}}}
}

_reads(subject) := _decide(t.request(subject, "GET", "/customers", null))

_bot := t.agent("bot", [])

_masked := {
	{"dataset": "customers", "field": "$..email", "method": "partial_email"},
	{"dataset": "customers", "field": "$..ssn", "method": "null"},
	{"dataset": "customers", "field": "$..phone", "method": "null"},
}

test_an_agent_sees_masks_whatever_it_asks_for if {
	every request in [
		t.request(_bot, "GET", "/customers", null), t.request(_bot, "POST", "/anything", {}), t.upgrade(_bot, "/events"),
		t.mcp(_bot, "search", {}), t.mcp_message(_bot, "resources/read"),
	] {
		answer := _decide(request)
		answer.verdict == "mask"
		answer.masks == _masked
	}
}

test_an_agent_asks_nothing_of_an_api_that_nobody_classified if {
	every labels in [{}, {"pay": null}, {"other": {}}] {
		t.codes(_under(t.request(_bot, "GET", "/customers", null), labels)) == {"unclassified"}
		_under(_connect, labels).verdict == "allow"
		_under(t.request(t.user("ana", []), "GET", "/customers", null), labels).verdict == "allow"
	}
	_under(t.request(_bot, "GET", "/customers", null), {"pay": {}}).verdict == "allow"
}

_connect := object.union(t.connect(_bot), {"resource": {"type": "http", "id": "pay"}})

test_a_session_is_opened_without_masks if _decide(_connect).verdict == "allow"

test_a_person_sees_the_values if _reads(t.user("ana", [])).verdict == "allow"

test_a_service_sees_masks if _reads({"type": "service", "id": "x", "properties": {"groups": []}}).verdict == "mask"

_for(groups) := object.union(
	t.agent("bot", ["privacy"]),
	{"properties": {"on_behalf_of": {"type": "user", "id": "dpo", "groups": groups}}},
)

test_an_agent_of_privacy_sees_it_only_for_somebody_of_privacy if {
	_reads(t.agent("bot", ["privacy"])).verdict == "mask"
	_reads(_for([])).verdict == "mask"
	_reads(_for(["privacy"])).verdict == "allow"
}
