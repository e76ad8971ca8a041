# METADATA
# title: Small refunds are free, larger ones need the owners of payments, and beyond a limit there are none
# description: |
#   Parameters: `free`, up to which nobody is asked; `most`, beyond which nobody can agree. An amount that is no number, or
#   that is not there, is beyond every limit.
package policies.refunds

import data.checkrein.http
import data.checkrein.owners
import data.checkrein.params
import data.checkrein.subject

_p := params.of("refunds", {"free": 50, "most": 1000})

_refund if http.matches("POST", "/refunds")

_small if http.number_between(["amount"], 0.01, _p.free)

_possible if http.number_between(["amount"], 0.01, _p.most)

allow contains {"code": "refund"} if {
	subject.authenticated
	_refund
}

deny contains {"code": "refund-too-large", "message": substring(message, 0, 240), "instead": ["Ask the owners of payments to refund it."]} if {
	_refund
	not _possible
	message := sprintf("A refund is a number between 0.01 and %v.", [_p.most])
}

require_approval contains {
	"code": "refund",
	"approvers": owners.of("payments"),
	"about": "payments",
	"message": substring(sprintf("A refund over %v needs the owners of payments.", [_p.free]), 0, 240),
	"wait": "15m",
} if {
	_refund
	not _small
}
