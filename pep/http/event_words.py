"""Which words of an event stream go on to the client where its data is masked: names of events, ids, times to wait.

A mask hides values, and a target may write a value anywhere. An id is often the key of a row, and a time to wait is any
number, so neither goes on under a mask: what is lost is that a broken stream is taken up where it broke. The name of an
event is what clients tell events apart by: it goes on where it is a word (no digit, no blank, no sign that addresses
have) and is nothing that the mask took out of the event's own data.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_.\-]{0,63}")
# Where only text is struck out: words of a protocol.
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/=+\-]{0,200}")
_TIME: Final = re.compile(r"[0-9]{1,9}")


def goes_on(name: str, value: str, *, masked: bool, data: str, shown: str) -> bool:
    """Whether this field of an event goes on; `data` is the event's as it came, `shown` as the client gets it."""
    match name:
        case "event" if masked:
            folded = value.casefold()
            return _NAME.fullmatch(value) is not None and (folded in shown.casefold() or folded not in data.casefold())
        case "event" | "id":
            return not masked and _WORD.fullmatch(value) is not None
        case "retry":
            return not masked and _TIME.fullmatch(value) is not None
        case _:
            return False
