"""Seconds as the machine gives them, in which everything that has to come within some time is measured.

A machine that is busy with other things, or stands still for a while, makes everything late, and nobody's fault is
found by that. So a thread rests and works a little, again and again, and counts what that should have taken. Where its
work takes three times the processor time that it got, a second of the wall counts as a third of one.
"""

import threading
import time
from types import TracebackType
from typing import Self

REST = 0.1
WORK = 0.004


def given(rested: float, worked: float, *, rest: float = REST, work: float = WORK) -> float:
    """What a round counts that took so long at the wall: its rest as long as it should be, and by its share."""
    share = min(1.0, work / worked) if worked > 0 else 1.0
    return (min(rested, rest) + min(worked, work)) * share


class FairClock(threading.Thread):
    """`with` runs it. In the process that waits: what keeps this from being heard counts as well."""

    def __init__(self) -> None:
        super().__init__(name="fair clock", daemon=True)
        self.seconds = 0.0
        self._began = time.monotonic()
        self._over = threading.Event()

    def __call__(self) -> float:
        return self.seconds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()

    @property
    def share(self) -> float:
        """Of the time at the wall until now."""
        return self.seconds / max(time.monotonic() - self._began, REST)

    def run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            self._over.wait(REST)
            rested = time.monotonic()
            processor = time.thread_time()
            while time.thread_time() - processor < WORK:
                pass
            self.seconds += given(rested - began, time.monotonic() - rested)
