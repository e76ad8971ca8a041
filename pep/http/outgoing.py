"""A request as the target is to get it, but for the credential: what is left out of it, and what is put in. Pure."""

from __future__ import annotations

from typing import Final

from pep.http.classify import STRIPPED_UPSTREAM
from pep.http.codec import end_to_end
from pep.http.coding import CannotMask, accept_encoding
from pep.http.identity import PRIVATE
from pep.http.messages import Fields, RequestHead
from pep.http.obligations import Duties
from pep.http.paths import Path, canonical_query
from pep.http.questions import Outgoing
from pep.http.stepping import SAFE, Settings

# A part of a page, or whether it has changed, says more than a mask lets through; an echo in two halves is a secret.
_PARTS: Final = ("Range", "If-Range")
# Each of these names a state of the document by its tag; the others by a time, which tells no value.
_TAGS: Final = ("If-None-Match", "If-Match", "If")
_CONDITIONS: Final = (*_TAGS, "If-Modified-Since", "If-Unmodified-Since")


def outgoing(head: RequestHead, path: Path, duties: Duties, settings: Settings, of_mcp: bool) -> Outgoing:
    """Raises CannotMask. `of_mcp`: all that comes back is looked at, so it comes whole and unencoded."""
    fields = end_to_end(head.fields).without((*PRIVATE, *STRIPPED_UPSTREAM, "Host", "Content-Length", "Expect"))
    if settings.injects or duties.rewrites or of_mcp:
        fields = fields.without(_PARTS)
    if duties.rewrites:
        fields = fields.without(_conditions(head.method, fields))
    fields = fields.without(("Accept-Encoding",))
    asked = None if of_mcp else head.fields.first("Accept-Encoding")
    fields = fields.replaced("Accept-Encoding", accept_encoding(asked))
    fields = fields.without(duties.remove_headers)
    for name, value in duties.set_headers:
        fields = fields.replaced(name, value)
    if head.upgrade and settings.injects:
        # What is compressed cannot be watched for the credential.
        fields = fields.without(("Sec-WebSocket-Extensions",))
    host = settings.host or head.host
    base = "" if path.text == "*" else settings.base_path
    target = base + path.text + ("" if head.query is None else f"?{canonical_query(head.query)}")
    return Outgoing(head.method, target, host, Fields((("Host", host), *fields.items)))


def with_connection(fields: Fields, upgrade: str) -> Fields:
    """With what says so on the connection, where another protocol is asked for."""
    return Fields((*fields.items, ("Connection", "Upgrade"), ("Upgrade", upgrade))) if upgrade else fields


def _conditions(method: str, fields: Fields) -> tuple[str, ...]:
    """The conditions to leave out where a mask is due: whether a tag fits tells what the document is.

    A change whose condition was left out would be another change, so it is denied.
    """
    if method in SAFE:
        return _CONDITIONS
    if any(value != "*" for name in _TAGS for value in fields.all(name)):
        raise CannotMask("its condition would tell what policy masks; send it without one")
    return ()
