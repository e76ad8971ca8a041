package checkrein.malformed_test

import data.checkrein.testing as t

_select := t.select(t.agent("bot", []), {"public.orders"})

# the codes and messages of the answer of one policy beside one that allows everything
_decide(policy) := answer if {
	answer := t.decide(_select, {"open", "other"}) with data.policies as {"open": {"allow": {{"code": "all"}}}, "other": policy}
}

_message(policy) := message if {
	answer := _decide(policy)
	answer.verdict == "deny"
	some reason in answer.reasons
	reason.code == "policy-malformed"
	reason.policy == "other"
	message := reason.message
}

_malformed(kind, entry) if _message({kind: {entry}})

_fine(kind, entry) if not t.codes(_decide({kind: {entry}})) == {"policy-malformed"}

test_a_contribution_that_is_not_a_set_is_a_deny if {
	every kind in ["allow", "deny", "require_approval", "mask", "need", "exempt", "hint", "oblige"] {
		every value in [true, false, null, "no", 1, [], [{"code": "x", "message": "y"}], {}, {"code": "x", "message": "y"}] {
			_message({kind: value}) == sprintf("%s is not a set: write `%s contains {...} if`", [kind, kind])
		}
	}
}

test_an_entry_that_is_not_an_object_is_a_deny if {
	every kind in ["allow", "deny", "require_approval", "mask", "need", "exempt", "hint", "oblige"] {
		every entry in ["no", true, null, 1, ["code"]] { _malformed(kind, entry) }
	}
	_message({"deny": {"no"}}) == "deny: an entry is an object, and this one is no"
}

test_a_misspelt_contribution_is_a_deny if {
	_message({"dney": {{"code": "x", "message": "y"}}}) == "dney is not a contribution; what a policy needs for itself starts with _"
	_message({"masks": set()})
	_message({"inner": {"deny": {{"code": "x", "message": "y"}}}})
}

test_each_entry_that_does_not_fit_is_explained if {
	answer := _decide({"deny": {{"code": 1, "message": "y"}, {"code": "x"}, {"code": "x", "message": "y"}}, "allow": {{}}})
	answer.verdict == "deny"
	{r.message | some r in answer.reasons} == {"deny: code is not a valid word", "deny: no message", "allow: no code"}
}

test_a_package_that_contributes_nothing_is_in_order if {
	every policy in [{}, {"allow": set(), "deny": set()}, {"_small": false}] { _decide(policy).verdict == "allow" }
}

test_what_begins_with_an_underscore_is_the_policy_s_own if _decide({"_small": true}).verdict == "allow"

test_a_bound_name_without_a_package_is_a_deny if {
	answer := t.decide(_select, {"open", "nowhere"}) with data.policies as {"open": {"allow": {{"code": "all"}}}}
	answer.verdict == "deny"
	t.codes(answer) == {"policy-malformed"}
}

test_bindings_that_cannot_be_read_are_a_deny if {
	answer := data.checkrein.decision.result with input as _select with data.bindings as {"shop": [{"policy": "open", "mode": "of"}]}
		with data.policies as {"open": {"allow": {{"code": "all"}}}}
	answer.verdict == "deny"
	t.codes(answer) == {"bindings-malformed"}
}

# one entry that is right for each kind, and what makes it wrong

_deny := {"code": "x", "message": "y"}

test_a_deny_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	_fine("deny", object.union(_deny, {"instead": ["a"], "unless": ["b"], "until": "2026-11-24T10:00:00.5+01:00"}))
	_malformed("deny", {"message": "y"})
	_malformed("deny", {"code": "x"})
	every wrong in [
		{"code": ""}, {"code": 1}, {"message": ""}, {"message": null}, {"massage": "z"}, {"instead": "a"}, {"instead": [1]},
		{"instead": [""]}, {"unless": "b"}, {"unless": [""]}, {"unless": [1]}, {"until": "tomorrow"}, {"until": "2026-13-01T00:00:00Z"},
		{"until": "2026-11-24"}, {"until": 5}, {"opaque": true},
	] {
		_malformed("deny", object.union(_deny, wrong))
	}
}

test_a_message_of_more_than_240_characters_is_a_deny if {
	ten := "0123456789"
	long := concat("", [ten | some _ in numbers.range(1, 24)])
	_fine("deny", {"code": "x", "message": long})
	_malformed("deny", {"code": "x", "message": concat("", [long, "!"])})
	_malformed("deny", {"code": "x", "message": "y", "instead": [concat("", [long, "!"])]})
	_malformed("deny", {"code": concat("", [long, "!"]), "message": "y"})
}

