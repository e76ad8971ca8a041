package checkrein.labels_test

import data.checkrein.labels
import data.checkrein.testing as t

_request := t.connect(t.agent("bot", []))

_all := {"shop": {"a.b": {"x": ["pii"], "y": ["public", "pii"], "z": []}}, "other": {"a.c": {"x": ["pii"]}}}

test_fields_are_those_of_this_resource_with_the_label if {
	labels.fields({"a.b", "a.c"}, "pii") == {{"dataset": "a.b", "field": "x"}, {"dataset": "a.b", "field": "y"}} with input as _request
		with data.classification as _all
	labels.datasets == {"a.b"} with input as _request with data.classification as _all
}

test_known_is_what_carries_a_label if {
	labels.known("a.b", "x") with input as _request with data.classification as _all
	not labels.known("a.b", "z") with input as _request with data.classification as _all
	not labels.known("a.b", "new") with input as _request with data.classification as _all
	not labels.known("a.c", "x") with input as _request with data.classification as _all
}
