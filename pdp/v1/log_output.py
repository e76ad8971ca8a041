"""Where the lines of a log go: a stream that may fail without taking the process along.

Standard error is often a file, and its disk may be full. What then is not said is lost; a service that ended because it
could not say something, or a session, would be worse. What must not be lost is a record, and no record goes here.
"""

from __future__ import annotations

import contextlib
from typing import TextIO


class LogOutput:
    """As much of a file as a logger needs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
