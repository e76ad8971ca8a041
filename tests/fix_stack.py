"""The whole product as it is deployed: real `pdp`, OPA and `pep` processes before a real PostgreSQL with a small shop.

`stack` is one for the session, run by `pdp up`, for tests that leave it as it was. `private_stack` makes one that a
test may damage: there `pdp serve` and `pep serve` are children of the test, to be stopped and killed one by one. Both
have a copy of `rego/` that a test may edit, and are reached as people reach them: by tokens of `pdp token`, commands of
`pdp`, and the PostgreSQL protocol.
"""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pdp.commands.connection import Reach, connected
from pdp.commands.failure import Failure
from tests.fix_postgres import HOST, PROXY_PASSWORD, PROXY_ROLE, PostgresServer
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
RESOURCE = "shop"
ADMINISTRATION = "checkrein"
# Generous: the machine may be busy with other tests. Nothing waits so long unless it fails.
PATIENCE = 90.0
# Between two looks at something that another process changes and announces nowhere.
GLANCE = 0.02

AGENT = "agent:support-bot"
PERSON = "user:sam"
APPROVER = ("user:dana", ("order-team",))
OPERATOR = ("user:olga", ("checkrein-admins",))

_LEASH = ROOT / "pdp" / "commands" / "leash.py"
_numbers = itertools.count(1)

Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


