"""Timers by name: what was put off or cleared does not fire, and what was set last does."""

import asyncio

from pep.core.timers import Timer, Timers
from tests.pep.core.scripted import until


def test_what_is_put_off_fires_once_and_in_its_time():
    async def run() -> None:
        loop, fired = asyncio.get_running_loop(), []
        timers = Timers(lambda timer: fired.append((timer.name, loop.time())))
        begun = loop.time()
        timers.set("idle", 0.02)
        timers.set("idle", 0.2)
        timers.set("first", 0.01)
        await until(lambda: len(fired) == 2)
        assert [name for name, _ in fired] == ["first", "idle"]
        assert fired[1][1] - begun > 0.19

    asyncio.run(run())


def test_what_is_brought_forward_does_not_wait_for_its_old_time():
    async def run() -> None:
        fired = []
        timers = Timers(lambda timer: fired.append(timer.name))
        timers.set("head", 3600.0)
        timers.set("head", 0.01)
        await until(lambda: bool(fired))
        assert fired == ["head"]

    asyncio.run(run())


def test_nothing_is_kept_of_names_that_do_not_come_again():
    async def run() -> None:
        fired: list[Timer] = []
        timers = Timers(fired.append)
        for number in range(1000):
            timers.set(f"limit:{number}", 3600.0)
            timers.set(f"limit:{number}", None)
        assert len(timers._by_name) < 50
        for number in range(50):
            timers.set(f"short:{number}", 0.001)
        await until(lambda: len(fired) == 50)
        assert all(timers.claim(each) for each in fired)
        assert not any(timers.claim(each) for each in fired), "each is claimed once"
        assert len(timers._by_name) < 50
        timers.set("short:0", 3600.0)
        assert not timers.claim(fired[0]), "it was set anew"
        timers.close()

    asyncio.run(run())


def test_what_is_cleared_or_set_anew_does_not_count_any_more():
    async def run() -> None:
        fired: list[Timer] = []
        timers = Timers(fired.append)
        timers.set("cleared", 0.001)
        timers.set("cleared", None)
        timers.set("other", 0.02)
        await until(lambda: bool(fired))
        assert [timer.name for timer in fired] == ["other"]
        assert timers.claim(fired[0])
        timers.set("other", None)
        assert not timers.claim(fired[0]), "it was cleared before anybody was told"
        timers.set("late", 0.01)
        timers.close()
        timers.set("last", 0.05)
        await until(lambda: len(fired) == 2)
        assert fired[1].name == "last"

    asyncio.run(run())
