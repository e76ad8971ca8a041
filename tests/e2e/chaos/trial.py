"""One trial: everything is started, works while things go wrong, goes on afterwards, and the ledgers are compared."""

import asyncio
import contextlib
import http.client
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.chaos import parts as installation
from tests.e2e.chaos.fair import FairClock
from tests.e2e.chaos.faults import Faults
from tests.e2e.chaos.http_client import HttpClient
from tests.e2e.chaos.kinds import Kinds
from tests.e2e.chaos.ledgers import Ledgers, read_records
from tests.e2e.chaos.link import Link
from tests.e2e.chaos.parts import PAY, SERVICE, SHOP, Parts
from tests.e2e.chaos.people import People
from tests.e2e.chaos.sql_client import SqlClient
from tests.e2e.chaos.targets import api, postgres
from tests.e2e.chaos.told import Ledger, Outcome
from tests.fix_postgres import PostgresServer
from tests.fix_stack import HOST, OPERATOR, Stack, installed
from tests.ports import free_port

# All of these in seconds that the machine gave (`FairClock`).
# A call of a client that takes longer hangs: held statements end after 20 s, decisions after seconds, and no fault
# lasts longer than six.
LIMIT = 90.0
# After the faults: until everything works again, and until everything is shipped.
RECOVERY = 120.0
# Until clients have come to an end by themselves, or been made to.
_END = LIMIT + 60.0
# Until each kind of fault has been there, in times of what the trial takes.
_EACH_KIND = 4
_TICK = 0.1
_PROBE_SECONDS = 300.0
_SQL_CLIENTS, _HTTP_CLIENTS = 4, 3


@dataclass
class Report:
    """What has come of a trial."""

    seed: int
    minutes: float
    faults: Counter[str] = field(default_factory=Counter)
    schedule: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    logins: dict[str, int] = field(default_factory=dict)
    executed: int = 0
    recorded: int = 0
    answers: int = 0
    chains: str = ""
    wrong: list[str] = field(default_factory=list)
    survivors: int = 0
    # Kinds of faults for which there was no time, and how much of its time the machine gave.
    owed: list[str] = field(default_factory=list)
    share: float = 1.0

    def summary(self) -> str:
        return (
            f"seed {self.seed}: {sum(self.faults.values())} faults, {sum(self.outcomes.values())} statements, "
            f"{self.executed} executed, {self.recorded} on record, {len(self.wrong)} disagreements; "
            f"of the time the machine gave {self.share:.0%}"
        )


