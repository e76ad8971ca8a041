"""When which fault begins and how long it lasts, chosen by a seeded generator: each kind once, and then by chance.

What the kinds are and what they do is in `kinds`.
"""

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Faults that last are over by then.
LONGEST = 6.0
_NOTHING: Callable[[], object] = lambda: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` and `end` are called once each; meanwhile nothing else is done to the same part.

    `begin` gives False where there was nothing that it could be done to: then it did not take place.
    """

    name: str
    part: str
    begin: Callable[[float], object]
    end: Callable[[], object] = _NOTHING
    weight: int = 2


@dataclass(eq=False)
class Faults:
    """The schedule. `step` does what is due; `finish` ends everything that is under way."""

    kinds: Sequence[Fault]
    random: random.Random
    clock: Callable[[], float] = time.monotonic
    counted: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    # Those that have not been there yet.
    owed: list[Fault] = field(init=False)
    _broken: set[str] = field(default_factory=set)
    _ends: list[tuple[float, int, Fault]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _next: float = 0.0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()
        self.owed = self.random.sample(self.kinds, len(self.kinds))

    def step(self) -> None:
        now = self.clock()
        while self._ends and self._ends[0][0] <= now:
            _, _, fault = heapq.heappop(self._ends)
            fault.end()
            self._broken.discard(fault.part)
        if now >= self._next:
            # Now and then a quiet while, in which everything gets its breath back.
            self._next = now + self.random.choice([0.3, 0.8, 1.5, 3.0, 6.0])
            self._begin(now)

    def finish(self) -> None:
        for _, _, fault in sorted(self._ends):
            fault.end()
        self._ends.clear()
        self._broken.clear()

    def _begin(self, now: float) -> None:
        seconds = self.random.choice([0.3, 1.0, 2.5, LONGEST])
        fault = self._due()
        if fault is None or fault.part in self._broken or fault.begin(seconds) is False:
            return
        if fault in self.owed:
            self.owed.remove(fault)
        self._broken.add(fault.part)
        self.counted[fault.name] += 1
        self.lines.append(f"{now - self._began:8.1f}s {fault.name} ({seconds} s)")
        heapq.heappush(self._ends, (now + seconds, next(self._numbers), fault))

    def _due(self) -> Fault | None:
        if not self.owed:
            return self.random.choices(self.kinds, [each.weight for each in self.kinds])[0]
        whole = next((each for each in self.owed if each.part not in self._broken), None)
        if whole is not None:
            # It stands last, if it should not come to be.
            self.owed.remove(whole)
            self.owed.append(whole)
        return whole
