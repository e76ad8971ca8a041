# METADATA
# title: Parameters of a policy, by target
# description: "`data.parameters[resource][policy] = {...}`; resource `*` means every target."
package checkrein.params

# METADATA
# description: The policy's defaults, then those for every target, then those for this one.
of(policy, defaults) := object.union_n([defaults, _everywhere(policy), _here(policy)])

_everywhere(policy) := data.parameters["*"][policy] if {
	is_object(data.parameters["*"][policy])
} else := {}

_here(policy) := data.parameters[input.resource.id][policy] if {
	is_object(data.parameters[input.resource.id][policy])
} else := {}
