# METADATA
# title: Parameters of a policy, by target
# description: "`data.parameters[resource][policy] = {...}`; resource `*` means every target."
package checkrein.params

# METADATA
# description: The policy's defaults, then those for every target, then those for this one.
of(policy, defaults) := object.union_n([defaults, _everywhere(policy), _here(policy)])

_everywhere(policy) := values if {
	values := data.parameters["*"][policy]
	is_object(values)
} else := {}

_here(policy) := values if {
	values := data.parameters[input.resource.id][policy]
	is_object(values)
} else := {}
