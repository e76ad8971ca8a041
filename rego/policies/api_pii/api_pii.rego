# METADATA
# title: Agents see personal data of an API only as masks
# description: |
#   By the labels in classification/, where a field is the JSONPath of it in an answer: `email` keeps its outline, `pii`
#   and `ssn` become null. Where nobody has classified anything, nobody knows what to mask, so nothing is asked: an API
#   without personal data is classified as `{}`. What an answer holds that no path names is shown.
package policies.api_pii

import data.checkrein.http
import data.checkrein.labels
import data.checkrein.subject

# A person sees what the person may see; an agent only if it and the person behind it both have the group.
_clear if subject.is_person

_clear if subject.both_in_group("privacy")

mask contains object.union(field, {"method": "partial_email"}) if {
	some field in http.labelled("email")
	not _clear
}

mask contains object.union(field, {"method": "null"}) if {
	some field in (http.labelled("pii") | http.labelled("ssn"))
	not _clear
}

deny contains {"code": "unclassified", "message": "Nobody has classified what this API answers with.", "instead": instead} if {
	not input.action.name == "connect"
	not labels.classified
	not _clear
	instead := ["Ask the people who own the API to classify it."]
}
