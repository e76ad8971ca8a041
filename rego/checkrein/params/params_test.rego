package checkrein.params_test

import data.checkrein.params
import data.checkrein.testing as t

_of(given) := values if {
	values := params.of("p", {"a": 1, "b": 1, "c": 1}) with input as t.connect(t.agent("bot", [])) with data.parameters as given
}

test_what_is_said_for_the_resource_goes_before_what_is_said_for_all_and_that_before_defaults if {
	_of({}) == {"a": 1, "b": 1, "c": 1}
	_of({"*": {"p": {"b": 2, "c": 2}}, "shop": {"p": {"c": 3}}}) == {"a": 1, "b": 2, "c": 3}
	_of({"other": {"p": {"c": 3}}, "shop": {"q": {"c": 3}}}) == {"a": 1, "b": 1, "c": 1}
}

test_parameters_that_are_no_object_count_for_nothing if _of({"*": {"p": null}, "shop": {"p": []}}) == {"a": 1, "b": 1, "c": 1}
