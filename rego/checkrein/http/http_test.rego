package checkrein.http_test

import data.checkrein.http
import data.checkrein.testing as t

_bot := t.agent("bot", [])

_get := t.request(_bot, "GET", "/orders/7", null)

_facts(facts) := t.http(_bot, facts)

_body(document) := t.request(_bot, "POST", "/refunds", document)

_graphql(operation, fields) := t.http(_bot, {"method": "POST", "body": {
	"kind": "graphql",
	"graphql": {"operation": operation, "fields": fields},
}})

test_get_head_and_options_are_safe_and_no_other_method if {
	every method in ["GET", "HEAD", "OPTIONS"] { http.is_safe with input as _facts({"method": method}) }
	every method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "QUERY", "", null] {
		not http.is_safe with input as _facts({"method": method})
	}
}

# what no rule that lets something through may hold of
_disguised := [
	t.http(_bot, {"overrides": ["x-http-method-override"], "segments": ["a"], "operation": "x"}),
	t.http(_bot, {"overrides": null, "segments": ["a"], "operation": "x"}),
	t.http(_bot, {"opaque": "cut", "segments": ["a"], "operation": "x"}),
	t.upgrade(_bot, "/a"),
	t.connect(_bot),
	t.mcp(_bot, "a", {}),
	t.select(_bot, {"a.b"}),
]

test_nothing_that_lets_through_holds_of_what_is_not_plainly_a_request if {
	every request in _disguised {
		not http.understood with input as request
		not http.is_safe with input as request
		not http.reads_only with input as request
		not http.matches("GET", "/a") with input as request
		not http.operation("x") with input as request
	}
}

test_a_path_fits_a_template if {
	every template in ["/orders/7", "/orders/{id}", "/{x}/{y}", "orders/{id}"] { http.matches("GET", template) with input as _get }
	every template in ["/orders", "/orders/7/x", "/orders/{id}/", "/orders/{id", "/orders/{}", "/orders/{i}d", "/", "", "/orders/*", "/orders/8"] {
		not http.matches("GET", template) with input as _get
	}
	not http.matches("POST", "/orders/{id}") with input as _get
	http.matches("GET", "/") with input as t.http(_bot, {})
}

test_braces_stand_for_one_segment_that_is_there if {
	not http.matches("GET", "/orders/{id}") with input as _facts({"segments": ["orders", ""]})
	not http.matches("GET", "/orders/{id}") with input as _facts({"segments": ["orders", null]})
	not http.matches("GET", "/") with input as _facts({"segments": null})
	not http.matches("GET", "/") with input as json.remove(_facts({}), ["/action/properties/http/segments"])
}

test_an_upgrade_is_no_request_and_a_request_no_upgrade if {
	http.upgrades("/events/{channel}") with input as t.upgrade(_bot, "/events/a")
	not http.upgrades("/events") with input as t.upgrade(_bot, "/events/a")
	not http.upgrades("/events") with input as t.request(_bot, "GET", "/events", null)
	every change in [{"opaque": "x"}, {"overrides": ["x"]}] {
		not http.upgrades("/e") with input as object.union(t.upgrade(_bot, "/e"), {"action": {"properties": {"http": change}}})
	}
}

test_an_operation_is_known_by_its_id if {
	http.operation("listOrders") with input as _facts({"operation": "listOrders"})
	not http.operation("x") with input as _facts({"operation": "listOrders"})
	not http.operation("x") with input as _facts({})
	not http.operation(null) with input as _facts({"operation": null})
}

test_a_request_may_be_of_a_method_unless_it_is_known_not_to_be if {
	every facts in [{"method": "DELETE"}, {"overrides": ["x"]}, {"overrides": null}, {"method": null}, {"method": "DELETE", "overrides": ["x"]}] {
		http.may_be("DELETE") with input as _facts(facts)
	}
	every field in ["method", "overrides"] {
		http.may_be("DELETE") with input as json.remove(_facts({}), [sprintf("/action/properties/http/%s", [field])])
	}
	http.may_be("DELETE") with input as json.remove(_facts({"method": "DELETE"}), ["/action/name"])
	not http.may_be("DELETE") with input as _facts({"method": "GET"})
	every other in [t.connect(_bot), t.mcp(_bot, "a", {}), t.mcp_message(_bot, "ping")] { not http.may_be("DELETE") with input as other }
}

_between(document) if http.number_between(["amount"], 1, 500) with input as _body(document)

test_a_number_between_is_a_number_and_not_beyond if {
	every amount in [1, 500, 2.5] { _between({"amount": amount}) }
	every amount in [0, 501, -5, "1", null, true, [1], {}, {"$int": "5"}] { not _between({"amount": amount}) }
	every document in [{}, {"Amount": 5}, [], [5], 5, "amount", true] { not _between(document) }
}

