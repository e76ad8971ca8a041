"""Signing keys that every replica of the service shares."""

from __future__ import annotations

import datetime
import secrets

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from pdp.store import tables


def signing_keys(connection: Connection, purpose: str, now: datetime.datetime) -> list[tuple[str, Ed25519PrivateKey]]:
    """The keys of that purpose by id, newest first; one is made where there is none."""
    wanted = select(tables.keys).where(tables.keys.c.purpose == purpose).order_by(tables.keys.c.created_at.desc())
    rows = connection.execute(wanted).all()
    if rows:
        return [(row.id, Ed25519PrivateKey.from_private_bytes(row.private)) for row in rows]
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    name = secrets.token_hex(8)
    connection.execute(tables.keys.insert().values(id=name, purpose=purpose, created_at=now, private=private))
    return [(name, key)]
