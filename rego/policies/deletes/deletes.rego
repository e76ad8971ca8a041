# METADATA
# title: What an agent deletes, the owners of the data approve
# description: One requirement for each dataset that loses rows, so that every owner has a say.
package policies.deletes

import data.checkrein.owners
import data.checkrein.postgres as pg
import data.checkrein.subject

require_approval contains {
	"code": "delete",
	"approvers": owners.of(dataset),
	"about": dataset,
	"message": substring(sprintf("Deleting from %s needs its owners.", [dataset]), 0, 240),
	"wait": "15m",
} if {
	not subject.is_person
	some dataset in pg.deleted
}

# A delete whose relation is not said is nobody's to approve but the fallback's.
require_approval contains {
	"code": "delete",
	"approvers": owners.of("*"),
	"message": "A delete from what is not known.",
	"wait": "15m",
} if {
	not subject.is_person
	pg.deletes
	count(pg.deleted) == 0
}
