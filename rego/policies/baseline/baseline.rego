# METADATA
# title: What every session needs, whoever opens it
# description: |
#   To connect, to begin and end transactions, to set what concerns only the session, to see how the database is built.
#   Data of the target is none of it. LISTEN is not here on purpose: what other sessions send to a channel is data that
#   nobody classified, it arrives outside of any statement, and so no limit, and no mask of a later statement, holds for
#   it. A team that uses channels allows `kind == "listen"` to whoever is meant to hear them. Nor is SET CONSTRAINTS,
#   which puts off checks that others rely on, nor a setting with a dot in its name (checkrein.settings says why).
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
