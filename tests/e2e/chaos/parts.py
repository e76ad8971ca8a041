"""The installation of the ledger test, its parts under supervision: what ends is begun again, as in operation.

The service, and a proxy for each protocol in a process of its own. They reach the service, and their targets, over
links that can be slow, still or cut.
"""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.chaos.link import Link
from tests.e2e.chaos.people import TEAM
from tests.e2e.chaos.targets import Api, Postgres
from tests.fix_stack import HOST, Stack, _below

SHOP, PAY, SERVICE = "proxy-shop", "proxy-pay", "service"
SECRET = "the-api's-token"
POLICY = f"""package policies.ledger

import data.checkrein.http
import data.checkrein.postgres as pg

_open := {{"public.entries", "public.held"}}

allow contains {{"code": "rows"}} if {{
	pg.changes_rows
	pg.within(_open)
}}

allow contains {{"code": "rows"}} if {{
	pg.only_reads
	pg.within(_open)
}}

allow contains {{"code": "request"}} if http.matches("POST", "/entries/{{marker}}")

allow contains {{"code": "request"}} if http.matches("GET", "/entries/{{marker}}")

allow contains {{"code": "request"}} if http.matches("POST", "/held/{{marker}}")

require_approval contains _held if "public.held" in pg.written

require_approval contains _held if http.matches("POST", "/held/{{marker}}")

_held := {{
	"code": "held",
	"approvers": ["group:{TEAM}"],
	"message": "Somebody has to look at it.",
	"wait": "20s",
}}
"""
# More than this of the spool is not shipped while the service is away: it fills up.
_SPOOL = "4MiB"


def edit(document: dict[str, Any], *, api: Api, postgres: Postgres, port: int, secret: Path) -> None:
    """The configuration of a stack, changed to that of the ledger test."""
    secret.touch(0o600)
    secret.write_text(SECRET)
    document["pdp"]["resources"] = {"shop": {"type": "postgres"}, "pay": {"type": "http"}}
    document["decisions"]["timeout"] = {"open": "3s", "decide": "1s"}
    document["decisions"]["spool"] = {"max_bytes": _SPOOL, "share": 1.0}
    shop = document["proxies"][0]
    shop["upstream"]["addresses"] = [f"{HOST}:{postgres.link.address}"]
    pay = {
        "name": "pay",
        "resource": "pay",
        "protocol": "http",
        "listen": {"address": f"{HOST}:{port}"},
        "upstream": {"addresses": [f"http://{HOST}:{api.link.address}"]},
        "credentials": {"default": {"bearer": {"file": str(secret)}}},
        "shutdown": {"drain": "1s"},
    }
    document["proxies"].append(pay)


@dataclass(eq=False)
class Parts:
    """What runs, and what is known of it."""

    stack: Stack
    api: Api
    postgres: Postgres
    service_link: Link
    http_port: int
    filler: Path | None = None
    # Processes that ended by themselves: name, the last lines of what they said.
    ended: list[tuple[str, str]] = field(default_factory=list)
    # Not started again before that time.
    away: dict[str, float] = field(default_factory=dict)
    # Disks that are full, and when the last one was.
    _full: set[str] = field(default_factory=set)
    _last_full: float = float("-inf")
    _started: dict[str, float] = field(default_factory=dict)

    @property
    def proxies_config(self) -> Path:
        return self.stack.folder / "proxies.yaml"

    def prepare(self) -> None:
        folder = self.stack.policies / "policies" / "ledger"
        folder.mkdir()
        (folder / "ledger.rego").write_text(POLICY)
        bindings = self.stack.policies / "bindings" / "data.yaml"
        bindings.write_text(bindings.read_text() + "- {policy: ledger, match: {id: [shop, pay]}}\n")
        owners = self.stack.policies / "owners" / "data.yaml"
        document = yaml.safe_load(owners.read_text())
        document["shop"]["public.held"] = [f"group:{TEAM}"]
        owners.write_text(yaml.safe_dump(document))
        config = yaml.safe_load(self.stack.config.read_text())
        config["pdp"]["listen"] = f"unix:{self.service_link.address}"
        self.proxies_config.write_text(yaml.safe_dump(config, sort_keys=False))

    def start(self, name: str) -> None:
        self._started[name] = time.monotonic()
        if name == SERVICE:
            self.stack._start(name, "pdp", "serve", "-c", str(self.stack.config))
        else:
            only = name.removeprefix("proxy-")
            self.stack._start(name, "pep", "serve", "-c", str(self.proxies_config), "--only", only)

    def kill(self, name: str, away: float) -> bool:
        if name not in self.stack.running:
            return False
        self.stack.kill(name)
        self.away[name] = time.monotonic() + away
        return True

    def supervise(self) -> None:
        """Starts what is not there; called again and again, by the thread that made everything."""
        now = time.monotonic()
        for name in (SERVICE, SHOP, PAY):
            running = self.stack.running.get(name)
            if running is not None and running.process.poll() is not None:
                said = running.said()
                # One whose disk is full while it begins says so and ends; by now the disk may have room again.
                had_room = not self._full and self._last_full < self._started[name]
                if name not in self.away and ("listening" in said or had_room):
                    self.ended.append((name, said[-1500:]))
                del self.stack.running[name]
                self.away[name] = now + 1.0
            elif running is None and now >= self.away.get(name, 0.0):
                self.away.pop(name, None)
                self.start(name)

    def fills(self, disk: str) -> None:
        """Whoever begins from now on may find no room there, until `has_room`."""
        self._full.add(disk)

    def has_room(self, disk: str) -> None:
        self._full.discard(disk)
        self._last_full = time.monotonic()

    def signal(self, name: str, number: int) -> bool:
        """Whether it was there to get it."""
        running = self.stack.running.get(name)
        if running is None or running.process.poll() is not None:
            return False
        os.kill(running.pid, number)
        return True

    def opa(self) -> int | None:
        return self._child(SERVICE, "opa")

    def children(self, name: str) -> list[int]:
        running = self.stack.running.get(name)
        return [] if running is None else list(_below(running.pid))

    def _child(self, name: str, word: str) -> int | None:
        for pid in self.children(name):
            with contextlib.suppress(OSError):
                program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
                if word in Path(program.decode("utf-8", "replace")).name:
                    return pid
        return None

    def limit_files(self, name: str, size: int | None) -> bool:
        """No file of the process grows past that; None for no limit. False where it is not there."""
        running = self.stack.running.get(name)
        if running is None or running.process.poll() is not None:
            return False
        for pid in [running.pid, *self.children(name)]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                limit = resource.RLIM_INFINITY if size is None else size
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return True

    def everything_goes_on(self) -> None:
        for link in (self.service_link, self.api.link, self.postgres.link):
            link.mend()
        for name in (SERVICE, SHOP, PAY):
            self.limit_files(name, None)
            self.signal(name, signal.SIGCONT)
            for pid in self.children(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.postgres.signal(signal.SIGCONT)
        self.api.signal(signal.SIGCONT)
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)
        for disk in tuple(self._full):
            self.has_room(disk)
        self.away = dict.fromkeys(self.away, 0.0)


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[bool]:
    """A file system of 12 MiB there, if we may; gives whether it is one."""
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(where)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(where)], capture_output=True, check=False)
