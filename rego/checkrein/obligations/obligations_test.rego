package checkrein.obligations_test

import data.checkrein.testing as t

_on(request, duties) := answer if {
	answer := t.decide(request, {"p"}) with data.policies as {"p": {"allow": {{"code": "all"}}, "oblige": duties}}
}

_merged(duties) := _on(t.select(t.agent("bot", []), {"a.b"}), duties).obligations

test_the_smallest_limit_counts if {
	_merged({{"limit_rows": {"max": 10}}, {"limit_rows": {"max": 5}}}) == {"limit_rows": {"max": 5, "on_excess": "fail"}}
	_merged({{"limit_affected": {"max": 10}}, {"limit_affected": {"max": 5}}}) == {"limit_affected": {"max": 5}}
	_merged({{"time_limit": {"seconds": 10}}, {"time_limit": {"seconds": 0.5}}}) == {"time_limit": {"seconds": 0.5}}
}

test_to_fail_is_stricter_than_to_truncate if {
	truncate := {"limit_rows": {"max": 5, "on_excess": "truncate"}}
	_merged({truncate}).limit_rows == {"max": 5, "on_excess": "truncate"}
	_merged({truncate, {"limit_rows": {"max": 9}}}).limit_rows == {"max": 5, "on_excess": "fail"}
}

test_limits_of_rows_of_different_lists_are_a_conflict if {
	path := {"limit_rows": {"max": 9, "path": "$.items"}}
	_merged({path}).limit_rows == {"max": 9, "on_excess": "fail", "path": "$.items"}
	_merged({path, {"limit_rows": {"max": 5, "path": "$.items"}}}).limit_rows == {"max": 5, "on_excess": "fail", "path": "$.items"}
	every other in [{"max": 5}, {"max": 9, "path": "$.other"}] {
		answer := _on(t.http(t.agent("bot", []), {}), {path, {"limit_rows": other}})
		t.codes(answer) == {"obligations-conflict"}
	}
}

test_one_read_only_is_enough if _merged({{"read_only": {}}, {"read_only": {"on": ["allow"]}}}) == {"read_only": true}

test_the_strongest_level_is_recorded if {
	_merged({{"record": {"level": "everything"}}, {"record": {"level": 9}}}) == {"record": {"level": "everything"}}
	_merged({{"record": {"level": 9}}, {"record": {"level": 5}}, {"record": {"level": "none"}}}) == {"record": {"level": "rows", "rows": 9}}
	_merged({{"record": {"level": "none"}}, {"record": {"level": "none", "on": ["allow"]}}}) == {"record": {"level": "none"}}
}

test_lists_of_several_policies_are_joined if {
	_merged({
		{"redact_text": {"detectors": ["email"], "patterns": ["a+"]}}, {"redact_text": {"detectors": ["iban"], "patterns": []}},
		{"set_headers": {"headers": {"x-a": "1"}}}, {"set_headers": {"headers": {"x-b": "2"}}},
		{"remove_headers": {"names": ["x-c"]}}, {"remove_headers": {"names": ["x-d"]}},
		{"notify": {"channel": "one"}}, {"notify": {"channel": "two"}}, {"use_credential": {"name": "reader"}},
	}) == {
		"redact_text": {"detectors": {"email", "iban"}, "patterns": {"a+"}},
		"set_headers": {"x-a": "1", "x-b": "2"},
		"remove_headers": {"x-c", "x-d"},
		"notify": {"one", "two"},
		"use_credential": {"name": "reader"},
	}
}

test_one_budget_for_each_pair_of_per_and_unit if {
	_merged({
		{"budget": {"per": "run", "unit": "rows", "max": 5}}, {"budget": {"per": "run", "unit": "rows", "max": 9}},
		{"budget": {"per": "day", "unit": "rows", "max": 50}},
	}).budget == {{"per": "run", "unit": "rows", "max": 5}, {"per": "day", "unit": "rows", "max": 50}}
}

test_a_duty_comes_with_the_verdicts_that_it_names if {
	_merged({{"limit_rows": {"max": 1, "on": ["mask"]}}}) == {}
	_merged({{"limit_rows": {"max": 1, "on": {"allow"}}}}) == {"limit_rows": {"max": 1, "on_excess": "fail"}}
}

test_two_credentials_and_two_values_of_a_header_are_a_conflict if {
	request := t.select(t.agent("bot", []), {"a.b"})
	every duties in [
		{{"use_credential": {"name": "a"}}, {"use_credential": {"name": "b"}}},
		{{"set_headers": {"headers": {"X-A": "1"}}}, {"set_headers": {"headers": {"x-a": "2"}}}},
		{{"set_headers": {"headers": {"X-A": "1"}}}, {"remove_headers": {"names": ["x-a"]}}},
	] {
		answer := _on(request, duties)
		answer.verdict == "deny"
		t.codes(answer) == {"obligations-conflict"}
	}
	same := {{"set_headers": {"headers": {"X-A": "1"}}}, {"set_headers": {"headers": {"x-a": "1"}}}, {"remove_headers": {"names": ["X-B", "x-b"]}}}
	_on(request, same).obligations == {"set_headers": {"x-a": "1"}, "remove_headers": {"x-b"}}
}

test_a_session_is_opened_without_duties_of_a_command if {
	duties := {{"limit_rows": {"max": 1}}, {"time_limit": {"seconds": 1}}, {"read_only": {}}, {"record": {"level": "none"}}}
	_on(t.connect(t.agent("bot", [])), duties).obligations == {"read_only": true, "record": {"level": "none"}}
}

test_an_action_without_a_name_has_every_duty if {
	request := json.remove(t.select(t.agent("bot", []), {"a.b"}), ["/action/name"])
	_on(request, {{"limit_rows": {"max": 1}}}).obligations == {"limit_rows": {"max": 1, "on_excess": "fail"}}
}