test_an_allow_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	_fine("allow", {"code": "x", "message": "y", "until": "2026-11-24T10:00:00Z", "opaque": true, "mints_access": true})
	_malformed("allow", {})
	every wrong in [{"opaque": false}, {"opaque": "yes"}, {"mints_access": ["x"]}, {"opaqe": true}] {
		_malformed("allow", object.union({"code": "x"}, wrong))
	}
}

test_a_requirement_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	fine := {"code": "x", "approvers": ["group:a", "user:b"]}
	_fine("require_approval", object.union(fine, {
		"count": 2, "about": "a.b", "message": "m", "wait": "1h", "separate_people": false, "unless": {"z"}, "until": "2026-11-24T10:00:00Z",
		"grant": {"uses": 2, "for": "5m", "reach": "exact"}, "escalate": {"after": "10m", "approvers": {"group:z"}},
	}))
	_malformed("require_approval", {"code": "x"})
	_malformed("require_approval", {"approvers": ["group:a"]})
	every wrong in [
		{"approvers": []}, {"approvers": "group:a"}, {"approvers": ["a"]}, {"approvers": [1]}, {"count": 0}, {"count": 1.5},
		{"count": "2"}, {"count": null}, {"wait": "0m"}, {"wait": 15}, {"wait": "15"}, {"separate_people": "no"}, {"grant": "once"},
		{"grant": {"uses": 0}}, {"grant": {"reach": "any"}}, {"grant": {"use": 1}}, {"escalate": {"after": "1h"}},
		{"escalate": {"after": "1h", "approvers": []}}, {"escalate": true}, {"approver": ["group:a"]},
	] {
		_malformed("require_approval", object.union(fine, wrong))
	}
}

test_a_mask_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	fine := {"dataset": "a.b", "field": "c"}
	every right in [
		{"method": "null"}, {"method": "partial_email", "code": "x"}, {"method": "constant", "value": "x"}, {"method": "constant", "value": 1},
		{"method": "constant", "value": false}, {"method": "partial", "prefix": 1, "pad": "", "suffix": 0}, {"method": "partial"},
		{"method": "hash"}, {"method": "hash", "key": "k"}, {"method": "generalize", "step": 10}, {"method": "generalize", "step": "day"},
		{"method": "null", "field": "*", "except": ["d"]},
	] {
		_fine("mask", object.union(fine, right))
	}
	every wrong in [
		{}, {"method": "nul"}, {"method": null}, {"method": "null", "prefix": 1}, {"method": "constant"}, {"method": "constant", "value": null},
		{"method": "constant", "value": []}, {"method": "partial", "prefix": -1}, {"method": "partial", "prefix": "1"},
		{"method": "partial", "suffix": 0.5}, {"method": "partial", "pad": 1}, {"method": "hash", "key": ""}, {"method": "generalize"},
		{"method": "generalize", "step": 0}, {"method": "generalize", "step": "decade"}, {"method": "null", "except": ["d"]},
		{"method": "null", "field": "*", "except": "d"}, {"method": "null", "field": ""}, {"method": "null", "feild": "c"},
	] {
		_malformed("mask", object.union(fine, wrong))
	}
	_malformed("mask", {"dataset": "a.b", "method": "null"})
	_malformed("mask", {"field": "c", "method": "null"})
}

test_a_need_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	_fine("need", {"fact": "estimate"})
	_malformed("need", {})
	_malformed("need", {"fact": "weather"})
	_malformed("need", {"fact": "estimate", "of": "x"})
}

test_an_exemption_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	_fine("exempt", {"code": "x", "reason": "y", "until": "2026-11-24T10:00:00Z"})
	_malformed("exempt", {"code": "x"})
	_malformed("exempt", {"reason": "y"})
	_malformed("exempt", {"code": "x", "reason": ""})
}

test_a_hint_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	_fine("hint", {"message": "x"})
	_malformed("hint", {})
	_malformed("hint", {"message": "x", "code": "y"})
}

