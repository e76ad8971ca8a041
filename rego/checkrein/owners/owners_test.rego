package checkrein.owners_test

import data.checkrein.owners
import data.checkrein.testing as t

_request := t.connect(t.agent("bot", []))

_of(dataset, given) := who if who := owners.of(dataset) with input as _request with data.owners as given

test_the_owner if _of("a.b", {"shop": {"a.b": ["group:x"]}, "*": {"*": ["group:y"]}}) == ["group:x"]

test_the_fallback if {
	every here in [{}, {"shop": {}}, {"shop": {"a.b": []}}, {"shop": {"a.b": null}}, {"other": {"a.b": ["group:x"]}}] {
		_of("a.b", object.union(here, {"*": {"*": ["group:y"]}})) == ["group:y"]
		_of("a.b", here) == ["group:security"]
		_of("a.b", object.union(here, {"*": {"*": []}})) == ["group:security"]
	}
}

test_everybody if {
	owners.everybody == {"group:x", "group:y", "group:security"} with data.owners as {"shop": {"a.b": ["group:x"]}, "*": {"*": ["group:y"]}}
}
