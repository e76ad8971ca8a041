# METADATA
# title: Agents read what an API answers
# description: "What is masked of it is another policy's. A WebSocket is no reading: whoever needs one allows it by `http.upgrades`."
package policies.api_reads

import data.checkrein.http
import data.checkrein.subject

allow contains {"code": "api-read"} if {
	subject.is_agent
	subject.authenticated
	http.is_safe
}

hint contains {"message": "Agents may read this API: GET, HEAD and OPTIONS."}
