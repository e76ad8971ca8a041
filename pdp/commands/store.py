"""`pdp store`: copies of the store, and what is done with one that was put back. These need no running service."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from pdp.commands.connection import DEFAULT_CONFIG, ConfigFile
from pdp.commands.failure import Failure
from pdp.commands.screen import console, line
from pdp.config import Config, load_config

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Copies of the store. See docs/operations.md for how to restore one.",
)


@app.command("backup", epilog="Example: pdp store backup /backup/checkrein.db")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; must not exist.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy a store that is a file (SQLite), while the service runs.

    No session in the copy is open and no grant in it can be used: to restore it, stop the service, put the copy where
    the store was, and start. A store in PostgreSQL is copied with pg_dump.
    """
    # Imported here, so that other commands start without what a store is made of.
    from pdp.store.backup import DamagedCopy, copy_file
    from pdp.store.url import read_url

    settings = load_config(config)
    store = read_url(settings.store_url())
    if store.file is None:
        raise Failure(f"the store is in PostgreSQL ({store}); copy it with pg_dump (docs/operations.md says how)")
    if not store.file.exists():
        raise Failure(f"there is no store yet: {store.file}")
    try:
        settled = copy_file(store.file, file, datetime.datetime.now(datetime.UTC))
    except FileExistsError:
        raise Failure(f"{file} exists already; a copy is never written over another file") from None
    except (OSError, sqlite3.Error, DamagedCopy) as error:
        raise Failure(f"cannot copy {store.file} to {file}: {error}") from None
    line(
        console(),
        f"copied {store.file} to {file}; in the copy {settled.sessions} open sessions and {settled.approvals} approvals"
        " are ended",
    )


@app.command("settle", epilog="Example, after pg_restore and before the service starts: pdp store settle")
def settle(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """End every session and grant of a store that was put back from a copy, before the service starts.

    What was killed or used after the copy was made is open or usable in it. A copy of `pdp store backup` is settled
    already.
    """
    settings = load_config(config)
    line(console(), asyncio.run(_settle(settings)))


async def _settle(settings: Config) -> str:
    from pdp.server import only_one
    from pdp.store.backup import settle
    from pdp.store.database import Database
    from pdp.store.url import read_url

    url = settings.store_url()
    file = read_url(url).file
    # To open it would make an empty one, and say that all is well.
    if file is not None and not file.exists():
        raise Failure(f"there is no store yet: {file}; put the copy there first")
    now = datetime.datetime.now(datetime.UTC)
    with only_one(settings.state):
        database = Database(url)
        async with database:
            settled = await database.short.run(lambda connection: settle(connection, now))
    return f"ended {settled.sessions} open sessions and {settled.approvals} approvals in {database}"
