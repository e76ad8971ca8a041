package checkrein.decision_test

import data.checkrein.decision
import data.checkrein.testing as t

_bot := t.agent("bot", [])

_select := t.select(_bot, {"public.orders"})

_open := {"allow": {{"code": "all"}}}

# the answer of one policy beside one that allows everything
_decide(policy) := _on(_select, policy)

_on(request, policy) := answer if {
	answer := t.decide(request, {"open", "other"}) with data.policies as {"open": _open, "other": policy}
}

_mask(dataset, field) := {"dataset": dataset, "field": field, "method": "null"}

_ask := {"code": "ask", "approvers": {"group:b", "group:a"}}

_asked := {
	"policy": "other",
	"code": "ask",
	"approvers": ["group:a", "group:b"],
	"count": 1,
	"wait": "15m",
	"grant": {"uses": 1, "for": "15m", "reach": "exact"},
	"separate_people": true,
}

# the order

test_nothing_bound_is_a_deny if {
	answer := t.decide(_select, set())
	answer.verdict == "deny"
	t.codes(answer) == {"no-policy-allows"}
}

test_a_resource_that_nobody_bound_anything_to_is_a_deny if {
	decision.result.verdict == "deny" with input as _select with data.bindings as {}
}

test_no_input_at_all_is_a_deny if {
	decision.result.verdict == "deny" with input as {}
	decision.result.verdict == "deny" with input as null
}

test_an_allow_has_every_part_of_an_answer if {
	_decide({}) == {
		"verdict": "allow",
		"reasons": {{"policy": "open", "code": "all"}},
		"masks": set(),
		"obligations": {},
		"requirements": set(),
		"needs": set(),
		"exempted": set(),
	}
}

test_a_policy_that_only_narrows_grants_nothing if {
	answer := t.decide(_select, {"narrow"}) with data.policies as {"narrow": {
		"mask": {_mask("a.b", "c")},
		"require_approval": {_ask},
		"oblige": {{"read_only": {}}},
		"hint": {{"message": "Try reporting."}},
	}}
	answer.verdict == "deny"
	answer.reasons == {{
		"code": "no-policy-allows",
		"message": "No policy allows this.",
		"hints": {{"policy": "narrow", "message": "Try reporting."}},
	}}
	answer.masks == set()
	answer.requirements == set()
}

test_deny_goes_before_everything_but_malformed if {
	policy := {
		"deny": {{"code": "no", "message": "No.", "instead": ["Ask."]}},
		"need": {{"fact": "estimate"}},
		"require_approval": {_ask},
		"mask": {_mask("a.b", "c")},
	}
	answer := _decide(policy)
	answer.verdict == "deny"
	answer.reasons == {{"policy": "other", "code": "no", "message": "No.", "instead": ["Ask."]}}
	t.codes(_decide(object.union(policy, {"hint": {{"massage": "x"}}}))) == {"policy-malformed"}
}

test_incomplete_goes_before_no_allow if {
	answer := t.decide(_select, {"only"}) with data.policies as {"only": {"need": {{"fact": "estimate"}}}}
	answer.verdict == "incomplete"
	answer.needs == {"estimate"}
	answer.reasons == set()
}

test_a_fact_that_was_fetched_is_not_asked_for_again if {
	every estimate in [{"rows": 3}, {"unavailable": "user function"}] {
		request := t.context(_select, {"facts": {"estimate": estimate}})
		_on(request, {"need": {{"fact": "estimate"}}}).verdict == "allow"
	}
}

test_approval_goes_before_mask_and_shows_what_will_be_masked if {
	answer := _decide({"require_approval": {_ask}, "mask": {_mask("a.b", "c")}})
	answer.verdict == "require_approval"
	answer.masks == {_mask("a.b", "c")}
	answer.requirements == {_asked}
}

test_mask_goes_before_allow if _decide({"mask": {_mask("a.b", "c")}}).verdict == "mask"

test_a_session_is_opened_without_masks if _on(t.connect(_bot), {"mask": {_mask("a.b", "c")}}).verdict == "allow"

# prepare: deny only

test_prepare_is_denied_by_a_deny if {
	answer := _on(t.prepare(_select), {"deny": {{"code": "no", "message": "No."}}, "oblige": {{"notify": {"channel": "x", "on": ["deny"]}}}})
	answer.verdict == "deny"
	answer.obligations == {}
}

test_prepare_is_denied_by_a_malformed_policy if _on(t.prepare(_select), {"deny": true}).verdict == "deny"

