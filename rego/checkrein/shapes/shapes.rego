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
# description: What is wrong with an entry of this kind; empty when nothing is.
problems(kind, entry) := {sprintf("%s: an entry is an object, this one is %v", [kind, entry])} if not is_object(entry)

problems(kind, entry) := _flat(kind, _keys[kind], _required[kind], entry) | _deeper(kind, entry) if {
	is_object(entry)
	kind != "mask"
}

problems("mask", entry) := _flat("mask", _keys.mask | _params, _required.mask | _needed, entry) | _star(entry) if {
	is_object(entry)
	_params := _with_default(_mask_keys, entry)
	_needed := _with_default(_mask_required, entry)
}

_keys := {
	"allow": {["code", "word"], ["message", "text"], ["until", "instant"], ["opaque", "yes"], ["mints_access", "yes"]},
	"deny": {["code", "word"], ["message", "text"], ["instead", "texts"], ["unless", "words"], ["until", "instant"]},
	"require_approval": {
		["code", "word"], ["approvers", "approvers"], ["count", "positive"], ["about", "word"], ["message", "text"],
		["wait", "duration"], ["grant", "object"], ["separate_people", "boolean"], ["escalate", "object"],
		["unless", "words"], ["until", "instant"],
	},
	"mask": {["dataset", "word"], ["field", "word"], ["except", "words"], ["method", "method"], ["code", "word"]},
	"need": {["fact", "fact"]},
	"exempt": {["code", "word"], ["reason", "text"], ["until", "instant"]},
	"hint": {["message", "text"]},
	"oblige": {[duty, "object"] | some duty, _ in _duties},
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

_mask_keys := {
	"constant": {["value", "scalar"]},
	"partial": {["prefix", "size"], ["pad", "string"], ["suffix", "size"]},
	"hash": {["key", "word"]},
	"generalize": {["step", "step"]},
}

_mask_required := {"constant": {"value"}, "generalize": {"step"}}

_duties := {
	"limit_rows": {["max", "size"], ["on_excess", "excess"]},
	"limit_affected": {["max", "size"]},
	"time_limit": {["seconds", "above_zero"]},
	"read_only": set(),
	"record": {["level", "level"]},
	"redact_text": {["detectors", "words"], ["patterns", "words"]},
	"use_credential": {["name", "word"]},
	"set_headers": {["headers", "headers"]},
	"remove_headers": {["names", "words"]},
	"budget": {["per", "word"], ["unit", "word"], ["max", "size"]},
	"notify": {["channel", "word"]},
}

_duties_required := {
	"limit_rows": {"max"},
	"limit_affected": {"max"},
	"time_limit": {"seconds"},
	"record": {"level"},
	"use_credential": {"name"},
	"set_headers": {"headers"},
	"remove_headers": {"names"},
	"budget": {"per", "unit", "max"},
	"notify": {"channel"},
}

_with_default(by_method, entry) := object.get(by_method, entry.method, set())

_with_default(_, entry) := set() if not entry.method

_flat(name, keys, required, entry) := (unknown | missing) | wrong if {
	known := {key | some [key, _] in keys}
	unknown := {sprintf("%s: unknown key %v", [name, key]) | some key in (object.keys(entry) - known)}
	missing := {sprintf("%s: no %s", [name, key]) | some key in (required - object.keys(entry))}
	wrong := {sprintf("%s: %s is not a valid %s", [name, key, type]) |
		some [key, type] in keys
		key in object.keys(entry)
		not _is(type, entry[key])
	}
}

_deeper("oblige", entry) := {"oblige: an entry has exactly one key"} if count(entry) != 1

_deeper("oblige", entry) := problems if {
	count(entry) == 1
	problems := union({_flat(duty, _duties[duty] | {["on", "verdicts"]}, object.get(_duties_required, duty, set()), body) |
		some duty, body in entry
		_duties[duty]
		is_object(body)
	})
}

_deeper("require_approval", entry) := _grant(entry) | _escalate(entry)

_deeper(kind, _) := set() if not kind in {"oblige", "require_approval"}

_grant(entry) := _flat("grant", {["uses", "positive"], ["for", "duration"], ["reach", "reach"]}, set(), entry.grant) if {
	is_object(entry.grant)
} else := set()

_escalate(entry) := problems if {
	is_object(entry.escalate)
	keys := {["after", "duration"], ["approvers", "approvers"]}
	problems := _flat("escalate", keys, {"after", "approvers"}, entry.escalate)
} else := set()

_star(entry) := {"mask: except without field *"} if {
	"except" in object.keys(entry)
	not entry.field == "*"
} else := set()

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

_is("level", value) if value in {"metadata", "statements", "everything"}

_is("reach", "exact")

_is("verdicts", value) if {
	_is_list(value)
	every item in value { item in {"allow", "mask", "require_approval", "deny"} }
}

_is("headers", value) if {
	is_object(value)
	count(value) > 0
	every name, content in value {
		is_string(name)
		is_string(content)
	}
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
