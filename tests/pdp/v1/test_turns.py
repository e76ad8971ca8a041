"""Turns: nobody has all places, whoever waits is served in turn, and who gives up leaves nothing behind."""

import asyncio
import contextlib

import pytest

from pdp.v1.turns import NoTurn, Turns


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Bench:
    """Takers who keep their place until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.leave: dict[str, asyncio.Event] = {}

    def come(self, name: str) -> None:
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._take(name))

    async def _take(self, name: str) -> None:
        async with self.turns.of(name[0]):
            self.served.append(name)
            await self.leave[name].wait()


def test_a_share_has_only_its_places_and_another_one_has_one_at_once():
    async def run() -> None:
        bench = Bench(Turns(4, 2))
        for name in ("a1", "a2", "a3", "a4", "b1"):
            bench.come(name)
        await settled()
        assert bench.served == ["a1", "a2", "b1"]
        assert bench.turns.running("a") == 2
        for event in bench.leave.values():
            event.set()
        await asyncio.gather(*bench.tasks.values())
        assert bench.served == ["a1", "a2", "b1", "a3", "a4"]
        assert bench.turns.free

    asyncio.run(run())


def test_shares_that_wait_are_served_in_turn_however_much_one_of_them_asks_for():
    async def run() -> None:
        bench = Bench(Turns(1, 1))
        for name in ("a0", "a1", "a2", "a3", "b1", "c1", "b2"):
            bench.come(name)
            await settled()
            bench.leave[name].set()
        await asyncio.gather(*bench.tasks.values())
        assert bench.served[0] == "a0"
        bench.served.clear()
        bench.come("z0")
        await settled()
        for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
            bench.come(name)
            bench.leave[name].set()
        await settled()
        bench.leave["z0"].set()
        await asyncio.gather(*bench.tasks.values())
        assert bench.served == ["z0", "a1", "b1", "c1", "a2", "b2", "a3"]

    asyncio.run(run())


def test_too_many_that_wait_are_refused_and_only_of_that_share():
    async def run() -> None:
        bench = Bench(Turns(2, 1, waiting=1))
        for name in ("a1", "a2", "a3", "b1"):
            bench.come(name)
        await settled()
        assert bench.served == ["a1", "b1"]
        with pytest.raises(NoTurn):
            await bench.tasks["a3"]
        for event in bench.leave.values():
            event.set()
        await asyncio.gather(bench.tasks["a1"], bench.tasks["a2"], bench.tasks["b1"])

    asyncio.run(run())


@pytest.mark.parametrize("let_go_first", [True, False])
def test_who_gives_up_leaves_his_place_to_the_next(let_go_first: bool):
    async def run() -> None:
        bench = Bench(Turns(1, 1))
        for name in ("a1", "a2", "a3"):
            bench.come(name)
        await settled()
        # At the same moment as its turn comes, before or after it.
        if let_go_first:
            bench.leave["a1"].set()
            await bench.tasks["a1"]
            bench.tasks["a2"].cancel()
        else:
            bench.tasks["a2"].cancel()
            bench.leave["a1"].set()
        with contextlib.suppress(asyncio.CancelledError):
            await bench.tasks["a2"]
        await settled()
        assert bench.served[-1] == "a3"
        bench.leave["a3"].set()
        await bench.tasks["a3"]
        assert bench.turns.free

    asyncio.run(run())
