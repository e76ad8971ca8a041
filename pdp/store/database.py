"""The connection to the store: transactions off the event loop, and the shape brought up to date at start.

Two lanes: short transactions (sessions, approvals), and records, whose larger commits must not delay the others. The
code that runs in them is the same on both databases and may take for granted that it is alone:

- SQLite (a file of this machine; WAL, every commit synchronised to disk): a transaction locks the file from its
  beginning, and each lane has one thread.
- PostgreSQL (what replicas share): every transaction is SERIALIZABLE. One that the server ends, because together with
  another it would not have been as if they came one after the other, is run again from its beginning.

So a work that changes something besides the store must bear to be run again. A store that does not answer is
`StoreUnavailable`: the call ends without an answer, which means no. The pool connects again by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import alembic.command
import alembic.config
import structlog
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from pdp.store.url import StoreUrl, read_url
from pdp.v1.strict_yaml import ConfigError
from pdp.v1.turns import Turns

T = TypeVar("T")

log = structlog.get_logger("pdp.store")

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# How long a caller waits for a transaction on a server. The thread may wait longer: for one that is paused.
_PATIENCE: Final = 10.0
# How long a transaction is run again and again before it is given up.
_RETRY_SECONDS: Final = 8.0
# How often a key may be found taken; a work that always takes one twice is wrong.
_COLLISIONS: Final = 3
_LONGEST_PAUSE: Final = 0.05
_THREADS: Final = 2
# Serialization failure, deadlock: the same work, once more.
_AGAIN: Final = frozenset({"40001", "40P01"})
# A server that only reads (a standby, until it is promoted), one that shuts down or starts.
_NOT_NOW: Final = frozenset({"25006", "57P01", "57P02", "57P03"})
# BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN (SQLite docs, "Result and Error Codes"): its file cannot be used.
_FILE_TROUBLES: Final = frozenset({5, 6, 8, 10, 13, 14})
_MIGRATING: Final = 0x636B7231  # any number, as long as every version uses this one
_POSTGRES: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # A statement or a lock that takes so long is given up by the server as well, a forgotten transaction ended.
    "options": "-c statement_timeout=8000 -c idle_in_transaction_session_timeout=30000",
    "application_name": "checkrein",
}


# What is erased is overwritten in the file; not every build of SQLite does so by itself.
_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "secure_delete=ON",
)


class StoreUnavailable(Exception):
    """The store does not answer, or not in time; whether the transaction took place is not known."""


class Lane:
    """Threads that run transactions, begun in the order of their arrival, each share's in turn (`pdp.v1.turns`)."""

    def __init__(self, engine: Engine, name: str, threads: int, patience: float | None) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._turns = Turns(threads, threads)
        self._patience = patience

    async def run(self, work: Callable[[Connection], T], share: str = "") -> T:
        """Runs the work in a transaction of its own, committed when this returns.

        The work may be run more than once; only what the last run did stays. A caller that is cancelled does not undo
        it: work that has begun goes on to its end. StoreUnavailable where the store does not answer. `share` is the
        person's or workload's at the end of the chain that causes it; without one it is this service's own work.
        """
        try:
            async with asyncio.timeout(self._patience), self._turns.of(share):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, work)
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        end = time.monotonic() + _RETRY_SECONDS
        collisions = 0
        while True:
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                collisions += isinstance(error, IntegrityError)
                if not _worth_repeating(error, collisions):
                    raise
                if time.monotonic() > end:
                    raise StoreUnavailable("the store is too busy") from error
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - only spreads those who collide

    async def apart(self, statement: str) -> None:
        """Runs a statement that may be in no transaction, behind those that have begun."""
        async with self._turns.of(""):
            await asyncio.get_running_loop().run_in_executor(self._threads, self._apart, statement)

    def _apart(self, statement: str) -> None:
        connection = self._engine.raw_connection()
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def _worth_repeating(error: DBAPIError, collisions: int) -> bool:
    """Whether the work may succeed when it begins again; StoreUnavailable where it has to wait for the store.

    A key that was free when the work looked and is taken now is found when it looks again.
    """
    code = getattr(error.orig, "sqlstate", None)
    if code in _AGAIN or (isinstance(error, IntegrityError) and collisions <= _COLLISIONS):
        return True
    if _no_answer(error):
        # The driver's text may name the server and the account; it belongs into the log, not to callers.
        raise StoreUnavailable("the store is not available") from error
    return False


