package checkrein.owners_test

import data.checkrein.owners
import data.checkrein.testing as t

_request := t.connect(t.agent("bot", []))

_of(dataset, given) := who if who := owners.of(dataset) with input as _request with data.owners as given

test_the_owner_of_a_dataset_is_the_one_named_for_it if _of("a.b", {"shop": {"a.b": ["group:x"]}, "*": {"*": ["group:y"]}}) == ["group:x"]

test_where_nobody_is_named_there_is_an_owner_all_the_same if {
	every here in [{}, {"shop": {}}, {"shop": {"a.b": []}}, {"shop": {"a.b": null}}, {"other": {"a.b": ["group:x"]}}] {
		_of("a.b", object.union(here, {"*": {"*": ["group:y"]}})) == ["group:y"]
		_of("a.b", here) == ["group:security"]
		_of("a.b", object.union(here, {"*": {"*": []}})) == ["group:security"]
	}
}

test_everybody_is_each_owner_of_anything if {
	owners.everybody == {"group:x", "group:y", "group:security"} with data.owners as {"shop": {"a.b": ["group:x"]}, "*": {"*": ["group:y"]}}
}
