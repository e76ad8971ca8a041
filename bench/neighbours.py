#!/usr/bin/env python3
"""What one agent's `select 1` takes while another agent, at the same proxy, asks for all that it can get.

Real parts: the demonstration's PostgreSQL 18 and `pdp up` (decision service, OPA, proxies, records on), the shipped
policies, tokens of two people's agents. For each thing that is shared the neighbour is measured three times in one run:

- alone,
- beside the greedy one, which is a process of its own on the same machine,
- beside the same greedy one at the lowest priority (nice 19). An agent elsewhere takes no time of these processors; one
  at the lowest priority takes only what nobody else wants.

Nothing here is on a machine of its own: the target works for the greedy agent on the same processors, and so does
whatever else runs. What the machine itself costs is measured beside: `a millisecond of work` is what a piece of work
that needs one took the neighbour's process, in the same pauses. `processors` says how much each part had, `stages` what
a call took on average, the greedy one's calls among them. Only figures of one row may be compared.
"""

from __future__ import annotations

import sys

# This folder last: there is a module here that has a name of the library's.
sys.path.append(sys.path.pop(0))

import argparse
import contextlib
import datetime
import os
import re
import secrets
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "demo"))

import greedy
import psycopg
import services
import target
import yaml
from rich.console import Console
from rich.table import Table

from pdp.identity.subject import Party
from pdp.identity.tokens import TokenRequest