@dataclass(eq=False)
class Running:
    """A child process and the file that its output goes to."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")


@dataclass(eq=False)
class Stack:
    """An installation: its folder, its configuration, and what runs of it."""

    folder: Path
    server: PostgresServer
    database: str
    port: int
    running: dict[str, Running] = field(default_factory=dict)
    _tokens: dict[tuple[object, ...], str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "checkrein.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def policies(self) -> Path:
        return self.folder / "rego"

    # --- processes ----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Everything as one command."""
        self._start("up", "pdp", "up", "-c", str(self.config))
        self.until(lambda: re.search(r"^ready$", self.running["up"].said(), re.MULTILINE), "up", "pdp up is ready")

    def serve(self) -> None:
        """The service, then the proxy, each a child of ours."""
        self.start_service()
        self.start_proxy()

    def start_service(self) -> None:
        self._start("service", "pdp", "serve", "-c", str(self.config))
        self.until(self.service_decides, "service", "the service decides")

    def start_proxy(self) -> None:
        self._start("proxy", "pep", "serve", "-c", str(self.config))
        self.until(self.proxy_accepts, "proxy", "the proxy accepts connections")

    def service_decides(self) -> bool:
        """Whether our own process listens (it says so in a file) and has policies in force."""
        ready = self.state / "pdp.ready"
        with contextlib.suppress(FileNotFoundError):
            if ready.read_text().split(" ", 1)[0] == str(self.running["service"].pid):
                return asyncio.run(_serving(self.config))
        return False

    def proxy_accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=5):
            return True
        return False

    def opa(self) -> int:
        """The process id of OPA."""
        for pid in _below(os.getpid()):
            words = _arguments(pid)
            if any("opa" in Path(word).name for word in words[:1]) and str(self.state) in " ".join(words):
                return pid
        pytest.fail("OPA does not run")

    def processes(self) -> dict[int, bytes]:
        """The arguments of everything that runs for it, by process id."""
        below = [pid for running in self.running.values() for pid in (running.pid, *_below(running.pid))]
        return {pid: "\0".join(_arguments(pid)).encode() for pid in below}

    def kill(self, name: str) -> None:
        """As a crash: SIGKILL, and it is gone when this returns."""
        running = self.running.pop(name)
        running.process.kill()
        running.process.wait()

    def end(self, name: str) -> int:
        """By asking it; the exit status."""
        running = self.running.pop(name)
        running.process.terminate()
        try:
            return running.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
            pytest.fail(f"{name} does not end:\n{running.said()[-3000:]}")

    def close(self) -> None:
        """The proxy first, so that it ships what it has."""
        for name in sorted(self.running):
            with contextlib.suppress(ProcessLookupError):
                self.running[name].process.send_signal(signal.SIGCONT)
            self.end(name)

    def logs(self) -> str:
        """What every process of it has said since the beginning."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted(self.folder.glob("*.log")))

    def until(self, true: Callable[[], Any], name: str | None = None, what: str = "") -> Any:
        """What it gives, once that is something; a failure names what was waited for."""
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            if name is not None and self.running[name].process.poll() is not None:
                pytest.fail(f"{name} ended:\n{self.running[name].said()[-3000:]}")
            if time.monotonic() > end:
                pytest.fail(f"this did not come: {what or true}\n{self.logs()[-3000:]}")
            time.sleep(GLANCE)
        return found

    def _start(self, name: str, *command: str) -> None:
        log = self.folder / f"{name}-{next(_numbers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", _LEASH, str(os.getpid()), sys.executable, "-m", *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**_environment(), "PYTHONUNBUFFERED": "1"},
            )
        self.running[name] = Running(process, log)

    # --- people and agents --------------------------------------------------------------------------------------------

    def token(
        self,
        subject: str = AGENT,
        groups: Sequence[str] = (),
        *,
        node: str = "",
        run: str = "",
        on_behalf_of: str = "",
        audience: str = RESOURCE,
        ttl: str = "",
    ) -> str:
        """By the real `pdp token`; asked again for the same, the same is given."""
        asked = (subject, tuple(groups), node, run, on_behalf_of, audience, ttl)
        if asked not in self._tokens:
            words = ["token", "--subject", subject, "--audience", audience]
            words += [word for group in groups for word in ("--group", group)]
            given = {"--node": node, "--run": run, "--on-behalf-of": on_behalf_of, "--ttl": ttl}
            given |= {"--graph": "support"} if node else {}
            words += [word for name, value in given.items() if value for word in (name, value)]
            done = self.pdp(*words)
            assert done.status == 0, done.err
            self._tokens[asked] = done.out.strip()
        return self._tokens[asked]

    def node(self, name: str, run: str = "") -> str:
        """The agent at one node of its workflow, for sam."""
        return self.token(AGENT, ("support-agents",), node=name, run=run, on_behalf_of=PERSON)

    def person(self, who: tuple[str, Sequence[str]]) -> str:
        """A token for the service itself."""
        return self.token(*who, audience=ADMINISTRATION)

    def pdp(self, *arguments: str, token: str = "", config: bool = True) -> Done:
        """The real command, with the caller's token."""
        more = {"PDP_TOKEN": token} if token else {}
        if config:
            more["CHECKREIN_CONFIG"] = str(self.config)
        done = subprocess.run(
            [sys.executable, "-m", "pdp", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
            env={**_environment(), "COLUMNS": "200", **more},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def as_(self, who: tuple[str, Sequence[str]], *arguments: str) -> str:
        """What a command prints that has to succeed."""
        done = self.pdp(*arguments, token=self.person(who))
        assert done.status == 0, done.err
        return done.out

    # --- connections --------------------------------------------------------------------------------------------------

    def dsn(self, token: str, **more: object) -> str:
        """For libpq."""
        given: dict[str, object] = {"host": HOST, "port": self.port, "dbname": RESOURCE, "user": "me"}
        given |= {"password": token, "sslmode": "disable", "connect_timeout": 10}
        return psycopg.conninfo.make_conninfo(**{**given, "dbname": self.database, **more})

    def url(self, token: str, driver: str = "") -> str:
        """For SQLAlchemy and asyncpg."""
        return f"postgresql{driver}://me:{token}@{HOST}:{self.port}/{self.database}"

    def connect(self, token: str, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.dsn(token), **{"autocommit": True, **options})

    def ask(self, token: str, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement on a connection of its own; none where it gives none."""
        with self.connect(token) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def truth(self, statement: str) -> list[tuple[Any, ...]]:
        """The same past the proxy, as the superuser."""
        return self.server.sql(self.database, statement)

    def psql(self, token: str, *arguments: str, stdin: str = "", program: Path | None = None, **more: object) -> Done:
        done = subprocess.run(
            [program or self.server.psql, "-X", "-d", self.dsn(token, **more), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=_environment(),
        )
        return Done(done.returncode, done.stdout, done.stderr)

    # --- approvals, sessions ------------------------------------------------------------------------------------------

    def sessions(self, run: str) -> list[str]:
        """The ids of a run's sessions, newest first."""
        listed = self.as_(OPERATOR, "sessions", "list", "--run", run)
        return re.findall(r"^\s*(s-[a-z0-9]+)", listed, re.MULTILINE)

    def recorded(self, session: str, *words: str) -> str:
        """The replay, once it has these words: records arrive a moment after what they are about."""

        def replayed() -> str:
            said = self.as_(OPERATOR, "sessions", "replay", session, "--no-wait")
            return said if all(word in said for word in words) else ""

        return str(self.until(replayed, what=f"the record of {session} with {words}"))


def seed(server: PostgresServer, database: str) -> None:
    """The shop of the demonstration, which the proxy's role owns."""
    server.create_database(database)
    text = (ROOT / "deploy" / "demo" / "shop.sql").read_text("utf-8")
    server.sql(database, text.replace("shop_proxy", PROXY_ROLE))


@contextlib.contextmanager
def installed(server: PostgresServer, opa: Path, database: str, edit: Edit | None = None) -> Iterator[Stack]:
    """An installation that does not run yet; ended and removed afterwards. `edit` changes its configuration."""
    folder = Path(tempfile.mkdtemp(prefix="cr-e2e-", dir="/tmp"))
    try:
        shutil.copytree(ROOT / "rego", folder / "rego")
        password = folder / "upstream.password"
        password.touch(0o600)
        password.write_text(PROXY_PASSWORD, "utf-8")
        stack = Stack(folder, server, database, free_port())
        document = _configuration(stack, opa, password)
        if edit is not None:
            edit(document)
        stack.config.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
        try:
            yield stack
        finally:
            stack.close()
    finally:
        shutil.rmtree(folder)


def _configuration(stack: Stack, opa: Path, password: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "state": str(stack.state),
        "pdp": {
            "opa": {"path": str(opa), "timeout": "5s"},
            "policies": {"dir": str(stack.policies), "reload": "watch"},
            "resources": {
                RESOURCE: {"type": "postgres", "labels": {"env": "test"}, "database": stack.database},
                "warehouse": {"type": "postgres"},
            },
            "identity": {"issuers": [{"name": "checkrein", "self": True}], "clock_skew": "0s"},
        },
        # The machine that runs the tests may be busy; what takes long when it must not is tested by name.
        "decisions": {"timeout": {"open": "10s", "decide": "5s"}},
        "proxies": [
            {
                "name": RESOURCE,
                "resource": RESOURCE,
                "protocol": "postgres",
                "listen": {"address": f"{HOST}:{stack.port}"},
                "upstream": {
                    "addresses": [f"{stack.server.host}:{stack.server.port}"],
                    "database": stack.database,
                    "tls": {"mode": "disable"},
                },
                "credentials": {"default": {"user": PROXY_ROLE, "password": {"file": str(password)}}},
                "shutdown": {"drain": "1s"},
            }
        ],
    }


async def _serving(config: Path) -> bool:
    async with connected(Reach(config)) as connection:
        with contextlib.suppress(Failure):
            return await connection.serving()
    return False


def _environment() -> dict[str, str]:
    """Without what is set for others, and run as it is deployed: coverage is not measured in these processes."""
    others = ("PDP_", "CHECKREIN_", "PG", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**kept, "NO_COLOR": "1"}


def _below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _below(child)


def _arguments(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return []


@pytest.fixture(scope="session")
def stack(postgres18: PostgresServer, opa_path: Path) -> Iterator[Stack]:
    """One for all tests that leave it as it was."""
    seed(postgres18, "stack_shop")
    with installed(postgres18, opa_path, "stack_shop") as stack:
        stack.up()
        yield stack


@pytest.fixture
def private_stack(postgres18: PostgresServer, opa_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes an installation for one test, with changes of its configuration; the test starts it."""
    with contextlib.ExitStack() as open_:

        def make(edit: Edit | None = None) -> Stack:
            database = f"private_shop_{next(_numbers)}"
            seed(postgres18, database)
            return open_.enter_context(installed(postgres18, opa_path, database, edit))

        yield make