def _no_answer(error: DBAPIError) -> bool:
    """Whether it is the store's state, and no fault of the work, that the work failed."""
    if (number := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return number & 0xFF in _FILE_TROUBLES
    if getattr(error.orig, "sqlstate", None) in _NOT_NOW:
        return True
    return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated


class Database:
    """The store. A context manager; `short` and `bulk` are its lanes.

    `shared` says whether other processes change it as well. `problem` is why it cannot be used at the moment, or "";
    `probe` finds out.
    """

    def __init__(self, url: str | Callable[[], str]) -> None:
        self._url = url
        self._where = self._read()
        self.shared: Final = not self._where.is_file
        self.problem = ""
        self._engine = self._sqlite() if self._where.is_file else self._postgres()
        threads, patience = (1, None) if self._where.is_file else (_THREADS, _PATIENCE)
        self.short = Lane(self._engine, "store", threads, patience)
        self.bulk = Lane(self._engine, "records", threads, patience)

    def __str__(self) -> str:
        return str(self._where)

    @property
    def file(self) -> Path | None:
        """The file of a store that is one."""
        return self._where.file

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._open)
        except BaseException:
            # What could not be used is left with nothing open.
            await asyncio.to_thread(self._close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._close)

    async def probe(self) -> None:
        """Sees whether the store answers, and notes it."""
        try:
            await self.short.run(lambda connection: connection.execute(text("select 1")).scalar_one())
        except StoreUnavailable as error:
            if not self.problem:
                log.critical("store not available", store=str(self), why=str(error), cause=str(error.__cause__ or ""))
            self.problem = str(error)
        else:
            if self.problem:
                log.info("store available again", store=str(self))
            self.problem = ""

    async def forget(self) -> None:
        """Sees that what was erased stands in no file of the store any more; for one on a server this does nothing.

        The log of writes keeps what was written until it is written over. Where somebody reads just then it may stay
        until the next time.
        """
        if not self.shared:
            await self.bulk.apart("PRAGMA wal_checkpoint(TRUNCATE)")

    def _read(self) -> StoreUrl:
        return read_url(self._url if isinstance(self._url, str) else self._url())

    def _sqlite(self) -> Engine:
        engine = create_engine(self._where.url)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def _postgres(self) -> Engine:
        try:
            import psycopg
        except ImportError:
            raise ConfigError(
                "pdp.store.url: the driver for PostgreSQL is not installed; run: pip install 'checkrein[postgres]'"
            ) from None
        del psycopg
        own = self._where.url.query.get("options", "")
        engine = create_engine(
            self._where.url,
            isolation_level="SERIALIZABLE",
            connect_args=_POSTGRES | {"options": f"{_POSTGRES['options']} {own}".strip()},
            pool_size=2 * _THREADS,
            max_overflow=0,
            # One that the server closed meanwhile is replaced instead of used.
            pool_pre_ping=True,
        )
        event.listen(engine, "do_connect", self._log_in)
        return engine

    def _log_in(self, _dialect: object, _record: object, _words: object, arguments: dict[str, Any]) -> None:
        """Each connection with the account as the reference gives it now: passwords are changed while this runs."""
        try:
            fresh = self._read().url
        except ConfigError as error:
            # What was good before may be good still; if not, the server says so.
            log.warning("the store's URL cannot be read again", why=str(error))
            return
        account = {"user": fresh.username, "password": fresh.password}
        arguments.update({name: value for name, value in account.items() if value is not None})

    def _open(self) -> None:
        try:
            if (file := self._where.file) is not None:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.touch(mode=0o600, exist_ok=True)
            with self._migrating().begin() as connection:
                if self.shared:
                    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
                migrate(connection)
        except (OSError, SQLAlchemyError) as error:
            why = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise ConfigError(f"cannot open the store {self}: {why}") from error
        except CommandError as error:
            raise ConfigError(f"the store {self} is of a newer version than this program: {error}") from error

    def _migrating(self) -> Engine:
        """Not serialisable on a server: whoever waited for another's migration must see what that has made."""
        if not self.shared:
            return self._engine
        with_committed: Engine = self._engine.execution_options(isolation_level="READ COMMITTED")
        return with_committed

    def _close(self) -> None:
        self.short.close()
        self.bulk.close()
        self._engine.dispose()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Brings the shape of the store up to date, from whatever version it has."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)


def _prepare(connection: Any, _: object) -> None:
    # The driver's own transaction control begins too late for a compare-and-set; `_begin` does it.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
