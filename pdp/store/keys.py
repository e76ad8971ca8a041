"""Signing keys that every replica of the service shares.

A new key signs only after `AHEAD`: by then every replica has read it, so nothing is signed with a key that another
cannot verify. A key that no longer signs verifies as long as anything that it signed is good, and is then removed.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from pdp.store import tables

AHEAD: Final = datetime.timedelta(seconds=30)

_t = tables.keys.c


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and from when on it signs."""

    id: str
    private: Ed25519PrivateKey
    signs_from: datetime.datetime


def signing_keys(connection: Connection, purpose: str, now: datetime.datetime) -> list[SigningKey]:
    """The keys of that purpose, newest first; one that signs at once is made where there is none."""
    wanted = select(tables.keys).where(_t.purpose == purpose).order_by(_t.created_at.desc(), _t.id)
    rows = connection.execute(wanted).all()
    if not rows:
        return [add(connection, purpose, now)]
    return [SigningKey(row.id, Ed25519PrivateKey.from_private_bytes(row.private), row.created_at) for row in rows]


def add(connection: Connection, purpose: str, signs_from: datetime.datetime) -> SigningKey:
    """A new key."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    name = secrets.token_hex(8)
    connection.execute(tables.keys.insert().values(id=name, purpose=purpose, created_at=signs_from, private=private))
    return SigningKey(name, key, signs_from)


def rotate(
    connection: Connection, purpose: str, now: datetime.datetime, *, after: datetime.timedelta, keep: datetime.timedelta
) -> list[SigningKey]:
    """The keys after what is due: a new one where the newest is older than `after`, and without those that have signed
    nothing for longer than `keep`."""
    keys = signing_keys(connection, purpose, now)
    if keys[0].signs_from + after <= now:
        keys = [add(connection, purpose, now + AHEAD), *keys]
    # A key stopped signing when the next one began.
    gone = [older.id for newer, older in pairwise(keys) if newer.signs_from + keep <= now]
    if gone:
        connection.execute(tables.keys.delete().where(_t.id.in_(gone)))
    return [each for each in keys if each.id not in gone]
