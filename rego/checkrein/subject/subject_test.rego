package checkrein.subject_test

import data.checkrein.subject
import data.checkrein.testing as t

_as(who) := t.connect(who)

_for(groups, person_groups) := object.union(
	t.agent("bot", groups),
	{"properties": {"on_behalf_of": {"type": "user", "id": "ana", "groups": person_groups}}},
)

test_groups_that_are_no_list_are_none if {
	subject.in_group("a") with input as _as(t.agent("bot", ["a"]))
	not subject.in_group("b") with input as _as(t.agent("bot", ["a"]))
	every groups in [null, "a", {"a": true}] {
		subject.groups == [] with input as _as({"type": "agent", "id": "bot", "properties": {"groups": groups}})
	}
	subject.groups == [] with input as {}
}

test_both_in_group_needs_the_agent_and_the_person_behind_it if {
	subject.both_in_group("a") with input as _as(_for(["a"], ["a"]))
	not subject.both_in_group("a") with input as _as(_for(["a"], []))
	not subject.both_in_group("a") with input as _as(_for([], ["a"]))
	not subject.both_in_group("a") with input as _as(t.agent("bot", ["a"]))
	subject.behind.id == "ana" with input as _as(_for([], []))
	not subject.behind with input as _as(t.agent("bot", []))
}

test_a_service_is_neither_agent_nor_person if {
	subject.is_agent with input as _as(t.agent("bot", []))
	not subject.is_person with input as _as(t.agent("bot", []))
	subject.is_person with input as _as(t.user("ana", []))
	not subject.is_agent with input as _as(t.user("ana", []))
	not subject.is_person with input as _as({"type": "service", "id": "x", "properties": {"groups": []}})
}

test_whoever_has_no_type_or_id_is_not_authenticated if {
	subject.authenticated with input as _as(t.agent("bot", []))
	every who in [{}, {"type": "agent"}, {"id": "x"}, {"type": "ghost", "id": "x"}, {"type": "agent", "id": ""}, {"type": "agent", "id": null}] {
		not subject.authenticated with input as _as(who)
	}
}

test_a_node_needs_its_graph_and_its_name if {
	subject.node == "support/read" with input as _as(t.at_node("bot", [], "support", "read"))
	not subject.node with input as _as(t.agent("bot", []))
	not subject.node with input as _as(t.at_node("bot", [], "support", null))
	not subject.node with input as _as(t.at_node("bot", [], null, "read"))
}
