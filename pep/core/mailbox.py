"""What happens to one session, in the order in which it happened: one queue, delivered one event after the other.

It neither judges nor carries anything out; that is `driver`. Beside the events of `wire` it takes what the driver's own
tasks and timers report, which counts only while the driver still waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pep.core import wire
from pep.core.timers import Timer
from pep.core.values import value
from pep.core.worktime import Worktime


@value
class Answer:
    """An answer to an Ask or a LookUp; it counts while its task is the one that the exchange waits for."""

    task: asyncio.Task[None] | None
    event: wire.Decided | wire.Approved | wire.LookedUp


Item = wire.Event | Answer | Timer


class Behind(Protocol):
    """Is told whether events wait for their turn."""

    def __call__(self, *, yes: bool) -> None: ...


class Mailbox:
    """The events of one session, in the order in which they happened. `post` may be called by anyone on the loop.

    Once there is somebody to `deliver` to, what is posted is delivered at once, one event after the other, as long as
    the loop's time allows it: with `worktime` the mailbox waits its turn there, as one of `share`.
    """

    def __init__(self, worktime: Worktime | None = None, share: str = "") -> None:
        self.share = share
        self._worktime = worktime
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._to: Callable[[Item], bool] | None = None
        self._behind: Behind = _unheard
        self._is_behind = False
        self._working = False
        self._over: asyncio.Future[None] | None = None

    def post(self, event: Item) -> None:
        self._items.append(event)
        if self._to is None:
            self._filled.set()
        elif not self._working:
            self._work()

    async def next(self) -> Item:
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    async def deliver(self, to: Callable[[Item], bool], behind: Behind | None = None) -> None:
        """Until an event is the last one: `to` says so. Raises what it raises.

        `behind` is told when events begin to wait for their turn, so that no more are made, and when none does.
        """
        self._over = asyncio.get_running_loop().create_future()
        self._to, self._behind = to, behind or _unheard
        try:
            if self._items:
                self._work()
            await self._over
        finally:
            self._to = None

    def _work(self) -> None:
        # Nothing is delivered while something is: what that posts comes behind it.
        self._working = True
        if self._worktime is None:
            while self._one():
                pass
        elif not self._worktime.ask(self.share, self._one):
            self._is_behind = True
            self._behind(yes=True)

    def _one(self) -> bool:
        """Delivers one event; whether another one is to be delivered."""
        over, to = self._over, self._to
        assert over is not None
        if to is not None and not over.done():
            try:
                if to(self._items.popleft()):
                    over.set_result(None)
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                over.set_exception(error)
        if self._items and not over.done():
            return True
        self._working = False
        if self._is_behind:
            self._is_behind = False
            self._behind(yes=False)
        return False


def _unheard(*, yes: bool) -> None:
    """Nobody wants to know."""
