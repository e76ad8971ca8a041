"""The loop's time: beside one client with a thousand things to do another one is served after one of them."""

import asyncio

from pep.core.mailbox import Mailbox
from pep.core.wire import ClientClosed, ClientData
from pep.core.worktime import Worktime


class Clock:
    """Each piece of work takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_shares_take_turns_once_a_turn_of_the_loop_is_used_up():
    async def run() -> None:
        clock, done = Clock(), []
        worktime = Worktime(0.002, clock)

        def work(name: str, pieces: int):
            left = [pieces]

            def piece() -> bool:
                clock.now += 0.001
                done.append(name)
                left[0] -= 1
                return left[0] > 0

            return piece

        assert not worktime.ask("greedy", work("a", 5))
        assert not worktime.ask("greedy", work("b", 5))
        assert done == ["a", "a"], "what there is time for is done at once"
        assert not worktime.ask("other", work("o", 2))
        while len(done) < 12:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert [done.index("o"), [n for n, each in enumerate(done) if each == "o"][1]] == [3, 5]
        await asyncio.sleep(0)
        assert worktime.ask("other", work("o", 1))

    asyncio.run(run())


def test_a_mailbox_that_waits_for_its_turn_says_so_and_keeps_its_order():
    async def run() -> None:
        clock, seen, behind = Clock(), [], []
        worktime = Worktime(0.002, clock)
        busy, calm = Mailbox(worktime, "busy"), Mailbox(worktime, "calm")

        def take(name: str):
            def one(item: object) -> bool:
                clock.now += 0.001
                seen.append((name, item))
                return isinstance(item, ClientClosed)

            return one

        both = [
            asyncio.create_task(busy.deliver(take("busy"), lambda *, yes: behind.append(yes))),
            asyncio.create_task(calm.deliver(take("calm"))),
        ]
        await asyncio.sleep(0)
        for number in range(10):
            busy.post(ClientData(b"%d" % number))
        assert behind == [True]
        calm.post(ClientData(b"1"))
        calm.post(ClientClosed())
        busy.post(ClientClosed())
        await asyncio.wait_for(asyncio.gather(*both), 30)
        assert [item for name, item in seen if name == "busy"] == [
            *(ClientData(b"%d" % number) for number in range(10)),
            ClientClosed(),
        ]
        assert seen.index(("calm", ClientClosed())) < 8, "it does not wait for all that the other one has to do"
        assert behind == [True, False]

    asyncio.run(run())
