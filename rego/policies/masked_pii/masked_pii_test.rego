package masked_pii_test

import data.checkrein.testing as t

_labels := {"shop": {"public.customers": {"id": ["public"], "email": ["email"], "ssn": ["ssn"], "phone": ["pii"]}}}

_decide(subject, facts) := answer if {
	request := t.sql(subject, object.union({"relations": t.relations({"public.customers"}, "read")}, facts))
	answer := t.decide(request, {"masked_pii", "open"}) with data.classification as _labels
		with data.policies.open as {"allow": {{"code": "all", "opaque": true}}}
}

_bot := t.agent("bot", [])

_column(name) := {"dataset": "public.customers", "field": name, "usage": ["output"]}

_masked := {
	{"dataset": "public.customers", "field": "email", "method": "partial_email"},
	{"dataset": "public.customers", "field": "ssn", "method": "null"},
	{"dataset": "public.customers", "field": "phone", "method": "null"},
}

test_every_labelled_column_of_the_table_is_masked if {
	answer := _decide(_bot, {"columns": [_column("id")]})
	answer.verdict == "mask"
	answer.masks == _masked
}

test_a_column_that_nobody_classified_is_masked if {
	answer := _decide(_bot, {"columns": [_column("added_yesterday")]})
	answer.masks == _masked | {{"dataset": "public.customers", "field": "added_yesterday", "method": "null"}}
}

test_what_is_not_understood_masks_the_whole_resource if {
	_decide(_bot, {"opaque": "x", "relations": []}).masks == _masked
}

test_the_structural_catalog_is_not_masked if {
	columns := [{"dataset": "pg_catalog.pg_class", "field": "relname", "usage": ["output"]}]
	_decide(_bot, {"relations": t.relations({"pg_catalog.pg_class"}, "read"), "columns": columns}).verdict == "allow"
}

test_a_person_sees_the_values if _decide(t.user("ana", []), {}).verdict == "allow"

test_a_service_sees_masks if _decide({"type": "service", "id": "x", "properties": {"groups": []}}, {}).verdict == "mask"

_for(person_groups) := object.union(
	t.agent("bot", ["privacy"]),
	{"properties": {"on_behalf_of": {"type": "user", "id": "dpo", "groups": person_groups}}},
)

test_an_agent_of_privacy_sees_it_only_for_somebody_of_privacy if {
	_decide(t.agent("bot", ["privacy"]), {}).verdict == "mask"
	_decide(_for([]), {}).verdict == "mask"
	_decide(_for(["privacy"]), {}).verdict == "allow"
}
