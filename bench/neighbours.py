#!/usr/bin/env python3
"""What one agent's `select 1` takes while another agent, at the same proxy, asks for all that it can get.

Real parts: the demonstration's PostgreSQL 18 and `pdp up` (decision service, OPA, proxies, records on), the shipped
policies, tokens of two people's agents. For each thing that is shared the neighbour is measured twice in one run:
alone, then beside the greedy one, which is a process of its own. Machines are shared and noisy, and the greedy client
takes a processor too, so only the two figures of a pair may be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import itertools
import secrets
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "demo"))

import psycopg
import services
import target
from rich.console import Console
from rich.table import Table

from pdp.identity.subject import Party
from pdp.identity.tokens import TokenRequest

_HEAD = struct.Struct("!ci")
_GREEDY = Party("user", "greta", ("support",))
_WARM_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--greedy", choices=sorted(SCENARIOS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.greedy:
        # The token comes on standard input: arguments are seen by every process.
        asyncio.run(_greed(options.greedy, options.port, sys.stdin.readline().strip()))
        return
    table = Table("the greedy agent", "neighbour alone, p50 / p99 ms", "beside it, p50 / p99 ms", "under 50 ms")
    with _running() as (installation, token):
        for name in options.only:
            alone = _measured(installation.proxy_port, token("sam", "neighbour"), options.seconds)
            with _beside(name, installation.proxy_port, token("greta", "greedy")):
                beside = _measured(installation.proxy_port, token("sam", "neighbour"), options.seconds)
            under = sum(each < 50 for each in beside) / len(beside)
            row = (SCENARIOS[name][0], _shown(alone), _shown(beside), f"{under:.1%}")
            table.add_row(*row)
            print(name, *row[1:], sep=" | ", flush=True)
    Console(width=140).print(table)


@contextlib.contextmanager
def _running() -> Iterator[tuple[services.Installation, Callable[[str, str], str]]]:
    password = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(Path(tempfile.mkdtemp(prefix="checkrein-bench-"))))
        policies = services.CHECKOUT / "rego"
        installation = services.install(state, policies, password, secrets.token_urlsafe(24))
        up = stack.enter_context(services.up(installation))
        stack.enter_context(target.running(state, installation.target_port, password))
        services.until_ready(installation, up)
        issuer = services.Identities(installation)._issuer  # noqa: SLF001 - a second person, whom the demonstration lacks

        def token(person: str, run: str) -> str:
            workflow = {"graph": services.GRAPH, "node": "read_orders", "run": run, "thread": f"thread-{run}"}
            root = _GREEDY if person == "greta" else services.PERSON
            agent = Party("agent", f"{person}-bot", ("support-agents",))
            life = datetime.timedelta(minutes=10)
            request = TokenRequest(agent, "shop", on_behalf_of=root, workflow=workflow, lifetime=life)
            return issuer.mint(request).token

        yield installation, token


def _measured(port: int, token: str, seconds: float) -> list[float]:
    """Milliseconds of each `select 1` on one open connection, a few milliseconds apart."""
    where = {"host": target.HOST, "port": port, "dbname": target.DATABASE, "user": "bench", "sslmode": "disable"}
    found = []
    with psycopg.connect(**where, password=token, autocommit=True, connect_timeout=60) as connection:
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(found) < 20:
            began = time.perf_counter()
            try:
                assert connection.execute("select 1").fetchone() == (1,)
            except psycopg.errors.InsufficientPrivilege:
                # No decision in time: that is what it took, and more.
                print("denied", flush=True)
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(0.005)
    return found


def _shown(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"{cuts[49]:.1f} / {cuts[98]:.1f}"


@contextlib.contextmanager
def _beside(name: str, port: int, token: str) -> Iterator[None]:
    command = [sys.executable, str(Path(__file__).resolve()), "--greedy", name, "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(token + "\n")
        process.stdin.flush()
        try:
            if not process.stdout.readline():
                sys.exit(f"the greedy client of {name} did not begin")
            time.sleep(_WARM_SECONDS)
            yield
            if process.poll() is not None:
                sys.exit(f"the greedy client of {name} ended")
        finally:
            process.kill()
            process.wait()


# --- the greedy client ------------------------------------------------------------------------------------------------


async def _greed(name: str, port: int, token: str) -> None:
    clients, work = SCENARIOS[name][1:]
    numbers = itertools.count()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(work(port, token, next(numbers)))
        print("begun", flush=True)


class Wire:
    """The PostgreSQL protocol, as far as a greedy client needs it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def login(cls, port: int, token: str) -> Wire | None:
        """None where it is refused."""
        try:
            reader, writer = await asyncio.open_connection(target.HOST, port)
            wire = cls(reader, writer)
            words = f"user\0bench\0database\0{target.DATABASE}\0\0".encode()
            writer.write(struct.pack("!ii", len(words) + 8, 196608) + words + message(b"p", token.encode() + b"\0"))
            if await wire.ready():
                return wire
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return None
        return None

    async def ready(self, times: int = 1) -> bool:
        """Until ReadyForQuery has come so often; False where the session has ended."""
        while True:
            tag, size = _HEAD.unpack(await self.reader.readexactly(5))
            payload = await self.reader.readexactly(size - 4)
            if tag == b"E" and b"SFATAL\0" in payload:
                return False
            if tag == b"Z":
                times -= 1
                if not times:
                    return True

    async def swallow(self) -> None:
        """Whatever comes back, unread."""
        while await self.reader.read(1 << 20):
            pass


