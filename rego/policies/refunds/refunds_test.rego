package refunds_test

import data.checkrein.testing as t

_bot := t.agent("bot", [])

_under(request, parameters) := answer if {
	answer := t.decide(request, {"refunds"}) with data.parameters as {"pay": {"refunds": parameters}}
		with data.owners as {"pay": {"payments": ["group:payments-owners"]}}
}

_decide(request) := _under(request, {"free": 50, "most": 500})

_refund(document) := _decide(t.request(_bot, "POST", "/refunds", document))

test_a_small_refund_is_allowed if {
	every amount in [0.01, 50] { t.codes(_refund({"order": 7, "amount": amount})) == {"refund"} }
	_refund({"order": 7, "amount": 50}).verdict == "allow"
}

test_a_larger_one_needs_the_owners if {
	every amount in [50.01, 500] {
		answer := _refund({"order": 7, "amount": amount})
		answer.verdict == "require_approval"
		some requirement in answer.requirements
		requirement.approvers == ["group:payments-owners"]
		requirement.message == "A refund over 50 needs the owners of payments."
	}
}

test_a_larger_one_that_was_approved_is_allowed if {
	request := t.request(_bot, "POST", "/refunds", {"order": 7, "amount": 100})
	_decide(t.approved(request, _decide(request).requirements)).verdict == "allow"
}

test_beyond_the_limit_or_no_number_at_all_is_denied if {
	every amount in [500.01, 0, -5, "5", null, true, [5], {}] {
		answer := _refund({"order": 7, "amount": amount})
		answer.reasons == {{
			"policy": "refunds",
			"code": "refund-too-large",
			"message": "A refund is a number between 0.01 and 500.",
			"instead": ["Ask the owners of payments to refund it."],
		}}
	}
	every document in [{}, {"Amount": 5}, [], null] { t.codes(_refund(document)) == {"refund-too-large"} }
}

test_a_body_that_was_not_read_or_is_no_json_is_denied if {
	every body in [{"kind": "unread"}, {"kind": "opaque"}, {"kind": "form", "form": {"amount": ["5"]}}] {
		request := object.union(t.request(_bot, "POST", "/refunds", null), {"action": {"properties": {"http": {"body": body}}}})
		_decide(request).verdict == "deny"
	}
}

test_limits_that_are_no_numbers_let_nothing_through if {
	request := t.request(_bot, "POST", "/refunds", {"amount": 5})
	_under(request, {"most": "500"}).verdict == "deny"
	_under(request, {"free": null}).verdict == "require_approval"
	_under(request, {}).verdict == "allow"
}

test_no_other_request_is_granted if {
	every request in [
		t.request(_bot, "POST", "/payouts", {"amount": 5}), t.request(_bot, "PUT", "/refunds", {"amount": 5}),
		t.request(_bot, "POST", "/refunds/7", {"amount": 5}), t.request(t.agent("", []), "POST", "/refunds", {"amount": 5}),
	] {
		t.codes(_decide(request)) == {"no-policy-allows"}
	}
}
