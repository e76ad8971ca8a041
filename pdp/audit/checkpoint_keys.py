"""Which key signs checkpoints now, and which ones verify what was signed before.

The private key lies in a file of the state folder, or wherever the configuration says; only where several replicas
share a store and nothing is said, in the store, because they need one key between them. In the store are the public
keys, all that ever signed. A new key signs from when it is there: whoever meets one that is new to him looks it up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection

from pdp.audit.checkpoints import PURPOSE
from pdp.identity.tokens import Clock, new_own_key, own_key, read_key
from pdp.store import keys as stored
from pdp.store.database import Database
from pdp.v1.config_values import Secret
from pdp.v1.strict_yaml import ConfigError

FILE: Final = "checkpoint.key"

log = structlog.get_logger("pdp.notary")


class Elsewhere(Exception):
    """The key is not this service's to change."""


class CheckpointKeys:
    """`place` is the state folder, a reference, or None for the store. `load` comes first. Raises ConfigError there."""

    def __init__(self, database: Database, now: Clock, place: Path | Secret | None = None) -> None:
        self._database = database
        self._now = now
        self._place = place
        self._signing: tuple[str, Ed25519PrivateKey] | None = None

    @property
    def signing(self) -> tuple[str, Ed25519PrivateKey]:
        """The key that signs, with its id."""
        assert self._signing is not None, "load comes first"
        return self._signing

    def verifying(self, connection: Connection) -> Mapping[str, Ed25519PublicKey]:
        """Every key that signed, the one that signs now among them whatever the store says."""
        name, key = self.signing
        return {**stored.public_keys(connection, PURPOSE), name: key.public_key()}

    async def load(self) -> None:
        """The key as it is now. What the store has of others' private keys goes: they sign no more."""
        await self._take(await self._read())
        if self._place is not None:
            await self._database.short.run(lambda connection: stored.forget_private(connection, PURPOSE))

    async def follow(self) -> None:
        """Takes up a key that was exchanged; called at intervals. One that is none changes nothing."""
        try:
            found = await self._read()
        except ConfigError as error:
            log.warning("the key for checkpoints is not read again", why=str(error))
            return
        if found[0] != self.signing[0]:
            await self._take(found)
            log.info("checkpoints are signed with another key", key=found[0])

    async def rotate(self) -> str:
        """A new key signs from now on; its id. Elsewhere where it has to be exchanged by hand."""
        match self._place:
            case None:

                def work(connection: Connection) -> tuple[str, Ed25519PrivateKey]:
                    fresh = stored.add(connection, PURPOSE, self._now())
                    stored.forget_private(connection, PURPOSE, but=fresh.id)
                    return fresh.id, fresh.private

                await self._take(await self._database.short.run(work))
            case Path():
                await self._take(_named(await asyncio.to_thread(new_own_key, self._place, FILE)))
            case Secret():
                raise Elsewhere("put the new key where pdp.records.checkpoints.key says; it is taken up by itself")
            case never:
                assert_never(never)
        return self.signing[0]

    async def _take(self, key: tuple[str, Ed25519PrivateKey]) -> None:
        # Before it signs: what it signed can be verified by whoever sees it.
        name, public = key[0], key[1].public_key()
        now = self._now()
        await self._database.short.run(lambda connection: stored.register(connection, PURPOSE, name, public, now))
        self._signing = key

    async def _read(self) -> tuple[str, Ed25519PrivateKey]:
        match self._place:
            case None:
                now = self._now()
                newest, *_ = await self._database.short.run(lambda c: stored.signing_keys(c, PURPOSE, now))
                return newest.id, newest.private
            case Path():
                return _named(await asyncio.to_thread(own_key, self._place, FILE))
            case Secret():
                pem = await asyncio.to_thread(self._place.resolve)
                return _named(read_key(pem.encode(), "records.checkpoints.key"))
            case never:
                assert_never(never)


def _named(key: Ed25519PrivateKey) -> tuple[str, Ed25519PrivateKey]:
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16], key
