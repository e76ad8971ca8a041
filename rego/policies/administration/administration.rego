# METADATA
# title: Who looks after Checkrein itself
# description: |
#   Bound to resources of type checkrein. That nobody approves what they or their agents asked for is not said here: the
#   decision service holds it for every approval.
package policies.administration

import data.checkrein.owners
import data.checkrein.subject

allow contains {"code": "administrator"} if {
	_person
	subject.in_group("checkrein-admins")
}

allow contains {"code": "approver"} if {
	_person
	_answers_for_data
	input.action.name in {"approval.view", "approvals.read", "approvals.withdraw", "approve", "status.read"}
}

_person if {
	input.resource.type == "checkrein"
	subject.is_person
	subject.authenticated
}

_answers_for_data if {
	some name in subject.groups
	concat(":", ["group", name]) in owners.everybody
}

_answers_for_data if concat(":", ["user", input.subject.id]) in owners.everybody
