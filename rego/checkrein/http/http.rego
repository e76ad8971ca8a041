# METADATA
# title: What one HTTP request does
# description: |
#   Rules over `input`, every path written out, so that `opa deps` says exactly what a policy depends on. What lets
#   something through holds only of a request that was understood and that nothing makes another one of, and never
#   because a list is empty. Only what looks into the body makes it travel: number_between, text_in, form_value,
#   graphql_only and reads_only do.
package checkrein.http

import data.checkrein.labels

# METADATA
# description: |
#   A request, or the head of one whose body is still to be read (`prepare`), not the opening of another protocol;
#   understood, and no server takes it for one of another method.
understood if {
	input.action.name in {"request", "prepare"}
	input.action.properties.http.opaque == false
	input.action.properties.http.overrides == []
}

# METADATA
# description: A method that changes nothing, by what RFC 9110 says of it.
is_safe if {
	understood
	input.action.properties.http.method in {"GET", "HEAD", "OPTIONS"}
}

# METADATA
# scope: document
# description: Changes nothing by its method, or is one query of GraphQL.
reads_only if is_safe

reads_only if {
	understood
	input.action.properties.http.method == "POST"
	_query
}

# METADATA
# description: "`matches(\"POST\", \"/charges/{id}/refunds\")`; a name in braces stands for one segment, whatever it is."
matches(method, template) if {
	understood
	input.action.properties.http.method == method
	_fits(template)
}

# METADATA
# description: "The opening of a WebSocket or another protocol, `upgrades(\"/events/{channel}\")`: it is allowed as a whole."
upgrades(template) if {
	input.action.name == "upgrade"
	input.action.properties.http.opaque == false
	input.action.properties.http.overrides == []
	_fits(template)
}

# METADATA
# description: "The operation of the target's OpenAPI document, by its operationId."
operation(id) if {
	understood
	is_string(id)
	input.action.properties.http.operation == id
}

# METADATA
# description: |
#   The request is of the method, or a server may take it for one. For what narrows: it holds too of whatever does not say
#   its method. It does not hold of what is no request, a connection or an MCP call.
may_be(method) if {
	not _no_request
	not _surely_not(method)
}

# METADATA
# description: The member of the JSON body is a number in the range, both ends in it; text, null or a missing one is not.
number_between(path, least, most) if {
	is_number(least)
	is_number(most)
	number := _member(path)
	is_number(number)
	number >= least
	number <= most
}

# METADATA
# description: The member of the JSON body is one of these texts.
text_in(path, values) if {
	text := _member(path)
	is_string(text)
	text in values
}

# METADATA
# description: The header's value, where the proxy hands it on and it stands there once; undefined otherwise.
header(name) := value if [value] := input.action.properties.http.headers[lower(name)]

# METADATA
# description: The value of the query's parameter, where it stands there once; undefined otherwise.
query_value(name) := value if [value] := input.action.properties.http.query[name]

# METADATA
# description: The value of the form's field, where it stands there once; undefined otherwise.
form_value(name) := value if [value] := input.action.properties.http.body.form[name]

# METADATA
# description: "A GraphQL query whose every field, and there is one, is named by the set; `orders.*` names all below."
graphql_only(fields) if {
	understood
	_query
	every field in input.action.properties.http.body.graphql.fields { _named(field, fields) }
}

# METADATA
# description: |
#   Fields of this target's answers that carry the label, for masks: a field is a JSONPath. All of them, whatever is asked
#   for, because what a path answers with is not known before.
labelled(label) := labels.fields(labels.datasets, label)

_fits(template) if {
	is_array(input.action.properties.http.segments)
	parts := [part | some part in split(trim_prefix(template, "/"), "/"); template != "/"]
	count(parts) == count(input.action.properties.http.segments)
	every i, part in parts { _stands_for(part, input.action.properties.http.segments[i]) }
}

_stands_for(part, segment) if part == segment

_stands_for(part, segment) if {
	regex.match(`^\{[^{}]+\}$`, part)
	is_string(segment)
	segment != ""
}

_no_request if input.action.name in {"connect", "tool", "message"}

_surely_not(method) if {
	is_string(input.action.properties.http.method)
	input.action.properties.http.method != method
	input.action.properties.http.overrides == []
}

# What is not JSON, or not an object, has no members.
_member(path) := object.get(input.action.properties.http.body.json, path, null) if {
	is_object(input.action.properties.http.body.json)
	is_array(path)
}

_query if {
	input.action.properties.http.body.kind == "graphql"
	input.action.properties.http.body.graphql.operation == "query"
	is_array(input.action.properties.http.body.graphql.fields)
	count(input.action.properties.http.body.graphql.fields) > 0
}

_named(field, fields) if field in fields

_named(field, fields) if {
	is_string(field)
	some whole in fields
	endswith(whole, ".*")
	startswith(field, trim_suffix(whole, "*"))
}
