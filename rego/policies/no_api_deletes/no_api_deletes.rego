# METADATA
# title: Agents delete nothing through an API
# description: |
#   Whoever is not a person is an agent here, and a request that a server may take for DELETE is one. An MCP session is
#   ended with DELETE: `mcp_tools` may lift this for its own endpoints.
package policies.no_api_deletes

import data.checkrein.http
import data.checkrein.subject

deny contains {
	"code": "no-api-deletes",
	"message": "Agents delete nothing through this API.",
	"instead": ["Ask the people who own the data."],
	"unless": ["mcp_tools"],
} if {
	not subject.is_person
	http.may_be("DELETE")
}
