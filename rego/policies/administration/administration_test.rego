package administration_test

import data.checkrein.testing as t

_all := {
	"approve", "approval.view", "approvals.read", "approvals.withdraw", "notifications.read", "notifications.retry",
	"sessions.read", "sessions.kill", "records.verify", "records.erase", "records.export", "token.mint", "status.read",
	"access.read", "access.revoke", "access.restore", "keys.rotate",
	"policy.read", "policy.rollback", "decisions.read", "decisions.explain",
}

# what a subject may do
_may(subject) := {name |
	some name in _all
	answer := t.decide(t.administer(subject, name), {"administration"}) with data.owners as {"shop": {"a.b": ["group:order-team", "user:olga"]}}
	answer.verdict == "allow"
}

_approver := {"approve", "approval.view", "approvals.read", "approvals.withdraw", "status.read"}

test_administrators_do_everything if _may(t.user("root", ["checkrein-admins"])) == _all

test_owners_of_data_see_and_resolve_approvals if {
	_may(t.user("dana", ["order-team"])) == _approver
	_may(t.user("olga", [])) == _approver
	_may(t.user("sec", ["security"])) == _approver
}

test_other_people_do_nothing if _may(t.user("ana", ["analysts"])) == set()

test_agents_do_nothing_in_whatever_group if {
	every groups in [["checkrein-admins"], ["order-team"], []] { _may(t.agent("olga", groups)) == set() }
}

test_a_database_is_denied_to_administrators_too if {
	t.decide(t.connect(t.user("root", ["checkrein-admins"])), {"administration"}).verdict == "deny"
}
