package checkrein.examples_test

import data.checkrein.testing as t

# Read back as JSON: the decision service sees arrays where the policy has sets.
_answers[name] := json.unmarshal(json.marshal(answer)) if {
	some name, example in data.examples
	answer := t.decide_as_bound(example.input)
}

test_every_example_has_the_expected_answer if {
	every name, example in data.examples { _answers[name] == example.expected }
}

test_every_verdict_but_incomplete_has_an_example if {
	{answer.verdict | some answer in _answers} == {"allow", "mask", "require_approval", "deny"}
}
