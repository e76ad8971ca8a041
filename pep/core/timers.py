"""A session's timers by their names: each is set anew with every request, and hardly one ever fires.

So the loop's own timer of a name is left as it is when its time is put off or cleared; when that comes, it is set to
what is left of the time then. Of names that do not come again, as one for each statement, none is kept when it is
cleared. Knows nothing of what a timer is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pep.core.values import value

# A loop's timer may be early by what its clock does not tell apart.
_CLOCK_SECONDS: Final = 0.002
# More names than that are not ones that come again.
_MOST_KEPT: Final = 16


@value
class Timer:
    """A timer that fired; it counts while it is the one of that name."""

    name: str
    number: int


class _Running:
    """What is known of one name: until when it runs (None: it does not), and the loop's timer with its time."""

    __slots__ = ("at", "handle", "number", "until")

    def __init__(self) -> None:
        self.until: float | None = None
        self.number = 0
        self.handle: asyncio.TimerHandle | None = None
        self.at = 0.0


class Timers:
    """Made on the running loop. `fired` is told of each that is over."""

    def __init__(self, fired: Callable[[Timer], None]) -> None:
        self._fired = fired
        self._loop = asyncio.get_running_loop()
        self._by_name: dict[str, _Running] = {}
        self._number = 0

    def set(self, name: str, seconds: float | None) -> None:
        """Instead of the timer of that name; None: there is none any more."""
        running = self._by_name.get(name)
        if running is None:
            if seconds is None:
                return
            running = self._by_name[name] = _Running()
        self._number += 1
        running.number = self._number
        if seconds is None:
            running.until = None
            if running.handle is None or len(self._by_name) > _MOST_KEPT:
                self._forget(name, running)
            return
        running.until = until = self._loop.time() + seconds
        if running.handle is not None:
            if running.at <= until:
                return
            running.handle.cancel()
        self._start(name, running, until)

    def claim(self, timer: Timer) -> bool:
        """Whether it counts: nobody has set it anew, cleared it or claimed it since it fired."""
        running = self._by_name.get(timer.name)
        if running is None or running.number != timer.number:
            return False
        self._forget(timer.name, running)
        return True

    def close(self) -> None:
        for running in self._by_name.values():
            if running.handle is not None:
                running.handle.cancel()
        self._by_name.clear()

    def _forget(self, name: str, running: _Running) -> None:
        del self._by_name[name]
        if running.handle is not None:
            running.handle.cancel()

    def _start(self, name: str, running: _Running, at: float) -> None:
        running.at = at
        running.handle = self._loop.call_at(at, self._over, name, running)

    def _over(self, name: str, running: _Running) -> None:
        running.handle = None
        if running.until is None:
            self._forget(name, running)
            return
        if self._loop.time() + _CLOCK_SECONDS < running.until:
            self._start(name, running, running.until)
            return
        running.until = None
        self._fired(Timer(name, running.number))
