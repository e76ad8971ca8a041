"""Signing keys that every replica of the service shares.

A new key signs only after `AHEAD`: by then every replica has read it, so nothing is signed with a key that another
cannot verify. A key that no longer signs verifies as long as anything that it signed is good, and is then removed.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
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
    wanted = select(tables.keys).where(_t.purpose == purpose, _t.private != b"")
    wanted = wanted.order_by(_t.created_at.desc(), _t.id)
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
    _insert(connection, purpose, name, key.public_key(), signs_from, private)
    return SigningKey(name, key, signs_from)


def register(connection: Connection, purpose: str, name: str, public: Ed25519PublicKey, now: datetime.datetime) -> None:
    """Keeps the public part of a key whose private part is elsewhere; nothing where it is kept."""
    if connection.execute(select(_t.id).where(_t.id == name)).one_or_none() is None:
        _insert(connection, purpose, name, public, now, b"")


def _insert(
    connection: Connection,
    purpose: str,
    name: str,
    public: Ed25519PublicKey,
    created_at: datetime.datetime,
    private: bytes,
) -> None:
    values = {"id": name, "purpose": purpose, "created_at": created_at, "private": private}
    connection.execute(tables.keys.insert().values(**values, public=public.public_bytes_raw()))


def public_keys(connection: Connection, purpose: str) -> dict[str, Ed25519PublicKey]:
    """Every key that was ever made for that purpose and is kept, by its id; what is none, nothing verifies."""
    rows = connection.execute(select(_t.id, _t.public).where(_t.purpose == purpose).order_by(_t.created_at.desc()))
    found: dict[str, Ed25519PublicKey] = {}
    for row in rows:
        with contextlib.suppress(ValueError):
            found[row.id] = Ed25519PublicKey.from_public_bytes(row.public)
    return found


def forget_private(connection: Connection, purpose: str, *, but: str = "") -> None:
    """Keys that sign no more go on to verify, and nobody can sign with them again."""
    which = (_t.purpose == purpose, _t.id != but, _t.private != b"")
    connection.execute(tables.keys.update().where(*which).values(private=b""))


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
