# METADATA
# title: Who asks
package checkrein.subject

# METADATA
# scope: document
# description: The groups of the asking identity itself; none when the token names none.
default groups := []

groups := [name | some name in input.subject.properties.groups; is_string(name)] if {
	is_array(input.subject.properties.groups)
}

# METADATA
# description: The person that the agent works for, as the token says; undefined when it names none.
behind := input.subject.properties.on_behalf_of

# METADATA
# description: The asking identity itself is in the group.
in_group(name) if name in groups

# METADATA
# description: The agent and the person behind it are both in the group (no confused deputy).
both_in_group(name) if {
	in_group(name)
	name in input.subject.properties.on_behalf_of.groups
}

# METADATA
# description: Somebody in particular; an identity without a name is nobody.
authenticated if {
	input.subject.type in {"agent", "user", "service"}
	is_string(input.subject.id)
	input.subject.id != ""
}

# METADATA
# description: A program that acts by itself.
is_agent if input.subject.type == "agent"

# METADATA
# description: A human being. Whatever else there may be, today or later, is not one.
is_person if input.subject.type == "user"

# METADATA
# description: The workflow node, as `graph/node`; a claim of the workload that the decision service's manifest allows.
node := concat("/", [input.subject.properties.workflow.graph, input.subject.properties.workflow.node]) if {
	is_string(input.subject.properties.workflow.graph)
	is_string(input.subject.properties.workflow.node)
}
