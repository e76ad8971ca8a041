"""Decisions per second: whoever is over the limit is told to come back, and a neighbour does not notice."""

import asyncio

from pdp.identity.subject import Party, Subject
from pdp.service.rates import Rates
from tests.pdp.serving import AGENT, SELECT, action, folder, serving


def agent(name: str, behind: str | None = None) -> Subject:
    return Subject(
        "agent", name, (), "checkrein", "jwt", on_behalf_of=None if behind is None else Party("user", behind)
    )


def test_a_bucket_is_of_whoever_stands_at_the_end_of_the_chain():
    time = [0.0]
    rates = Rates(3, lambda: time[0])
    # All agents of one person, however it is spelt, and however many there are.
    assert [rates.take(agent(f"a{number}", "Ana" if number % 2 else "ana"), 1) for number in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert rates.take(agent("a0", "bo"), 1)
    assert rates.take(agent("ana"), 1)
    time[0] += 1 / 3 + 0.001
    assert rates.take(agent("a0", "ana"), 1)
    assert not rates.take(agent("a0", "ana"), 1)


def test_nobody_saves_up_more_than_a_second():
    time = [0.0]
    rates = Rates(3, lambda: time[0])
    rates.take(agent("a"), 1)
    time[0] += 3600
    assert sum(rates.take(agent("a"), 1) for _ in range(10)) == 3


def test_a_batch_is_let_through_whole_and_owed():
    time = [0.0]
    rates = Rates(3, lambda: time[0])
    assert rates.take(agent("a"), 9)
    for _ in range(2):
        time[0] += 1
        assert not rates.take(agent("a"), 1)
    time[0] += 0.4
    assert rates.take(agent("a"), 1)


def test_over_the_limit_is_a_denial_that_says_so_and_a_neighbour_is_answered():
    async def scenario():
        with folder() as path:
            more = "  limits: {decisions_per_second_per_subject: 10}\n"
            async with serving(path, more=more) as service:
                proxy = await service.proxy()
                mine = await proxy.open(service.token(AGENT))
                neighbours = await proxy.open(service.token(Party("agent", "other")))
                # Far more than a second's worth, in one question.
                await proxy.decide(mine.token, *[action(SELECT)] * 900)
                denied = (await proxy.decide(mine.token, action(SELECT)))[0]
                assert denied.WhichOneof("verdict") == "deny"
                assert denied.deny.retry
                assert [each.code for each in denied.reasons] == ["too-many-decisions"]
                # Nor does it help to open another session.
                again = await proxy.open(service.token(AGENT))
                assert [each.code for each in again.decision.reasons] == ["too-many-decisions"]
                asked = len(service.engine.asked)
                await proxy.decide(mine.token, action(SELECT))
                assert len(service.engine.asked) == asked  # it costs the policies nothing
                assert neighbours.session_id

    asyncio.run(scenario())


def test_a_session_remembers_so_many_decisions_that_were_held():
    async def scenario():
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                for _ in range(2):
                    await proxy.decide(opened.token, *[action()] * 200)
                (session,) = service.inside.sessions.all_open()
                assert len(session.held) == 256

    asyncio.run(scenario())