test_nothing_is_between_bounds_that_are_no_numbers if {
	every bound in ["500", null, true, [], {}] {
		not http.number_between(["amount"], 1, bound) with input as _body({"amount": 5})
		not http.number_between(["amount"], bound, 500) with input as _body({"amount": 5})
	}
}

test_a_number_is_found_further_in if {
	nested := _body({"a": {"b": [{"c": 5}]}})
	http.number_between(["a", "b", 0, "c"], 5, 5) with input as nested
	not http.number_between(["a", "b"], 0, 9) with input as nested
	not http.number_between(["a", "x", "c"], 0, 9) with input as nested
	not http.number_between("a", 0, 9) with input as _body({"a": 5})
	not http.number_between([], 0, 9) with input as _body({"a": 5})
}

test_a_body_that_is_not_json_has_no_members if {
	every body in [{"kind": "none"}, {"kind": "unread"}, {"kind": "opaque"}, {"kind": "form", "form": {"amount": ["5"]}}] {
		not http.number_between(["amount"], 0, 9) with input as _facts({"body": body})
		not http.text_in(["amount"], {"5"}) with input as _facts({"body": body})
	}
}

test_a_text_is_one_of_those_named if {
	http.text_in(["currency"], {"EUR", "USD"}) with input as _body({"currency": "EUR"})
	every value in ["eur", "", null, 1, ["EUR"]] { not http.text_in(["currency"], {"EUR", null, 1}) with input as _body({"currency": value}) }
	not http.text_in(["currency"], set()) with input as _body({"currency": "EUR"})
	not http.text_in(["currency"], {"EUR"}) with input as _body({})
}

test_a_value_that_stands_there_twice_is_none if {
	request := _facts({
		"headers": {"accept": ["text/csv"], "x-a": ["1", "2"], "x-b": []},
		"query": {"page": ["2"], "id": ["1", "2"]},
		"body": {"kind": "form", "form": {"to": ["me"], "cc": ["a", "b"]}},
	})
	http.header("Accept") == "text/csv" with input as request
	http.query_value("page") == "2" with input as request
	http.form_value("to") == "me" with input as request
	every name in ["x-a", "x-b", "x-c"] { not http.header(name) with input as request }
	every name in ["id", "Page", "x"] { not http.query_value(name) with input as request }
	every name in ["cc", "x"] { not http.form_value(name) with input as request }
}

test_a_query_of_graphql_only_reads_and_a_mutation_does_not if {
	http.reads_only with input as _graphql("query", ["orders.id"])
	http.reads_only with input as _get
	every operation in ["mutation", "subscription", "", null] { not http.reads_only with input as _graphql(operation, ["orders.id"]) }
	every fields in [[], null, "orders"] { not http.reads_only with input as _graphql("query", fields) }
	not http.reads_only with input as _body({"query": "{orders{id}}"})
	every change in [{"method": "DELETE"}, {"overrides": ["x"]}, {"opaque": "cut"}, {"body": {"kind": "json"}}] {
		not http.reads_only with input as object.union(_graphql("query", ["orders"]), {"action": {"properties": {"http": change}}})
	}
}

test_graphql_only_holds_of_every_field_and_never_of_none if {
	every fields in [["orders", "orders.id"], ["orders.id"], ["customers.name", "customers.orders.id"]] {
		http.graphql_only({"orders", "orders.id", "customers.*"}) with input as _graphql("query", fields)
	}
	every fields in [["customers"], ["customersx.id"], ["orders.id", "x"], ["orders.total"], [], [null], null] {
		not http.graphql_only({"orders", "orders.id", "customers.*"}) with input as _graphql("query", fields)
	}
	not http.graphql_only({"refund"}) with input as _graphql("mutation", ["refund"])
	not http.graphql_only(set()) with input as _graphql("query", ["orders"])
	not http.graphql_only({"orders"}) with input as object.union(_graphql("query", ["orders"]), {"action": {"properties": {"http": {"overrides": ["x"]}}}})
}

test_labelled_gives_all_fields_of_the_resource_with_the_label if {
	labels := {"pay": {"a": {"$..email": ["email"]}, "b": {"$..ssn": ["pii", "ssn"], "$..mail": ["email"]}}, "other": {"a": {"$..x": ["email"]}}}
	http.labelled("email") == {{"dataset": "a", "field": "$..email"}, {"dataset": "b", "field": "$..mail"}} with input as _get with data.classification as labels
	http.labelled("none") == set() with input as _get with data.classification as labels
	http.labelled("email") == set() with input as _get with data.classification as {}
}