test_a_duty_of_another_shape_or_with_an_unknown_key_is_a_deny if {
	every right in [
		{"limit_rows": {"max": 0}}, {"limit_rows": {"max": 1, "on_excess": "truncate", "on": ["allow"]}}, {"limit_affected": {"max": 1}},
		{"limit_rows": {"max": 1, "path": "$.items"}}, {"redact_text": {"detectors": [], "patterns": {`\bS-[0-9]+\b`}}},
		{"set_headers": {"headers": {"X-Reason": "", "x-b_c": "a \t b"}}}, {"remove_headers": {"names": {"Cookie", "x-host"}}},
		{"time_limit": {"seconds": 0.5}}, {"read_only": {}}, {"record": {"level": "everything"}}, {"record": {"level": 20, "on": ["mask"]}},
		{"redact_text": {"detectors": ["email"], "patterns": []}}, {"use_credential": {"name": "reader"}},
		{"set_headers": {"headers": {"x-a": "1"}}}, {"remove_headers": {"names": ["x-b"]}},
		{"budget": {"per": "run", "unit": "rows", "max": 5}}, {"notify": {"channel": "security", "on": {"deny"}}},
	] {
		_fine("oblige", right)
	}
	every wrong in [
		{}, {"limit_rows": {"max": 1}, "read_only": {}}, {"limit_row": {"max": 1}}, {"limit_rows": {}}, {"limit_rows": 5},
		{"limit_rows": {"max": "5"}}, {"limit_rows": {"max": null}}, {"limit_rows": {"max": -1}}, {"limit_rows": {"max": 1.5}},
		{"limit_rows": {"max": 9007199254740993}}, {"limit_rows": {"max": 1, "on_exess": "fail"}},
		{"limit_rows": {"max": 1, "on_excess": "warn"}}, {"limit_rows": {"max": 1, "on": "allow"}},
		{"limit_rows": {"max": 1, "on": ["alow"]}}, {"time_limit": {"seconds": 0}}, {"time_limit": {"seconds": "1"}},
		{"read_only": true}, {"record": {"level": "all"}}, {"redact_text": {}}, {"use_credential": {"name": ""}},
		{"set_headers": {"headers": {}}}, {"set_headers": {"headers": {"a": 1}}}, {"remove_headers": {"names": "x"}},
		{"budget": {"per": "run", "unit": "rows"}}, {"notify": {}}, {"limit_rows": {"max": 1, "path": ""}},
		{"limit_rows": {"max": 1, "path": ["items"]}}, {"redact_text": {"detectors": ["email"]}},
		{"redact_text": {"detectors": "email", "patterns": []}}, {"redact_text": {"detectors": [1], "patterns": []}},
		{"redact_text": {"detectors": [], "patterns": ["(a"]}}, {"redact_text": {"detectors": [], "patterns": [""]}},
		{"redact_text": {"detectors": [], "patterns": "a"}}, {"set_headers": {"headers": ["x-a"]}},
		{"set_headers": {"headers": {"x-a": null}}}, {"set_headers": {"headers": {"x-a": "1\r\nx-b: 2"}}},
		{"set_headers": {"headers": {"x-a": "1\n"}}}, {"set_headers": {"headers": {"x-a": "\u00e9"}}},
		{"set_headers": {"headers": {"X-A": "1", "x-a": "1"}}}, {"set_headers": {"headers": {"x-a": "1"}, "names": []}},
		{"remove_headers": {"names": []}}, {"remove_headers": {"names": [1]}}, {"record": {"level": 0}}, {"record": {"level": "9"}},
		{"record": {}},
	] {
		_malformed("oblige", wrong)
	}
}

test_headers_that_make_another_request_of_it_are_a_deny if {
	every name in [
		"Host", "Content-Length", "transfer-encoding", "Content-Type", "content-encoding", "CONNECTION", "keep-alive", "TE", "trailer",
		"Upgrade", "expect", "Authorization", "Proxy-Authorization", "proxy-connection", "http2-settings",
		"", "x a", "x:", "x-a\n", "x\u00e9", ":path", "x-\u0000",
	] {
		_malformed("oblige", {"set_headers": {"headers": {name: "1"}}})
		_malformed("oblige", {"remove_headers": {"names": [name]}})
	}
}

test_the_words_say_what_is_wrong if {
	_message({"oblige": {{"read_only": {}, "limit_rows": {"mx": 1}}}}) == "oblige: an entry has exactly one key; limit_rows: no max; limit_rows: unknown key mx"
	_message({"deny": {{"code": 1}}}) == "deny: code is not a valid word; no message"
	_message({"mask": {{"dataset": "a", "field": "b", "method": "null", "except": []}}}) == "mask: except without the field *"
	data.checkrein.shapes.explain("hint", {"message": "fits"}) == "hint: an entry that is not of its shape"
}
