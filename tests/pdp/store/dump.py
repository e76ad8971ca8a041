"""Writes the dumps of a store's shape that a release leaves behind; see `tests/data/store/README.md`.

    python -m tests.pdp.store.dump VERSION

PostgreSQL is the one of the tests, started for this alone.
"""

import datetime
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine

from pdp.identity.subject import Subject
from pdp.store import records, sessions
from pdp.store.database import migrate
from tests import fix_postgres
from tests.fix_postgres import PostgresServer

FOLDER: Final = Path(__file__).parent.parent.parent / "data" / "store"
NOW: Final = datetime.datetime(2030, 1, 2, 3, 4, 5, 678901, datetime.UTC)
SESSION: Final = "s-of-a-release"
EVENT: Final = b'{"kept": "as it was"}'


def fill(connection: Connection) -> None:
    """A session with a record, by the functions of the release."""
    subject = Subject("agent", "planner", ("agents",), "checkrein", "token")
    opened = sessions.StoredSession(
        id=SESSION,
        proxy="spiffe://checkrein/pep/shop",
        resource="shop",
        protocol="postgres",
        client_address="127.0.0.1:5",
        labels={},
        supported=(),
        subject=subject,
        credential_expires_at=None,
        opened_at=NOW,
    )
    sessions.insert(connection, opened)
    records.add(connection, SESSION, 0, EVENT, b"hash")


def sqlite_dump(prepare: Callable[[Connection], None]) -> str:
    """Of a store at today's shape with what `prepare` puts into it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pdp.db"
        with begun(f"sqlite:///{file}") as connection:
            migrate(connection)
            prepare(connection)
        with closing(sqlite3.connect(file)) as store:
            return "\n".join(store.iterdump()) + "\n"


def postgres_dump(server: PostgresServer, database: str, url: str, prepare: Callable[[Connection], None]) -> str:
    """The same by `pg_dump`; the database must be empty."""
    with begun(url) as connection:
        migrate(connection)
        prepare(connection)
    words = ["--no-owner", "--no-privileges", "--inserts", f"--dbname={server.dsn(database)}"]
    done = subprocess.run([server.bin_dir / "pg_dump", *words], check=True, capture_output=True, text=True)
    return done.stdout


@contextmanager
def begun(url: str) -> Iterator[Connection]:
    """A transaction in the store, past the program."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def main(version: str) -> None:
    """Writes both files."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{version}.sqlite.sql").write_text(sqlite_dump(fill), "utf-8")
    started: Any = fix_postgres.postgres18.__wrapped__()  # type: ignore[attr-defined]
    server = next(started)
    try:
        server.create_database("released")
        url = f"postgresql+psycopg://postgres@{server.host}:{server.port}/released"
        (FOLDER / f"{version}.postgresql.sql").write_text(postgres_dump(server, "released", url, fill), "utf-8")
    finally:
        next(started, None)


if __name__ == "__main__":
    main(sys.argv[1])
