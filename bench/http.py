#!/usr/bin/env python3
"""How fast the HTTP proxy is, in one run: straight to nginx, through nginx as a reverse proxy, through this proxy.

The proxy is measured two ways: `relay` has the decision answered by a stub in its own process, so that what is left is
reading, recording and relaying; `policy` has everything real (`pdp up`: decision service, OPA, the shipped policies,
records on). Either once more `masked`, with two fields of every answer masked. Needs nginx and wrk on the machine.
Machines are shared and noisy, so only ratios of one run mean much; each figure is the median of several alternating
rounds. `cpu ms` is what the relaying process itself had of the processor for a request, the least of the rounds: it
depends least on who else wanted the machine. Every request is decided by OPA: there is no cache yet. `--profile` says
where the relay's time goes, by stage; `--neighbours` how long one client's small requests take while another one's
masked 10 MB, or its bodies of nearly 1 MiB that have to be read, are under way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pstats
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Without this folder: a script in it is found before the module of the standard library that has its name.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "demo"))

import http.client
import urllib.error
import urllib.request

import services
import target
import yaml
from rich.console import Console
from rich.table import Table

from pdp.config import load_config
from pdp.identity.subject import Party
from pdp.identity.tokens import TokenRequest, open_issuer
from tests.http_relay import PASSWORD
from tests.http_relay_child import RelayProcess

_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
_CUSTOMER = {"id": 7, "name": "Ada Lovelace", "email": "ada@example.org", "ssn": "111-22-3333", "city": "London"}
_LARGE = 10_000_000

# The part of the proxy that a file of it belongs to. What is not here is the loop, the driver or the language.
_STAGES = {
    "parse": ("codec.py", "heads.py", "framing.py", "messages.py"),
    "identify": ("identity.py", "http/sessions.py"),
    "classify": ("classify.py", "paths.py", "bodies.py", "openapi.py", "mcp.py", "graphql.py", "scalars.py"),
    "decide": ("enforcer.py", "translate.py", "stub_service.py", "digests.py", "model.py"),
    "record": ("recorder.py", "records.py", "spool.py", "segments.py", "decision_records.py"),
    "connect": ("upstream.py", "credentials.py", "questions.py"),
    "respond": ("responses.py", "obligations.py", "masking.py", "transforms.py", "scrub.py", "coding.py"),
    "drive": ("driver.py", "leg.py", "session.py", "exchange.py", "connection.py", "server.py", "wire.py"),
}


@dataclass(frozen=True)
class Way:
    """One way to the same documents."""

    name: str
    port: int
    token: Callable[[], str]
    prepare: Callable[[], object] = lambda: None
    process: int = 0  # which does the relaying, where it is one


def _used(process: int) -> float:
    """Seconds of the processor that a process and its children have had."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdecimal():
                fields = (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
                if process in (int(entry.name), int(fields[1])):
                    total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (default 3)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--bodies", nargs="+", default=["small", "large"], choices=["small", "large"])
    parser.add_argument("--stub-only", action="store_true", help="leave the decision service and OPA out")
    parser.add_argument("--profile", action="store_true", help="print where the relay's time goes, and nothing else")
    parser.add_argument("--neighbours", action="store_true", help="print what small requests take beside large ones")
    options = parser.parse_args()
    missing = [name for name in ("nginx", "wrk") if _program(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found; on Debian: apt-get install nginx-light wrk")
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(Path(tempfile.mkdtemp(prefix="checkrein-bench-"))))
        origin, reverse, reverse_process = stack.enter_context(_nginx(state))
        reads = {"input_paths": ["action.properties.http.body"]} if options.neighbours else {}
        relay = stack.enter_context(RelayProcess(f"http://127.0.0.1:{origin}", **reads))
        ways = [
            Way("nginx, direct", origin, lambda: ""),
            Way("nginx, reverse proxy", reverse, lambda: "", process=reverse_process),
            Way("relay", relay.port, lambda: PASSWORD, lambda: relay.tell("allow"), relay.pid),
            Way("relay, masked", relay.port, lambda: PASSWORD, lambda: relay.tell("mask"), relay.pid),
        ]
        if options.neighbours:
            _neighbours(relay, options)
            return
        if options.profile:
            _profile(relay, ways[2], state, options)
            return
        if not options.stub_only:
            ways += stack.enter_context(_real(state, origin))
        _measure(ways, relay, options)


def _measure(ways: list[Way], relay: RelayProcess, options: argparse.Namespace) -> None:
    table = Table("body", "clients", "way", "requests/s", "of direct", "of reverse proxy", "ms", "cpu ms")
    for body in options.bodies:
        for clients in options.clients:
            rates: dict[str, list[float]] = {way.name: [] for way in ways}
            costs: dict[str, list[float]] = {way.name: [] for way in ways}
            for _ in range(options.rounds):
                for way in ways:
                    way.prepare()
                    before = _used(way.process)
                    rates[way.name].append(_rate(way, body, clients, options.seconds))
                    spent = _used(way.process) - before if way.process else 0.0
                    # wrk counts no answer that was under way when it stopped, and of slow ones there may be none.
                    if (answers := rates[way.name][-1] * options.seconds) >= 1:
                        costs[way.name].append(1000 * spent / answers)
                    relay.tell("forget")
            found = {name: statistics.median(several) for name, several in rates.items()}
            direct, reverse = found[ways[0].name], found[ways[1].name]
            for name, rate in found.items():
                cost = f"{min(costs[name]):.3f}" if max(costs[name], default=0) > 0 else "-"
                ratios = f"{rate / direct:.3f}", f"{rate / reverse:.3f}"
                table.add_row(body, str(clients), name, f"{rate:,.1f}", *ratios, f"{1000 * clients / rate:.2f}", cost)
                print(body, clients, name, f"{rate:,.1f}", *ratios, cost, flush=True)
    Console(width=120).print(table)


def _rate(way: Way, body: str, clients: int, seconds: float) -> float:
    """Requests a second of one run of wrk. A run with a single wrong answer is no measurement."""
    token = way.token()
    headers = ["-H", f"Authorization: Bearer {token}"] if token else []
    url = f"http://127.0.0.1:{way.port}/{body}.json"
    # Whatever is opened or learnt once is not what is measured.
    with urllib.request.urlopen(urllib.request.Request(url, headers=_shown(token))) as answer:
        answer.read()
    command = ["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds}s", "--timeout", "60s", *headers, url]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    found, bad = _RATE.search(run.stdout), _BAD.search(run.stdout)
    if run.returncode != 0 or found is None:
        sys.exit(f"wrk failed on {way.name}, {body}, {clients} clients:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    if bad is not None:
        # On an overloaded machine: without a decision in time a request is refused.
        print(f"{way.name}, {body}, {clients} clients: {bad[0]}", flush=True)
        return float("nan")
    # wrk counts no answer that was under way when it stopped; of slow ones there may be none.
    return max(float(found[1]), 1e-9)


# --- neighbours -------------------------------------------------------------------------------------------------------

_READ = {"read a JSON of 1,000,000 bytes": json.dumps(["x", [], 1.5] * 71_428)[:-1].ljust(999_999) + "]"}


def _neighbours(relay: RelayProcess, options: argparse.Namespace) -> None:
    """Pairs in alternating rounds: alone, and beside one other client that sends one large request after the other."""
    relay.tell("mask")
    loads = {"alone": None, "mask a JSON of 10 MB": None, **_READ}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in loads}
    for _ in range(options.rounds):
        for name, body in loads.items():
            with _load(relay, name, body) as done:
                latencies = _latencies(relay, options.seconds)
                found[name].append((*latencies, done() / options.seconds))
            relay.tell("forget")
    table = Table("beside", "p50 ms", "p99 ms", "longest ms", "large requests/s")
    for name, several in found.items():
        figures = [f"{statistics.median(column):.2f}" for column in zip(*several, strict=True)]
        table.add_row(name, *figures)
        print(name, *figures, flush=True)
    Console(width=120).print(table)


@contextlib.contextmanager
def _load(relay: RelayProcess, name: str, body: str | None) -> Iterator[Callable[[], int]]:
    """One client that does this all the time; how often it has."""
    over, done = threading.Event(), [0]
    path = "/small.json" if body else "/large.json"
    headers = _shown(PASSWORD) | ({"Content-Type": "application/json"} if body else {})

    def send() -> None:
        while not over.is_set():
            request = urllib.request.Request(f"{relay.url}{path}", None if body is None else body.encode(), headers)
            # The server of documents takes no body: it says so, once the proxy has let the request through.
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()
            done[0] += 1

    thread = threading.Thread(target=send)
    if name != "alone":
        thread.start()
    try:
        yield lambda: done[0]
    finally:
        over.set()
        if name != "alone":
            thread.join()


def _latencies(relay: RelayProcess, seconds: float) -> tuple[float, float, float]:
    """Of small requests, one after the other, in milliseconds: the median, the 99th percentile, the longest."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=120)
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < ends:
        connection.request("GET", "/small.json", headers=_shown(PASSWORD))
        connection.getresponse().read()
        taken.append((time.perf_counter() - begun) * 1000)
    connection.close()
    taken.sort()
    return statistics.median(taken), taken[int(len(taken) * 0.99)], taken[-1]


def _shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


# --- nginx ------------------------------------------------------------------------------------------------------------

_NGINX = """
worker_processes 1;
daemon off;
{user}
pid {state}/nginx.pid;
error_log {state}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  types {{ application/json json; }}
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16;
  keepalive_requests 100000000;
  client_body_temp_path {state}/body; proxy_temp_path {state}/proxy; fastcgi_temp_path {state}/fastcgi;
  uwsgi_temp_path {state}/uwsgi; scgi_temp_path {state}/scgi;
{server}
}}
"""
_ORIGIN = """
  server {{ listen 127.0.0.1:{origin}; root {files}; }}
