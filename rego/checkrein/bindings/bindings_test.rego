package checkrein.bindings_test

import data.checkrein.bindings
import data.checkrein.testing as t

_request := t.select(t.agent("bot", []), {"a.b"})

_with(here) := {"bound": bound, "shadowed": shadowed, "problems": count(problems)} if {
	everywhere := {"shop": here, "other": [{"policy": "elsewhere"}]}
	bound := bindings.bound with input as _request with data.bindings as everywhere
	shadowed := bindings.shadowed with input as _request with data.bindings as everywhere
	problems := bindings.problems with input as _request with data.bindings as everywhere
}

test_a_binding_is_enforced_without_a_mode_too if {
	_with([{"policy": "a"}, {"policy": "b", "mode": "enforce"}]) == {"bound": {"a", "b"}, "shadowed": set(), "problems": 0}
}

test_a_shadow_decides_nothing if {
	_with([{"policy": "a"}, {"policy": "b", "mode": "shadow"}]) == {"bound": {"a"}, "shadowed": {"b"}, "problems": 0}
}

test_a_misspelt_mode_is_a_problem_and_not_an_unbound_policy if {
	every mode in ["Enforce", "enfroce", "", null, true, 1] {
		_with([{"policy": "a", "mode": mode}]).problems == 1
	}
}

test_a_binding_of_another_form_is_a_problem if {
	every b in [{}, {"polcy": "a"}, {"policy": "a", "match": {}}, {"policy": 1}, "a", null] { _with([b]).problems == 1 }
}

test_a_resource_without_bindings_has_no_policy if {
	bindings.bound == set() with input as _request with data.bindings as {"other": [{"policy": "a"}]}
}

test_the_list_of_matches_itself_is_a_problem if {
	"the bindings are not expanded by resource" in bindings.problems with input as _request
		with data.bindings as [{"policy": "a", "match": {"id": "*"}}]
}
