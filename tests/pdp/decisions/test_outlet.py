"""Buffers of the decision log: bounded, in order, tried again, emptied at the end."""

import asyncio

from pdp.decisions.outlet import Bounds, Outlet, Undeliverable


async def emptied(outlet: Outlet, *items: int) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(outlet.run())
        for each in items:
            outlet.put(each)
        outlet.close()


def test_everything_is_delivered_in_order_and_in_batches():
    batches: list[list[int]] = []

    async def deliver(some: list[int]) -> None:
        batches.append(some)

    asyncio.run(emptied(Outlet("x", deliver, bounds=Bounds(batch=2)), 1, 2, 3, 4, 5))
    assert batches == [[1, 2], [3, 4], [5]]


def test_what_does_not_fit_is_dropped_and_counted():
    async def scenario() -> Outlet[int]:
        async def deliver(_: list[int]) -> None: ...

        outlet = Outlet("x", deliver, weigh=lambda item: item, bounds=Bounds(most=3, heaviest=10))
        for item in (1, 9, 2, 1, 1, 1):
            outlet.put(item)
        return outlet

    outlet = asyncio.run(scenario())
    assert outlet.waiting == 2
    assert outlet.dropped == 4


def test_a_failure_is_tried_again_and_nothing_is_doubled():
    got: list[int] = []
    failures = [OSError(5, "no"), OSError(5, "no")]

    async def deliver(some: list[int]) -> None:
        if failures:
            raise failures.pop()
        got.extend(some)

    outlet = Outlet("x", deliver)
    asyncio.run(emptied(outlet, 1, 2))
    assert got == [1, 2]
    assert outlet.dropped == 0
    assert outlet.trouble == ""


def test_what_is_hopeless_is_given_up():
    got: list[int] = []

    async def deliver(some: list[int]) -> None:
        if 1 in some:
            raise Undeliverable("no")
        got.extend(some)

    outlet = Outlet("x", deliver, bounds=Bounds(batch=1))
    asyncio.run(emptied(outlet, 1, 2))
    assert got == [2]
    assert outlet.dropped == 1


def test_settled_waits_for_what_was_put_before():
    async def scenario() -> list[int]:
        got: list[int] = []

        async def deliver(some: list[int]) -> None:
            await asyncio.sleep(0)
            got.extend(some)

        outlet = Outlet("x", deliver, bounds=Bounds(batch=1))
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(outlet.run())
            outlet.put(1)
            outlet.put(2)
            await outlet.settled()
            seen = list(got)
            outlet.close()
        return seen

    assert asyncio.run(scenario()) == [1, 2]
