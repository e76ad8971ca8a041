#!/usr/bin/env python3
"""How fast the PostgreSQL proxy is, in pairs: straight to the server, then through the proxy, in one run.

Real parts: the demonstration's PostgreSQL 18 and `pdp up` (decision service, OPA, proxy, records on), pgbench as the
client, the shipped policies, an agent's token. Machines are shared and noisy, so only the ratio of a pair means much;
each figure is the median of several alternating rounds. Every statement is decided by OPA: there is no cache yet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# Its own folder has an http.py, which would stand before the library's.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "demo"))

import services
import target
from rich.console import Console
from rich.table import Table

_SCRIPTS = {
    "orders by key, allowed": ("read_orders", "select id, status, total from orders where id = :id"),
    "customer by key, masked": ("read_customers", "select id, name, email from customers where id = :id"),
}
_TPS = re.compile(r"tps = ([0-9.]+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (default 3)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], metavar="N")
    parser.add_argument("--modes", nargs="+", default=["simple", "extended", "prepared"])
    options = parser.parse_args()
    password = secrets.token_urlsafe(24)
    state = Path(tempfile.mkdtemp(prefix="checkrein-bench-"))
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(state))
        installation = services.install(state, services.CHECKOUT / "rego", password, secrets.token_urlsafe(24))
        up = stack.enter_context(services.up(installation))
        shop = stack.enter_context(target.running(state, installation.target_port, password))
        services.until_ready(installation, up)
        identities = services.Identities(installation)
        table = Table("statement", "mode", "clients", "direct tps", "proxy tps", "ratio", "proxy ms")
        for name, (node, script) in _SCRIPTS.items():
            file = state / "script.sql"
            file.write_text(f"\\set id random(1, 900)\n{script};\n", "utf-8")
            for mode in options.modes:
                for clients in options.clients:
                    direct, proxied = [], []
                    for _ in range(options.rounds):
                        arguments = (shop.psql.with_name("pgbench"), file, mode, clients, options.seconds)
                        direct.append(_tps(*arguments, installation.target_port, "shop_proxy", password))
                        token = identities.node(node, "bench", "shop")
                        proxied.append(_tps(*arguments, installation.proxy_port, "bench", token))
                    one, two = statistics.median(direct), statistics.median(proxied)
                    row = (f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.3f}", f"{1000 * clients / two:.2f}")
                    table.add_row(name, mode, str(clients), *row)
                    print(name, mode, clients, *row, flush=True)
        Console(width=120).print(table)


def _tps(
    pgbench: Path, script: Path, mode: str, clients: int, seconds: int, port: int, user: str, secret: str
) -> float:
    """Transactions a second of one run; the connection's own time is not counted."""
    command = [pgbench, "-n", "-f", script, "-M", mode, "-c", str(clients), "-T", str(seconds)]
    where = f"host={target.HOST} port={port} dbname={target.DATABASE} user={user} sslmode=disable"
    environment = {**os.environ, "PGPASSWORD": secret}
    run = subprocess.run(
        [*command, where], capture_output=True, text=True, check=False, env=environment, timeout=seconds + 60
    )
    found = _TPS.search(run.stdout)
    if run.returncode != 0 or found is None:
        sys.exit(f"pgbench failed:\n{run.stderr[-2000:]}")
    return float(found[1])


if __name__ == "__main__":
    main()
