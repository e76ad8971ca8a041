# METADATA
# title: What an action says of itself, whatever its protocol
# description: |
#   The one place of the library that lists the protocols: what looks at any of them asks here. Every path is written
#   out, because a computed one makes `opa deps` name everything beside it, the statement with it. A protocol that the
#   input's schema has and this list has not is nothing that could be understood, so it is denied; a test compares them.
package checkrein.protocols

# METADATA
# scope: document
# description: "By protocol: false, or the reason why the action was not understood in full."
opaque["postgres"] := input.action.properties.postgres.opaque

opaque["http"] := input.action.properties.http.opaque

opaque["mcp"] := input.action.properties.mcp.opaque

# METADATA
# scope: document
# description: "By protocol: what makes a way around the proxy."
mints_access["postgres"] := input.action.properties.postgres.mints_access

mints_access["http"] := input.action.properties.http.mints_access

mints_access["mcp"] := input.action.properties.mcp.mints_access

# METADATA
# description: The protocols that say anything of the action; a field that one of them leaves out hides nothing.
spoken := object.keys(opaque) | object.keys(mints_access)

# METADATA
# description: "`[dataset, field]` for every field that the action is known to read, where its protocol can tell."
fields contains [column.dataset, column.field] if some column in input.action.properties.postgres.columns

# METADATA
# scope: document
# description: "Paths of the input that this action does not have yet: its head is asked about before the rest is read."
awaited contains path if {
	input.action.name == "prepare"
	some path in input.action.properties.http.awaits
}
