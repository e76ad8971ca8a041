"""The event loop's time, which all clients of a proxy share: nobody has more of a turn than there is for all.

Whatever happens to a session is worked off in pieces: some of a client's bytes, an answer, a timer. In one turn of the
loop so many milliseconds are worked; what comes then waits for the next turn, where each share (the person or workload
at the end of a chain; before that is known, the place where the client comes from) has one piece, round after round.
Between two turns the loop looks at the network. So a client waits for one piece of each other share at most, however
many connections and however much on them one of these has. Nothing here knows what a piece is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

BUDGET_SECONDS: Final = 0.002

# Does one piece, and says whether there is more of it.
Work = Callable[[], bool]


class Worktime:
    """Of one event loop."""

    def __init__(self, budget: float = BUDGET_SECONDS, clock: Callable[[], float] = time.perf_counter) -> None:
        self._budget = budget
        self._clock = clock
        self._spent = 0.0
        self._turn_comes = False
        # By share, those of it that have something to do; the share that was served last stands last.
        self._waiting: dict[str, deque[Work]] = {}

    def ask(self, share: str, work: Work) -> bool:
        """Does the work, all of it now if there is time. False where some of it is left: it is done in later turns."""
        while not self._waiting and self._spent < self._budget:
            if not self._piece(work):
                return True
        self._waiting.setdefault(share, deque()).append(work)
        self._next_turn()
        return False

    def _piece(self, work: Work) -> bool:
        began = self._clock()
        try:
            return work()
        finally:
            self._spent += self._clock() - began
            if self._spent >= self._budget:
                # Only now does anybody have to know when the turn is over.
                self._next_turn()

    def _next_turn(self) -> None:
        if not self._turn_comes:
            self._turn_comes = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_comes = False
        self._spent = 0.0
        while self._waiting and self._spent < self._budget:
            share, queue = next(iter(self._waiting.items()))
            work = queue.popleft()
            # What this piece causes is queued behind it, also where it is of the same share.
            if self._piece(work):
                queue.append(work)
            del self._waiting[share]
            if queue:
                self._waiting[share] = queue
        if self._waiting:
            self._next_turn()