def message(tag: bytes, payload: bytes = b"") -> bytes:
    return tag + struct.pack("!i", len(payload) + 4) + payload


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def again(text: str) -> Callable[[int, str, int], Awaitable[None]]:
    """One statement after the other; `#` stands for the client's number."""

    async def work(port: int, token: str, number: int) -> None:
        wire = await Wire.login(port, token)
        while wire is not None:
            for each in text.split("|"):
                wire.writer.write(query(each.replace("#", str(number))))
                if not await wire.ready():
                    return

    return work


def flood(data: bytes) -> Callable[[int, str, int], Awaitable[None]]:
    """The same bytes, as fast as they are taken."""

    async def work(port: int, token: str, _: int) -> None:
        wire = await Wire.login(port, token)
        if wire is None:
            return
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wire.swallow())
                while True:
                    wire.writer.write(data)
                    await wire.writer.drain()

    return work


async def hold(port: int, token: str, _: int) -> None:
    wire = await Wire.login(port, token)
    if wire is not None:
        await wire.swallow()


async def logins(port: int, token: str, _: int) -> None:
    while True:
        wire = await Wire.login(port, token)
        if wire is not None:
            wire.writer.close()


async def strangers(port: int, _token: str, _: int) -> None:
    await logins(port, "not-a-token", 0)


_PIPELINE = (
    message(b"P", b"\0select 1\0\0\0")
    + message(b"B", b"\0\0\0\0\0\0\0\0")
    + message(b"E", b"\0\0\0\0\0")
    + message(b"S")
) * 500
_LIST = "select id from orders where id in (" + ",".join(map(str, range(100_000))) + ")"
_COLUMNS = "select " + ",".join(f"id as c{number}" for number in range(1000)) + " from orders"
_ROWS = "select o.id, o.status, o.total from orders o, generate_series(1, 400) s"

SCENARIOS: dict[str, tuple[str, int, Callable[[int, str, int], Awaitable[None]]]] = {
    "sleeping": ("200 open sessions that do nothing", 200, hold),
    "statements": ("50 sessions, one statement after the other", 50, again("select 1")),
    "pipeline": ("20 sessions with thousands of statements in one go", 20, flood(_PIPELINE)),
    "denied": ("50 sessions, each statement denied", 50, again("drop table orders")),
    "flush": ("20 sessions full of messages that ask for nothing", 20, flood(message(b"H") * 4000)),
    "calls": ("20 sessions full of messages that are refused", 20, flood(message(b"F", b"\0" * 8) * 4000)),
    "unparsable": ("20 sessions full of what nobody can parse", 20, flood(query('selec "' * 200) * 100)),
    "logins": ("50 that log in again and again", 50, logins),
    "strangers": ("50 that cannot log in", 50, strangers),
    "long": ("20 sessions with statements of 600 KB", 20, again(_LIST)),
    "wide": ("20 sessions with statements of 1,000 columns", 20, again(_COLUMNS)),
    "rows": ("8 sessions that read large results", 8, again(_ROWS)),
    "masked": (
        "8 sessions that read large masked results",
        8,
        again("select c.id, c.name, c.email from customers c, generate_series(1, 400) s"),
    ),
    "catalogs": (
        "20 sessions that make and drop tables of their own",
        20,
        again("create temp table mine_# (id int)|select * from mine_#|drop table mine_#"),
    ),
}


if __name__ == "__main__":
    main()
