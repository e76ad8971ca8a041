"""An open stream is held against the doors again: what was true when it began may be so no more.

Before each answer, and every second while there is none. A stream whose caller is let in no more ends with
UNAUTHENTICATED whatever the reason, which is said in words: the proxy opens it again with what it has by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, TypeVar

import grpc

from pdp.service.refusal import Refused

EVERY: Final = 1.0

_Answer = TypeVar("_Answer")


def again(judge: Callable[[], object]) -> None:
    """Refused as an open stream is, where `judge` refuses."""
    try:
        judge()
    except Refused as error:
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None


async def judged(
    answers: AsyncGenerator[_Answer, None], judge: Callable[[], object], every: float = EVERY
) -> AsyncIterator[_Answer]:
    """The answers, as long as `judge` refuses nothing."""

    async def following() -> _Answer:
        return await anext(answers)

    step: asyncio.Task[_Answer] | None = None
    try:
        while True:
            step = asyncio.create_task(following())
            while not step.done():
                await asyncio.wait((step,), timeout=every)
                again(judge)
            try:
                answer = step.result()
            except StopAsyncIteration:
                return
            yield answer
    finally:
        if step is not None:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        await answers.aclose()
