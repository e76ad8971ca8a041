"""The greedy clients of bench/neighbours.py: each asks for all that it can get of one thing.

A process of its own, begun as `greedy.py NAME PORT NICENESS`; the token comes on standard input, because arguments are
seen by every process. It says `begun`, and works until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import struct
import sys
from collections.abc import Awaitable, Callable

HOST, DATABASE = "127.0.0.1", "shop"
Work = Callable[[int, str, int], Awaitable[None]]
_HEAD = struct.Struct("!ci")


def main() -> None:
    name, port, niceness = sys.argv[1:]
    os.nice(int(niceness))
    asyncio.run(_greed(name, int(port), sys.stdin.readline().strip()))


async def _greed(name: str, port: int, token: str) -> None:
    _, clients, work = SCENARIOS[name]
    numbers = itertools.count()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(_forever(work, port, token, next(numbers)))
        print("begun", flush=True)


async def _forever(work: Work, port: int, token: str, number: int) -> None:
    """Whoever is thrown out comes again."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await work(port, token, number)
        await asyncio.sleep(0.1)


class Wire:
    """The PostgreSQL protocol, as far as a greedy client needs it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def login(cls, port: int, token: str) -> Wire | None:
        """None where it is refused."""
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            wire = cls(reader, writer)
            words = f"user\0bench\0database\0{DATABASE}\0\0".encode()
            writer.write(struct.pack("!ii", len(words) + 8, 196608) + words + message(b"p", token.encode() + b"\0"))
            if await wire.ready():
                return wire
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return None
        return None

    async def ready(self, times: int = 1) -> bool:
        """Until ReadyForQuery has come so often; False where the session has ended."""
        while True:
            tag, size = _HEAD.unpack(await self.reader.readexactly(5))
            payload = await self.reader.readexactly(size - 4)
            if tag == b"E" and b"SFATAL\0" in payload:
                return False
            if tag == b"Z":
                times -= 1
                if not times:
                    return True

    async def swallow(self) -> None:
        """Whatever comes back, unread."""
        while await self.reader.read(1 << 20):
            pass


def message(tag: bytes, payload: bytes = b"") -> bytes:
    return tag + struct.pack("!i", len(payload) + 4) + payload


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def again(text: str) -> Work:
    """One statement after the other; `#` stands for the client's number."""

    async def work(port: int, token: str, number: int) -> None:
        wire = await Wire.login(port, token)
        while wire is not None:
            for each in text.split("|"):
                wire.writer.write(query(each.replace("#", str(number))))
                if not await wire.ready():
                    return

    return work


def flood(data: bytes) -> Work:
    """The same bytes, as fast as they are taken."""

    async def work(port: int, token: str, _: int) -> None:
        wire = await Wire.login(port, token)
        if wire is None:
            return
        swallowing = asyncio.create_task(wire.swallow())
        try:
            while not swallowing.done():
                wire.writer.write(data)
                await wire.writer.drain()
        finally:
            swallowing.cancel()
            await asyncio.gather(swallowing, return_exceptions=True)
            wire.writer.close()

    return work


async def hold(port: int, token: str, _: int) -> None:
    wire = await Wire.login(port, token)
    if wire is not None:
        await wire.swallow()


async def logins(port: int, token: str, _: int) -> None:
    while True:
        wire = await Wire.login(port, token)
        if wire is not None:
            wire.writer.close()


async def burn(_port: int, _token: str, _: int) -> None:
    while True:
        await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", b"", b"", 20_000)


async def strangers(port: int, _token: str, _: int) -> None:
    await logins(port, "not-a-token", 0)


_PIPELINE = (
    message(b"P", b"\0select 1\0\0\0")
    + message(b"B", b"\0\0\0\0\0\0\0\0")
    + message(b"E", b"\0\0\0\0\0")
    + message(b"S")
) * 500
_LIST = "select id from orders where id in (" + ",".join(map(str, range(100_000))) + ")"
_COLUMNS = "select " + ",".join(f"id as c{number}" for number in range(1000)) + " from orders"
_ROWS = "select o.id, o.status, o.total from orders o, generate_series(1, 400) s"

# A function that does not exist, called without arguments: object identifier, formats, arguments, format of the result.
_CALL = message(b"F", struct.pack("!ihhh", 0, 0, 0, 0))
# lo_tell(0), of a large object that is not open: decided as the SELECT that it stands for.
_JUDGED = message(b"F", struct.pack("!ihhhiih", 958, 1, 1, 1, 4, 0, 1))

SCENARIOS: dict[str, tuple[str, int, Work]] = {
    "processor": ("nobody at the proxy: two threads that take what they get of the processors", 2, burn),
    "sleeping": ("200 open sessions that do nothing", 200, hold),
    "statements": ("50 sessions, one statement after the other", 50, again("select 1")),
    "pipeline": ("20 sessions with thousands of statements in one go", 20, flood(_PIPELINE)),
    "denied": ("50 sessions, each statement denied", 50, again("drop table orders")),
    "flush": ("20 sessions full of messages that ask for nothing", 20, flood(message(b"H") * 4000)),
    "calls": ("20 sessions full of messages that are refused", 20, flood(_CALL * 4000)),
    "objects": ("20 sessions full of calls for large objects", 20, flood(_JUDGED * 4000)),
    "unparsable": ("20 sessions full of what nobody can parse", 20, flood(query('selec "' * 200) * 100)),
    "logins": ("50 that log in again and again", 50, logins),
    "strangers": ("50 that cannot log in", 50, strangers),
    "long": ("20 sessions with statements of 600 KB", 20, again(_LIST)),
    "wide": ("20 sessions with statements of 1,000 columns", 20, again(_COLUMNS)),
    "rows": ("8 sessions that read large results", 8, again(_ROWS)),
    "masked": (
        "8 sessions that read large masked results",
        8,
        again("select c.id, c.name, c.email from customers c, generate_series(1, 400) s"),
    ),
    "catalogs": (
        "20 sessions that make and drop tables of their own",
        20,
        again("create temp table mine_# (id int)|select * from mine_#|drop table mine_#"),
    ),
}


if __name__ == "__main__":
    main()
