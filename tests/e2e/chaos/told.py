"""The ledger of the clients: what each statement was told, and what people answered to the held ones."""

import enum
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MARKER = re.compile(r"mk\d{8}x")


class Outcome(enum.StrEnum):
    """What a client knows about its statement afterwards."""

    SUCCEEDED = "succeeded"
    DENIED = "denied"  # by policy or by people: it was not executed
    LATER = "denied for now"  # no decision, no record: it was not executed
    FAILED = "failed"  # the target's own error, or one of the proxy's that says nothing about the execution
    UNKNOWN = "unknown"  # the connection ended while it waited
    LEFT = "left"  # it closed the connection itself while it waited


class Wish(enum.StrEnum):
    """What becomes of what is held."""

    YES = "yes"
    NO = "no"
    RACE = "yes and no at once"
    LEAVE = "the client leaves, then yes"
    SILENCE = "nobody answers"


@dataclass(eq=False)
class Statement:
    """One statement or request, which its marker follows through all ledgers."""

    marker: str
    protocol: str
    kind: str
    text: str
    wish: Wish | None = None
    began: float = 0.0
    ended: float = 0.0
    outcome: Outcome = Outcome.UNKNOWN
    said: str = ""
    # Statements of one transaction have one number.
    group: int = 0

    def tell(self, outcome: Outcome, said: object = "") -> None:
        self.outcome, self.said, self.ended = outcome, " ".join(str(said).split())[:300], time.time()


@dataclass(frozen=True, slots=True)
class Hang:
    """A call that did not come back in time."""

    worker: str
    call: str
    seconds: float


class Ledger:
    """Filled by many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.statements: dict[str, Statement] = {}
        # What people have said yes to, whether the answer arrived or not.
        self.agreed: set[str] = set()
        self.answers = 0
        self.logins: dict[str, int] = {}
        self.hangs: list[Hang] = []
        self.surprises: list[str] = []
        # Takes a line for the people who answer what is held.
        self.people: Callable[[str], None] = lambda line: None
        self._calls: dict[str, tuple[float, str]] = {}
        self._noted: set[tuple[str, float]] = set()

    def new(self, protocol: str, kind: str, wish: Wish | None = None, group: int = 0) -> Statement:
        with self._lock:
            marker = f"mk{next(self._numbers):08d}x"
            statement = Statement(marker, protocol, kind, "", wish, time.time(), group=group)
            self.statements[marker] = statement
            if wish is not None:
                self.people(f"{marker} {wish}")
            return statement

    def left(self, statement: Statement) -> None:
        """Its client does not wait any more: a yes comes too late from now on."""
        with self._lock:
            self.people(f"{statement.marker} left")

    def group(self) -> int:
        with self._lock:
            return next(self._numbers)

    def login(self, how: str) -> None:
        with self._lock:
            self.logins[how] = self.logins.get(how, 0) + 1

    def surprise(self, what: str) -> None:
        with self._lock:
            self.surprises.append(what)

    @contextmanager
    def call(self, worker: str, what: str) -> Iterator[None]:
        """A call of a client, watched from outside."""
        self._calls[worker] = (self._clock(), what)
        try:
            yield
        finally:
            self._calls.pop(worker, None)

    def hangs_in(self, worker: str, limit: float) -> bool:
        """Whether its call takes longer than that now; each is noted, once."""
        since, what = self._calls.get(worker, (None, ""))
        if since is None or (seconds := self._clock() - since) <= limit:
            return False
        if (worker, since) not in self._noted:
            self._noted.add((worker, since))
            self.hangs.append(Hang(worker, what, seconds))
        return True
