"""Tokens that were good for one use, in the store. Functions of a connection; the caller has the transaction."""

from __future__ import annotations

import datetime

from sqlalchemy import Connection, select

from pdp.store import tables

_t = tables.used_tokens.c


def take(connection: Connection, issuer: str, token_id: str, used_by: str, until: datetime.datetime) -> str:
    """Which call has the token's one use: the one that took it first, on whichever replica."""
    wanted = select(_t.used_by).where(_t.issuer == issuer, _t.token_id == token_id)
    found = connection.execute(wanted).scalar_one_or_none()
    if found is not None:
        return str(found)
    connection.execute(
        tables.used_tokens.insert().values(issuer=issuer, token_id=token_id, used_by=used_by, until=until)
    )
    return used_by


def forget(connection: Connection, now: datetime.datetime) -> None:
    """Those that nobody could use any more."""
    connection.execute(tables.used_tokens.delete().where(_t.until < now))