"""
_REVERSE = """
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 32; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{reverse};
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
"""


@contextlib.contextmanager
def _nginx(state: Path) -> Iterator[tuple[int, int, int]]:
    """The documents' server and, in a process of its own, a reverse proxy before it: their ports, and that process."""
    files = state / "files"
    files.mkdir()
    (files / "small.json").write_text(json.dumps([_CUSTOMER, {**_CUSTOMER, "id": 8}])[:400], "utf-8")
    row = json.dumps(_CUSTOMER)
    (files / "large.json").write_text("[" + ",".join([row] * (_LARGE // (len(row) + 1))) + "]", "utf-8")
    origin, reverse = target.free_port(8001), target.free_port(8002)
    user = "user root;" if os.geteuid() == 0 else ""
    with contextlib.ExitStack() as stack:
        for name, template in (("origin", _ORIGIN), ("reverse", _REVERSE)):
            folder = state / name
            folder.mkdir()
            server = template.format(origin=origin, reverse=reverse, files=files)
            text = _NGINX.format(state=folder, user=user, server=server)
            (folder / "nginx.conf").write_text(text, "utf-8")
            command = [_program("nginx"), "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "nginx.log"]
            process = subprocess.Popen(command, preexec_fn=target.dies_with_us(signal.SIGTERM))  # noqa: PLW1509
            stack.callback(target.stop, process, signal.SIGTERM, 5.0)
        for port in (origin, reverse):
            _until_it_listens(port)
        yield origin, reverse, process.pid


def _until_it_listens(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/small.json"):
                return
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"nginx does not answer on port {port}")
            time.sleep(0.05)


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


# --- the real stack ---------------------------------------------------------------------------------------------------

_STACK = """
version: 1
pdp:
  resources:
    pay: {type: http, labels: {env: bench}}
  identity:
    issuers:
      - {name: checkrein, self: true, token_ttl: 10m}
proxies:
  - name: pay
    resource: pay
    protocol: http
    listen: {}
    upstream: {}
    credentials:
      default: {}
"""


@contextlib.contextmanager
def _real(state: Path, origin: int) -> Iterator[list[Way]]:
    """`pdp up` before the documents: an agent that may see everything, and one that sees masks."""
    secret = state / "api.secret"
    secret.touch(0o600)
    secret.write_text(secrets.token_urlsafe(24), "utf-8")
    port = target.free_port(8003)
    document = yaml.safe_load(_STACK)
    document["state"] = str(state)
    document["pdp"]["policies"] = {"dir": str(services.CHECKOUT / "rego"), "reload": "watch"}
    (proxy,) = document["proxies"]
    proxy["listen"]["address"] = f"127.0.0.1:{port}"
    proxy["upstream"]["addresses"] = [f"http://127.0.0.1:{origin}"]
    proxy["credentials"]["default"]["bearer"] = {"file": str(secret)}
    installation = services.Installation(state, state / "bench.yaml", 0, 0, port, origin)
    installation.config.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    with services.up(installation) as up:
        services.until_ready(installation, up)
        issuer = open_issuer(load_config(installation.config))
        assert issuer is not None

        def token(*groups: str) -> Callable[[], str]:
            agent = Party("agent", "bench-bot", ("support-agents", *groups))
            person = Party("user", "sam", ("support", *groups))
            made = issuer.mint(TokenRequest(agent, "pay", on_behalf_of=person, workflow={"graph": "bench"})).token
            return lambda: made

        yield [Way("policy", port, token("privacy")), Way("policy, masked", port, token())]


# --- where the time goes ----------------------------------------------------------------------------------------------


def _profile(relay: RelayProcess, way: Way, state: Path, options: argparse.Namespace) -> None:
    """Profiling makes every call slower, so the shares are those of the calls, a little more than of the time."""
    for body in options.bodies:
        for clients in options.clients:
            way.prepare()
            _rate(way, body, clients, 1)
            relay.tell("profile")
            rate = _rate(way, body, clients, options.seconds)
            file = state / f"{body}-{clients}.profile"
            relay.tell("profiled", str(file))
            _print_stages(pstats.Stats(str(file)), f"{body}, {clients} clients ({rate:,.0f}/s while profiled)")


def _print_stages(stats: pstats.Stats, title: str) -> None:
    spent: dict[str, float] = {}
    for (file, _, name), (_, _, own, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if file != "~":
            spent[_stage(file)] = spent.get(_stage(file), 0.0) + own
        elif "run_until_complete" not in name:
            # What is written in C is part of what calls it.
            for (caller, _, _), (_, _, part, _) in callers.items():
                spent[_stage(caller)] = spent.get(_stage(caller), 0.0) + part
    whole = sum(spent.values()) or 1.0
    table = Table("stage", "share", title=title)
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(stage, f"{seconds / whole:.1%}")
    Console(width=80).print(table)


def _stage(file: str) -> str:
    return next((stage for stage, ends in _STAGES.items() if file.endswith(ends)), "loop and others")


if __name__ == "__main__":
    main()
