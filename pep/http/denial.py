"""How a refusal looks on an HTTP connection: RFC 9457 problem documents, and nothing else.

A refusal by policy is 403 whatever the verdict's reason, 503 with Retry-After where no decision could be made; the
machine-readable part that every protocol shares is the member `checkrein`. A refused request closes the connection only
where its body was not read to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from pep.core.denial import POLL_SECONDS, explain
from pep.core.model import Deny, Held
from pep.http.codec import encode_response
from pep.http.messages import Field, Fields, Length

AUTHENTICATION_FAILED: Final = "authentication-failed"
REASONS: Final = {
    202: "Accepted",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response of the proxy's own."""

    status: int
    body: bytes
    fields: tuple[Field, ...] = ()
    type: str = "application/problem+json"

    def encode(self, *, head_only: bool = False, close: bool = False) -> bytes:
        # Nothing between the client and here may keep what was said about one identity for another.
        fields = [*self.fields, ("Content-Type", self.type), ("Cache-Control", "no-store")]
        if close:
            fields.append(("Connection", "close"))
        head = encode_response(self.status, REASONS[self.status], Fields(tuple(fields)), Length(len(self.body)))
        return head if head_only else head + self.body


def problem(status: int, detail: str, *, fields: tuple[Field, ...] = (), **members: Any) -> Answer:
    """A problem document in the proxy's own words."""
    document = {"title": REASONS[status], "status": status, "detail": detail, **members}
    return Answer(status, orjson.dumps(document), fields)


def refused(deny: Deny, what: str, status: int = 403) -> Answer:
    """What a client is told when its request is denied; `what` is the request in a few words."""
    said = explain(deny, what)
    members = {"hint": said.hint, **orjson.loads(said.detail)}
    if deny.retry:
        return problem(503, said.first_line, fields=(("Retry-After", str(POLL_SECONDS)),), **members)
    return problem(status, said.first_line, **members)


def unauthenticated(deny: Deny | None) -> Answer:
    """What a client is told that shows no credential, or one that is not accepted (RFC 6750, section 3)."""
    if deny is None:
        challenge = "Bearer"
        detail = "this proxy wants a token: send it as Authorization: Bearer TOKEN"
    elif any(reason.code == AUTHENTICATION_FAILED for reason in deny.reasons):
        challenge = 'Bearer error="invalid_token"'
        detail = "the token is not accepted; get a new one"
    else:
        return refused(deny, "this session")
    return problem(401, detail, fields=(("WWW-Authenticate", challenge),))


def pending(held: Held, what: str, location: str) -> Answer:
    """202 for a request that waits for people while its client does not (RFC 7240, section 4.1)."""
    said = explain(held, what)
    detail = said.first_line.replace(
        "do not send it again, it goes on by itself once approved",
        "ask at Location how it stands, and send this very request again once it is approved",
    )
    document = {"status": 202, "state": "pending", "detail": detail, "hint": said.hint, **orjson.loads(said.detail)}
    fields = (("Location", location), ("Retry-After", str(POLL_SECONDS)), ("Preference-Applied", "respond-async"))
    return Answer(202, orjson.dumps(document), fields, "application/json")


def standing(held: Held, state: str, comment: str) -> Answer:
    """How an approval stands, for the client that comes back for it."""
    document: dict[str, Any] = {"approval": held.approval_id, "state": state, "url": held.url}
    if comment:
        document["comment"] = comment
    if state == "pending":
        fields = (("Retry-After", str(POLL_SECONDS)),)
        return Answer(202, orjson.dumps(document | {"status": 202}), fields, "application/json")
    if state == "approved":
        document["next"] = "send the request that was approved again, unchanged"
    return Answer(200, orjson.dumps(document), (), "application/json")
