"""What the policies read and what decides are of one revision: a deny on what did not travel cannot be passed by."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pep.core.enforcer import Enforcer
from pep.core.model import Allow, Deny, Grant
from pep.core.recorder import Recorder
from pep.core.sessions import SessionHandle, Token
from pep.core.wire import NEEDS_MORE, Ask, Decided
from tests.pep.core.scripted import Scripted, Shelf, action, session_handle

OLD, NEW = Allow("d-1", "r-1"), Allow("d-2", "r-2")
TEXT = frozenset({"action.properties.statement.text"})
RENEWED = Token("t-2", None, TEXT, "r-2")
DENIED = Deny("d-3", "r-2", ())


@dataclass
class Desk:
    service: Scripted
    handle: SessionHandle
    shelf: Shelf
    enforcer: Enforcer

    async def ask(self, **options: Any) -> Any:
        answers = [answer async for answer in self.enforcer.decide(Ask(1, (action(),), **options))]
        (answer,) = answers
        assert isinstance(answer, Decided)
        return answer.outcome


def desk(**script: Any) -> Desk:
    service, shelf = Scripted(**script), Shelf()
    handle = session_handle(input_paths_revision="r-1")
    enforcer = Enforcer(service, handle, Recorder(shelf, "s-1", "user:ada"), supported=frozenset())
    return Desk(service, handle, shelf, enforcer)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_a_grant_of_the_revision_that_is_known_needs_nothing_more() -> None:
    async def test() -> None:
        at = desk(decisions=[OLD])
        assert isinstance(await at.ask(paths=frozenset()), Grant)
        assert len(at.service.asked) == 1

    run(test)


def test_a_grant_of_another_revision_is_asked_for_again_with_what_that_one_reads() -> None:
    async def test() -> None:
        at = desk(decisions=[NEW, NEW], renewals=[RENEWED])
        granted = await at.ask()
        assert isinstance(granted, Grant)
        assert granted.policy_revision == "r-2"
        assert len(at.service.asked) == 2
        assert (at.handle.token, at.handle.input_paths, at.handle.input_paths_revision) == ("t-2", TEXT, "r-2")

    run(test)


def test_the_new_policy_decides_what_it_reads() -> None:
    async def test() -> None:
        at = desk(decisions=[NEW, DENIED], renewals=[RENEWED])
        assert await at.ask() == DENIED
        assert [sealed for sealed in at.shelf.kept if b'"intent"' in sealed.data] == []

    run(test)


def test_who_left_something_out_is_told_to_say_more_and_nothing_is_granted() -> None:
    async def test() -> None:
        at = desk(decisions=[NEW], renewals=[RENEWED])
        refused = await at.ask(paths=frozenset())
        assert refused.reasons[0].code == NEEDS_MORE
        assert at.shelf.kept == []
        # Another exchange with the old paths is not even asked about.
        assert (await at.ask(paths=frozenset())).reasons[0].code == NEEDS_MORE
        assert len(at.service.asked) == 1

    run(test)


def test_a_deny_of_another_revision_is_a_deny() -> None:
    async def test() -> None:
        at = desk(decisions=[DENIED])
        assert await at.ask() == DENIED

    run(test)


def test_many_at_once_learn_it_once() -> None:
    async def test() -> None:
        at = desk(decisions=[NEW] * 6, renewals=[RENEWED])
        assert all(isinstance(each, Grant) for each in await asyncio.gather(*(at.ask() for _ in range(3))))
        assert at.service.renewals == []

    run(test)


@pytest.mark.parametrize(
    ("renewals", "code"),
    [
        (["killed"], "session-ended"),
        ([Token("t", None, TEXT, f"r-{number}") for number in range(3, 9)], "policies-change"),
    ],
    ids=["ended", "never the same"],
)
def test_where_it_cannot_be_learned_nothing_is_granted(renewals: list[Any], code: str) -> None:
    async def test() -> None:
        at = desk(decisions=[NEW] * 9, renewals=renewals)
        refused = await at.ask()
        assert isinstance(refused, Deny)
        assert refused.reasons[0].code == code

    run(test)
