package small_changes_test

import data.checkrein.testing as t

_decide(request) := answer if {
	answer := t.decide(request, {"small_changes", "open"}) with data.policies.open as {"allow": {{"code": "all"}}}
		with data.owners as {"shop": {"public.orders": ["group:order-team"]}}
		with data.parameters as {"shop": {"small_changes": {"rows": 3}}}
}

_bot := t.agent("bot", [])

_delete := t.delete(_bot, {"public.orders"})

_estimated(estimate) := t.context(_delete, {"facts": {"estimate": estimate}})

_requirement := {
	"policy": "small_changes",
	"code": "many-rows",
	"approvers": ["group:order-team"],
	"count": 1,
	"about": "public.orders",
	"message": "This may change more than 3 rows of public.orders.",
	"wait": "15m",
	"grant": {"uses": 1, "for": "15m", "reach": "exact"},
	"separate_people": true,
}

test_the_number_is_asked_for_first if {
	answer := _decide(_delete)
	answer.verdict == "incomplete"
	answer.needs == {"estimate"}
}

test_a_few_rows_are_allowed_and_the_statement_is_held_to_them if {
	answer := _decide(_estimated({"rows": 3}))
	answer.verdict == "allow"
	answer.obligations == {"limit_affected": {"max": 3}}
}

test_more_rows_need_the_owners if {
	answer := _decide(_estimated({"rows": 4}))
	answer.verdict == "require_approval"
	answer.requirements == {_requirement}
}

test_what_nobody_can_estimate_needs_the_owners if {
	_decide(_estimated({"unavailable": "a function of its own"})).requirements == {_requirement}
}

test_approved_is_allowed_for_as_many_as_people_said if {
	answer := _decide(t.approved(_estimated({"rows": 4}), {_requirement}))
	answer.verdict == "allow"
	answer.obligations == {}
}

test_ten_rows_are_few_where_no_parameter_says_another_number if {
	every rows, verdict in {10: "allow", 11: "require_approval"} {
		answer := t.decide(_estimated({"rows": rows}), {"small_changes", "open"}) with data.policies.open as {"allow": {{"code": "all"}}}
			with data.parameters as {}
		answer.verdict == verdict
	}
}

test_it_grants_nothing if t.decide(_estimated({"rows": 1}), {"small_changes"}).verdict == "deny"

test_a_person_and_a_select_are_no_concern if {
	every request in [t.delete(t.user("ana", []), {"public.orders"}), t.select(_bot, {"public.orders"})] {
		answer := _decide(request)
		answer.verdict == "allow"
		answer.obligations == {}
	}
}
