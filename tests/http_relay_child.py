"""The HTTP proxy of `http_relay` in a process of its own, told over its standard input what its stub is to answer.

    python -m tests.http_relay_child http://127.0.0.1:8080 '{"limits": {...}}'

For whoever measures it: its memory and its time are then nobody else's. Every line is a command and is answered by one.
"""

import contextlib
import cProfile
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from tests.http_relay import SECRET, allow, deny, http_relay, mask

ROOT = Path(__file__).resolve().parent.parent


class RelayProcess:
    """The running child, from outside."""

    def __init__(self, upstream: str, **proxy: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.http_relay_child", upstream, json.dumps(proxy)],
            cwd=ROOT,
            env={**os.environ, "CHECKREIN_TEST_UPSTREAM": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss(self) -> int:
        """Bytes of memory that it has now."""
        return self._kib("VmRSS") * 1024

    @property
    def peak(self) -> int:
        """The most that it ever had."""
        return self._kib("VmHWM") * 1024

    @property
    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def tell(self, command: str, *words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *words]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the proxy's process has ended"
        return line.rstrip("\n")

    def _kib(self, name: str) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _commands() -> Iterator[list[Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    from pep.core.model import FieldMask, NullMask, PartialEmailMask
    from pep.core.sessions import SessionEnded

    # Standard output is for answers.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    upstream, proxy = sys.argv[1], json.loads(sys.argv[2])
    profile = cProfile.Profile()
    emails = (FieldMask("customers", "$..email", PartialEmailMask()), FieldMask("customers", "$..ssn", NullMask()))
    with http_relay(upstream, **proxy) as relay:
        _say(relay.port)
        stub = relay.decisions
        for command, *words in _commands():
            match command:
                case "allow":
                    stub.policy = lambda _: allow()
                case "mask":
                    stub.policy = lambda _: mask(*emails)
                case "deny":
                    stub.policy = lambda _: deny()
                case "down":
                    stub.down = True
                case "revoke":
                    stub.ended = [SessionEnded(name, "revoked") for name in stub.sessions]
                case "forget":
                    # What the stub remembers of each question is not the proxy's memory.
                    stub.asked.clear()
                    stub.asked_by.clear()
                case "profile":
                    relay.loop.call_soon_threadsafe(profile.enable)
                case "profiled":
                    over = threading.Event()
                    relay.loop.call_soon_threadsafe(lambda over=over: (profile.disable(), over.set()))
                    over.wait()
                    profile.dump_stats(words[0])
                case _:
                    raise ValueError(command)
            _say("ok")


if __name__ == "__main__":
    main()
