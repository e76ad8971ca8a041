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
# scope: document
# description: Everybody who answers for anything.
everybody contains owner if {
	some datasets in data.owners
	some owners in datasets
	some owner in owners
}

everybody contains "group:security"

_named(dataset) := data.owners[input.resource.id][dataset]

_fallback := data.owners["*"]["*"]
