"""A bounded buffer between decisions, which never wait, and something that takes time: a disk, a store, a receiver.

What does not fit is dropped and counted. What cannot be delivered is tried again with a growing pause, in order; what
never can be (`Undeliverable`) is dropped and counted too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger("pdp.decisions")

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0


class Undeliverable(Exception):
    """Trying again would change nothing."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much waits, and how much goes at once, in items and in what `weigh` says of each."""

    most: int = 20_000
    heaviest: int = 64 << 20
    batch: int = 500
    batch_weight: int = 4 << 20
    # How long it waits for more before it delivers.
    every: float = 0.0


class Outlet(Generic[T]):
    """One buffer and the task that empties it: `run`, until `close`."""

    def __init__(
        self,
        name: str,
        deliver: Callable[[list[T]], Awaitable[None]],
        *,
        weigh: Callable[[T], int] = lambda _: 1,
        bounds: Bounds = Bounds(),
        again: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._weigh = weigh
        self._bounds = bounds
        self._again = again
        self._waiting: deque[T] = deque()
        self._weight = 0
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._progress = asyncio.Event()
        self._put = self._done = 0
        self.dropped = 0
        self.trouble = ""

    def put(self, item: T) -> None:
        """Takes it, or drops it if there is no room. Never waits."""
        weight = self._weigh(item)
        if len(self._waiting) >= self._bounds.most or self._weight + weight > self._bounds.heaviest:
            self._drop(1, "there is no room")
            return
        self._waiting.append(item)
        self._weight += weight
        self._put += 1
        self._news.set()

    async def settled(self) -> None:
        """Returns when everything that was taken so far is delivered or given up."""
        until = self._put
        while self._done < until:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Delivers, until the outlet is closed and empty."""
        while True:
            if not self._waiting:
                if self._closing.is_set():
                    return
                self._news.clear()
                await self._news.wait()
                continue
            if self._bounds.every:
                await self._or_closing(self._bounds.every)
            batch = self._next()
            await self._until_delivered(batch)
            for item in batch:
                self._waiting.popleft()
                self._weight -= self._weigh(item)
            self._done += len(batch)
            self._progress.set()

    def close(self) -> None:
        """No pause between tries any more; `run` ends when it is empty. What is left when that is cut off is lost."""
        self._closing.set()
        self._news.set()

    @property
    def waiting(self) -> int:
        """How much is not delivered yet."""
        return len(self._waiting)

    def _next(self) -> list[T]:
        batch: list[T] = []
        weight = 0
        for item in self._waiting:
            weight += self._weigh(item)
            if batch and (len(batch) >= self._bounds.batch or weight > self._bounds.batch_weight):
                break
            batch.append(item)
        return batch

    async def _until_delivered(self, batch: list[T]) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._deliver(batch)
            except Undeliverable as error:
                self._drop(len(batch), str(error))
                return
            except self._again as error:
                if not self.trouble:
                    log.warning("decision log not delivered", to=self.name, error=_said(error))
                self.trouble = _said(error)
                if self._closing.is_set():
                    await asyncio.sleep(_FIRST_PAUSE)
                else:
                    # Spread, so that many services do not come back to one receiver at the same instant.
                    await self._or_closing(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self.trouble = ""
                return

    async def _or_closing(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _drop(self, count: int, why: str) -> None:
        if not self.dropped:
            log.error("decisions are dropped from the decision log", to=self.name, why=why)
        self.dropped += count


def _said(error: Exception) -> str:
    # The texts of some errors hold what was to be delivered.
    return str(error) if isinstance(error, OSError) and error.strerror else type(error).__name__