test_prepare_asks_nobody_masks_nothing_and_obliges_to_nothing if {
	policy := {
		"require_approval": {_ask},
		"need": {{"fact": "estimate"}},
		"mask": {_mask("a.b", "c")},
		"oblige": {{"limit_rows": {"max": 1}}},
	}
	answer := _on(t.prepare(_select), policy)
	answer.verdict == "allow"
	answer.reasons == {{"code": "prepare"}}
	answer.obligations == {}
	answer.masks == set()
}

test_prepare_needs_no_allow if t.decide(t.prepare(_select), set()).verdict == "allow"

_unread := {"method": "POST", "body": {"kind": "unread"}, "awaits": ["action.properties.http.body"]}

_head := t.prepare(t.http(_bot, _unread))

_refusing := {"deny": {{"code": "no", "message": "No."}}}

test_a_policy_that_reads_the_body_does_not_deny_before_it_is_there if {
	reads := {"other": ["action.properties.http.body"], "q": []}
	_on(_head, _refusing).verdict == "allow" with data.checkrein.built.reads as reads
	_on(_head, _refusing).verdict == "deny" with data.checkrein.built.reads as {"q": reads.other}
	_on(_head, _refusing).verdict == "deny"
}

test_a_body_that_is_there_and_a_request_are_denied_whatever_is_read if {
	reads := {"other": ["action.properties.http.body"]}
	whole := t.prepare(t.http(_bot, {"method": "POST", "body": {"kind": "none"}}))
	_on(whole, _refusing).verdict == "deny" with data.checkrein.built.reads as reads
	request := t.http(_bot, _unread)
	_on(request, _refusing).verdict == "deny" with data.checkrein.built.reads as reads
}

test_prepare_of_what_is_not_understood_is_denied if {
	t.codes(_on(t.prepare(t.sql(_bot, {"opaque": "after a barrier"})), {})) == {"not-understood"}
	t.codes(_on(t.prepare(t.sql(_bot, {"mints_access": ["a password"]})), {})) == {"mints-access"}
}

test_prepare_of_what_is_not_understood_may_be_granted_by_name if {
	_on(t.prepare(t.sql(_bot, {"opaque": "DO"})), {"allow": {{"code": "do", "opaque": true}}}).verdict == "allow"
}

# what is not understood, and what makes a way around the proxy

test_opaque_is_denied_with_its_reason if {
	answer := _on(t.sql(_bot, {"opaque": "a function nobody knows"}), {"hint": {{"message": "Ask."}}})
	answer.verdict == "deny"
	answer.reasons == {{
		"code": "not-understood",
		"message": "This was not understood in full: a function nobody knows",
		"hints": {{"policy": "other", "message": "Ask."}},
	}}
}

test_opaque_is_whatever_is_not_exactly_false if {
	every value in [null, true, "", 0, [], {}] { t.codes(_on(t.sql(_bot, {"opaque": value}), {})) == {"not-understood"} }
	absent := json.remove(_select, ["/action/properties/postgres/opaque"])
	t.codes(_on(absent, {})) == {"not-understood"}
	nothing := json.remove(_select, ["/action/properties/postgres"])
	t.codes(_on(nothing, {})) == {"not-understood", "mints-access"}
}

test_what_gives_no_reason_is_denied_without_one if {
	_on(t.sql(_bot, {"opaque": true}), {}).reasons == {{"code": "not-understood", "message": "This was not understood in full."}}
}

test_opaque_is_allowed_by_a_rule_that_says_so_and_by_no_other if {
	request := t.sql(_bot, {"opaque": "DO"})
	_on(request, {"allow": {{"code": "do", "opaque": true}}}).verdict == "allow"
	_on(request, {"allow": {{"code": "do", "opaque": true}}}).reasons == {{"policy": "other", "code": "do"}}
	_on(request, {"allow": {{"code": "do", "mints_access": true}}}).verdict == "deny"
}

test_a_way_around_the_proxy_is_whatever_is_not_an_empty_list if {
	every value in [null, true, false, "", 0, {}, ["a password"]] {
		t.codes(_on(t.sql(_bot, {"mints_access": value}), {})) == {"mints-access"}
	}
	absent := json.remove(_select, ["/action/properties/postgres/mints_access"])
	t.codes(_on(absent, {})) == {"mints-access"}
}

test_a_way_around_the_proxy_is_denied_and_named if {
	some reason in _on(t.sql(_bot, {"mints_access": ["password of role app"]}), {}).reasons
	reason.message == "This makes a way around the proxy: password of role app"
}

