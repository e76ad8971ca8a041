"""The connection to the store: transactions off the event loop, and the shape brought up to date at start.

Two lanes, each a thread of its own: short transactions (sessions, approvals), and records, whose larger commits must
not delay the others. SQLite (WAL, every commit synchronised to disk); decisions do not wait on either lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import alembic.command
import alembic.config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from pdp.v1.strict_yaml import ConfigError

T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations"


class Lane:
    """One thread that runs transactions in the order of their arrival."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs the work in a transaction of its own, committed when this returns.

        A caller that is cancelled does not undo it: the work goes on to its end.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        self._thread.shutdown(wait=True)


class Database:
    """The store. A context manager; `short` and `bulk` are its lanes."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        if self._url.get_backend_name() != "sqlite" or self._url.database in (None, "", ":memory:"):
            raise ConfigError("pdp.store.url: this version keeps its store in a file of SQLite: sqlite:///PATH")
        self._engine = create_engine(self._url)
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self.short = Lane(self._engine, "store")
        self.bulk = Lane(self._engine, "records")

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        assert self._url.database is not None
        file = Path(self._url.database)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600, exist_ok=True)
            with self._engine.begin() as connection:
                migrate(connection)
        except (OSError, SQLAlchemyError) as error:
            raise ConfigError(f"cannot open the store {file}: {error}") from error
        except CommandError as error:
            raise ConfigError(f"the store {file} is of a newer version than this program: {error}") from error

    def _close(self) -> None:
        self.short.close()
        self.bulk.close()
        self._engine.dispose()


def migrate(connection: Connection) -> None:
    """Brings the shape of the store up to date, from whatever version it has."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _prepare(connection: Any, _: object) -> None:
    # The driver's own transaction control begins too late for a compare-and-set; `_begin` does it.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