HERE = Path(__file__).resolve().parent
_GREEDY = Party("user", "greta", ("support",))
_WARM_SECONDS = 2.0
_PAUSE = 0.004
_TICKS = os.sysconf("SC_CLK_TCK")
_STAGE = re.compile(r'^checkrein_(pdp|proxy)_stage_seconds_(sum|count)\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_PARTS = ("proxy", "proxy's children", "service", "OPA", "target", "greedy agent", "neighbour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    names = list(greedy.SCENARIOS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--limit", nargs="+", default=[], metavar="NAME=NUMBER", help="of `pdp.limits`, beside the usual"
    )
    options = parser.parse_args()
    ways = ("alone", "beside it", "beside it at nice 19")
    table = Table("the greedy agent", *(f"{way}: p50 / p99 ms, under 50 ms" for way in ways))
    limits = {name: int(number) for name, number in (each.split("=") for each in options.limit)}
    with _running(limits) as place:
        for name in options.only:
            found = [_measured(place, options.seconds)]
            for niceness in (0, 19):
                with _beside(place, name, niceness):
                    found.append(_measured(place, options.seconds))
            table.add_row(greedy.SCENARIOS[name][0], *map(str, found))
            print(name, *found, sep=" | ")
            for way, each in zip(ways, found, strict=True):
                print(f"  {way}: {each.details()}", flush=True)
    Console(width=160).print(table)


@dataclass(frozen=True)
class Place:
    """What runs."""

    installation: services.Installation
    token: Callable[[str, str], str]
    up: int
    postgres: int
    metrics: tuple[str, str]

    def processes(self) -> dict[int, str]:
        """Each with the part that it belongs to."""
        found = dict.fromkeys((self.postgres, *_below(self.postgres)), "target")
        for pid in _below(self.up):
            words = _words(pid)
            if any(Path(word).name.startswith("opa") for word in words[:1]):
                found[pid] = "OPA"
            elif "serve" in words:
                found[pid] = "service" if "pdp" in words else "proxy"
            else:
                found[pid] = "proxy's children"
        found[os.getpid()] = "neighbour"
        for pid in _below(os.getpid()):
            if "greedy.py" in " ".join(_words(pid)):
                found[pid] = "greedy agent"
        return found

    def used(self) -> dict[str, float]:
        """Seconds of the processors that each part has had."""
        found = dict.fromkeys(_PARTS, 0.0)
        for pid, part in self.processes().items():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found[part] += (int(fields[11]) + int(fields[12])) / _TICKS
        return found

    def stages(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Seconds and calls of each stage until now."""
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for url in self.metrics:
            with urllib.request.urlopen(url, timeout=60) as answer:
                said = answer.read().decode()
            for part, what, stage, value in _STAGE.findall(said):
                seconds, calls = found.get((part, stage), (0.0, 0.0))
                seconds, calls = (float(value), calls) if what == "sum" else (seconds, float(value))
                found[part, stage] = seconds, calls
        return found


@dataclass(frozen=True)
class Measured:
    """One measurement."""

    times: list[float]
    refused: int
    works: list[float]
    processors: dict[str, float]
    stages: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        under = sum(each < 50 for each in self.times) / len(self.times)
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{_shown(self.times)}, {under:.1%}{refused}"

    def details(self) -> str:
        processors = ", ".join(f"{part} {share:.0%}" for part, share in self.processors.items() if share >= 0.005)
        stages = ", ".join(f"{stage} {ms:.1f} ms ({each:.0f}/s)" for stage, (ms, each) in self.stages.items())
        return f"a millisecond of work {_shown(self.works)} ms; processors: {processors}; stages: {stages}"


def _shown(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"{cuts[49]:.1f} / {cuts[98]:.1f}"


@contextlib.contextmanager
def _running(limits: dict[str, int]) -> Iterator[Place]:
    password = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(Path(tempfile.mkdtemp(prefix="checkrein-bench-"))))
        installation = services.install(state, services.CHECKOUT / "rego", password, secrets.token_urlsafe(24))
        metrics = _configured(installation, limits)
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

        yield Place(installation, token, up.pid, _postmaster(up.pid), metrics)


def _configured(installation: services.Installation, limits: dict[str, int]) -> tuple[str, str]:
    """The service and the proxy answer for their metrics at addresses of their own."""
    document = yaml.safe_load(installation.config.read_text("utf-8"))
    service, proxy = (f"{target.HOST}:{target.free_port(preferred)}" for preferred in (9464, 9465))
    document["pdp"]["admin"] = {"listen": service}
    document["pdp"]["limits"] = limits
    document["proxies"][0]["admin"] = {"listen": proxy}
    installation.config.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return f"http://{service}/metrics", f"http://{proxy}/metrics"


def _postmaster(up: int) -> int:
    """Our child that is not `pdp up`."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return next(pid for pid in map(int, children) if pid != up and "postgres" in " ".join(_words(pid)))


def _below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _below(child)


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return []


def _measured(place: Place, seconds: float) -> Measured:
    """Milliseconds of each `select 1` on one open connection, a few milliseconds apart."""
    where = {"host": target.HOST, "port": place.installation.proxy_port, "dbname": target.DATABASE, "user": "bench"}
    token = place.token("sam", "neighbour")
    times, works, refused = [], [], 0
    with psycopg.connect(**where, sslmode="disable", password=token, autocommit=True, connect_timeout=60) as connection:
        used, stages, start = place.used(), place.stages(), time.monotonic()
        while time.monotonic() < start + seconds or len(times) < 20:
            began = time.perf_counter()
            try:
                assert connection.execute("select 1").fetchone() == (1,)
            except psycopg.errors.InsufficientPrivilege:
                # No decision in time: that is what it took, and more.
                refused += 1
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(_PAUSE)
            works.append(_millisecond())
        lasted = time.monotonic() - start
        processors = {part: (now - used[part]) / lasted for part, now in place.used().items()}
        took = {}
        for (part, stage), (total, calls) in place.stages().items():
            total, calls = total - stages.get((part, stage), (0, 0))[0], calls - stages.get((part, stage), (0, 0))[1]
            if calls:
                took[f"{part}'s {stage}"] = (1000 * total / calls, calls / lasted)
    return Measured(times, refused, works, processors, took)


def _millisecond() -> float:
    """What a piece of work took, in milliseconds, that needs one of a processor."""
    began, processor = time.perf_counter(), time.thread_time()
    while time.thread_time() - processor < 0.001:
        pass
    return 1000 * (time.perf_counter() - began)


@contextlib.contextmanager
def _beside(place: Place, name: str, niceness: int) -> Iterator[None]:
    words = [str(HERE / "greedy.py"), name, str(place.installation.proxy_port), str(niceness)]
    with subprocess.Popen(
        [sys.executable, "-P", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(place.token("greta", "greedy") + "\n")
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


if __name__ == "__main__":
    main()
