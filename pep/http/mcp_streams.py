"""Streams of MCP that answer no call of their own: one that is taken up again, or that an older revision answers on.

What comes on them may be the answer to a tools/list of another request. So each event is looked at that may hold one;
the others pass as they are. An event is complete with its blank line (the HTML standard, section 9.2.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pep.http import documents
from pep.http.coding import CannotMask
from pep.http.messages import Fields

_BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_DATA: Final = re.compile(rb"(?:^|[\r\n])data:? ?([^\r\n]*)")


def is_stream(fields: Fields) -> bool:
    """Whether the response is an event stream. Raises CannotMask for one that is encoded."""
    if not any("text/event-stream" in value.lower() for value in fields.all("Content-Type")):
        return False
    if any(coding != "identity" for coding in fields.tokens("Content-Encoding")):
        raise CannotMask("an event stream of MCP that is encoded cannot be looked at")
    return True


def may_list(event: bytes) -> bool:
    """Whether its data may be JSON with a list of tools; a name may be written with escapes."""
    if b"tools" not in event and b"\\u" not in event:
        return False
    data = b"\n".join(_DATA.findall(event)).decode("utf-8", "replace")
    return documents.begins_like_json(data)


class Events:
    """The events of one stream, whole, in whatever pieces they come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        data, begin = self._held + data, 0
        for blank in _BLANK.finditer(data):
            yield data[begin : blank.end()]
            begin = blank.end()
        self._held = data[begin:]
        if len(self._held) > self._limit:
            raise CannotMask("an event of the response is larger than what is looked at")

    def rest(self) -> bytes:
        """What no blank line has ended, which is no event; nothing where it may hold a list."""
        return b"" if may_list(self._held) else self._held
