"""Requests of pages of other origins: what the proxy says to a browser in the target's place. Pure.

A browser asks before it sends a request with a token from a page of another origin, and that question carries no
credential (Fetch standard, section 3.2.2, "CORS-preflight request"). The proxy answers it itself, for the origins that
its configuration names: nothing reaches the target. A page may read every answer then, refusals too; whether a request
is allowed is decided when it comes, as for every other client. Cookies are no identity here, so none are asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pep.http.denial import Answer
from pep.http.messages import Field, Fields, RequestHead

# RFC 9110, section 5.6.2; a list of field names as browsers write it.
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_METHOD: Final = re.compile(_TOKEN)
_NAMES: Final = re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*")
_VARY: Final = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_PREFIX: Final = "access-control-"


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins whose pages may send requests; with none of them the target's own words pass."""

    origins: frozenset[str] = frozenset()
    max_age: int = 600

    def preflight(self, head: RequestHead) -> Answer | None:
        """The answer to a browser's question; None where this is no such question of a named origin."""
        if head.method != "OPTIONS" or self._origin(head) is None:
            return None
        method = head.fields.all("Access-Control-Request-Method")
        names = head.fields.all("Access-Control-Request-Headers")
        if len(method) != 1 or len(names) > 1:
            return None
        if head.fields.all("Authorization") or _METHOD.fullmatch(method[0]) is None:
            return None
        said = [("Access-Control-Allow-Methods", method[0]), ("Access-Control-Max-Age", str(self.max_age))]
        if names:
            if _NAMES.fullmatch(names[0]) is None:
                return None
            said.append(("Access-Control-Allow-Headers", names[0]))
        return Answer(200, b"", (("Vary", _VARY), *said), "text/plain")

    def said(self, head: RequestHead) -> tuple[Field, ...]:
        """What an answer to this request says of who may read it."""
        if not self.origins:
            return ()
        origin = self._origin(head)
        vary = ("Vary", "Origin")
        if origin is None:
            return (vary,)
        return (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "*"), vary)

    def stripped(self, fields: Fields) -> Fields:
        """The target's fields without what it says of other origins, where the proxy says it."""
        if not self.origins:
            return fields
        return Fields(tuple(field for field in fields.items if not field[0].lower().startswith(_PREFIX)))

    def _origin(self, head: RequestHead) -> str | None:
        said = head.fields.all("Origin")
        return said[0] if len(said) == 1 and said[0] in self.origins else None
