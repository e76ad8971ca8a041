# METADATA
# title: Which MCP tools agents call
# description: |
#   Parameters: `paths`, the endpoints, as the proxy's configuration has them (a path that only this list has would let
#   calls through that nobody looked into); `tools`, what may be called; `destructive`, what may be called once its owners
#   agree. What is not listed is not shown either.
package policies.mcp_tools

import data.checkrein.http
import data.checkrein.mcp
import data.checkrein.owners
import data.checkrein.params
import data.checkrein.subject

_p := params.of("mcp_tools", {"paths": [], "tools": [], "destructive": []})

_listed contains tool if some tool in _p.tools

_listed contains tool if some tool in _p.destructive

_endpoint(method) if {
	some path in _p.paths
	http.matches(method, path)
}

_agent if {
	subject.is_agent
	subject.authenticated
}

allow contains {"code": "mcp-endpoint"} if {
	_agent
	some method in ["GET", "POST", "DELETE"]
	_endpoint(method)
}

allow contains {"code": "mcp-session"} if {
	_agent
	mcp.housekeeping
}

allow contains {"code": "mcp-listing"} if {
	_agent
	mcp.is_listing
}

allow contains {"code": "mcp-tool"} if {
	_agent
	some tool in _listed
	mcp.calls(tool)
}

# To end the session deletes no data.
exempt contains {"code": "no-api-deletes", "reason": "An MCP session is ended with DELETE."} if _endpoint("DELETE")

require_approval contains {
	"code": "destructive-tool",
	"approvers": owners.of("tools"),
	"about": "tools",
	"message": substring(sprintf("To call %v needs the owners of the tools.", [mcp.tool]), 0, 240),
	"wait": "15m",
} if {
	mcp.tool in _p.destructive
}

hint contains {"message": substring(sprintf("Tools here: %s.", [concat(", ", _listed)]), 0, 240)} if count(_listed) > 0
