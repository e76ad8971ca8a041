package agent_reads_test

import data.checkrein.testing as t

_parameters := {"shop": {"agent_reads": {"nodes": {"support/read_orders": ["public.orders"]}}}}

_decide(request) := answer if {
	answer := t.decide(request, {"agent_reads"}) with data.parameters as _parameters
}

_at(node) := t.at_node("support-bot", [], "support", node)

test_a_node_reads_what_is_listed_for_it_within_limits if {
	answer := _decide(t.select(_at("read_orders"), {"public.orders"}))
	answer.verdict == "allow"
	answer.obligations == {"limit_rows": {"max": 1000, "on_excess": "fail"}, "time_limit": {"seconds": 30}}
}

test_anything_else_is_denied_with_what_is_listed if {
	answer := _decide(t.select(_at("read_orders"), {"public.orders", "public.customers"}))
	answer.verdict == "deny"
	some reason in answer.reasons
	reason.hints == {{"policy": "agent_reads", "message": "support/read_orders may read public.orders."}}
}

test_another_node_is_denied if {
	every who in [_at("drop_table"), t.at_node("support-bot", [], "other", "read_orders"), t.agent("support-bot", [])] {
		_decide(t.select(who, {"public.orders"})).verdict == "deny"
	}
}

test_a_person_with_the_node_of_an_agent_is_denied if {
	_decide(t.select(object.union(_at("read_orders"), {"type": "user"}), {"public.orders"})).verdict == "deny"
}

test_a_write_is_denied if _decide(t.delete(_at("read_orders"), {"public.orders"})).verdict == "deny"

test_a_select_of_nothing_is_denied if _decide(t.sql(_at("read_orders"), {})).verdict == "deny"

test_a_file_beside_the_table_is_denied if {
	facts := {"relations": t.relations({"public.orders"}, "read"), "functions": ["pg_catalog.pg_read_file"]}
	_decide(t.sql(_at("read_orders"), facts)).verdict == "deny"
}

test_limits_are_parameters if {
	answer := t.decide(t.select(_at("read_orders"), {"public.orders"}), {"agent_reads"}) with data.parameters as {
		"*": {"agent_reads": {"max_rows": 5}},
		"shop": {"agent_reads": {"nodes": {"support/read_orders": ["public.*"]}, "max_seconds": 2}},
	}
	answer.obligations == {"limit_rows": {"max": 5, "on_excess": "fail"}, "time_limit": {"seconds": 2}}
}

test_without_parameters_nothing_is_listed if {
	answer := t.decide(t.select(_at("read_orders"), {"public.orders"}), {"agent_reads"}) with data.parameters as {}
	answer.verdict == "deny"
}
