package deletes_test

import data.checkrein.testing as t

_decide(request) := answer if {
	answer := t.decide(request, {"deletes", "open"}) with data.policies.open as {"allow": {{"code": "all"}}}
		with data.owners as {"shop": {"public.orders": ["group:order-team"]}}
}

_bot := t.agent("bot", [])

_both := t.delete(_bot, {"public.orders", "public.items"})

_need(dataset, approvers) := {
	"policy": "deletes",
	"code": "delete",
	"approvers": approvers,
	"count": 1,
	"about": dataset,
	"message": sprintf("Deleting from %s needs its owners.", [dataset]),
	"wait": "15m",
	"grant": {"uses": 1, "for": "15m", "reach": "exact"},
	"separate_people": true,
}

_orders := _need("public.orders", ["group:order-team"])

_items := _need("public.items", ["group:security"])

test_every_owner_is_asked if {
	answer := _decide(_both)
	answer.verdict == "require_approval"
	answer.requirements == {_orders, _items}
}

test_one_owner_said_yes_and_the_other_is_still_asked if _decide(t.approved(_both, {_items})).requirements == {_orders}

test_what_every_owner_approved_is_allowed if _decide(t.approved(_both, {_orders, _items})).verdict == "allow"

test_a_pending_approval_allows_nothing if {
	request := t.context(t.approved(_both, {_orders, _items}), {"approval": {"state": "pending"}})
	_decide(request).verdict == "require_approval"
}

test_a_delete_behind_a_select_and_a_truncate_are_deletes if {
	_decide(t.sql(_bot, {"relations": t.relations({"public.orders"}, "delete")})).requirements == {_orders}
	_decide(t.sql(_bot, {"kind": "truncate", "relations": t.relations({"public.orders"}, "truncate")})).requirements == {_orders}
}

test_a_delete_from_what_is_not_said_asks_the_fallback if {
	some requirement in _decide(t.delete(_bot, set())).requirements
	requirement.approvers == ["group:security"]
}

test_a_person_needs_nobody if _decide(t.delete(t.user("ana", []), {"public.orders"})).verdict == "allow"

test_an_update_needs_nobody if {
	request := t.sql(_bot, {"class": "write", "kind": "update", "relations": t.relations({"public.orders"}, "update")})
	_decide(request).verdict == "allow"
}
