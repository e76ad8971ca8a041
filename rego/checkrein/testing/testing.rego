# METADATA
# title: Inputs and decisions for tests
# description: |
#   Nothing here is loaded in production, the package is left out of the bundles. The test of the policy `x` is the
#   package `x_test`, outside `policies`: everything below that name is read as a policy, also by the decision.
package checkrein.testing

import data.checkrein.decision

# METADATA
# description: An agent of these groups.
agent(id, groups) := {"type": "agent", "id": id, "properties": {"groups": groups}}

# METADATA
# description: A person of these groups.
user(id, groups) := {"type": "user", "id": id, "properties": {"groups": groups}}

# METADATA
# description: An agent as one node of a workflow.
at_node(id, groups, workflow, node) := object.union(
	agent(id, groups),
	{"properties": {"workflow": {"graph": workflow, "node": node}}},
)

# METADATA
# description: One SQL statement on the target `shop`; `facts` replaces what the defaults say, a select of nothing.
sql(subject, facts) := _input(subject, "query", {"postgres": object.union(_sql, facts)}, "postgres", "shop")

# METADATA
# description: A select of every one of the datasets.
select(subject, datasets) := sql(subject, {"relations": relations(datasets, "read")})

# METADATA
# description: A delete from every one of the datasets.
delete(subject, datasets) := sql(subject, {"class": "write", "kind": "delete", "relations": relations(datasets, "delete")})

# METADATA
# description: The entries for datasets that are touched in one way.
relations(datasets, access) := [relation |
	some dataset in datasets
	[schema, name] := split(dataset, ".")
	relation := {"dataset": dataset, "schema": schema, "name": name, "access": access}
]

# METADATA
# description: The opening of a session on the target `shop`.
connect(subject) := _input(subject, "connect", {}, "postgres", "shop")

# METADATA
# description: The same statement, prepared and not executed.
prepare(request) := object.union(request, {"action": {"name": "prepare"}})

# METADATA
# description: One HTTP request on the target `pay`; `facts` replaces what the defaults say, a GET of `/`.
http(subject, facts) := _input(subject, "request", {"http": object.union(_http, facts)}, "http", "pay")

# METADATA
# description: "`request(agent, \"POST\", \"/refunds\", {\"amount\": 5})`: a request with a JSON body, without one where that is null."
request(subject, method, path, document) := http(subject, {
	"method": method,
	"path": path,
	"segments": [segment | some segment in split(path, "/"); segment != ""],
	"body": _body(document),
})

# METADATA
# description: The opening of a WebSocket or another protocol on the target `pay`.
upgrade(subject, path) := object.union(request(subject, "GET", path, null), {"action": {"name": "upgrade"}})

# METADATA
# description: The call of an MCP tool on the target `pay`.
mcp(subject, tool, arguments) := _input(
	subject, "tool",
	{"mcp": object.union(_mcp, {"method": "tools/call", "tool": tool, "arguments": arguments})},
	"http", "pay",
)

# METADATA
# description: Any other MCP request on the target `pay`.
mcp_message(subject, method) := _input(subject, "message", {"mcp": object.union(_mcp, {"method": method})}, "http", "pay")

# METADATA
# description: An action on Checkrein itself.
administer(subject, name) := _input(subject, name, {}, "checkrein", "checkrein")

# METADATA
# description: The same input with facts, an approval or a time in its context.
context(request, facts) := object.union(request, {"context": facts})

# METADATA
# description: The same input, once these requirements were approved by somebody else.
approved(request, requirements) := context(request, {"approval": {
	"id": "A-1",
	"state": "approved",
	"requirements": [r | some r in requirements],
	"by": [],
}})

# METADATA
# description: The whole decision under these policies, and no other.
decide(request, policies) := answer if {
	bindings := {request.resource.id: [{"policy": p} | some p in policies]}
	answer := decision.result with input as request with data.bindings as bindings
}

# METADATA
# description: The policies that bindings/data.yaml binds to the resource.
bound(resource) := {b.policy |
	some b in data.bindings
	object.get(b, "mode", "enforce") == "enforce"
	_matches(b.match, resource)
}

# METADATA
# description: The whole decision under the policies that bindings/data.yaml binds to the resource.
decide_as_bound(request) := decide(request, bound(request.resource))

# METADATA
# description: The codes of the answer's reasons.
codes(answer) := {r.code | some r in answer.reasons}

_matches(match, resource) if {
	_fits(object.get(match, "id", "*"), resource.id)
	_fits(object.get(match, "type", "*"), resource.type)
	every name, value in object.get(match, "labels", {}) { resource.properties.labels[name] == value }
}

_fits("*", _)

_fits(wanted, name) if wanted == name

_fits(wanted, name) if name in wanted

_input(subject, name, properties, type, id) := {
	"subject": subject,
	"action": {"name": name, "properties": properties},
	"resource": {"type": type, "id": id, "properties": {"labels": {}}},
	"context": {"time": "2026-11-24T10:00:00Z", "session": {"id": "s-1"}},
}

_sql := {
	"class": "read", "kind": "select", "opaque": false, "mints_access": [], "reaches_beyond": [],
	"relations": [], "columns": [], "pins": [], "functions": [], "has_where": false,
}

_http := {
	"opaque": false, "mints_access": [], "method": "GET", "scheme": "https", "host": "pay.example", "path": "/",
	"segments": [], "query": {}, "headers": {}, "overrides": [], "body": {"kind": "none"},
}

_mcp := {"opaque": false, "mints_access": [], "server": "pay"}

_body(null) := {"kind": "none"}

_body(document) := {"kind": "json", "json": document} if document != null
