# METADATA
# title: What every session needs, whoever opens it
# description: |
#   To connect, to begin and end transactions, to set what concerns only the session, to see how the database is built.
#   Data of the target is none of it.
package policies.baseline

import data.checkrein.postgres as pg
import data.checkrein.subject

allow contains {"code": "connect"} if {
	input.action.name == "connect"
	subject.authenticated
}

allow contains {"code": "housekeeping"} if {
	subject.authenticated
	pg.housekeeping
}

allow contains {"code": "catalog"} if {
	subject.authenticated
	pg.catalog_only
}

allow contains {"code": "constant"} if {
	subject.authenticated
	pg.touches_nothing
}
