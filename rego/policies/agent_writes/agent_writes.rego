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
	not _listed(r)
}

# A rule of its own, because `not r.access in _p.nodes[..][r.dataset]` is undefined, not true, for a dataset without an
# entry: the look-up is made before the `not`.
_listed(r) if r.access in _p.nodes[subject.node][r.dataset]

allow contains {"code": "node-write"} if {
	subject.is_agent
	pg.changes_rows
	count(_unlisted) == 0
}

hint contains {"message": substring(message, 0, 240)} if {
	here := {sprintf("%s (%s)", [dataset, concat(", ", ways)]) | some dataset, ways in _p.nodes[subject.node]}
	count(here) > 0
	message := sprintf("%s may change %s.", [subject.node, concat("; ", here)])
}
