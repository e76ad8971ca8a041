# METADATA
# title: Each node of a workflow reads what is listed for it
# description: "Parameters: `nodes`, the datasets for each `graph/node`; `max_rows` and `max_seconds` of one statement."
package policies.agent_reads

import data.checkrein.params
import data.checkrein.postgres as pg
import data.checkrein.subject

_p := params.of("agent_reads", {"nodes": {}, "max_rows": 1000, "max_seconds": 30})

_listed contains dataset if some dataset in _p.nodes[subject.node]

allow contains {"code": "node-read"} if {
	subject.is_agent
	pg.only_reads
	pg.within(_listed)
}

oblige contains {"limit_rows": {"max": _p.max_rows}} if {
	subject.is_agent
	pg.only_reads
}

oblige contains {"time_limit": {"seconds": _p.max_seconds}} if {
	subject.is_agent
	pg.only_reads
}

hint contains {"message": substring(sprintf("%s may read %s.", [subject.node, concat(", ", _listed)]), 0, 240)} if {
	count(_listed) > 0
}
