"""A port that adds a credential to each request, for clients that have no way to send one. It is nothing but that:
bytes go through as they come, in both directions, with one line more in each head.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_READ = 1 << 16


@contextlib.contextmanager
def credentialed(port: int, line: str) -> Iterator[int]:
    """The port in front of this one, from which each request goes on with this header line."""
    ready = threading.Event()
    found: dict[str, object] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            # Whichever side ends first ends both: a server that closes first is seen to be the one.
            sides = (_requests(reader, far_writer, line.encode()), _through(far_reader, writer))
            tasks = [asyncio.create_task(side) for side in sides]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            for task in done:
                task.result()
        for side in (writer, far_writer):
            side.close()

    async def main() -> None:
        stop = asyncio.Event()
        found["loop"], found["stop"] = asyncio.get_running_loop(), stop
        async with await asyncio.start_server(connected, "127.0.0.1", 0, limit=_READ) as server:
            found["port"] = server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield found["port"]  # type: ignore[misc]
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)  # type: ignore[attr-defined]
        thread.join(10)


async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        assert not _CHUNKED.search(head), "only bodies of a length are expected here"
        writer.write(head[:-2] + line + b"\r\n\r\n")
        if _UPGRADE.search(head):
            await _through(reader, writer)
            return
        if length := _LENGTH.search(head):
            writer.write(await reader.readexactly(int(length[1])))
        await writer.drain()


async def _through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ):
        writer.write(data)
        await writer.drain()
