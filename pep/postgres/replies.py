"""What the upstream still owes: one entry for each frame that was sent and will be answered.

The server answers in order, and after an error in the extended protocol it skips everything up to Sync. So every
message that comes back belongs to the entry at the head of the queue, or is asynchronous.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from pep.postgres.backend import ErrorResponse, RowDescription
from pep.postgres.classification import Change, Classification
from pep.postgres.names import Change as NameChange
from pep.postgres.names import Portal, Prepared
from pep.postgres.results import Execution


class Owed(enum.Enum):
    PARSE = "Parse"
    BIND = "Bind"
    CLOSE = "Close"
    DESCRIBE_STATEMENT = "Describe of a statement"
    DESCRIBE_PORTAL = "Describe of a portal"
    EXECUTE = "Execute"
    SYNC = "Sync"
    QUERY = "Query"
    REFUSAL = "a refusal"


@dataclass(slots=True, eq=False)
class Capture:
    """The answers to the proxy's own frames: nothing of them reaches the client, except an error of its own group."""

    in_client_group: bool = False
    rows: list[tuple[bytes | None, ...]] = field(default_factory=list)
    descriptions: list[RowDescription | None] = field(default_factory=list)
    tag: str = ""
    error: ErrorResponse | None = None
    done: bool = False


@dataclass(slots=True, eq=False)
class Expected:
    """One frame on its way.

    `change` is confirmed by the reply; `barrier` is what the frame may change about resolution; `statement_changes` are
    the changes of names that the statements of a simple Query make, by the index of their result. A `function_call` is
    answered like a Query, with one FunctionCallResponse for its result.
    """

    owed: Owed
    group: int
    change: NameChange | None = None
    changes: dict[int, NameChange] = field(default_factory=dict)
    execution: Execution | None = None
    capture: Capture | None = None
    portal: Portal | None = None
    prepared: Prepared | None = None
    barrier: frozenset[Change] = frozenset()
    steps: tuple[Classification, ...] = ()
    error: ErrorResponse | None = None
    function_call: bool = False


class Replies:
    """The queue."""

    def __init__(self) -> None:
        self._queue: deque[Expected] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def __iter__(self) -> Iterator[Expected]:
        return iter(self._queue)

    @property
    def head(self) -> Expected | None:
        return self._queue[0] if self._queue else None

    def push(self, expected: Expected) -> None:
        self._queue.append(expected)

    def pop(self) -> Expected:
        return self._queue.popleft()

    def skip_to_sync(self) -> tuple[list[Expected], bool]:
        """What the server skips after an error, and whether its Sync is already on the way."""
        skipped: list[Expected] = []
        while self._queue and self._queue[0].owed is not Owed.SYNC:
            skipped.append(self._queue.popleft())
        return skipped, bool(self._queue)

    def barrier_before(self, group: int) -> bool:
        return any(expected.barrier and expected.group != group for expected in self._queue)

    def barrier_in(self, group: int) -> bool:
        return any(expected.barrier and expected.group == group for expected in self._queue)

    @property
    def executing(self) -> bool:
        """Whether a command runs at the server, or may: one of the client, or what the proxy asks for its sake."""
        return any(
            expected.owed in (Owed.EXECUTE, Owed.QUERY) or expected.capture is not None for expected in self._queue
        )
