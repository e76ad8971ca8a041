package checkrein.masks_test

import data.checkrein.masks
import data.checkrein.testing as t

_customers := {"dataset": "public.customers"}

_in_force(entries) := answer.masks if {
	answer := t.decide(t.select(t.agent("bot", []), {"public.customers"}), {"p"}) with data.policies as {"p": {
		"allow": {{"code": "all"}},
		"mask": {object.union(_customers, e) | some e in entries},
	}}
}

_email(method) := object.union({"field": "email"}, method)

_is(masks, expected) if masks == {object.union(_customers, m) | some m in expected}

test_the_stronger_method_wins if {
	order := ["null", "constant", "hash", "generalize", "partial"]
	parameters := {"constant": {"value": "x"}, "generalize": {"step": 1}, "partial": {"prefix": 1, "pad": "*", "suffix": 1}}
	methods := [object.union({"method": m}, object.get(parameters, m, {})) | some m in order]
	every i, stronger in methods {
		every weaker in array.slice(methods, i + 1, count(methods)) {
			_is(_in_force({_email(stronger), _email(weaker)}), {_email(stronger)})
		}
	}
}

test_equally_strong_and_different_is_null if {
	every pair in [
		[{"method": "partial", "prefix": 5}, {"method": "partial", "suffix": 4}],
		[{"method": "partial"}, {"method": "partial_email"}],
		[{"method": "constant", "value": "a"}, {"method": "constant", "value": "b"}],
		[{"method": "hash"}, {"method": "hash", "key": "k"}],
		[{"method": "generalize", "step": 10}, {"method": "generalize", "step": "day"}],
	] {
		_is(_in_force({_email(pair[0]), _email(pair[1])}), {_email({"method": "null"})})
	}
}

test_equally_strong_and_the_same_stays if {
	_is(_in_force({_email({"method": "hash", "code": "a"}), _email({"method": "hash", "code": "b"})}), {_email({"method": "hash"})})
}

test_defaults_of_partial_are_filled_in if {
	_is(_in_force({_email({"method": "partial"})}), {_email({"method": "partial", "prefix": 0, "pad": "***", "suffix": 0})})
	_is(
		_in_force({_email({"method": "partial"}), _email({"method": "partial", "pad": "***"})}),
		{_email({"method": "partial", "prefix": 0, "pad": "***", "suffix": 0})},
	)
}

test_a_star_says_what_it_excepts if {
	_is(_in_force({{"field": "*", "method": "null"}}), {{"field": "*", "except": set(), "method": "null"}})
	_is(
		_in_force({{"field": "*", "except": ["id"], "method": "null"}}),
		{{"field": "*", "except": {"id"}, "method": "null"}},
	)
}

test_a_star_and_a_name_give_one_entry_for_the_field if {
	_is(_in_force({{"field": "*", "method": "hash"}, _email({"method": "partial_email"}), {"field": "ssn", "method": "null"}}), {
		{"field": "*", "except": {"email", "ssn"}, "method": "hash"},
		_email({"method": "hash"}),
		{"field": "ssn", "method": "null"},
	})
}

test_a_name_that_a_star_excepts_keeps_its_own_method if {
	_is(_in_force({{"field": "*", "except": ["email", "id"], "method": "null"}, _email({"method": "partial_email"})}), {
		{"field": "*", "except": {"email", "id"}, "method": "null"},
		_email({"method": "partial_email"}),
	})
}

test_what_one_star_excepts_the_other_masks if {
	_is(_in_force({{"field": "*", "except": ["a", "c"], "method": "hash"}, {"field": "*", "except": ["b", "c"], "method": "null"}}), {
		{"field": "*", "except": {"a", "b", "c"}, "method": "null"},
		{"field": "a", "method": "null"},
		{"field": "b", "method": "hash"},
	})
}

test_datasets_do_not_mix if {
	answer := t.decide(t.select(t.agent("bot", []), {"public.customers"}), {"p"}) with data.policies as {"p": {
		"allow": {{"code": "all"}},
		"mask": {
			{"dataset": "a.b", "field": "*", "method": "null"},
			{"dataset": "a.c", "field": "x", "method": "hash"},
		},
	}}
	answer.masks == {
		{"dataset": "a.b", "field": "*", "except": set(), "method": "null"},
		{"dataset": "a.c", "field": "x", "method": "hash"},
	}
}

test_fields_are_those_named_and_those_read_below_a_star if {
	columns := [
		{"dataset": "a.b", "field": "x", "usage": ["output"]}, {"dataset": "a.b", "field": "id", "usage": ["output"]},
		{"dataset": "a.c", "field": "y", "usage": ["output"]},
	]
	masks.fields == {["a.b", "x"], ["a.c", "z"]} with input as t.sql(t.agent("bot", []), {"columns": columns})
		with data.bindings as {"shop": [{"policy": "p"}]}
		with data.policies as {"p": {"mask": {
			{"dataset": "a.b", "field": "*", "except": ["id"], "method": "null"},
			{"dataset": "a.c", "field": "z", "method": "hash"},
		}}}
}
