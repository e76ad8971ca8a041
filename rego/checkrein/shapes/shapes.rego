# METADATA
# title: The shape of each contribution
# description: |
#   What a policy may write, and no more: an unknown key is an error, because it may be a misspelt one that was meant
#   to narrow. Reads neither input nor data.
package checkrein.shapes

# METADATA
# description: The names that a policy's package may define; what else it needs starts with `_`.
kinds := {"allow", "deny", "require_approval", "mask", "need", "exempt", "hint", "oblige"}

# METADATA
# scope: document
# description: The entry is of the shape of its kind.
fits(kind, entry) if {
	kind != "mask"
	is_object(entry)
	_flat_fits(_keys[kind], _required[kind], entry)
	_inside_fits(kind, entry)
}

# There may be a mask for every column. They differ in the name of the field alone, so the rest is looked at once: OPA
# remembers what a function said of equal arguments.
fits("mask", entry) if {
	_is("word", entry.dataset)
	_is("word", entry.field)
	starred := entry.field == "*"
	_mask_fits(object.remove(entry, {"dataset", "field"}), starred)
}

_mask_fits(rest, starred) if {
	_flat_fits(_keys_of("mask", rest), _required_of("mask", rest) - {"dataset", "field"}, rest)
	_except_fits(rest, starred)
}

_except_fits(_, true)

_except_fits(rest, false) if not "except" in object.keys(rest)

# METADATA
# description: Words for an author whose entry does not fit; says something of any entry, so it is not the test itself.
explain(kind, entry) := sprintf("%s: %s", [kind, concat("; ", problems)]) if {
	problems := _problems(kind, entry)
	count(problems) > 0
} else := sprintf("%s: an entry that is not of its shape", [kind])

_problems(_, entry) := {sprintf("an entry is an object, and this one is %v", [entry])} if not is_object(entry)

_problems(kind, entry) := _flat_problems(_keys_of(kind, entry), _required_of(kind, entry), entry) | _inside_problems(kind, entry) if {
	is_object(entry)
}

_keys := {
	"allow": {"code": "word", "message": "text", "until": "instant", "opaque": "yes", "mints_access": "yes"},
	"deny": {"code": "word", "message": "text", "instead": "texts", "unless": "words", "until": "instant"},
	"require_approval": {
		"code": "word", "approvers": "approvers", "count": "positive", "about": "word", "message": "text",
		"wait": "duration", "grant": "object", "separate_people": "boolean", "escalate": "object",
		"unless": "words", "until": "instant",
	},
	"mask": {"dataset": "word", "field": "word", "except": "words", "method": "method", "code": "word"},
	"need": {"fact": "fact"},
	"exempt": {"code": "word", "reason": "text", "until": "instant"},
	"hint": {"message": "text"},
	"oblige": {
		"limit_rows": "object", "limit_affected": "object", "time_limit": "object", "read_only": "object",
		"record": "object", "redact_text": "object", "use_credential": "object", "set_headers": "object",
		"remove_headers": "object", "budget": "object", "notify": "object",
	},
}

_required := {
	"allow": {"code"},
	"deny": {"code", "message"},
	"require_approval": {"code", "approvers"},
	"mask": {"dataset", "field", "method"},
	"need": {"fact"},
	"exempt": {"code", "reason"},
	"hint": {"message"},
	"oblige": set(),
}

# Those of a mask with a method that takes more.
_mask_keys := {
	"constant": {"dataset": "word", "field": "word", "except": "words", "method": "method", "code": "word", "value": "scalar"},
	"partial": {
		"dataset": "word", "field": "word", "except": "words", "method": "method", "code": "word",
		"prefix": "size", "pad": "string", "suffix": "size",
	},
	"hash": {"dataset": "word", "field": "word", "except": "words", "method": "method", "code": "word", "key": "word"},
	"generalize": {"dataset": "word", "field": "word", "except": "words", "method": "method", "code": "word", "step": "step"},
}

_mask_required := {
	"constant": {"dataset", "field", "method", "value"},
	"generalize": {"dataset", "field", "method", "step"},
}

_inside := {
	"limit_rows": {"max": "size", "on_excess": "excess", "path": "word", "on": "verdicts"},
	"limit_affected": {"max": "size", "on": "verdicts"},
	"time_limit": {"seconds": "above_zero", "on": "verdicts"},
	"read_only": {"on": "verdicts"},
	"record": {"level": "level", "on": "verdicts"},
	"redact_text": {"detectors": "words", "patterns": "patterns", "on": "verdicts"},
	"use_credential": {"name": "word", "on": "verdicts"},
	"set_headers": {"headers": "headers", "on": "verdicts"},
	"remove_headers": {"names": "header_names", "on": "verdicts"},
	"budget": {"per": "word", "unit": "word", "max": "size", "on": "verdicts"},
	"notify": {"channel": "word", "on": "verdicts"},
	"grant": {"uses": "positive", "for": "duration", "reach": "reach"},
	"escalate": {"after": "duration", "approvers": "approvers"},
}

_inside_required := {
	"limit_rows": {"max"},
	"limit_affected": {"max"},
	"time_limit": {"seconds"},
	"record": {"level"},
	"redact_text": {"detectors", "patterns"},
	"use_credential": {"name"},
	"set_headers": {"headers"},
	"remove_headers": {"names"},
	"budget": {"per", "unit", "max"},
	"notify": {"channel"},
	"escalate": {"after", "approvers"},
}

_keys_of(kind, entry) := _mask_keys[entry.method] if {
	kind == "mask"
} else := _keys[kind]

