# METADATA
# title: The masks in force for this action
# description: |
#   The strongest method for each field, and null where two of one strength differ: `partial` from the left and
#   `partial` from the right would together be the whole value. The answer is disjoint: a field that any mask names, or
#   excepts, has an entry of its own or none, and the entry `*` of its dataset excepts it.
package checkrein.masks

import data.checkrein.contributions as c
import data.checkrein.protocols

# METADATA
# description: Which method is stronger.
strength := {"null": 6, "constant": 5, "hash": 4, "generalize": 3, "partial": 2, "partial_email": 2}

in_force contains object.union({"dataset": dataset, "field": field}, _strongest(ways)) if {
	some dataset, fields in _exact
	not _stars[dataset]
	some field, ways in fields
}

in_force contains object.union({"dataset": dataset, "field": field}, _strongest(ways)) if {
	some dataset, _ in _stars
	some field in _named[dataset]
	ways := _by_name(dataset, field) | _by_star(dataset, field)
	count(ways) > 0
}

in_force contains object.union({"dataset": dataset, "field": "*", "except": excepted}, _strongest(ways)) if {
	some dataset, stars in _stars
	excepted := object.get(_named, dataset, set())
	ways := {star.way | some star in stars}
}

# METADATA
# scope: document
# description: "`[dataset, field]` for every masked field that a mask names or the action is known to read."
fields contains [m.dataset, m.field] if {
	some m in in_force
	m.field != "*"
}

fields contains [m.dataset, field] if {
	some m in in_force
	m.field == "*"
	some [dataset, field] in protocols.fields
	m.dataset == dataset
	not field in m.except
}

_named[e.rule.dataset] contains e.rule.field if {
	some e in c.mask
	e.rule.field != "*"
}

_named[e.rule.dataset] contains field if {
	some e in c.mask
	some field in e.rule.except
}

_exact[e.rule.dataset][e.rule.field] contains _way(e.rule) if {
	some e in c.mask
	e.rule.field != "*"
}

_stars[e.rule.dataset] contains {"except": excepted, "way": _way(e.rule)} if {
	some e in c.mask
	e.rule.field == "*"
	excepted := {field | some field in e.rule.except}
}

_by_name(dataset, field) := _exact[dataset][field]

_by_name(dataset, field) := set() if not _exact[dataset][field]

_by_star(dataset, field) := {star.way |
	some star in _stars[dataset]
	not field in star.except
}

_way(rule) := object.union(
	object.get({"partial": {"prefix": 0, "pad": "***", "suffix": 0}}, rule.method, {}),
	object.remove(rule, {"dataset", "field", "except", "code"}),
)

_strongest(ways) := way if {
	count(ways) == 1
	some way in ways
} else := way if {
	top := _top(ways)
	count(top) == 1
	some way in top
} else := {"method": "null"}

_top(ways) := {way | some way in ways; strength[way.method] == level} if {
	level := max({strength[way.method] | some way in ways})
}
