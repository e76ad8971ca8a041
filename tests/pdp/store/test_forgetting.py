"""What is erased is in no file of a store that is one: not in a page that is free, and not in the log of writes."""

import asyncio
import datetime
import os
from pathlib import Path

from pdp.store import keys, records, retention
from pdp.store.backup import copy_file
from pdp.store.database import Database

NOW = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)
# Several pages, and nothing that would be smaller when it is compressed.
BODY = os.urandom(30_000)
PIECES = [BODY[:64], BODY[15_000:15_064], BODY[-64:]]
SMALL = b"select 'small-and-secret-statement'"


def holding(folder: Path, *pieces: bytes) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if any(piece in path.read_bytes() for piece in pieces)]


def test_erased_bodies_are_in_no_file_of_the_store(tmp_path: Path):
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path / 'pdp.db'}") as database:
            for number in range(20):
                content = BODY if number % 2 else SMALL
                await database.bulk.run(
                    lambda connection, number=number, content=content: records.add_body(  # type: ignore[misc]
                        connection, f"s-{number % 2}", number, 0, b"s" * 32, content, NOW
                    )
                )
            assert holding(tmp_path, *PIECES)
            assert holding(tmp_path, SMALL)
            for session in ("s-0", "s-1"):
                await database.bulk.run(
                    lambda connection, session=session: retention.erase_bodies_of(connection, session)  # type: ignore[misc]
                )
            # The log of writes has them still.
            assert holding(tmp_path, *PIECES, SMALL) == ["pdp.db-wal"]
            await database.forget()
            assert holding(tmp_path, *PIECES, SMALL) == []

    asyncio.run(scenario())


def test_the_keys_that_a_copy_is_rid_of_are_not_in_its_file(tmp_path: Path):
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path / 'pdp.db'}") as database:
            made = [
                await database.short.run(lambda connection, for_=purpose: keys.add(connection, for_, NOW))  # type: ignore[misc]
                for purpose in ("session", "session", "checkpoint")
            ]
            copy_file(tmp_path / "pdp.db", tmp_path / "copy.db", NOW)
            content = (tmp_path / "copy.db").read_bytes()
            assert [each.private.private_bytes_raw() in content for each in made] == [False, False, True]

    asyncio.run(scenario())
