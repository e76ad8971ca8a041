"""Work that is too much for the event loop, done by child processes: one request at a time each, answered whole or not.

A child is a module of this project that is run with its limits as JSON: frames on its standard input are requests,
frames on its standard output are answers. It is started when it is first needed, and again after it died: of its
processor time, of its memory, or killed when the time for a request was over or nobody waited for it any more. Each of
these is `ChildFailed` for the one request that it had.

Nobody takes every child: a share (the person or workload at the end of a chain) has at most `per_share` of them at
once, only so many requests of it wait, and the shares that wait are served in turn.
"""

from __future__ import annotations

import asyncio
import os
import resource
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from pdp.v1.turns import NoTurn, Turns

_FRAME: Final = struct.Struct("!I")
_PIPE_BYTES: Final = 1 << 20
_GRACE_SECONDS: Final = 1.0
# A child that has grown so large is not used again: what it has freed it does not give back.
_SPENT_BYTES: Final = 512 << 20


class ChildFailed(Exception):
    """There is no answer. The reason is fit for the client."""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Seconds and bytes of one child; `timeout` is for a request as a whole, `waiting` is requests of one share."""

    children: int = 2
    per_share: int = 1
    waiting: int = 16
    timeout: float = 60.0
    cpu_seconds: int = 30
    memory: int = 3 << 30
    longest: int = 256 << 20


class Children:
    """The children of one module; `ask` may be called by any task of the loop."""

    def __init__(self, module: str, limits: ChildLimits | None = None) -> None:
        self._module = module
        self._limits = ChildLimits() if limits is None else limits
        self._idle: list[asyncio.subprocess.Process] = []
        limits = self._limits
        self._turns = Turns(limits.children, limits.per_share, limits.waiting)
        self._closed = False

    async def ask(self, request: bytes, share: str) -> bytes:
        """The answer to one request. Raises ChildFailed."""
        if len(request) > self._limits.longest:
            raise ChildFailed("it is larger than what is looked at")
        try:
            async with asyncio.timeout(self._limits.timeout), self._turns.of(share), self._child() as child:
                return await self._ask(child, request)
        except NoTurn:
            raise ChildFailed("too much of this client's waits to be looked at already; send it again later") from None
        except TimeoutError:
            raise ChildFailed("it took too long") from None
        except (asyncio.IncompleteReadError, OSError):
            raise ChildFailed("it took more than one document may") from None

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await _end(self._idle.pop())

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A child of one's own. It is used again only if the whole exchange went well."""
        child = self._idle.pop() if self._idle else None
        if child is None or child.returncode is not None:
            child = await self._start()
        completed = False
        try:
            yield child
            completed = not self._closed and not _is_spent(child)
        finally:
            if completed:
                self._idle.append(child)
            else:
                await _end(child)

    async def _start(self) -> asyncio.subprocess.Process:
        """The child gets no environment but where its modules are: the proxy's may hold credentials."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            orjson.dumps(self._limits).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            limit=_PIPE_BYTES,
        )

    async def _ask(self, child: asyncio.subprocess.Process, request: bytes) -> bytes:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(_FRAME.pack(len(request)))
        child.stdin.write(request)
        await child.stdin.drain()
        (length,) = _FRAME.unpack(await child.stdout.readexactly(_FRAME.size))
        if length > self._limits.longest:
            raise ConnectionError("the answer is too long")
        return await child.stdout.readexactly(length)


def _is_spent(child: asyncio.subprocess.Process) -> bool:
    try:
        pages = int(Path(f"/proc/{child.pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return False
    return pages * resource.getpagesize() > _SPENT_BYTES


async def _end(child: asyncio.subprocess.Process) -> None:
    """A child that has closed its output is on its way out: a kill would race the event loop for its exit status."""
    assert child.stdout is not None
    if child.stdout.at_eof():
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await child.wait()
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
    await child.wait()


# --- in the child -----------------------------------------------------------------------------------------------------


def serve(answer: Callable[[bytes], bytes]) -> None:
    """The program of a child: answers requests until its standard input ends."""
    limits = ChildLimits(**orjson.loads(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    # On a busy machine whoever has asked for little comes first.
    os.nice(5)
    _serve(sys.stdin.buffer, sys.stdout.buffer, answer, limits.cpu_seconds)


def _serve(requests: BinaryIO, answers: BinaryIO, answer: Callable[[bytes], bytes], cpu_seconds: int) -> None:
    while len(head := requests.read(_FRAME.size)) == _FRAME.size:
        request = requests.read(_FRAME.unpack(head)[0])
        _allow_cpu(cpu_seconds)
        found = answer(request)
        answers.write(_FRAME.pack(len(found)))
        answers.write(found)
        answers.flush()


def _allow_cpu(seconds: int) -> None:
    """RLIMIT_CPU counts the whole life of a process: each request gets its own allowance on top of what is used."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))
