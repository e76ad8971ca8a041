# METADATA
# title: Analysts read the reporting schema
# description: "Parameters: `datasets`, what they may read besides `reporting.*`; `max_rows` of one statement."
package policies.analyst

import data.checkrein.params
import data.checkrein.postgres as pg
import data.checkrein.subject

_p := params.of("analyst", {"datasets": [], "max_rows": 10000})

_readable contains "reporting.*"

_readable contains dataset if some dataset in _p.datasets

_analyst if {
	subject.is_person
	subject.in_group("analysts")
}

allow contains {"code": "analyst-read"} if {
	_analyst
	pg.only_reads
	pg.within(_readable)
}

oblige contains {"limit_rows": {"max": _p.max_rows}} if {
	_analyst
	pg.only_reads
	not subject.in_group("analysts-bulk")
}

hint contains {"message": substring(sprintf("Analysts may read %s.", [concat(", ", _readable)]), 0, 240)} if _analyst
