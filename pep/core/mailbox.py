"""What happens to one session, in the order in which it happened: one queue, delivered one event after the other.

It neither judges nor carries anything out; that is `driver`. Beside the events of `wire` it takes what the driver's own
tasks and timers report, which counts only while the driver still waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pep.core import wire


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to an Ask or a LookUp; it counts while its task is the one that the exchange waits for."""

    task: asyncio.Task[None] | None
    event: wire.Decided | wire.Approved | wire.LookedUp


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that fired; it counts while it is the one of that name."""

    name: str
    number: int


Item = wire.Event | Answer | Timer


class Mailbox:
    """The events of one session, in the order in which they happened. `post` may be called by anyone on the loop.

    Once there is somebody to `deliver` to, what is posted is delivered at once, one event after the other: a side that
    is to be paused is paused before the loop reads more of it.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._deliver: Callable[[Item], bool] | None = None
        self._over: asyncio.Future[None] | None = None

    def post(self, event: Item) -> None:
        self._items.append(event)
        if self._deliver is None:
            self._filled.set()
        else:
            self._run(self._deliver)

    async def next(self) -> Item:
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    async def deliver(self, to: Callable[[Item], bool]) -> None:
        """Until an event is the last one: `to` says so. Raises what it raises."""
        self._over = asyncio.get_running_loop().create_future()
        try:
            self._run(to)
            await self._over
        finally:
            self._deliver = None

    def _run(self, deliver: Callable[[Item], bool]) -> None:
        # Nothing is delivered while something is: what that posts comes behind it.
        self._deliver = None
        over = self._over
        assert over is not None
        try:
            while self._items:
                if over.done():
                    return
                if deliver(self._items.popleft()):
                    over.set_result(None)
                    return
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            over.set_exception(error)
            return
        self._deliver = deliver
