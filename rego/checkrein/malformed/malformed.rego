# METADATA
# title: A contribution that cannot be read is a deny
# description: |
#   A rule of the wrong form contributes nothing, and a deny that contributes nothing is an allow. So whatever is not a
#   set of objects of its shape, under one of the names that count, denies everything that the policy is bound to.
#   One form cannot be seen here: a head whose value is undefined (`deny contains {"code": "x", "message": m} if ...`
#   with `m` read from a field that is absent) makes no entry at all. Give such a value a default, or compute it from
#   what the body has already required; the tests with absent fields find the rest.
package checkrein.malformed

import data.checkrein.bindings
import data.checkrein.shapes

reasons contains {"code": "bindings-malformed", "message": substring(problem, 0, 240)} if {
	some problem in bindings.problems
}

reasons contains _reason(name, sprintf("a binding names %v, and there is no package policies.%v", [name, name])) if {
	some name in bindings.bound
	not data.policies[name]
}

reasons contains _reason(name, sprintf("%v is not a contribution; what a policy needs for itself starts with _", [key])) if {
	some name in bindings.bound
	some key, _ in data.policies[name]
	not key in shapes.kinds
	not startswith(key, "_")
}

reasons contains _reason(name, sprintf("%s is not a set: write `%s contains {...} if`", [kind, kind])) if {
	some name in bindings.bound
	some kind, value in data.policies[name]
	kind in shapes.kinds
	not is_set(value)
}

reasons contains _reason(name, shapes.explain(kind, entry)) if {
	some name in bindings.bound
	some kind, value in data.policies[name]
	kind in shapes.kinds
	is_set(value)
	some entry in value
	not shapes.fits(kind, entry)
}

_reason(name, text) := {"code": "policy-malformed", "policy": name, "message": substring(text, 0, 240)}
