"""What can go wrong with the parts of an installation, done by the thread that made them."""

import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable

from tests.e2e.chaos.faults import Fault
from tests.e2e.chaos.link import Link
from tests.e2e.chaos.parts import PAY, SERVICE, SHOP, Parts

# Until a target that was killed runs again: long on a machine that has much else to do.
_STARTS = 300.0


class Kinds:
    """`every` lists them; `finish` waits for what goes on beside."""

    def __init__(self, parts: Parts, chance: random.Random) -> None:
        self.parts, self.random = parts, chance
        self._threads: list[threading.Thread] = []

    def every(self) -> list[Fault]:
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

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()

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
        return [
            Fault(f"link {name} slow", part, lambda _: link.slow(self.random.choice([0.02, 0.1, 0.5])), link.mend),
            Fault(f"link {name} still", part, lambda _: link.still(), link.mend),
            Fault(f"link {name} cut", part, lambda _: link.cut(), link.mend),
        ]

    def _aside(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def _kill_postgres(self, seconds: float) -> bool:
        if not self.parts.postgres.signal(signal.SIGKILL):
            return False

        def again() -> None:
            time.sleep(seconds / 2)
            until = time.monotonic() + _STARTS
            # It may have been started already, by one who met an earlier end of it.
            while not (self.parts.postgres.start() or self.parts.postgres.answers()) and time.monotonic() < until:
                time.sleep(0.5)

        self._aside(again)
        return True

    def _to_opa(self, number: int) -> bool:
        pid = self.parts.opa()
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def _kill_a_child(self) -> bool:
        children = [pid for name in (SHOP, PAY) for pid in self.parts.children(name)]
        if not children:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.random.choice(children), signal.SIGKILL)
            return True
        return False

    def _ask_to_stop(self, name: str, seconds: float) -> bool:
        if not self.parts.signal(name, signal.SIGTERM):
            return False
        self.parts.away[name] = time.monotonic() + seconds
        return True

    def _limit(self, name: str) -> bool:
        size = self.random.choice([0, 4096, 65536, 300_000])
        self.parts.fills(name)
        if self.parts.limit_files(name, size):
            return True
        self.parts.has_room(name)
        return False

    def _unlimit(self, name: str) -> None:
        self.parts.limit_files(name, None)
        self.parts.has_room(name)

    def _fill(self) -> None:
        self.parts.fills("disk")
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
        self.parts.has_room("disk")
