# METADATA
# title: What the proxy has to do, over all policies
# description: The strictest of what the bound policies oblige, one entry for each duty.
package checkrein.obligations

import data.checkrein.contributions as c

# METADATA
# description: The duties that come with this verdict.
merged(verdict) := {duty: value |
	some duty in _duties
	bodies := _bodies(verdict, duty)
	count(bodies) > 0
	value := _merge(duty, bodies)
}

# METADATA
# description: Duties that cannot be carried out together; an action that has such is denied.
conflicts(verdict) := (_credentials(verdict) | _headers(verdict)) | _paths(verdict) if {
	count(_duties & {"use_credential", "set_headers", "remove_headers", "limit_rows"}) > 0
} else := set()

# What anybody obliges at all: most actions have few of the duties.
_duties contains duty if {
	some e in c.oblige
	some duty, _ in e.rule
}

# A session is opened before there are rows, texts or headers to treat.
_of_session := {"read_only", "record", "use_credential", "notify"}

_applies(duty) if duty in _of_session

_applies(_) if not input.action.name == "connect"

_bodies(verdict, duty) := {object.remove(e.rule[duty], {"on"}) |
	_applies(duty)
	some e in c.oblige
	verdict in object.get(e.rule[duty], "on", {"allow", "mask"})
}

_merge("limit_rows", bodies) := object.union({"max": min({b.max | some b in bodies}), "on_excess": _excess(bodies)}, _path(bodies))

_merge("limit_affected", bodies) := {"max": min({b.max | some b in bodies})}

_merge("time_limit", bodies) := {"seconds": min({b.seconds | some b in bodies})}

_merge("read_only", _) := true

_merge("record", bodies) := _level({b.level | some b in bodies})

_merge("redact_text", bodies) := {
	"detectors": {d | some b in bodies; some d in b.detectors},
	"patterns": {p | some b in bodies; some p in b.patterns},
}

_merge("use_credential", bodies) := {"name": min({b.name | some b in bodies})}

_merge("set_headers", bodies) := object.union_n([{lower(name): value | some name, value in b.headers} | some b in bodies])

_merge("remove_headers", bodies) := {lower(name) | some b in bodies; some name in b.names}

_merge("budget", bodies) := {{"per": b.per, "unit": b.unit, "max": least} |
	some b in bodies
	least := min({other.max | some other in bodies; other.per == b.per; other.unit == b.unit})
}

_merge("notify", bodies) := {b.channel | some b in bodies}

# nothing of what came back, so many rows, everything: the strongest
_level(levels) := {"level": "everything"} if {
	"everything" in levels
} else := {"level": "rows", "rows": max(rows)} if {
	rows := {level | some level in levels; is_number(level)}
	count(rows) > 0
} else := {"level": "none"}

_excess(bodies) := "truncate" if {
	every b in bodies { b.on_excess == "truncate" }
} else := "fail"

# There is one path at most, or a conflict.
_path(bodies) := {"path": min(paths)} if {
	paths := {b.path | some b in bodies}
	count(paths) > 0
} else := {}

# A limit of one list says nothing of another one, so the smaller of the two would be neither.
_paths(verdict) := {sprintf("limits of rows at different places: %s", [concat(", ", places)])} if {
	places := {object.get(b, "path", "the rows themselves") | some b in _bodies(verdict, "limit_rows")}
	count(places) > 1
} else := set()

_credentials(verdict) := {sprintf("two credentials: %s", [concat(", ", names)])} if {
	names := {b.name | some b in _bodies(verdict, "use_credential")}
	count(names) > 1
} else := set()

_headers(verdict) := {sprintf("two values for the header %s", [name]) |
	contents := _header_contents(verdict)
	some name, values in contents
	count(values) > 1
}

# a header that one policy removes and another sets has two values as well
_header_contents(verdict) := {lower(name): values |
	some name in _header_names(verdict)
	values := {value |
		some b in _bodies(verdict, "set_headers")
		some other, value in b.headers
		lower(other) == lower(name)
	} | {null |
		some b in _bodies(verdict, "remove_headers")
		some other in b.names
		lower(other) == lower(name)
	}
}

_header_names(verdict) := {lower(name) |
	some b in _bodies(verdict, "set_headers")
	some name, _ in b.headers
}
