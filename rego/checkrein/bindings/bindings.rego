# METADATA
# title: Which policies apply to this resource
# description: |
#   Reads `data.bindings[resource] = [{policy, mode?}]`, which the decision service makes from the list of
#   matches in bindings/data.yaml. A resource without an entry has no policy, so nothing allows anything.
package checkrein.bindings

# METADATA
# description: Policies whose contributions count.
bound contains b.policy if {
	some b in _here
	_enforced(b)
}

# METADATA
# description: Policies that are only watched.
shadowed contains b.policy if {
	some b in _here
	b.mode == "shadow"
}

# METADATA
# scope: document
# description: |
#   What is wrong with the bindings of this resource. Without it a misspelt mode would unbind a deny.
problems contains "the bindings are not expanded by resource" if not is_object(data.bindings)

problems contains sprintf("a binding of %s that is not {policy, mode?}", [input.resource.id]) if {
	some b in _here
	not _wellformed(b)
}

_here contains b if some b in data.bindings[input.resource.id]

_enforced(b) if b.mode == "enforce"

_enforced(b) if not "mode" in object.keys(b)

_wellformed(b) if {
	is_string(b.policy)
	count(object.keys(b) - {"policy", "mode"}) == 0
	object.get(b, "mode", "enforce") in {"enforce", "shadow"}
}
