# METADATA
# title: An agent changes a few rows by itself, and more of them with the owners of the data
# description: |
#   Parameters: `rows`, how many one statement may change without being asked about. The target's planner guesses the
#   number before the statement runs (`need`), and the proxy holds it to the number afterwards (`limit_affected`): what
#   was guessed wrongly has no effect. Where more rows are expected, or nobody can say how many, people are asked; they
#   may approve it for fewer (`pdp approvals approve --max-rows`).
#   Grants nothing. The proxy has to ask its target: `approval: {estimate: ...}` in its configuration.
package policies.small_changes

import data.checkrein.owners
import data.checkrein.params
import data.checkrein.postgres as pg
import data.checkrein.subject

_p := params.of("small_changes", {"rows": 10})

_concerned if {
	not subject.is_person
	pg.changes_rows
}

need contains {"fact": "estimate"} if _concerned

oblige contains {"limit_affected": {"max": _p.rows}} if {
	_concerned
	pg.estimated_at_most(_p.rows)
}

require_approval contains {
	"code": "many-rows",
	"approvers": owners.of(dataset),
	"about": dataset,
	"message": substring(sprintf("This may change more than %v rows of %s.", [_p.rows, dataset]), 0, 240),
} if {
	_concerned
	not pg.estimated_at_most(_p.rows)
	some dataset in pg.written
}
