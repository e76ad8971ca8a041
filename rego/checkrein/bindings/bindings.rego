# METADATA
# title: Which policies apply to this resource
# description: |
#   Reads `data.bindings[resource] = [{policy, mode?}]`, which the decision service makes from the list of
#   matches in bindings/data.yaml. A resource without an entry has no policy, so nothing allows anything.
package checkrein.bindings

# METADATA
# scope: document
# description: Policies whose contributions count.
bound contains name if some {"policy": name, "mode": "enforce"} in _here

bound contains name if some {"policy": name} in _here

# METADATA
# description: Policies that are only watched.
shadowed contains name if some {"policy": name, "mode": "shadow"} in _here

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

# A pattern fits only an object of exactly these keys.
_wellformed({"policy": name}) if is_string(name)

_wellformed({"policy": name, "mode": mode}) if {
	is_string(name)
	mode in {"enforce", "shadow"}
}
