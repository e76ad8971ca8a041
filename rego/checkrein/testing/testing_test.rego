package checkrein.testing_test

import data.checkrein.testing as t

_bound(bindings) := t.codes(answer) if {
	answer := t.decide_as_bound(t.select(t.agent("bot", []), {"a.b"})) with data.bindings as bindings
		with data.policies as {"p": {"allow": {{"code": "granted"}}}}
}

_p(match) := [{"policy": "p", "match": match}]

test_what_matches_is_bound if {
	every match in [{"id": "*"}, {"id": "shop"}, {"id": ["shop", "x"]}, {"type": "postgres"}, {"type": "postgres", "id": "shop", "labels": {}}] {
		_bound(_p(match)) == {"granted"}
	}
}

test_what_does_not_match_is_not if {
	every match in [{"id": "x"}, {"id": ["x"]}, {"type": "http"}, {"labels": {"env": "prod"}}, {"type": "postgres", "id": "x"}] {
		_bound(_p(match)) == {"no-policy-allows"}
	}
}

test_what_is_only_watched_is_not if {
	_bound([{"policy": "p", "match": {"id": "*"}, "mode": "shadow"}]) == {"no-policy-allows"}
}
