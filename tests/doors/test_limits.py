"""Whoever has not logged in takes no place from those who have."""

import asyncio
import contextlib
from pathlib import Path

from pdp.v1.addresses import UnixAddress
from pep.core.leg import Leg
from pep.core.listener import Listener
from pep.http.config import HttpLimits
from pep.postgres.config import PostgresLimits
from tests.doors.calling import PATIENCE
from tests.pdp.serving import folder


async def connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path)


async def turned_away(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends; one that is served says hello."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


def test_connections_that_are_no_sessions_are_few():
    async def scenario():
        sessions = 0
        with folder() as path:
            socket = path / "s"
            listener = Listener(UnixAddress(socket), connections=100, limit=100, strangers=2, known=lambda: sessions)

            async def one(leg: Leg) -> None:
                leg.write(b"h")
                await asyncio.get_running_loop().create_future()

            serving = asyncio.create_task(listener.serve(one))
            await listener.ready.wait()
            open_ones = []
            try:
                for expected in (False, False, True, True):
                    reader, writer = await connected(socket)
                    open_ones.append(writer)
                    assert await turned_away(reader) is expected
                # Two of them have logged in: two more may try.
                sessions = 2
                for expected in (False, False, True):
                    reader, writer = await connected(socket)
                    open_ones.append(writer)
                    assert await turned_away(reader) is expected
            finally:
                for writer in open_ones:
                    writer.close()
                serving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await serving

    asyncio.run(scenario())


def test_what_is_not_configured_is_bounded_all_the_same():
    postgres, http = PostgresLimits(), HttpLimits()
    assert postgres.login.total_seconds() == 15
    assert postgres.idle is not None
    assert postgres.most_strangers == 200
    assert (postgres.unauthenticated_bytes, postgres.client_buffer, postgres.statement_bytes) == (65536, 65536, 1 << 20)
    assert (http.head.total_seconds(), http.idle.total_seconds(), http.session_idle.total_seconds()) == (10, 60, 300)
    assert http.most_connections == 2000
