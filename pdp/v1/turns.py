"""Turns at something of which there is only so much: nobody has all of it, and those who wait are served in turn.

A *share* is whoever pays: the person or workload at the end of a chain. A share has at most `per_share` of the `most`
places at once, only so many of it wait, and the shares that wait get one place each, round after round, so how long one
waits depends on how many others there are, never on how much one of them asks for. On one event loop, without a lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoTurn(Exception):
    """Too much of this share waits already."""


class Turns:
    """Who goes next. `waiting` bounds how many of one share wait; None where something else does."""

    def __init__(self, most: int, per_share: int, waiting: int | None = None) -> None:
        self._most = most
        self._per_share = per_share
        self._most_waiting = waiting
        self._busy = 0
        self._running: dict[str, int] = {}
        # By share; the one that was served last stands last.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def free(self) -> bool:
        """Whether anybody could have a place at once."""
        return self._busy < self._most and not self._waiting

    def running(self, share: str) -> int:
        """How many places the share has."""
        return self._running.get(share, 0)

    @asynccontextmanager
    async def of(self, share: str) -> AsyncIterator[None]:
        """A place, once it is this share's turn. Raises NoTurn where too much of this share waits already."""
        if not self._may_go(share) or share in self._waiting:
            await self._queue(share)
        else:
            self._take(share)
        try:
            yield
        finally:
            self._over(share)

    async def _queue(self, share: str) -> None:
        queue = self._waiting.get(share, ())
        if self._most_waiting is not None and len(queue) >= self._most_waiting:
            raise NoTurn
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._over(share)
            else:
                self._forget(share, turn)
            raise

    def _may_go(self, share: str) -> bool:
        return self._busy < self._most and self._running.get(share, 0) < self._per_share

    def _take(self, share: str) -> None:
        self._busy += 1
        self._running[share] = self._running.get(share, 0) + 1

    def _over(self, share: str) -> None:
        self._busy -= 1
        self._running[share] -= 1
        if not self._running[share]:
            del self._running[share]
        self._serve()

    def _forget(self, share: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(share, deque())
        if turn in queue:
            queue.remove(turn)
        if not queue:
            self._waiting.pop(share, None)

    def _serve(self) -> None:
        """Gives away what is free: one place to each share that may have one, the longest unserved first."""
        while self._busy < self._most:
            share = next((each for each in self._waiting if self._may_go(each)), None)
            if share is None:
                return
            queue = self._waiting.pop(share)
            turn = queue.popleft()
            if queue:
                self._waiting[share] = queue
            # One that is cancelled has not been told of it yet.
            if not turn.done():
                self._take(share)
                turn.set_result(None)
