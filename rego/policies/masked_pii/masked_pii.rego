# METADATA
# title: Agents see personal data only as masks
# description: |
#   By the labels in classification/: `email` keeps its outline, `pii` and `ssn` become null, and so does a column that
#   nobody classified. Every labelled column of every relation touched is masked, named by the statement or not.
package policies.masked_pii

import data.checkrein.postgres as pg
import data.checkrein.subject

# A person sees what the person may see; an agent only if it and the person behind it both have the group.
_clear if subject.is_person

_clear if subject.both_in_group("privacy")

mask contains object.union(field, {"method": "partial_email"}) if {
	some field in pg.labelled("email")
	not _clear
}

mask contains object.union(field, {"method": "null"}) if {
	some field in ((pg.labelled("pii") | pg.labelled("ssn")) | pg.unlabelled)
	not _clear
}
