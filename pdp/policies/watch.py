"""Notices that policy files have changed and have then been left alone; asks the file system, loads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from pdp.policies.snapshot import State

LOOK_EVERY: Final = 0.1
QUIET: Final = 0.2


async def changes(look: Callable[[], State], seen: State) -> AsyncIterator[State]:
    """Each state that differs from the one before and has lasted for the quiet time; starts from `seen`."""
    loop = asyncio.get_running_loop()
    handed_out = latest = seen
    since = loop.time()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = look()
        if now != latest:
            latest, since = now, loop.time()
        elif latest != handed_out and loop.time() - since >= QUIET:
            handed_out = latest
            yield latest