test_a_way_around_the_proxy_is_allowed_by_a_rule_that_says_so_and_by_no_other if {
	request := t.sql(_bot, {"mints_access": ["password"]})
	_on(request, {"allow": {{"code": "rotate", "mints_access": true}}}).verdict == "allow"
	_on(request, {"allow": {{"code": "rotate", "opaque": true}}}).verdict == "deny"
}

test_what_is_opaque_and_a_way_around_needs_one_rule_that_says_both if {
	request := t.sql(_bot, {"opaque": "DO", "mints_access": ["password"]})
	apart := {{"code": "a", "opaque": true}, {"code": "b", "mints_access": true}}
	_on(request, {"allow": apart}).verdict == "deny"
	_on(request, {"allow": {{"code": "c", "opaque": true, "mints_access": true}}}).verdict == "allow"
}

test_to_connect_is_no_statement_unless_it_says_one if {
	_on(t.connect(_bot), {}).verdict == "allow"
	_on(object.union(t.sql(_bot, {"opaque": "x"}), {"action": {"name": "connect"}}), {}).verdict == "deny"
	_on(object.union(t.sql(_bot, {"mints_access": ["x"]}), {"action": {"name": "connect"}}), {}).verdict == "deny"
}

test_administration_is_no_statement if _on_checkrein.verdict == "allow"

_on_checkrein := answer if {
	answer := t.decide(t.administer(t.user("root", []), "status.read"), {"open"}) with data.policies as {"open": _open}
}

# approvals

test_an_approval_of_exactly_this_is_enough if {
	_on(t.approved(_select, {_asked}), {"require_approval": {_ask}}).verdict == "allow"
}

test_an_approved_command_is_masked_all_the_same if {
	_on(t.approved(_select, {_asked}), {"require_approval": {_ask}, "mask": {_mask("a.b", "c")}}).verdict == "mask"
}

test_an_approval_is_for_exactly_what_was_asked if {
	changes := [
		{"policy": "another"}, {"code": "x"}, {"approvers": ["group:a"]}, {"count": 2}, {"wait": "1h"},
		{"about": "a.b"}, {"message": "x"}, {"separate_people": false}, {"grant": {"uses": 2, "for": "15m", "reach": "exact"}},
	]
	every change in changes {
		answer := _on(t.approved(_select, {object.union(_asked, change)}), {"require_approval": {_ask}})
		answer.verdict == "require_approval"
	}
}

test_only_the_state_approved_counts if {
	every state in ["pending", "denied", "expired", "cancelled", "", null, true] {
		request := t.context(t.approved(_select, {_asked}), {"approval": {"state": state}})
		_on(request, {"require_approval": {_ask}}).verdict == "require_approval"
	}
}

test_every_requirement_has_to_be_met if {
	second := {"code": "two", "approvers": ["user:eve"], "escalate": {"after": "1h", "approvers": {"group:z", "group:y"}}}
	answer := _on(t.approved(_select, {_asked}), {"require_approval": {_ask, second}})
	some requirement in answer.requirements
	count(answer.requirements) == 1
	requirement.code == "two"
	requirement.escalate == {"after": "1h", "approvers": ["group:y", "group:z"]}
}

test_an_approval_grants_nothing if {
	answer := t.decide(t.approved(_select, {_asked}), {"other"}) with data.policies as {"other": {"require_approval": {_ask}}}
	t.codes(answer) == {"no-policy-allows"}
}

test_an_approval_does_not_lift_a_deny if {
	policy := {"require_approval": {_ask}, "deny": {{"code": "no", "message": "No."}}}
	t.codes(_on(t.approved(_select, {_asked}), policy)) == {"no"}
}

# exemptions

_lifting(policy, name) := answer if {
	answer := t.decide(_select, {"open", "other", name}) with data.policies as {
		"open": _open,
		"other": policy,
		name: {"exempt": {{"code": "no", "reason": "INC-7"}}},
	}
}

test_a_rule_is_lifted_by_whom_its_author_names if {
	answer := _lifting({"deny": {{"code": "no", "message": "No.", "unless": ["emergency"]}}}, "emergency")
	answer.verdict == "allow"
	answer.exempted == {{"policy": "other", "code": "no", "by": "emergency", "reason": "INC-7"}}
}

test_a_rule_is_lifted_by_nobody_else if {
	_lifting({"deny": {{"code": "no", "message": "No.", "unless": ["emergency"]}}}, "rogue").verdict == "deny"
	_lifting({"deny": {{"code": "no", "message": "No."}}}, "rogue").verdict == "deny"
	_lifting({"deny": {{"code": "other", "message": "No.", "unless": ["emergency"]}}}, "emergency").verdict == "deny"
}

