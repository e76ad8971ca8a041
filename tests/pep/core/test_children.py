"""Child processes for what is too much for the loop: whole answers or none, and nobody has all of them."""

import asyncio
import contextlib
import functools
import os
from pathlib import Path

import pytest
import uvloop

from pep.core.children import ChildFailed, ChildLimits, Children

LIMIT = 60.0


def on_a_loop(test):
    @functools.wraps(test)
    def run(**fixtures):
        uvloop.run(test(**fixtures))

    return run


@contextlib.asynccontextmanager
async def children(**limits):
    made = Children("tests.child_program", ChildLimits(**limits))
    try:
        async with asyncio.timeout(LIMIT):
            yield made
    finally:
        await made.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def stopped_children():
    """The processes of this one's that stand still."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "T" and int(parent) == os.getpid():
                found.append(int(entry.name))
    return found


async def one_stands_still():
    while not stopped_children():  # noqa: ASYNC110 - another process brings it about
        await asyncio.sleep(0.01)


@on_a_loop
async def test_a_child_is_used_again_and_has_no_environment(monkeypatch):
    monkeypatch.setenv("A_SECRET", "hunter2")
    async with children() as pool:
        first = await pool.ask(b"", "a")
        assert await pool.ask(b"", "b") == first
        assert b"hunter2" not in await pool.ask(b"environment", "a")
    assert not alive(int(first))


@pytest.mark.parametrize("request_", [b"end", b"long"])
@on_a_loop
async def test_a_child_that_does_not_answer_is_a_failure_and_the_next_one_does(request_):
    async with children() as pool:
        before = await pool.ask(b"", "a")
        with pytest.raises(ChildFailed):
            await pool.ask(request_, "a")
        assert await pool.ask(b"", "a") != before
        assert not alive(int(before))


@on_a_loop
async def test_a_child_that_is_late_is_killed():
    async with children(timeout=1.0) as pool:
        with pytest.raises(ChildFailed):
            await pool.ask(b"stop", "a")
        assert not stopped_children()


@on_a_loop
async def test_a_child_has_so_much_of_the_processor_for_a_request():
    async with children(cpu_seconds=0) as pool:
        with pytest.raises(ChildFailed):
            await pool.ask(b"burn", "a")
        assert await pool.ask(b"", "a")


@on_a_loop
async def test_a_request_that_is_too_long_reaches_no_child():
    async with children(longest=10) as pool:
        with pytest.raises(ChildFailed):
            await pool.ask(bytes(11), "a")


@on_a_loop
async def test_one_share_leaves_a_child_to_the_others():
    async with children(children=2, per_share=1) as pool, asyncio.TaskGroup() as tasks:
        mine = [tasks.create_task(pool.ask(b"stop", "a")) for _ in range(3)]
        await one_stands_still()
        for _ in range(3):
            assert await pool.ask(b"", "b")
        assert len(stopped_children()) == 1
        assert not any(task.done() for task in mine)
        for task in mine:
            task.cancel()
    assert not stopped_children()


@on_a_loop
async def test_shares_are_served_in_turn():
    served = []

    async def ask(pool, share):
        await pool.ask(b"", share)
        served.append(share)

    async with children(children=1) as pool, asyncio.TaskGroup() as tasks:
        held = tasks.create_task(pool.ask(b"stop", "x"))
        await one_stands_still()
        for share in "aaab":
            tasks.create_task(ask(pool, share))
        await asyncio.sleep(0)
        held.cancel()
    assert served == ["a", "b", "a", "a"]


@on_a_loop
async def test_only_so_many_of_one_share_wait():
    async with children(children=1, waiting=2) as pool, asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(pool.ask(b"stop", "a"))]
        await one_stands_still()
        held += [tasks.create_task(pool.ask(b"", "a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ChildFailed):
            await pool.ask(b"", "a")
        for task in held:
            task.cancel()


@on_a_loop
async def test_whoever_stops_waiting_leaves_the_turn_to_the_next():
    async with children(children=1) as pool, asyncio.TaskGroup() as tasks:
        held = tasks.create_task(pool.ask(b"stop", "a"))
        await one_stands_still()
        leaves = tasks.create_task(pool.ask(b"stop", "b"))
        stays = tasks.create_task(pool.ask(b"", "b"))
        await asyncio.sleep(0)
        leaves.cancel()
        held.cancel()
        assert await stays
