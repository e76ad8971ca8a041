# METADATA
# title: A masked column may be shown as its mask, and used for nothing else
# description: |
#   A condition, an order or a join on it would tell its value without showing it, and a function of it is not masked.
package policies.inference

import data.checkrein.masks
import data.checkrein.postgres as pg

deny contains {"code": "masked-column-used", "message": message, "instead": instead} if {
	some column in pg.columns
	[column.dataset, column.field] in masks.fields
	not _plain(column)
	message := substring(sprintf("%s.%s is masked for you and cannot be used for more than plain output.", [column.dataset, column.field]), 0, 240)
	instead := ["Select the column by itself, or leave it out of the statement."]
}

_plain(column) if {
	is_array(column.usage)
	count(column.usage) > 0
	every usage in column.usage { usage == "output" }
}
