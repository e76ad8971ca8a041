"""What goes wrong, when and for how long: chosen by a seeded generator, done by the thread that made the parts."""

import contextlib
import errno
import heapq
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e.chaos.link import Link
from tests.e2e.chaos.parts import PAY, SERVICE, SHOP, Parts

# Faults that last are over by then.
LONGEST = 6.0
_NOTHING: Callable[[], object] = lambda: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` and `end` are called once each; meanwhile nothing else is done to the same part."""

    name: str
    part: str
    begin: Callable[[float], object]
    end: Callable[[], object] = _NOTHING
    weight: int = 2


@dataclass(eq=False)
class Faults:
    """The schedule. `step` does what is due; `finish` ends everything that is under way."""

    parts: Parts
    random: random.Random
    counted: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    _broken: dict[str, str] = field(default_factory=dict)
    _ends: list[tuple[float, int, Fault]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _next: float = 0.0
    _threads: list[threading.Thread] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def step(self) -> None:
        now = time.monotonic()
        while self._ends and self._ends[0][0] <= now:
            _, _, fault = heapq.heappop(self._ends)
            fault.end()
            self._broken.pop(fault.part, None)
        if now >= self._next:
            # Now and then a quiet while, in which everything gets its breath back.
            self._next = now + self.random.choice([0.3, 0.8, 1.5, 3.0, 6.0])
            self._begin(now)

    def finish(self) -> None:
        for _, _, fault in sorted(self._ends):
            fault.end()
        self._ends.clear()
        for thread in self._threads:
            thread.join()

    def _begin(self, now: float) -> None:
        every = self._kinds()
        fault = self.random.choices(every, [each.weight for each in every])[0]
        seconds = self.random.choice([0.3, 1.0, 2.5, LONGEST])
        if fault.part in self._broken:
            return
        self._broken[fault.part] = fault.name
        self.counted[fault.name] += 1
        self.lines.append(f"{now - self._began:8.1f}s {fault.name} ({seconds} s)")
        fault.begin(seconds)
        heapq.heappush(self._ends, (now + seconds, next(self._numbers), fault))

    def _kinds(self) -> list[Fault]:
        parts = self.parts
        kinds = [
            Fault("target killed (PostgreSQL)", "postgres", self._kill_postgres),
            Fault(
                "target paused (PostgreSQL)",
                "postgres",
                lambda _: parts.postgres.signal(signal.SIGSTOP),
                lambda: parts.postgres.signal(signal.SIGCONT),
            ),
            Fault("target's sessions ended", "postgres", lambda _: self._aside(parts.postgres.cut_backends)),
            Fault("target killed (API)", "api", lambda _: parts.api.kill(), parts.api.start),
            Fault(
                "target paused (API)",
                "api",
                lambda _: parts.api.signal(signal.SIGSTOP),
                lambda: parts.api.signal(signal.SIGCONT),
            ),
            Fault("OPA killed", "opa", lambda _: self._to_opa(signal.SIGKILL), weight=3),
            Fault("OPA paused", "opa", lambda _: self._to_opa(signal.SIGSTOP), lambda: self._to_opa(signal.SIGCONT)),
            Fault("a child of a proxy killed", "child", lambda _: self._kill_a_child()),
        ]
        for name in (SERVICE, SHOP, PAY):
            kinds += self._of_process(name)
        for name, link in (
            ("to the service", parts.service_link),
            ("to PostgreSQL", parts.postgres.link),
            ("to the API", parts.api.link),
        ):
            kinds += self._of_link(name, link)
        if parts.filler is not None:
            kinds.append(Fault("spool's disk filled", "disk", lambda _: self._fill(), self._empty, weight=4))
        return kinds

    def _of_process(self, name: str) -> list[Fault]:
        parts = self.parts
        return [
            Fault(f"{name} killed", name, lambda seconds: parts.kill(name, seconds), weight=3),
            Fault(
                f"{name} paused",
                name,
                lambda _: parts.signal(name, signal.SIGSTOP),
                lambda: parts.signal(name, signal.SIGCONT),
            ),
            Fault(f"{name} asked to stop", name, lambda seconds: self._ask_to_stop(name, seconds), weight=1),
            Fault(f"{name} cannot write", name, lambda _: self._limit(name), lambda: self._unlimit(name), weight=3),
        ]

    def _of_link(self, name: str, link: Link) -> list[Fault]:
        part = f"link {name}"
        delay = self.random.choice([0.02, 0.1, 0.5])
        return [
            Fault(f"link {name} slow", part, lambda _: link.slow(delay), link.mend),
            Fault(f"link {name} still", part, lambda _: link.still(), link.mend),
            Fault(f"link {name} cut", part, lambda _: link.cut(), link.mend),
        ]

    def _aside(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def _kill_postgres(self, seconds: float) -> None:
        self.parts.postgres.signal(signal.SIGKILL)

        def again() -> None:
            time.sleep(seconds / 2)
            until = time.monotonic() + 60
            while not self.parts.postgres.start() and time.monotonic() < until:
                time.sleep(0.5)

        self._aside(again)

    def _to_opa(self, number: int) -> None:
        pid = self.parts.opa()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _kill_a_child(self) -> None:
        children = [pid for name in (SHOP, PAY) for pid in self.parts.children(name)]
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(children), signal.SIGKILL)

    def _ask_to_stop(self, name: str, seconds: float) -> None:
        self.parts.away[name] = time.monotonic() + seconds
        self.parts.signal(name, signal.SIGTERM)

    def _limit(self, name: str) -> None:
        self.parts.full.add(name)
        self.parts.limit_files(name, self.random.choice([0, 4096, 65536, 300_000]))

    def _unlimit(self, name: str) -> None:
        self.parts.limit_files(name, None)
        self.parts.full.discard(name)

    def _fill(self) -> None:
        self.parts.full.add("disk")
        assert self.parts.filler is not None
        leave = self.random.choice([0, 0, 4096, 20_000])
        with contextlib.suppress(OSError), self.parts.filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 65536) == 65536:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(0, file.tell() - leave))

    def _empty(self) -> None:
        assert self.parts.filler is not None
        self.parts.filler.unlink(missing_ok=True)
        self.parts.full.discard("disk")
