"""A link between two parts that can be slow, still or cut: a relay of bytes in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

_PIECE = 64 << 10
Address = int | Path  # a port of the loopback, or a socket's path


class Link:
    """Listens at `listen` (0: a free port) and passes on to `target`, which may change. `with` runs it.

    `slow(seconds)` delays every piece, `still()` passes nothing on, `cut()` drops what is connected and refuses what
    comes, `mend()` ends all of this.
    """

    def __init__(self, listen: Address, target: Address) -> None:
        self.address = listen
        self.target = target
        self._delay = 0.0
        self._refuses = False
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"link to {target}")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def slow(self, seconds: float) -> None:
        self._call(lambda: setattr(self, "_delay", seconds))

    def still(self) -> None:
        self._call(self._flows.clear)

    def cut(self) -> None:
        def drop() -> None:
            self._refuses = True
            for writer in tuple(self._writers):
                writer.transport.abort()

        self._call(drop)

    def mend(self) -> None:
        def whole() -> None:
            self._delay, self._refuses = 0.0, False
            self._flows.set()

        self._call(whole)

    def _call(self, work: Callable[[], object]) -> None:
        """In the loop's thread, and done when this returns."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (work(), done.set()))
        done.wait()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._flows.set()
        if isinstance(self.address, Path):
            server = await asyncio.start_unix_server(self._connected, self.address)
        else:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.address)
            self.address = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self._refuses:
                return
            far_reader, far = await self._connect()
            self._writers.add(far)
            if self._refuses:
                return
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, far))
                both.create_task(self._pass(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            # Cut, on purpose or because one end has gone: the other end goes as well.
            pass
        finally:
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()
            self._tasks.discard(task)

    def _connect(self) -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        if isinstance(self.target, Path):
            return asyncio.open_unix_connection(self.target)
        return asyncio.open_connection("127.0.0.1", self.target)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        await self._flows.wait()
        if writer.can_write_eof():
            writer.write_eof()
