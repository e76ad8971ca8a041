"""Ends of sessions that could not be put on record when they came, because the disk or the spool was full: made good.

A chain without its end looks like one whose end was cut off. Nothing is owed for what is forwarded: that is on record
before. What is still owed when the process ends is for its successor, who ends such a chain as lost.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from pep.core.recorder import Recorder, SpoolError
from pep.core.records import Event

_EVERY: Final = 1.0


class Owed:
    """Chains whose end is still to be written, oldest first."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[Recorder, Event]] = {}
        self._log = structlog.get_logger("pep.owed")

    def __len__(self) -> int:
        return len(self._ends)

    def record(self, recorder: Recorder, end: Event) -> None:
        """Puts the end on record, now or later."""
        try:
            recorder.record(end)
        except SpoolError as error:
            self._log.error("a session's end could not be recorded yet", session=recorder.session, error=str(error))
            self._ends[recorder.session] = (recorder, end)

    def settle(self) -> bool:
        """Writes what can be written; whether nothing is owed any more."""
        for session, (recorder, end) in tuple(self._ends.items()):
            try:
                recorder.record(end)
            except SpoolError:
                return False
            del self._ends[session]
            self._log.info("a session's end is on record after all", session=session)
        return True

    async def run(self) -> None:
        """Tries again and again until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            self.settle()
