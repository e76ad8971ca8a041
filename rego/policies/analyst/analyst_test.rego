package analyst_test

import data.checkrein.testing as t

_ana := t.user("ana", ["analysts"])

_decide(request) := answer if {
	answer := t.decide(request, {"analyst"}) with data.parameters as {"shop": {"analyst": {"datasets": ["public.orders"], "max_rows": 500}}}
}

test_analysts_read_reporting_and_what_is_listed_within_a_limit if {
	answer := _decide(t.select(_ana, {"reporting.sales", "public.orders"}))
	answer.verdict == "allow"
	answer.obligations == {"limit_rows": {"max": 500, "on_excess": "fail"}}
}

test_the_group_analysts_bulk_is_not_limited if {
	_decide(t.select(t.user("ana", ["analysts", "analysts-bulk"]), {"reporting.sales"})).obligations == {}
}

test_another_table_is_denied_with_the_hint if {
	answer := _decide(t.select(_ana, {"reporting.sales", "public.payroll"}))
	answer.verdict == "deny"
	some reason in answer.reasons
	reason.hints == {{"policy": "analyst", "message": "Analysts may read public.orders, reporting.*."}}
}

test_a_write_is_denied if _decide(t.delete(_ana, {"public.orders"})).verdict == "deny"

test_a_select_that_writes_is_denied if {
	relations := array.concat(t.relations({"public.orders"}, "read"), t.relations({"reporting.sales"}, "delete"))
	_decide(t.sql(_ana, {"relations": relations})).verdict == "deny"
}

test_what_is_not_understood_is_denied if {
	_decide(t.sql(_ana, {"opaque": "x", "relations": t.relations({"public.orders"}, "read")})).verdict == "deny"
}

test_who_is_no_analyst_is_denied_without_a_hint if {
	every who in [t.user("ola", []), t.agent("bot", ["analysts"])] {
		answer := _decide(t.select(who, {"reporting.sales"}))
		answer.reasons == {{"code": "no-policy-allows", "message": "No policy allows this."}}
	}
}
