import asyncio
import time
from typing import Any

import pytest

from pep.core.errors import DecisionUnavailable
from pep.core.sessions import SessionEnded, Sessions, Token, WatchNews
from pep.core.wire import PolicyChanged, Revoked
from tests.pep.core.scripted import Scripted, session_handle


def told(service: Scripted, work: Any, **handle: Any) -> list[Revoked]:
    """What one session is told while `work` goes on."""
    posted: list[Revoked | PolicyChanged] = []

    async def conversation() -> None:
        sessions = Sessions(service)
        running = asyncio.create_task(sessions.run())
        await asyncio.sleep(0)
        session = session_handle(**handle)
        sessions.add(session, posted.append)
        await asyncio.wait_for(work(sessions, session, posted), 5)
        running.cancel()

    asyncio.run(conversation())
    return posted


async def until_told(sessions: Sessions, session: Any, posted: list[Revoked | PolicyChanged]) -> None:
    while not posted:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_a_session_ends_with_its_credential():
    assert told(Scripted(), until_told, credential_expires_at=time.time() + 0.05) == [
        Revoked("the credential has expired", at_once=False)
    ]


def test_a_session_that_is_killed_is_told_why_and_others_are_not():
    service = Scripted()
    service.news.put_nowait(WatchNews("r-2", (SessionEnded("s-other", "not this one"), SessionEnded("s-1", "killed"))))

    async def watched(sessions: Sessions, session: Any, posted: list[Revoked | PolicyChanged]) -> None:
        await until_told(sessions, session, posted)
        assert sessions.leased
        assert sessions.policy_revision == "r-2"

    assert told(service, watched) == [PolicyChanged("r-2"), Revoked("killed")]


def test_a_token_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pep.core.sessions._RETRY_SECONDS", 0.01)
    service = Scripted(renewals=[DecisionUnavailable("late"), Token("t-2", None)])

    async def renewed(sessions: Sessions, session: Any, posted: list[Revoked | PolicyChanged]) -> None:
        while session.token != "t-2":  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert told(service, renewed, token_expires_at=time.time() + 0.1) == []


def test_a_session_that_is_not_renewed_is_told_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pep.core.sessions._RETRY_SECONDS", 0.01)
    service = Scripted(renewals=["the subject was revoked"])
    assert told(service, until_told, token_expires_at=time.time() + 0.1) == [Revoked("the subject was revoked")]


def test_sessions_that_the_service_does_not_keep_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pep.core.sessions._KEEP_SECONDS", 0.01)
    posted = told(Scripted(ended=["s-1"]), until_told)
    assert posted[0] == Revoked("the session was ended by the decision service")


def test_a_proxy_that_stops_tells_every_session_also_those_that_still_come():
    async def stop(sessions: Sessions, session: Any, posted: list[Revoked | PolicyChanged]) -> None:
        sessions.revoke_all("stopping")
        late: list[Revoked] = []
        sessions.add(session_handle(session_id="s-2"), late.append)
        assert late == [Revoked("stopping", at_once=False)]
        assert not await sessions.emptied(0.01)
        sessions.remove("s-1")
        sessions.remove("s-2")
        assert await sessions.emptied(1)

    assert told(Scripted(), stop) == [Revoked("stopping", at_once=False)]


def test_without_news_there_is_no_lease():
    async def silent(sessions: Sessions, session: Any, posted: list[Revoked | PolicyChanged]) -> None:
        assert not sessions.leased

    assert told(Scripted(), silent) == []
