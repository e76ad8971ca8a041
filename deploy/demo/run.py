#!/usr/bin/env python3
"""The demonstration: `make demo`, or `make demo KEEP=1` to have everything left running afterwards.

Starts a PostgreSQL of its own with a small shop in it, an API over the shop, and `pdp up` before both, runs a LangGraph
workflow through the two proxies, and holds each of the eight outcomes against what it should be. The exit status is 0
only if all eight are right.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import api
import outcomes
import psycopg
import requests
import services
import target
import workflow
from api import Api
from clients import Clients
from outcomes import Outcome
from rich.console import Console
from rich.table import Table
from rich.text import Text
from services import Identities, Installation
from target import DemoError, Target

# Nothing here takes a minute; a statement that nobody approves would wait for a quarter of an hour.
_WORKFLOW_SECONDS = 60
_STYLES = {"allowed": "green", "masked": "cyan", "approved": "yellow", "denied": "red"}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _terminated)
    # A shell has what it runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _demonstrate(options)
    except DemoError as error:
        _say(f"\nThe demonstration FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        _say("\nstopped")
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP", "") not in ("", "0"))
    parser.add_argument("--policies", type=Path, default=services.CHECKOUT / "rego", metavar="DIR")
    parser.add_argument("--state", type=Path, default=services.CHECKOUT / ".checkrein" / "demo", metavar="DIR")
    options = parser.parse_args()
    options.policies, options.state = options.policies.resolve(), options.state.resolve()
    return options


def _demonstrate(options: argparse.Namespace) -> None:
    began = time.monotonic()
    console = Console() if sys.stdout.isatty() else Console(width=132)
    password, api_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(services.state_folder(options.state))
        installation = services.install(state, options.policies, password, api_token)
        _say("starting the decision service, OPA and the two proxies (pdp up)")
        up = stack.enter_context(services.up(installation))
        _say("starting PostgreSQL 18 with a small shop: 1,000 customers, 3,000 orders, 2,400 payments")
        shop = stack.enter_context(target.running(state, installation.target_port, password))
        pay = stack.enter_context(api.running(shop, installation.api_port, api_token))
        services.until_ready(installation, up)
        _say(f"ready after {time.monotonic() - began:.1f} s; the workflow begins")
        identities = Identities(installation)
        results, approvals, run = _run_workflow(installation, identities, shop, pay)
        _show(console, results, approvals)
        wrong = [f"{each.node}: {each.problem}" for each in results if each.problem]
        if wrong:
            raise DemoError("\n  ".join(["not every outcome is what it should be:", *wrong]))
        session = _records(console, installation, identities, run)
        _say(f"All eight outcomes are as they should be ({time.monotonic() - began:.1f} s).")
        _how_to_look(installation, identities, shop, options.policies, session, keep=options.keep)
        if options.keep:
            _wait(up)
        _say("stopping")


def _run_workflow(
    installation: Installation, identities: Identities, shop: Target, pay: Api
) -> tuple[list[Outcome], dict[str, str], str]:
    """The outcomes, what the approvers saw (by node), and the run's id."""
    before = outcomes.truth(shop, pay)
    with ThreadPoolExecutor(1) as pool, _at_most(_WORKFLOW_SECONDS, "the workflow"):
        clients = Clients(installation, identities, pool)
        try:
            steps = workflow.run(clients.connect, clients.open_api, lambda node: _say(f"  node {node}"))
        except (psycopg.Error, requests.RequestException) as error:
            raise DemoError(str(clients.failure() or f"{type(error).__name__}: {error}")) from error
        seen = {node: answer.result() for node, answer in clients.answers.items()}
    after = outcomes.truth(shop, pay)
    results = outcomes.judge(steps, before, after, answered=seen, ports=clients.ports)
    return results, seen, clients.run


