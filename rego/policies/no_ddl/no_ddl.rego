# METADATA
# title: Agents do not change the schema
# description: |
#   Whoever is not a person is an agent here, and whatever is not known to leave the schema alone changes it.
package policies.no_ddl

import data.checkrein.postgres as pg
import data.checkrein.subject

deny contains {
	"code": "no-ddl",
	"message": "Agents do not change the schema.",
	"instead": ["Ask the people who own the database for a migration."],
} if {
	not subject.is_person
	pg.changes_schema
	not _opaque
}

deny contains {"code": "no-ddl", "message": substring(message, 0, 240)} if {
	not subject.is_person
	pg.changes_schema
	_opaque
	message := sprintf("Not understood, so it may change the schema: %s", [input.action.properties.postgres.opaque])
}

_opaque if is_string(input.action.properties.postgres.opaque)
