package no_ddl_test

import data.checkrein.testing as t

_decide(request) := answer if {
	answer := t.decide(request, {"no_ddl", "open"}) with data.policies.open as {"allow": {{"code": "all", "opaque": true}}}
}

_bot := t.agent("bot", [])

test_an_agent_drops_nothing if {
	answer := _decide(t.sql(_bot, {"class": "schema", "kind": "drop", "relations": t.relations({"public.orders"}, "schema")}))
	answer.reasons == {{
		"policy": "no_ddl",
		"code": "no-ddl",
		"message": "Agents do not change the schema.",
		"instead": ["Ask the people who own the database for a migration."],
	}}
}

test_nor_does_a_service if {
	_decide(t.sql({"type": "service", "id": "x", "properties": {"groups": []}}, {"class": "admin"})).verdict == "deny"
}

test_a_statement_of_another_class_that_touches_the_schema_is_denied if {
	_decide(t.sql(_bot, {"relations": t.relations({"public.orders"}, "schema")})).verdict == "deny"
}

test_a_class_that_nobody_knows_is_denied if _decide(t.sql(_bot, {"class": "sorcery"})).verdict == "deny"

test_what_is_not_understood_is_denied_and_says_why if {
	some reason in _decide(t.sql(_bot, {"class": "opaque", "opaque": "a function nobody knows"})).reasons
	reason.message == "Not understood, so it may change the schema: a function nobody knows"
}

test_a_prepared_drop_is_denied if _decide(t.prepare(t.sql(_bot, {"class": "schema"}))).verdict == "deny"

test_a_person_may_change_the_schema if _decide(t.sql(t.user("ana", []), {"class": "schema", "kind": "create"})).verdict == "allow"

test_what_leaves_the_schema_alone_is_not_denied if {
	_decide(t.select(_bot, {"public.orders"})).verdict == "allow"
	_decide(t.connect(_bot)).verdict == "allow"
}
