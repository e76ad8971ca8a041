#!/usr/bin/env python3
"""What eight sessions' `select 1` takes while another one sends statements that are made to stop a proxy.

Real parts: the demonstration's PostgreSQL 18 and `pdp up` (decision service, OPA, proxies, records on), the shipped
policies, tokens of two people's agents. Each of the eight asks again a pause after its answer; they are measured alone,
and beside one session, a process of its own, that sends one such statement after the other. Machines are shared and
noisy, and OPA takes a processor for each decision, so only the figures of one run may be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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

_SESSIONS = 8
_WANTED_MS = 100.0

STATEMENTS = {
    "a 10 MB INSERT": "insert into orders (id, status) values " + ", ".join(["(1, 'xxxxxxxxxx')"] * 550_000),
    "an INSERT of 1,000 KB": "insert into orders (id, status) values " + ", ".join(["(1, 'xxxxxxxxxx')"] * 52_000),
    "a 200 KB chain of +": "select 1" + "+1" * 100_000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default 8)")
    parser.add_argument("--pause", type=float, default=0.2, help="of a session between two statements (default 0.2 s)")
    parser.add_argument("--send", choices=sorted(STATEMENTS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        # The token comes on standard input: arguments are seen by every process.
        _send(STATEMENTS[options.send], options.port, sys.stdin.readline().strip())
        return
    table = Table("beside", "select 1", "p50 ms", "p99 ms", "longest ms", f"under {_WANTED_MS:.0f} ms", "answered")
    with _running() as (port, token):
        for name in ("nobody", *STATEMENTS):
            with _beside(name, port, token("greta")) as answered:
                took = _measured(port, token("sam"), options.seconds, options.pause)
            cuts = statistics.quantiles(took, n=100)
            under = sum(each < _WANTED_MS for each in took) / len(took)
            times = (f"{cuts[49]:.1f}", f"{cuts[98]:.1f}", f"{max(took):.1f}", f"{under:.1%}")
            row = (name, f"{len(took)}", *times, "; ".join(sorted(answered)))
            table.add_row(*row)
            print(*row, sep=" | ", flush=True)
    Console(width=140).print(table)


@contextlib.contextmanager
def _running() -> Iterator[tuple[int, Callable[[str], str]]]:
    """The proxy's port, and tokens for a person's agent at the node that reads orders."""
    password = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(Path(tempfile.mkdtemp(prefix="checkrein-bench-"))))
        installation = services.install(state, services.CHECKOUT / "rego", password, secrets.token_urlsafe(24))
        up = stack.enter_context(services.up(installation))
        stack.enter_context(target.running(state, installation.target_port, password))
        services.until_ready(installation, up)
        issuer = services.Identities(installation)._issuer  # noqa: SLF001 - a second person, whom the demonstration lacks

        def token(person: str) -> str:
            workflow = {"graph": services.GRAPH, "node": "read_orders", "run": person, "thread": f"thread-{person}"}
            request = TokenRequest(
                Party("agent", f"{person}-bot", ("support-agents",)),
                "shop",
                on_behalf_of=Party("user", person, ("support",)),
                workflow=workflow,
                lifetime=datetime.timedelta(minutes=10),
            )
            return issuer.mint(request).token

        yield installation.proxy_port, token


def _connect(port: int, token: str) -> psycopg.Connection:
    where = {"host": target.HOST, "port": port, "dbname": target.DATABASE, "user": "bench", "sslmode": "disable"}
    return psycopg.connect(**where, password=token, autocommit=True, connect_timeout=60)


def _measured(port: int, token: str, seconds: float, pause: float) -> list[float]:
    """Milliseconds of every `select 1` of the eight sessions."""
    found: list[float] = []
    end = time.monotonic() + seconds

    def ask(connection: psycopg.Connection) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            # Without a decision in time it is a denial: that is what it took, and it counts.
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("select 1")
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(pause)

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(_connect(port, token)) for _ in range(_SESSIONS)]
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=ask, args=(each,)) for each in connections]
        for number, thread in enumerate(threads):
            thread.start()
            # Not in step: what is asked at the same moment waits for one another.
            time.sleep(pause / _SESSIONS if number < _SESSIONS - 1 else 0)
        for thread in threads:
            thread.join()
    return found


@contextlib.contextmanager
def _beside(name: str, port: int, token: str) -> Iterator[set[str]]:
    """Somebody who sends such statements meanwhile; filled at the end: how often, and with what they were answered."""
    answered: set[str] = set()
    if name not in STATEMENTS:
        yield answered
        return
    command = [sys.executable, str(Path(__file__).resolve()), "--send", name, "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(token + "\n")
        process.stdin.flush()
        try:
            if not process.stdout.readline():
                sys.exit(f"the session with {name} did not begin")
            yield answered
            if process.poll() is not None:
                sys.exit(f"the session with {name} ended")
        finally:
            process.terminate()
            codes = process.stdout.read().split()
            process.wait()
        answered.update(f"{codes.count(code)} times {code}" for code in set(codes))


def _send(text: str, port: int, token: str) -> None:
    """One after the other, and a line for each answer: its SQLSTATE."""
    with _connect(port, token) as connection:
        while True:
            try:
                connection.execute(text, prepare=False)
                print("00000", flush=True)
            except psycopg.Error as error:
                print(error.sqlstate, flush=True)
                if connection.closed:
                    return


if __name__ == "__main__":
    main()