class Trial:
    """Holds everything of one run."""

    def __init__(self, parts: Parts, seed: int, seconds: float, clock: FairClock, say: Callable[[str], None]) -> None:
        self.parts, self.stack, self.seed, self.seconds, self.say = parts, parts.stack, seed, seconds, say
        self.clock = clock
        self.ledger = Ledger(clock)
        self.report = Report(seed, seconds / 60)
        self.stopping = threading.Event()
        self.clients: list[SqlClient | HttpClient] = []
        self.people: People | None = None

    def run(self) -> Report:
        try:
            with self._watched():
                return self._run()
        finally:
            # Also where it was interrupted: nobody goes on.
            self.stopping.set()
            if self.people is not None:
                self.people.leave()

    def _run(self) -> Report:
        self.parts.prepare()
        # It makes the certificates of the proxies, which do not begin without.
        self.parts.away = dict.fromkeys((SHOP, PAY), float("inf"))
        self.parts.start(SERVICE)
        certificates = [self.stack.state / "certificates" / f"pep-{name}.crt" for name in ("shop", "pay")]
        self._until("certificates", lambda: all(each.exists() for each in certificates))
        self.parts.away.clear()
        self._until("everything works at first", self._works)
        self.clients = list(self._clients())
        self.people = People(self.stack, self.ledger)
        for thread in (*self.clients, self.people):
            thread.start()
        self._until("clients of both protocols get something done", self._something_done)
        self._disturb()
        self.parts.everything_goes_on()
        self._until("everything works again", self._works)
        self._end_clients()
        self._survivors()
        self._drain()
        self._compare()
        return self.report

    def _clients(self) -> Iterator[SqlClient | HttpClient]:
        for number in range(_SQL_CLIENTS):
            token = self.stack.token(f"agent:sql-{number % 2}", ("agents",), ttl="12h")
            seed = f"{self.seed}-sql-{number}"
            yield SqlClient(f"sql-{number}", self.stack, token, self.ledger, seed, self.stopping)
        for number in range(_HTTP_CLIENTS):
            token = self.stack.token("agent:http", ("agents",), audience="pay", ttl="12h")
            seed = f"{self.seed}-http-{number}"
            port = self.parts.http_port
            yield HttpClient(f"http-{number}", port, token, self.ledger, seed, self.stopping)

    # --- while things go wrong ----------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        kinds = Kinds(self.parts, random.Random(f"{self.seed}-kinds"))
        self.faults = Faults(kinds.every(), random.Random(f"{self.seed}-faults"))
        began = time.monotonic()
        told, latest = began, self.clock() + _EACH_KIND * self.seconds
        while (now := time.monotonic()) - began < self.seconds or (self.faults.owed and self.clock() < latest):
            self.faults.step()
            self.parts.supervise()
            if now - told >= 10:
                told = now
                self._progress(now - began)
            time.sleep(_TICK)
        self.faults.finish()
        kinds.finish()

    def _something_done(self) -> bool:
        done = {each.protocol for each in list(self.ledger.statements.values()) if each.outcome is Outcome.SUCCEEDED}
        return done == {"sql", "http"}

    def _progress(self, seconds: float) -> None:
        counts = Counter(str(each.outcome) for each in list(self.ledger.statements.values()))
        said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        faults = sum(self.faults.counted.values())
        self.say(f"{seconds:6.0f} of {self.seconds:.0f} s: {faults} faults; {said}; {len(self.ledger.hangs)} hang")

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Whatever else this thread does meanwhile, calls that hang are found, and ended."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_TICK):
                for client in self.clients:
                    if self.ledger.hangs_in(client.name, LIMIT):
                        client.unblock()

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def _until(self, what: str, true: Callable[[], Any]) -> bool:
        end = self.clock() + RECOVERY
        while not true():
            self.parts.supervise()
            if self.clock() > end:
                self.report.wrong.append(f"within {RECOVERY:.0f} s this did not come: {what}\n{self._last_words()}")
                return False
            time.sleep(_TICK)
        return True

    def _last_words(self) -> str:
        return "\n".join(f"  {name}: {running.said()[-1500:]}" for name, running in self.stack.running.items())

    def _works(self) -> bool:
        """A new login and a request through each proxy."""
        with contextlib.suppress(psycopg.Error, OSError):
            token = self.stack.token("agent:sql-0", ("agents",), ttl="12h")
            with psycopg.connect(self.stack.dsn(token), autocommit=True) as connection:
                connection.execute("select marker from entries limit 1")
            web = http.client.HTTPConnection(HOST, self.parts.http_port, timeout=_PROBE_SECONDS)
            with contextlib.closing(web):
                bearer = self.stack.token("agent:http", ("agents",), audience="pay", ttl="12h")
                web.request("GET", "/entries/probe", headers={"Authorization": f"Bearer {bearer}"})
                return web.getresponse().status == 200
        return False

    def _end_clients(self) -> None:
        self.stopping.set()
        end = self.clock() + _END
        while any(client.is_alive() for client in self.clients) and self.clock() < end:
            self.parts.supervise()
            time.sleep(_TICK)
        assert self.people is not None
        self.people.leave()
        stuck = [client.name for client in self.clients if client.is_alive()]
        if stuck:
            self.report.wrong.append(f"these never came back: {', '.join(stuck)}")

    def _survivors(self) -> None:
        """Connections that are still open go on."""
        for client in self.clients:
            if client.connected and not client.is_alive():
                self.report.survivors += 1
                self._until(f"the connection of {client.name} goes on", client.goes_on)

    def _drain(self) -> None:
        """Everything is shipped; the proxies then stop in order, and another time what died is taken up."""
        for client in self.clients:
            if client.connection is not None:
                client.connection.close()
        for name in (SHOP, PAY):
            with contextlib.suppress(KeyError):
                status = self.stack.end(name)
                if status != 0:
                    self.report.wrong.append(f"{name} ended with status {status}")
            self.parts.start(name)
        self._until("everything works after a restart", self._works)

        def complete() -> bool:
            self.said = self.stack.pdp("records", "missing", token=self.stack.person(OPERATOR))
            return self.said.status == 0

        if not self._until("pdp records missing says that nothing is missing", complete):
            self.report.wrong[-1] += f"\n{self.said.out}{self.said.err}"
        verified = self.stack.pdp("records", "verify", token=self.stack.person(OPERATOR))
        self.report.chains = verified.out.strip()[-500:]
        if verified.status != 0:
            self.report.wrong.append(f"pdp records verify: {verified.out}{verified.err}")

    def _compare(self) -> None:
        # Nothing is written any more.
        for name in (SHOP, PAY, SERVICE):
            if name in self.stack.running and (status := self.stack.end(name)) != 0:
                self.report.wrong.append(f"{name} ended with status {status}")
        recorded = asyncio.run(read_records(f"sqlite:///{self.stack.state / 'pdp.db'}"))
        executed = self.parts.postgres.executed() | self.parts.api.executed()
        rows = self.parts.postgres.rows()
        ledgers = Ledgers(self.ledger.statements, recorded, executed, rows, frozenset(self.ledger.agreed))
        report = self.report
        report.wrong += [f"it hung for {hang.seconds:.0f} s: {hang.worker} {hang.call}" for hang in self.ledger.hangs]
        report.wrong += self.ledger.surprises
        report.wrong += [f"{name} ended by itself:\n{said}" for name, said in self.parts.ended]
        report.wrong += ledgers.disagreements()
        report.faults, report.schedule = self.faults.counted, self.faults.lines
        report.owed, report.share = [each.name for each in self.faults.owed], self.clock.share
        for each in self.ledger.statements.values():
            report.outcomes[each.protocol, each.kind, str(each.outcome)] += 1
        report.logins, report.answers = self.ledger.logins, self.ledger.answers
        report.executed = sum(map(len, executed.values()))
        report.recorded = sum(len(each.of("intent")) for each in recorded.values())


