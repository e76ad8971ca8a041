# METADATA
# title: The decision
# description: |
#   Combines what the bound policies contribute, in this order:
#   malformed > deny > incomplete > no allow > require_approval > mask > allow.
#   The answer has the shape of schemas/decision.json. Does not read the time: whoever holds the clock compares it with
#   `valid_until`, so that an answer can be kept until then.
# entrypoint: true
package checkrein.decision

import data.checkrein.contributions as c
import data.checkrein.malformed
import data.checkrein.masks
import data.checkrein.obligations
import data.checkrein.protocols

result := _answer("deny", {"reasons": malformed.reasons}) if {
	count(malformed.reasons) > 0
} else := _denying(_denies) if {
	count(_denies) > 0
} else := _preparing if {
	# decided in full when it is executed: no value is known yet, and nothing can be executed under this answer
	input.action.name == "prepare"
} else := _answer("incomplete", {"needs": _needs}) if {
	count(_needs) > 0
} else := _denying(_ungranted) if {
	count(_grants) == 0
} else := _denying(_conflicting) if {
	count(_conflicting) > 0
} else := object.union(_granting("require_approval"), {"requirements": _unmet}) if {
	count(_unmet) > 0
} else := _granting(_granted)

_preparing := _answer("deny", {"reasons": _uncovered}) if {
	count(_uncovered) > 0
	count(_grants) == 0
} else := _answer("allow", {"reasons": {{"code": "prepare"}}})

_granted := "mask" if count(_masks) > 0

_granted := "allow" if count(_masks) == 0

# Nothing is shown when a session is opened; what is masked is said of each command.
_masks := masks.in_force if not input.action.name == "connect"

_masks := set() if input.action.name == "connect"

_answer(verdict, parts) := object.union(
	{
		"verdict": verdict,
		"reasons": set(),
		"masks": set(),
		"obligations": {},
		"requirements": set(),
		"needs": set(),
		"exempted": set(),
	},
	parts,
)

_denying(reasons) := object.union(_answer("deny", {"reasons": reasons, "exempted": _exempted}), _duties_and_end("deny"))

_granting(verdict) := object.union(
	_answer(verdict, {
		"reasons": {_reason(e) | some e in _grants},
		"masks": _masks,
		"exempted": _exempted,
	}),
	_duties_and_end(verdict),
)

# An action that is only prepared has no duties yet.
_duties_and_end("deny") := {"obligations": {}} if input.action.name == "prepare"

_duties_and_end(verdict) := object.union({"obligations": obligations.merged(verdict)}, _end(verdict)) if {
	not input.action.name == "prepare"
}

_end(verdict) := {"valid_until": _least(instants)} if {
	instants := _instants(verdict)
	count(instants) > 0
}

_end(verdict) := {} if count(_instants(verdict)) == 0

_instants("deny") := {e.rule.until | some e in c.deny; not _lifted(e.rule)}

_instants(verdict) := {e.rule.until | some e in (_grants | c.exempt)} if verdict in {"allow", "mask"}

_instants("require_approval") := {e.rule.until | some e in ((_grants | c.exempt) | c.require_approval)}

# Instants are compared as instants: as text, one of another time zone comes out wrong.
_least(instants) := min({i | some i in instants; time.parse_rfc3339_ns(i) == first}) if {
	first := min({time.parse_rfc3339_ns(i) | some i in instants})
}

_reason(entry) := object.union(object.filter(entry.rule, {"code", "message", "instead"}), {"policy": entry.policy})

_denies contains _reason(d) if {
	some d in c.deny
	not _lifted(d.rule)
	not _premature(d.policy)
}

# What a policy says before it can see all that it reads is not its last word; without the bundle's list it counts.
_premature(policy) if {
	some path in protocols.awaited
	path in data.checkrein.built.reads[policy]
}

# What is not understood, or makes a way around the proxy, is granted only by a rule that says so.
_grants contains e if {
	some e in c.allow
	_covers_opaque(e.rule)
	_covers_minting(e.rule)
}

_covers_opaque(_) if _understood

_covers_opaque(rule) if rule.opaque == true

_covers_minting(_) if _mints_nothing

_covers_minting(rule) if rule.mints_access == true

_understood if {
	_says_what_it_is
	every protocol in protocols.spoken { protocols.opaque[protocol] == false }
}

_mints_nothing if {
	_says_what_it_is
	every protocol in protocols.spoken { protocols.mints_access[protocol] == [] }
}

_says_what_it_is if count(protocols.spoken) > 0

# To connect, and to administer Checkrein itself, is no statement: there is nothing that could be opaque.
_says_what_it_is if input.action.name == "connect"

_says_what_it_is if input.resource.type == "checkrein"

_ungranted := _uncovered if count(_uncovered) > 0

_ungranted := {object.union({"code": "no-policy-allows", "message": "No policy allows this."}, _hints)} if count(_uncovered) == 0

_uncovered contains object.union({"code": "not-understood", "message": _opaque_message}, _hints) if not _understood

_uncovered contains object.union({"code": "mints-access", "message": _minting_message}, _hints) if not _mints_nothing

default _opaque_message := "This was not understood in full."

_opaque_message := substring(sprintf("This was not understood in full: %s", [concat("; ", why)]), 0, 240) if {
	why := {reason | some reason in protocols.opaque; is_string(reason)}
	count(why) > 0
}

default _minting_message := "This was not said to make no way around the proxy."

_minting_message := substring(sprintf("This makes a way around the proxy: %s", [concat(", ", names)]), 0, 240) if {
	names := {name | some minted in protocols.mints_access; some name in minted; is_string(name)}
	count(names) > 0
}

_hints := {"hints": {{"policy": h.policy, "message": h.rule.message} | some h in c.hint}} if count(c.hint) > 0

_hints := {} if count(c.hint) == 0

_conflicting contains {"code": "obligations-conflict", "message": substring(conflict, 0, 240)} if {
	some conflict in obligations.conflicts(_granted)
}

_unmet contains requirement if {
	some r in c.require_approval
	not _lifted(r.rule)
	requirement := _requirement(r)
	not _approved(requirement)
}

# The defaults are filled in, and lists that may be sets are put in order: an approval has them as JSON and is compared.
_requirement(entry) := object.union_n([
	{"count": 1, "wait": "15m", "separate_people": true},
	object.remove(entry.rule, {"unless", "until"}),
	{
		"policy": entry.policy,
		"approvers": sort(entry.rule.approvers),
		"grant": object.union({"uses": 1, "for": "15m", "reach": "exact"}, object.get(entry.rule, "grant", {})),
	},
	_escalation(entry.rule),
])

_escalation(rule) := {"escalate": {"after": rule.escalate.after, "approvers": sort(rule.escalate.approvers)}}

_escalation(rule) := {} if not rule.escalate

# An approval discharges a requirement only if it was given for exactly that requirement.
_approved(requirement) if {
	input.context.approval.state == "approved"
	requirement in input.context.approval.requirements
}

# The author of a rule names the policies that may lift it; nobody else can.
_lifted(rule) if {
	some e in c.exempt
	_lifts(e, rule)
}

_lifts(e, rule) if {
	e.rule.code == rule.code
	e.policy in rule.unless
}

_exempted contains {"policy": r.policy, "code": r.rule.code, "by": e.policy, "reason": e.rule.reason} if {
	some e in c.exempt
	some r in (c.deny | c.require_approval)
	_lifts(e, r.rule)
}

_needs contains n.rule.fact if {
	some n in c.need
	not _known(n.rule.fact)
}

_known("estimate") if input.context.facts.estimate
