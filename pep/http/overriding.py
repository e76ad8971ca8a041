"""A method that the body of a POST names for itself, in JSON that nobody reads: it is looked for as the body passes.

Some frameworks (Laravel) take the member `_method` of a JSON body for the method. A form is always read for that; to
read every JSON body would bound its length, and write it anew, where no policy asks for it. So the bytes are searched,
and a body that has the name anywhere as a whole string, however escaped, never reaches its end at the target.
"""

from __future__ import annotations

import re
from typing import Final

from pep.core.model import Deny, local_deny
from pep.http.messages import RequestHead

_WORD: Final = "_method"
_TOKEN: Final = re.compile(
    b'"' + b"".join(b"(?:%c|\\\\u00(?i:%02x))" % (ord(letter), ord(letter)) for letter in _WORD) + b'"'
)
_LONGEST: Final = 2 + 6 * len(_WORD)


def may_name_a_method(head: RequestHead) -> bool:
    """Whether the body may be JSON to a framework that looks for a method in it."""
    said = head.fields.all("Content-Type")
    return head.method.upper() == "POST" and any("json" in value.lower() for value in said)


class Search:
    """Over the pieces of a body."""

    def __init__(self) -> None:
        self._tail = b""

    def found(self, data: bytes) -> bool:
        data = self._tail + data
        self._tail = data[-(_LONGEST - 1) :]
        return _TOKEN.search(data) is not None


def denied(decision_id: str) -> Deny:
    """Why such a body is refused."""
    words = "its JSON has _method, which some servers take for the method; a policy has to read the body to allow that"
    return local_deny(decision_id, "method-in-body", words)
