"""The schedule of faults and the clock of the trial: each kind comes, and a slow machine is nobody's fault."""

import random
import time

import pytest

from tests.e2e.chaos.fair import REST, WORK, FairClock, given
from tests.e2e.chaos.faults import LONGEST, Fault, Faults
from tests.e2e.chaos.told import Ledger

NAMES = [f"{part} {what}" for part in ("service", "proxy", "target") for what in ("killed", "paused", "cut")]


class Place:
    """What the faults are done to, at a time of its own."""

    def __init__(self, absent: int = 0) -> None:
        self.now = 0.0
        self.absent = absent
        self.broken: dict[str, str] = {}
        self.ended = 0

    def kinds(self) -> list[Fault]:
        return [self._kind(name) for name in NAMES]

    def _kind(self, name: str) -> Fault:
        part = name.split(" ", maxsplit=1)[0]

        def begin(_: float) -> bool:
            if name == "target cut" and self.absent:
                self.absent -= 1
                return False
            assert part not in self.broken, f"{name} while {self.broken}"
            self.broken[part] = name
            return True

        def end() -> None:
            self.ended += 1
            del self.broken[part]

        return Fault(name, part, begin, end)

    def run(self, seed: int, seconds: float) -> Faults:
        faults = Faults(self.kinds(), random.Random(seed), lambda: self.now)
        while self.now < seconds:
            faults.step()
            self.now += 0.1
        return faults


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_before_any_comes_again(seed: int):
    faults = Place().run(seed, 150)
    assert not faults.owed
    first = [line.split("s ", 1)[1].rsplit(" (", 1)[0] for line in faults.lines[: len(NAMES)]]
    assert sorted(first) == sorted(NAMES)
    assert sum(faults.counted.values()) == len(faults.lines)


def test_a_kind_that_finds_nobody_is_tried_again_and_counts_when_it_has_been_there():
    faults = Place(absent=3).run(1, 150)
    assert not faults.owed
    assert faults.counted["target cut"]
    assert Place(absent=10_000).run(1, 150).owed[0].name == "target cut"


def test_a_seed_gives_the_same_schedule_again():
    assert Place().run(5, 150).lines == Place().run(5, 150).lines != Place().run(6, 150).lines


def test_every_fault_ends():
    place = Place()
    faults = place.run(3, 40)
    faults.finish()
    assert not place.broken
    assert place.ended == len(faults.lines)
    for line in faults.lines:
        assert float(line.rsplit("(", 1)[1].removesuffix(" s)")) <= LONGEST


@pytest.mark.parametrize(
    ("rested", "worked", "seconds"),
    [
        (REST, WORK, REST + WORK),
        # It was not let run after its rest, or stood still in it.
        (60.0, WORK, REST + WORK),
        # It had a quarter of a processor.
        (REST, 4 * WORK, (REST + WORK) / 4),
        (60.0, 4 * WORK, (REST + WORK) / 4),
        (0.0, 0.0, 0.0),
    ],
)
def test_what_a_machine_does_not_give_does_not_count(rested: float, worked: float, seconds: float):
    assert given(rested, worked) == pytest.approx(seconds)


def test_the_clock_goes_on_and_never_before_the_one_at_the_wall():
    with FairClock() as clock:
        while clock() < 3 * REST:
            time.sleep(REST)
        assert clock.share <= 1.05
    stood = clock()
    assert clock() == stood


def test_a_call_that_takes_too_long_is_noted_once():
    now = 0.0
    ledger = Ledger(lambda: now)
    with ledger.call("sql-0", "select"):
        assert not ledger.hangs_in("sql-0", 90)
        now = 91.0
        assert ledger.hangs_in("sql-0", 90)
        assert ledger.hangs_in("sql-0", 90)
    assert not ledger.hangs_in("sql-0", 90)
    assert [(each.worker, each.call, each.seconds) for each in ledger.hangs] == [("sql-0", "select", 91.0)]
