# METADATA
# title: What one request of the Model Context Protocol does
# description: |
#   Rules over `input`, every path written out. What lets something through holds only of a request that was understood.
#   The HTTP request that carries it is decided by itself, so a policy that allows tools allows that request as well.
package checkrein.mcp

# METADATA
# description: The name that the proxy's configuration gives the server.
server := input.action.properties.mcp.server

# METADATA
# description: The tool that is called; undefined for any other request.
tool := input.action.properties.mcp.tool

# METADATA
# description: A call of this tool. The same question, without arguments, decides whether the tool is shown at all.
calls(name) if {
	input.action.name == "tool"
	input.action.properties.mcp.opaque == false
	input.action.properties.mcp.method == "tools/call"
	is_string(name)
	input.action.properties.mcp.tool == name
}

# METADATA
# description: Asks what there is. The tools that are not allowed are taken out of the answer.
is_listing if {
	_message
	input.action.properties.mcp.method in {"tools/list", "resources/list", "resources/templates/list", "prompts/list"}
}

# METADATA
# description: Opens the session or keeps it; nothing of it is data.
housekeeping if {
	_message
	input.action.properties.mcp.method in {
		"initialize", "ping", "logging/setLevel", "notifications/initialized", "notifications/cancelled",
		"notifications/progress", "notifications/roots/list_changed",
	}
}

# METADATA
# description: Reads one resource, and its URI is one of these.
reads(uris) if {
	_message
	input.action.properties.mcp.method == "resources/read"
	is_string(input.action.properties.mcp.uri)
	input.action.properties.mcp.uri in uris
}

# METADATA
# description: The argument is a number in the range, both ends in it; text, null or a missing one is not.
number_between(path, least, most) if {
	is_number(least)
	is_number(most)
	number := _argument(path)
	is_number(number)
	number >= least
	number <= most
}

# METADATA
# description: The argument is one of these texts.
text_in(path, values) if {
	text := _argument(path)
	is_string(text)
	text in values
}

_message if {
	input.action.name == "message"
	input.action.properties.mcp.opaque == false
}

_argument(path) := object.get(input.action.properties.mcp.arguments, path, null) if {
	is_object(input.action.properties.mcp.arguments)
	is_array(path)
}
