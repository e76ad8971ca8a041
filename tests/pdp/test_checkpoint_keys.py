"""The keys that sign checkpoints: where they lie, how one is exchanged, and that old ones verify what they signed."""

import asyncio
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from pdp.audit.checkpoint_keys import CheckpointKeys, Elsewhere
from pdp.audit.checkpoints import PURPOSE, is_signed
from pdp.audit.notary import Notary
from pdp.commands.failure import Status
from pdp.commands.proof import Ledger
from pdp.store import checkpoints as stored
from pdp.store import tables
from pdp.store.database import Database
from pdp.store.keys import public_keys, signing_keys
from pdp.v1.config_values import Secret
from pdp.v1.strict_yaml import ConfigError
from tests.pdp.commanding import OWNER, as_
from tests.pdp.serving import folder, serving
from tests.pdp.test_checkpoints import MINUTE, NOW, Clock, grow, log_of


def privates(connection: Connection) -> list[bytes]:
    """What the store has of keys that sign."""
    column = tables.keys.c
    return list(
        connection.execute(select(column.private).where(column.purpose == PURPOSE, column.private != b"")).scalars()
    )


def write_key(file: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return key


async def holds(database: Database) -> bool:
    """Whether the log is whole, each entry signed by a key that the store names."""

    def work(connection: Connection) -> bool:
        ledger = Ledger(public_keys(connection, PURPOSE))
        return not [each for entry in stored.entries(connection, 0, 1000) for each in ledger.feed(entry)]

    return await database.bulk.run(work)


@pytest.mark.parametrize("place", ["store", "state folder", "reference"])
def test_a_new_key_signs_from_now_on_and_the_old_one_verifies(store_url: str, tmp_path: Path, place: str) -> None:
    file = tmp_path / "given.key"
    write_key(file)
    where = {"store": None, "state folder": tmp_path / "state", "reference": Secret(file=file)}[place]

    async def scenario() -> None:
        async with Database(store_url) as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1, place=where)
            other = await Notary.open(database, Clock(), every=MINUTE, events=1, place=where)
            first = notary.keys.signing
            assert other.keys.signing[0] == first[0]

            async def more() -> None:
                await database.bulk.run(lambda connection: grow(connection, "c", 1))
                await notary.round()

            await more()
            if place == "reference":
                with pytest.raises(Elsewhere):
                    await notary.keys.rotate()
                write_key(file)
                await notary.keys.follow()
            else:
                assert await notary.keys.rotate() == notary.keys.signing[0]
            second = notary.keys.signing
            assert second[0] != first[0]
            await more()
            log = await log_of(database)
            assert [each.key for each in log] == [first[0], second[0]]
            # What each says is its own: the other's key does not verify it.
            assert not is_signed(log[0], {first[0]: second[1].public_key()})
            assert await holds(database)
            # A replica that has not followed yet takes the other's for this service's.
            await database.bulk.run(lambda connection: grow(connection, "c", 1))
            await other.round()
            assert [each.key for each in await log_of(database)] == [first[0], second[0], first[0]]
            await other.keys.follow()
            assert other.keys.signing[0] == second[0]
            kept = await database.bulk.run(privates)
            # Nobody signs with the old one again, and with the new one only who reads where it lies.
            assert kept == ([second[1].private_bytes_raw()] if place == "store" else [])
            again = await Notary.open(database, Clock(), every=MINUTE, events=1, place=where)
            assert again.keys.signing[0] == second[0]
            assert await holds(database)

    asyncio.run(scenario())


def test_a_key_that_moves_out_of_the_store_leaves_only_its_public_part_there(store_url: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Database(store_url) as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1)
            old = notary.keys.signing[0]
            await database.bulk.run(lambda connection: grow(connection, "c", 1))
            await notary.round()
            assert len(await database.bulk.run(privates)) == 1
            moved = await Notary.open(database, Clock(), every=MINUTE, events=1, place=tmp_path / "state")
            assert await database.bulk.run(privates) == []
            await database.bulk.run(lambda connection: grow(connection, "c", 1))
            await moved.round()
            assert [each.key for each in await log_of(database)] == [old, moved.keys.signing[0]]
            assert await holds(database)

    asyncio.run(scenario())


def test_a_key_that_is_none_keeps_a_start_up_and_changes_nothing_later(tmp_path: Path) -> None:
    file = tmp_path / "given.key"

    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:
            keys = CheckpointKeys(database, Clock(), Secret(file=file))
            with pytest.raises(ConfigError, match="cannot read the secret"):
                await keys.load()
            file.write_text("none")
            with pytest.raises(ConfigError, match="not an Ed25519 key"):
                await keys.load()
            write_key(file)
            await keys.load()
            before = keys.signing
            file.write_text("none")
            await keys.follow()
            assert keys.signing == before

    asyncio.run(scenario())


def test_a_store_that_names_a_strangers_key_as_its_own_makes_it_no_signer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1, place=tmp_path / "state")
            name, key = notary.keys.signing
            stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw()

            def exchanged(connection: Connection) -> None:
                connection.execute(tables.keys.update().where(tables.keys.c.id == name).values(public=stranger))

            await database.bulk.run(exchanged)
            trusted = await database.bulk.run(notary.keys.verifying)
            assert trusted[name].public_bytes_raw() == key.public_key().public_bytes_raw()

    asyncio.run(scenario())


def test_people_exchange_the_key_and_print_all_public_ones() -> None:
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                file = service.config.state / "checkpoint.key"
                assert file.stat().st_mode & 0o077 == 0
                first = service.inside.notary.keys.signing[0]
                done = await as_(service, OWNER, "keys", "rotate", "--checkpoints")
                second = service.inside.notary.keys.signing[0]
                assert (done.status, done.out) == (0, f"{second} signs checkpoints from now on\n")
                assert second != first
                printed = await as_(service, OWNER, "records", "keys")
                assert json.loads(printed.out).keys() == {first, second}
                assert await service.inside.database.bulk.run(privates) == []
                assert await service.inside.database.bulk.run(lambda c: signing_keys(c, "session", NOW))
            given = path / "given.key"
            write_key(given)
            more = f"  records: {{checkpoints: {{key: {{file: '{given}'}}}}}}\n"
            async with serving(path, more=more) as service:
                assert service.inside.notary.keys.signing[0] not in (first, second)
                refused = await as_(service, OWNER, "keys", "rotate", "--checkpoints")
                assert (refused.status, "records.checkpoints.key" in refused.err) == (Status.NOT_POSSIBLE, True)

    asyncio.run(scenario())
