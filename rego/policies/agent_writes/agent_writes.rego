# METADATA
# title: Each node of a workflow changes rows where that is listed for it
# description: |
#   Parameters: `nodes`, for each `graph/node` and dataset the ways in which rows may change there (insert, update,
#   delete). What the statement reads besides has to be listed too, as `read`.
package policies.agent_writes

import data.checkrein.params
import data.checkrein.postgres as pg
import data.checkrein.subject

_p := params.of("agent_writes", {"nodes": {}})

_unlisted contains [r.dataset, r.access] if {
	some r in pg.relations
	not r.access in _p.nodes[subject.node][r.dataset]
}

allow contains {"code": "node-write"} if {
	subject.is_agent
	pg.changes_rows
	count(_unlisted) == 0
}

hint contains {"message": substring(message, 0, 240)} if {
	ways := {sprintf("%s (%s)", [dataset, concat(", ", ways)]) | some dataset, ways in _p.nodes[subject.node]}
	message := sprintf("%s may change %s.", [subject.node, concat("; ", ways)])
}