_required_of(kind, entry) := _mask_required[entry.method] if {
	kind == "mask"
} else := _required[kind]

_flat_fits(keys, required, entry) if {
	count(required - object.keys(entry)) == 0
	every key, value in entry { _is(keys[key], value) }
}

_flat_problems(keys, required, entry) := (unknown | missing) | wrong if {
	unknown := {sprintf("unknown key %v", [key]) | some key in (object.keys(entry) - object.keys(keys))}
	missing := {sprintf("no %s", [key]) | some key in (required - object.keys(entry))}
	wrong := {sprintf("%s is not a valid %s", [key, keys[key]]) |
		some key, value in entry
		keys[key]
		not _is(keys[key], value)
	}
}

# the objects inside an entry: its one duty, or its grant and its escalation
_nested("oblige", entry) := entry

_nested("require_approval", entry) := object.filter(entry, {"grant", "escalate"})

_nested(kind, _) := {} if not kind in {"oblige", "require_approval"}

# What has nothing inside is settled with its keys.
_inside_fits(kind, _) if kind in {"allow", "deny", "need", "exempt", "hint"}

_inside_fits("oblige", entry) if {
	_counted("oblige", entry)
	_nested_fit("oblige", entry)
}

_inside_fits("require_approval", entry) if _nested_fit("require_approval", entry)

_nested_fit(kind, entry) if {
	every name, body in _nested(kind, entry) {
		_flat_fits(_inside[name], object.get(_inside_required, name, set()), body)
	}
}

_inside_problems(kind, entry) := (counted | starred) | nested if {
	counted := {"an entry has exactly one key" | not _counted(kind, entry)}
	starred := {"except without the field *" | not _starred(kind, entry)}
	nested := {sprintf("%s: %s", [name, problem]) |
		some name, body in _nested(kind, entry)
		is_object(body)
		some problem in _flat_problems(_inside[name], object.get(_inside_required, name, set()), body)
	}
}

_counted("oblige", entry) if count(entry) == 1

_counted(kind, _) if kind != "oblige"

_starred("mask", entry) if {
	"except" in object.keys(entry)
	entry.field == "*"
}

_starred(_, entry) if not "except" in object.keys(entry)

_is("word", value) if {
	is_string(value)
	count(value) > 0
	count(value) <= 200
}

_is("text", value) if {
	is_string(value)
	count(value) > 0
	count(value) <= 240
}

_is("string", value) if is_string(value)

_is("boolean", value) if is_boolean(value)

_is("object", value) if is_object(value)

_is("yes", true)

_is("words", value) if {
	_is_list(value)
	every item in value {
		is_string(item)
		count(item) > 0
	}
}

_is("texts", value) if {
	_is_list(value)
	every item in value {
		is_string(item)
		count(item) > 0
		count(item) <= 240
	}
}

_is("approvers", value) if {
	_is_list(value)
	count(value) > 0
	every item in value {
		is_string(item)
		regex.match(`^(group|user):.+$`, item)
	}
}

_is("duration", value) if {
	is_string(value)
	regex.match(`^[1-9][0-9]{0,5}[smhd]$`, value)
}

_is("instant", value) if {
	is_string(value)
	regex.match(_instant, value)
}

_is("positive", value) if {
	_is_integer(value)
	value >= 1
}

_is("size", value) if {
	_is_integer(value)
	value >= 0
}

_is("above_zero", value) if {
	is_number(value)
	value > 0
}

_is("scalar", value) if is_string(value)

_is("scalar", value) if is_number(value)

_is("scalar", value) if is_boolean(value)

_is("step", value) if {
	is_number(value)
	value > 0
}

_is("step", value) if value in {"second", "minute", "hour", "day", "week", "month", "quarter", "year"}

_is("method", value) if value in {"null", "constant", "partial", "partial_email", "hash", "generalize"}

_is("fact", "estimate")

_is("excess", value) if value in {"fail", "truncate"}

_is("level", value) if value in {"none", "everything"}

# so many rows
_is("level", value) if {
	_is_integer(value)
	value >= 1
}

_is("reach", "exact")

_is("verdicts", value) if {
	_is_list(value)
	every item in value { item in {"allow", "mask", "require_approval", "deny"} }
}

_is("patterns", value) if {
	_is_list(value)
	every item in value {
		is_string(item)
		count(item) > 0
		regex.is_valid(item)
	}
}

_is("headers", value) if {
	is_object(value)
	count(value) > 0
	count({lower(name) | some name, _ in value}) == count(value)
	every name, content in value {
		_is_header_name(name)
		is_string(content)
		regex.match(`^[\t\x20-\x7e]*$`, content)
	}
}

_is("header_names", value) if {
	_is_list(value)
	count(value) > 0
	every name in value { _is_header_name(name) }
}

# RFC 9110, section 5.6.2
_is_header_name(name) if {
	is_string(name)
	regex.match(`^[!#$%&'*+.^_|~0-9A-Za-z-]{1,200}$`, name)
	not lower(name) in _not_a_policy_s
	not startswith(lower(name), "proxy-")
}

# Where a message ends, whom it is for, what the connection becomes, who sends it: to change one of them makes another
# request of it, or another sender.
_not_a_policy_s := {
	"host", "content-length", "transfer-encoding", "content-encoding", "content-type", "connection", "keep-alive", "te",
	"trailer", "upgrade", "expect", "authorization", "http2-settings",
}

_is_list(value) if is_array(value)

_is_list(value) if is_set(value)

_is_integer(value) if {
	is_number(value)
	value == floor(value)
	value < 9007199254740992
}

_instant := concat("", [
	`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]`,
	`([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`,
])
