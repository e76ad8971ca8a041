# METADATA
# title: Who answers for data
# description: "`data.owners[resource][dataset] = [group:x | user:y]`; resource `*` with dataset `*` is the fallback."
package checkrein.owners

# METADATA
# description: Never undefined and never empty, so that a rule with an owner in its head always fires.
of(dataset) := _named(dataset) if {
	count(_named(dataset)) > 0
} else := _fallback if {
	count(_fallback) > 0
} else := ["group:security"]

# METADATA
# description: Everybody who answers for anything.
all contains owner if some owner in data.owners[_][_]

all contains owner if some owner in ["group:security"]

_named(dataset) := data.owners[input.resource.id][dataset]

_fallback := data.owners["*"]["*"]
