package agent_writes_test

import data.checkrein.testing as t

_parameters := {"shop": {"agent_writes": {"nodes": {"support/delete_stale": {"public.orders": ["read", "delete"]}}}}}

_decide(request) := answer if {
	answer := t.decide(request, {"agent_writes"}) with data.parameters as _parameters
}

_at(node) := t.at_node("support-bot", [], "support", node)

_writing(relations) := t.sql(_at("delete_stale"), {"class": "write", "kind": "delete", "relations": relations})

test_a_node_changes_what_is_listed_for_it if {
	t.codes(_decide(t.delete(_at("delete_stale"), {"public.orders"}))) == {"node-write"}
	relations := array.concat(t.relations({"public.orders"}, "read"), t.relations({"public.orders"}, "delete"))
	_decide(_writing(relations)).verdict == "allow"
}

test_another_way_is_denied_with_what_is_listed if {
	every access in ["insert", "update", "truncate", "schema", "lock"] {
		_decide(_writing(t.relations({"public.orders"}, access))).verdict == "deny"
	}
	answer := _decide(_writing(t.relations({"public.orders"}, "update")))
	some reason in answer.reasons
	reason.hints == {{"policy": "agent_writes", "message": "support/delete_stale may change public.orders (read, delete)."}}
}

test_another_dataset_is_denied_read_or_written if {
	every access in ["read", "delete"] {
		relations := array.concat(t.relations({"public.orders"}, "delete"), t.relations({"public.customers"}, access))
		_decide(_writing(relations)).verdict == "deny"
	}
}

test_another_node_is_denied_without_a_hint if {
	answer := _decide(t.delete(_at("read_orders"), {"public.orders"}))
	answer.reasons == {{"code": "no-policy-allows", "message": "No policy allows this."}}
}

test_a_person_is_denied if _decide(t.delete(t.user("ana", []), {"public.orders"})).verdict == "deny"

test_to_change_nothing_is_denied if _decide(_writing([])).verdict == "deny"

test_a_function_that_does_more_is_denied if {
	facts := {"class": "write", "kind": "delete", "relations": t.relations({"public.orders"}, "delete"), "functions": ["public.f"]}
	_decide(t.sql(_at("delete_stale"), facts)).verdict == "deny"
}
