"""How much of what came back is kept on record: what policy says, within what one response and one session may take.

Without a word from policy the beginning of each response is kept. A session's `record` and one of the command's own
decision come together as policies do: the stronger one counts. What is left out by a bound is said in the response's
event; what there was in all stands there anyway. Values only: nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pep.core.model import Obligation, RecordLevel, RecordSession

SAMPLE_BYTES: Final = 64 * 1024
"""Of one response where policy says nothing."""
RESPONSE_BYTES: Final = 8 << 20
"""Of one response at most: it is held in memory until its event is written."""
SESSION_BYTES: Final = 64 << 20
"""Of one session, where the configuration says nothing."""


@dataclass(slots=True)
class Keeping:
    """One session's. `left` is what its responses may still take; it only falls."""

    duties: tuple[Obligation, ...] = ()
    left: int = SESSION_BYTES

    def begin(self, granted: Iterable[Obligation] = ()) -> Kept:
        """For one response to what was granted with these obligations."""
        return Kept(self, strongest((*self.duties, *granted)))


def strongest(duties: Iterable[Obligation]) -> RecordSession | None:
    """None where policy says nothing."""
    said = [duty for duty in duties if isinstance(duty, RecordSession)]
    if not said:
        return None
    return max(said, key=lambda duty: (duty.level.value, duty.rows))


class Kept:
    """What of one response is kept. Ask for room piece by piece, in order; once there was none, there is none."""

    def __init__(self, keeping: Keeping, said: RecordSession | None) -> None:
        self._keeping = keeping
        self._said = said
        self._rows: int | None = None
        self._bytes = SAMPLE_BYTES
        self._full = False
        self._cut_by = ""
        match said:
            case RecordSession(level=RecordLevel.NONE):
                self._full = True
            case RecordSession(level=RecordLevel.ROWS, rows=rows):
                self._rows, self._bytes = rows, RESPONSE_BYTES
            case RecordSession(level=RecordLevel.EVERYTHING):
                self._bytes = RESPONSE_BYTES
            case _:
                pass

    @property
    def full(self) -> bool:
        return self._full

    def row(self, size: int) -> bool:
        """Whether one more row, of so many bytes, is kept: whole or not at all."""
        if self._full:
            return False
        if self._rows == 0:
            return self._stop("rows")
        if size > self._bytes:
            return self._stop("response")
        if size > self._keeping.left:
            return self._stop("session")
        if self._rows is not None:
            self._rows -= 1
        self._take(size)
        return True

    def room(self, size: int) -> int:
        """How many of the next so many bytes are kept."""
        if self._full or not size:
            return 0
        room = min(size, self._bytes, self._keeping.left)
        if room < size:
            self._stop("session" if self._keeping.left == room else "response")
        self._take(room)
        return room

    def lines(self, data: bytes) -> bytes:
        """What of the next bytes of a text is kept. A line counts as a row; of long ones no more than a sample is."""
        if self._rows is None:
            return data[: self.room(len(data))]
        self._bytes = min(self._bytes, SAMPLE_BYTES)
        end = 0
        while end < len(data) and self._rows:
            found = data.find(b"\n", end)
            if found < 0:
                end = len(data)
                break
            end, self._rows = found + 1, self._rows - 1
        kept = data[: self.room(end)]
        if end < len(data):
            self._stop("rows")
        return kept

    def _take(self, size: int) -> None:
        self._bytes -= size
        self._keeping.left -= size

    def _stop(self, by: str) -> bool:
        if not self._full:
            self._full, self._cut_by = True, by
        return False

    def facts(self) -> Mapping[str, Any]:
        """For the response's event: what policy said, and which bound left something out."""
        facts: dict[str, Any] = {}
        match self._said:
            case RecordSession(level=RecordLevel.ROWS, rows=rows):
                facts["kept"] = f"{rows} rows"
            case RecordSession(level=level):
                facts["kept"] = level.name.lower()
            case None:
                pass
        if self._cut_by:
            facts["truncated"] = self._cut_by
        return facts
