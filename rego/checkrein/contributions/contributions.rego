# METADATA
# title: What the bound policies contribute
# description: |
#   An entry is wrapped, never merged, so that one of a wrong shape is still an entry. One rule for each kind, the
#   kind written out: with a variable for it, a policy that reads `data.checkrein.masks` would depend on itself.
package checkrein.contributions

import data.checkrein.bindings.bound

# METADATA
# description: What may be done.
allow contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].allow
}

# METADATA
# description: What must not be done, whatever allows it.
deny contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].deny
}

# METADATA
# description: What people have to agree to.
require_approval contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].require_approval
}

# METADATA
# description: Which fields are not shown as they are.
mask contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].mask
}

# METADATA
# description: What the proxy has to do besides.
oblige contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].oblige
}

# METADATA
# description: Facts without which the policy cannot decide.
need contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].need
}

# METADATA
# description: Rules of other policies that are lifted.
exempt contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].exempt
}

# METADATA
# description: Words for whoever is denied because nothing allows.
hint contains {"policy": name, "rule": e} if {
	some name in bound
	some e in data.policies[name].hint
}
