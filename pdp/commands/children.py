"""Child processes that live and end together: started one by one, their lines printed behind their names.

A child that ends ends all; so does a signal. The first to start serves the others, so it is the last to end; they end
together before it. Each gets SIGTERM and, when its time is over or a second signal comes, SIGKILL. They are in process
groups of their own, so that Ctrl-C reaches this process alone and the order holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pdp.shown import shown

_LEASH: Final = Path(__file__).with_name("leash.py")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_LINE: Final = 64 << 10
_COLUMN: Final = 40
# How long the last lines of a child that has ended may take to arrive; something of its own may hold the pipe open.
_LAST_LINES: Final = 2.0

PrintLine = Callable[[str, str], None]


@dataclass(eq=False, slots=True)
class Child:
    """A running process."""

    name: str
    process: asyncio.subprocess.Process
    lines: asyncio.Task[None]
    ended: asyncio.Task[int]


class Interrupted(Exception):
    """A signal asked for the end."""


class Ended(Exception):
    """A child has ended, and with it everything."""

    def __init__(self, name: str, returncode: int) -> None:
        super().__init__(name)
        self.name = name
        self.returncode = returncode

    @property
    def status(self) -> int:
        """As a shell has it. A child that ends by itself is a failure, even if it calls it none."""
        return 128 - self.returncode if self.returncode < 0 else self.returncode or 1

    def __str__(self) -> str:
        if self.returncode < 0:
            return f"{self.name} was ended by {signal.Signals(-self.returncode).name}"
        return f"{self.name} ended with status {self.returncode}"


class Children:
    """A context manager; leaving it ends every child that still runs."""

    def __init__(self, print_line: PrintLine, *, grace: float) -> None:
        self._print = print_line
        self._grace = grace
        self._children: list[Child] = []
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.gather(*map(self._end, self._children[1:]))
            await asyncio.gather(*map(self._end, self._children[:1]))
        finally:
            loop = asyncio.get_running_loop()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def start(self, name: str, *arguments: str) -> int:
        """Starts `python ARGUMENT...` with this interpreter, and gives its process id.

        Its two outputs become lines behind its name.
        """
        command = [sys.executable, "-I", str(_LEASH), str(os.getpid()), sys.executable, *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            # What it logs is printed by this process, in whose output its colours would be foreign.
            env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        lines = asyncio.create_task(self._relay(name, process.stdout), name=f"lines of {name}")
        self._children.append(Child(name, process, lines, asyncio.create_task(process.wait(), name=f"end of {name}")))
        return process.pid

    async def until(self, ready: Coroutine[Any, Any, None] | None = None) -> None:
        """Waits for `ready` (None: for ever). Raises Ended or Interrupted if that comes first."""
        asked = asyncio.create_task(self._asked.wait(), name="signal")
        work = None if ready is None else asyncio.create_task(ready, name="ready")
        ends = {child.ended: child for child in self._children}
        tasks: list[asyncio.Task[Any]] = [asked, *ends, *([] if work is None else [work])]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._asked.is_set():
                raise Interrupted
            for task, child in ends.items():
                if task.done():
                    raise Ended(child.name, task.result())
            if work is not None:
                work.result()
        finally:
            for extra in tasks[:1] if work is None else (tasks[0], work):
                if not extra.done():
                    extra.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await extra

    def _signalled(self) -> None:
        (self._hurry if self._asked.is_set() else self._asked).set()

    async def _end(self, child: Child) -> None:
        if not child.ended.done():
            child.process.terminate()
            hurry = asyncio.create_task(self._hurry.wait(), name="second signal")
            await asyncio.wait({child.ended, hurry}, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not child.ended.done():
                self._print(child.name, "does not end, so it is killed")
                child.process.kill()
        await child.ended
        await asyncio.wait({child.lines}, timeout=_LAST_LINES)
        child.lines.cancel()

    async def _relay(self, name: str, stream: asyncio.StreamReader) -> None:
        """Prints whole lines; one without an end is printed in pieces."""
        rest = b""
        while data := await stream.read(_LONGEST_LINE):
            *whole, rest = (rest + data).split(b"\n")
            for each in whole:
                self._print(name, _log_line(each))
            if len(rest) > _LONGEST_LINE:
                self._print(name, _log_line(rest))
                rest = b""
        if rest:
            self._print(name, _log_line(rest))


def _log_line(line: bytes) -> str:
    """A log's columns are made of spaces, so runs are counted only where they are longer than any column."""
    return shown(line, limit=None, spaces=_COLUMN)


def lines_of(names: Sequence[str], write: Callable[[str, str, int], None]) -> PrintLine:
    """Prints a line with its child's name and a number that stays with the name, for its colour."""
    numbers = {name: index for index, name in enumerate(names)}
    return lambda name, text: write(name, text, numbers.get(name, 0))
