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
	not _something(name)
	not data.policies[name]
}

# A package is walked rule by rule, here and below: to put the whole of it together as one value takes several times
# as long.
reasons contains _reason(name, problem) if {
	some name in bindings.bound
	some key, value in data.policies[name]
	not [key, value] in _nothing
	not _readable(key, value)
	some problem in _problems(key, value)
}

# Contributions that there is nothing to say of, as most are for any one action.
_nothing contains [kind, set()] if some kind in shapes.kinds

_something(name) if some _ in data.policies[name]

_readable(key, _) if startswith(key, "_")

_readable(key, value) if {
	key in shapes.kinds
	is_set(value)
	every entry in value { shapes.fits(key, entry) }
}

# Has words for everything that is not readable.
_problems(key, value) := {sprintf("%v is not a contribution; what a policy needs for itself starts with _", [key])} if {
	not key in shapes.kinds
} else := {sprintf("%s is not a set: write `%s contains {...} if`", [key, key])} if {
	not is_set(value)
} else := {shapes.explain(key, entry) | some entry in value; not shapes.fits(key, entry)}

_reason(name, text) := {"code": "policy-malformed", "policy": name, "message": substring(text, 0, 240)}