test_a_requirement_is_lifted_in_the_same_way if {
	_lifting({"require_approval": {{"code": "no", "approvers": ["user:x"], "unless": ["emergency"]}}}, "emergency").verdict == "allow"
	_lifting({"require_approval": {{"code": "no", "approvers": ["user:x"]}}}, "emergency").verdict == "require_approval"
}

# until

test_an_answer_is_valid_until_the_first_instant_whatever_its_zone if {
	answer := _decide({"allow": {
		{"code": "a", "until": "2026-11-24T17:00:00+02:00"},
		{"code": "b", "until": "2026-11-24T15:30:00Z"},
	}})
	answer.valid_until == "2026-11-24T17:00:00+02:00"
}

test_one_instant_in_two_zones_is_one if {
	answer := _decide({"allow": {
		{"code": "a", "until": "2026-11-24T17:00:00+02:00"},
		{"code": "b", "until": "2026-11-24T15:00:00Z"},
	}})
	answer.valid_until == "2026-11-24T15:00:00Z"
}

test_an_exemption_ends_with_its_own_instant if {
	answer := t.decide(_select, {"open", "other", "emergency"}) with data.policies as {
		"open": _open,
		"other": {"deny": {{"code": "no", "message": "No.", "unless": ["emergency"], "until": "2026-11-24T11:00:00Z"}}},
		"emergency": {"exempt": {{"code": "no", "reason": "INC-7", "until": "2026-11-24T12:00:00Z"}}},
	}
	answer.verdict == "allow"
	answer.valid_until == "2026-11-24T12:00:00Z"
}

test_a_deny_says_when_it_ends if {
	_decide({"deny": {{"code": "no", "message": "No.", "until": "2026-11-24T12:00:00Z"}}}).valid_until == "2026-11-24T12:00:00Z"
}

test_a_requirement_does_not_change_with_its_until if {
	answer := _decide({"require_approval": {object.union(_ask, {"until": "2026-11-24T12:00:00Z", "unless": ["x"]})}})
	answer.requirements == {_asked}
	answer.valid_until == "2026-11-24T12:00:00Z"
}

# obligations

test_duties_that_conflict_are_a_deny_before_anybody_is_asked if {
	answer := _decide({
		"require_approval": {_ask},
		"oblige": {{"use_credential": {"name": "a"}}, {"use_credential": {"name": "b"}}},
	})
	answer.verdict == "deny"
	t.codes(answer) == {"obligations-conflict"}
}

test_a_denial_has_the_duties_that_are_for_it if {
	answer := _decide({
		"deny": {{"code": "no", "message": "No."}},
		"oblige": {{"notify": {"channel": "security", "on": ["deny"]}}, {"limit_rows": {"max": 1}}},
	})
	answer.obligations == {"notify": {"security"}}
}

# whatever the protocol

_others := {
	"http": t.http(_bot, {}),
	"mcp": t.mcp(_bot, "search", {}),
}

test_every_protocol_is_granted_where_it_is_understood if {
	every _, request in _others { _on(request, {}).verdict == "allow" }
}

test_no_protocol_is_granted_where_it_is_not if {
	every protocol, request in _others {
		every value in ["cut", null, true, "", 0, [], {}] {
			changed := object.union(request, {"action": {"properties": {protocol: {"opaque": value}}}})
			t.codes(_on(changed, {})) == {"not-understood"}
		}
		every value in [["a key"], null, false, "x", {}] {
			changed := object.union(request, {"action": {"properties": {protocol: {"mints_access": value}}}})
			t.codes(_on(changed, {})) == {"mints-access"}
		}
		every field in ["opaque", "mints_access"] {
			changed := json.remove(request, [sprintf("/action/properties/%s/%s", [protocol, field])])
			_on(changed, {}).verdict == "deny"
		}
	}
}

test_one_protocol_does_not_speak_for_another if {
	both := object.union(t.http(_bot, {}), t.mcp(_bot, "search", {}))
	_on(both, {}).verdict == "allow"
	every change in [{"opaque": "cut"}, {"opaque": null}, {"mints_access": ["x"]}, {"mints_access": null}] {
		_on(object.union(both, {"action": {"properties": {"mcp": change}}}), {}).verdict == "deny"
	}
	every field in ["opaque", "mints_access"] {
		_on(json.remove(both, [sprintf("/action/properties/mcp/%s", [field])]), {}).verdict == "deny"
	}
}
