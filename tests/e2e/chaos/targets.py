"""The targets, which keep a ledger of their own: a PostgreSQL whose log names every statement, and the API."""

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.e2e.chaos.link import Link
from tests.e2e.chaos.told import MARKER
from tests.fix_postgres import PostgresServer, _account, _attempt, _directory, _running
from tests.fix_stack import _below

_API = Path(__file__).parent / "api.py"
_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) \S+ \[\d+\] (\S*) (\S*) (LOG|DETAIL):  (.*)$")
TABLES = """
create table entries (marker text not null, note text);
create table held (marker text not null);
create table closed (marker text not null);
"""


@dataclass(frozen=True, slots=True)
class Executed:
    """A target says that it has got something to execute; `at` in seconds since the epoch."""

    at: float
    what: str


@dataclass(eq=False)
class Postgres:
    """A server of our own, behind a link. What it has said is committed survives its processes."""

    server: PostgresServer
    link: Link
    database: str

    def processes(self) -> list[int]:
        # A killed one leaves its file, and the number in it may be anybody's by now.
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.server.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
            if Path(f"/proc/{pid}/comm").read_text() == "postgres\n":
                return [pid, *_below(pid)]
        return []

    def signal(self, number: int) -> bool:
        """Whether it was there to get it."""
        processes = self.processes()
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(processes)

    def cut_backends(self) -> None:
        with contextlib.suppress(psycopg.Error):
            ends = "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s and random() < 0.7"
            with psycopg.connect(self.server.superuser_dsn, autocommit=True, connect_timeout=5) as connection:
                connection.execute(ends, [self.server.proxy_role])

    def start(self) -> bool:
        """Whether it runs; what a killed one has left may be in the way for a moment."""
        control = [self.server.bin_dir / "pg_ctl", "-D", self.server.data_dir, "-w", "-s", "-t", "60"]
        options = ["-l", self.server.log_path, "-o", f"-p {self.server.port}", "start"]
        return _attempt([*control, *options], _account()).returncode == 0

    def answers(self) -> bool:
        dsn = self.server.superuser_dsn
        with contextlib.suppress(psycopg.Error), psycopg.connect(dsn, connect_timeout=5) as connection:
            return connection.execute("select 1").fetchone() == (1,)
        return False

    def executed(self) -> dict[str, list[Executed]]:
        """By marker: every time that a statement with it was executed, by the server's log."""
        found: dict[str, list[Executed]] = {}
        for line in self.server.log_path.read_text("utf-8", "replace").splitlines():
            parts = _LINE.match(line)
            if parts is None or parts[3] != self.server.proxy_role:
                continue
            said = parts[5]
            with_values = parts[4] == "DETAIL" and said.lower().startswith("parameters: ")
            if not with_values and not re.match(r"statement: |execute ", said):
                continue
            at = datetime.datetime.strptime(parts[1] + "+0000", "%Y-%m-%d %H:%M:%S.%f%z").timestamp()
            for marker in set(MARKER.findall(said)):
                found.setdefault(marker, []).append(Executed(at, said[:200]))
        return found

    def rows(self) -> dict[str, int]:
        """By marker: how many rows have been committed."""
        rows = self.server.sql(self.database, "select marker from entries union all select marker from held")
        counted: dict[str, int] = {}
        for (marker,) in rows:
            counted[str(marker)] = counted.get(str(marker), 0) + 1
        return counted


@dataclass(eq=False)
class Api:
    """The API, a child of ours behind a link."""

    ledger: Path
    link: Link
    process: subprocess.Popen[str] | None = field(default=None)

    def start(self) -> None:
        assert isinstance(self.link.target, Path)
        # It is left where one was killed.
        self.link.target.unlink(missing_ok=True)
        command = [sys.executable, _API, str(self.ledger), str(self.link.target)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def executed(self) -> dict[str, list[Executed]]:
        found: dict[str, list[Executed]] = {}
        for line in self.ledger.read_text("utf-8").splitlines():
            request = json.loads(line)
            for marker in set(MARKER.findall(line)):
                found.setdefault(marker, []).append(Executed(request["at"], f"{request['method']} {request['path']}"))
        return found


@contextlib.contextmanager
def postgres(programs: PostgresServer, database: str) -> Iterator[Postgres]:
    """With the programs of another server; what it commits is on disk when it says so."""
    account = _account()
    with _directory(account) as directory, _running(programs.bin_dir, directory, account) as server:
        server.sql("postgres", "alter system set synchronous_commit = 'on'")
        server.sql("postgres", "alter system set log_timezone = 'UTC'")
        server.sql("postgres", "select pg_reload_conf()")
        server.create_database(database)
        server.sql(database, TABLES + "grant all on all tables in schema public to public")
        with Link(0, server.port) as link:
            found = Postgres(server, link, database)
            try:
                yield found
            finally:
                found.signal(signal.SIGCONT)
                if not found.answers():
                    found.start()


@contextlib.contextmanager
def api(folder: Path) -> Iterator[Api]:
    with tempfile.TemporaryDirectory(prefix="cr-api-", dir="/tmp") as place, Link(0, Path(place) / "socket") as link:
        found = Api(folder / "api.ledger", link)
        found.start()
        try:
            yield found
        finally:
            found.kill()