def run(programs: PostgresServer, opa: Path, folder: Path, seed: int, seconds: float, *, disk: bool) -> Report:
    """In `folder` is what the API writes, and afterwards the logs of every process."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    port = free_port()
    with contextlib.ExitStack() as open_:
        target = open_.enter_context(postgres(programs, "ledger"))
        web = open_.enter_context(api(folder))

        def edit(document: dict[str, Any]) -> None:
            secret = Path(document["state"]).parent / "api.token"
            installation.edit(document, api=web, postgres=target, port=port, secret=secret)

        stack = open_.enter_context(installed(target.server, opa, "ledger", edit))
        spool = stack.state / "spool"
        stack.state.mkdir(mode=0o700)
        mounted = disk and open_.enter_context(installation.small_disk(spool))
        link = open_.enter_context(Link(stack.folder / "pdp.sock", stack.state / "pdp.sock"))
        parts = Parts(stack, web, target, link, port, filler=spool / "filler" if mounted else None)
        open_.callback(_keep_logs, stack, folder)
        open_.callback(stack.close)
        open_.callback(parts.everything_goes_on)
        clock = open_.enter_context(FairClock())
        return Trial(parts, seed, seconds, clock, say).run()


def _keep_logs(stack: Stack, folder: Path) -> None:
    for log in stack.folder.glob("*.log"):
        (folder / log.name).write_bytes(log.read_bytes())
