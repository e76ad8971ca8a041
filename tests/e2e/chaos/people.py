"""The people who answer what is held, as the other ledgers see them: `people_child` does it."""

import json
import subprocess
import sys
import threading

from tests.e2e.chaos.told import MARKER, Ledger
from tests.fix_stack import ROOT, Stack, _environment

TEAM = "ledger-team"
# What is under way has limits of its own.
_LEAVE = 300.0
_FIRST, _SECOND = ("user:dana", (TEAM,)), ("user:dora", (TEAM,))


class People(threading.Thread):
    """Two of one team, until `leave`."""

    def __init__(self, stack: Stack, ledger: Ledger) -> None:
        super().__init__(name="people", daemon=True)
        self._ledger = ledger
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.chaos.people_child"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        given = {"config": str(stack.config), "dana": stack.person(_FIRST), "dora": stack.person(_SECOND)}
        self._tell(json.dumps(given))
        ledger.people = self._tell

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, rest = line.rstrip("\n").split(" ", 1)
            match word:
                case "agreed":
                    self._ledger.agreed.add(rest)
                case "answered":
                    self._ledger.answers += 1
                case "unknown":
                    self._know(rest)
                case _:
                    self._ledger.surprise(f"the people say {line!r}")

    def _know(self, text: str) -> None:
        """They may not have read yet what has been sent; then they will."""
        found = MARKER.search(text)
        if found is None or found[0] not in self._ledger.statements:
            self._ledger.surprise(f"an approval of what nobody sent: {text}")

    def leave(self) -> None:
        """Nobody answers afterwards. What they have said is in the ledger. Asked again, it does nothing."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self.join()
        self._process.stdout.close()
        if status != 0:
            self._ledger.surprise(f"the people ended with status {status}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