def _show(console: Console, results: list[Outcome], approvals: dict[str, str]) -> None:
    for node, approval in approvals.items():
        who = services.APPROVER if node in workflow.DATABASE_NODES else services.REFUNDER
        console.print(Text(f"\nWhat {who.id} saw and said yes to:", "bold"))
        console.print(Text(_trimmed(approval)), soft_wrap=True)
    table = Table(title="\nThe workflow `support`, through the proxies", title_justify="left", show_lines=True)
    for heading in ("node", "who", "asks for", "verdict", "what came back"):
        table.add_column(heading, overflow="fold", max_width=30 if heading == "asks for" else None)
    who = f"{services.AGENT.type} {services.AGENT.id}\nfor {services.PERSON.id}"
    for each in results:
        verdict = Text(each.verdict if not each.problem else f"WRONG: {each.verdict}", _STYLES.get(each.verdict, "red"))
        # Text, not str: what came from the database is no markup.
        table.add_row(each.node, who, Text(each.statement), verdict, Text(each.came_back))
    console.print(table)


def _records(console: Console, installation: Installation, identities: Identities, run: str) -> str:
    """What the records say, by the real commands: the run's sessions, and one of them again as it went; its id."""
    olga = identities.person(services.OPERATOR)

    def show(*words: str) -> str:
        printed = services.pdp(installation, olga, *words)
        console.print(Text(f"\n$ pdp {' '.join(words)}", "bold"))
        console.print(Text(_trimmed(printed)), soft_wrap=True)
        return printed

    listed = show("sessions", "list", "--run", run).splitlines()
    sessions = {node: line.split()[0] for node in workflow.NODES for line in listed if f"/{node}/" in line}
    if missing := [node for node in workflow.NODES if node not in sessions]:
        raise DemoError(f"there is no record of {', '.join(missing)}")
    show("sessions", "replay", sessions["read_customers"], "--no-wait")
    print(flush=True)
    return sessions["read_customers"]


def _how_to_look(
    installation: Installation, identities: Identities, shop: Target, policies: Path, session: str, *, keep: bool
) -> None:
    policy = _short(policies / "policies" / "agent_reads" / "agent_reads.rego")
    if not keep:
        _say(
            "\nTo look around, have everything left running: make demo KEEP=1. It prints the commands that show the\n"
            f"records, a psql and a curl line for questions of your own, and a change to make in {policy}."
        )
        return
    pdp, config = _short(services.command("pdp")), _short(installation.config)
    olga, dana = (_short(identities.person(who)) for who in (services.OPERATOR, services.APPROVER))
    connection = f"host={target.HOST} port={installation.proxy_port} dbname={target.DATABASE} user=me sslmode=disable"
    _say(f"""
Everything is left running. In another terminal, in this folder:

export CHECKREIN_CONFIG={config}
{pdp} sessions list --token-file {olga}
{pdp} sessions replay {session} --token-file {olga}
{pdp} approvals list --token-file {dana}

A statement as the node read_customers (without -c and what follows, psql asks for statements of your own):

PGPASSWORD=$({pdp} token {outcomes.TOKEN_OPTIONS}) \\
  {_short(shop.psql)} "{connection}" \\
  -c "{workflow.READ_CUSTOMERS}"

A request as the node read_api_customers:

TOKEN=$({pdp} token {outcomes.API_TOKEN_OPTIONS})
curl -H "Authorization: Bearer $TOKEN" "http://{target.HOST}:{installation.api_proxy_port}{workflow.API_CUSTOMERS}"

The policies are in {_short(policies)}. Add a rule to one of them, for example

cat >> {policy} <<'END'

{outcomes.EXTRA_RULE}END
{pdp} status --wait --token-file {olga}

and send the statement again: it is denied, in these words. Take the rule away, and it is masked again. A file that
does not compile, or whose tests fail, is not put in force; `pdp status` says so, with file and line.

What the processes log: {_short(installation.state / "up.log")}
Ctrl-C ends everything.""")


def _trimmed(printed: str) -> str:
    """Without the blanks that fill a table up to the width of the screen."""
    return "\n".join(line.rstrip() for line in printed.rstrip().splitlines())


def _wait(up: subprocess.Popen[bytes]) -> None:
    """Until somebody has seen enough: that is no failure."""
    with contextlib.suppress(KeyboardInterrupt):
        status = up.wait()
        raise DemoError(f"pdp up ended by itself, with status {status}; its log is up.log in the state folder")


@contextlib.contextmanager
def _at_most(seconds: int, what: str) -> Iterator[None]:
    def late(*_: object) -> None:
        raise DemoError(f"{what} did not end within {seconds} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def _short(path: Path | str) -> str:
    """As it is written in the folder that one works in."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
