package inference_test

import data.checkrein.testing as t

_decide(masks, usage) := answer if {
	request := t.sql(t.agent("bot", []), {
		"relations": t.relations({"public.customers"}, "read"),
		"columns": [{"dataset": "public.customers", "field": "ssn", "usage": usage}],
	})
	answer := t.decide(request, {"inference", "masking"}) with data.policies.masking as {"allow": {{"code": "all"}}, "mask": masks}
}

_null(field) := {{"dataset": "public.customers", "field": field, "method": "null"}}

test_plain_output_is_masked if _decide(_null("ssn"), ["output"]).verdict == "mask"

test_any_other_use_is_denied if {
	every usage in [["other"], ["output", "other"], ["filter"], [], null, [null]] {
		answer := _decide(_null("ssn"), usage)
		answer.reasons == {{
			"policy": "inference",
			"code": "masked-column-used",
			"message": "public.customers.ssn is masked for you and cannot be used for more than plain output.",
			"instead": ["Select the column by itself, or leave it out of the statement."],
		}}
	}
}

test_a_column_masked_by_a_star_is_as_bound if _decide(_null("*"), ["other"]).verdict == "deny"

test_another_column_may_be_used if _decide(_null("email"), ["other"]).verdict == "mask"

test_where_nothing_is_masked_everything_may_be_used if _decide(set(), ["other"]).verdict == "allow"
