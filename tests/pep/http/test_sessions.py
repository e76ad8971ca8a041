"""The sessions of HTTP clients: one for each credential, from its first request until nothing needs it any more."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pep.core.decision_client import Bearer, ClientCertificate, Credential
from pep.core.model import Action, Deny, Statement
from pep.core.recorder import Recorder, process_chain
from pep.core.runtime import Runtime
from pep.core.sessions import SessionHandle
from pep.core.spool import Spool
from pep.core.wire import Ask, PolicyChanged, Revoked
from pep.http.config import HttpProxy
from pep.http.questions import Known
from pep.http.server import SUPPORTED
from pep.http.sessions import Directory, digest_of
from tests.http_relay import _config
from tests.pep.core.scripted import until
from tests.stub_service import StubDecisions, allow, require_approval

ACTION = Action("request", "http", {"opaque": False}, Statement("DELETE /orders/7"))


class Place:
    """A directory without its `run`: the test sweeps itself."""

    def __init__(self, runtime: Runtime, stub: StubDecisions) -> None:
        self.runtime = runtime
        self.stub = stub
        self.serving: set[str] = set()
        self.told: list[Revoked] = []
        self.directory = Directory(
            runtime, supported=SUPPORTED, idle=60.0, serving=lambda: self.serving, tell=self.told.append
        )

    async def find(self, secret: str = "a") -> str:
        known = await self.directory.find(Bearer(secret), {}, "127.0.0.1")
        assert isinstance(known, Known)
        return known.session

    async def sweep(self) -> None:
        """As it would be in a while: nothing has just been found."""
        for entry in self.directory._by_session.values():
            entry.used -= 2.0
        await self.swept()

    async def swept(self) -> None:
        self.directory._sweep()
        await self.directory.swept()

    def entry(self, name: str) -> Any:
        return self.directory._by_session[name]


@asynccontextmanager
async def placed() -> AsyncIterator[Place]:
    stub = StubDecisions(lambda action: allow())
    stub.passwords = {"a", "b"}
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.open(Path(folder) / "spool", fsync_seconds=0.1, max_bytes=1 << 28, share=1.0)
        runtime = Runtime(
            HttpProxy.model_validate_json(json.dumps(_config("http://127.0.0.1:9"))),
            stub,
            spool,
            Recorder(spool, process_chain("test"), ""),
            asyncio.Event(),
        )
        watching = asyncio.create_task(runtime.sessions.run())
        await asyncio.sleep(0)
        place = Place(runtime, stub)
        try:
            yield place
        finally:
            await place.directory.close("the test is over")
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            spool.close()


def run(test: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with placed() as place:
            await test(place)

    asyncio.run(main())


def test_one_token_is_one_session_wherever_it_is_shown() -> None:
    async def test(place: Place) -> None:
        assert await place.find("a") == await place.find("a")
        assert len(place.stub.sessions) == 1

    run(test)


def test_two_tokens_are_two_sessions() -> None:
    async def test(place: Place) -> None:
        assert await place.find("a") != await place.find("b")
        assert sorted(place.stub.sessions.values()) == ["a", "b"]

    run(test)


def test_many_first_requests_at_once_open_one_session() -> None:
    async def test(place: Place) -> None:
        names = await asyncio.gather(*(place.find("a") for _ in range(5)), *(place.find("b") for _ in range(5)))
        assert len(set(names)) == 2
        assert len(place.stub.sessions) == 2
        assert not place.directory._opening

    run(test)


def test_a_token_that_is_not_accepted_leaves_nothing_behind() -> None:
    async def test(place: Place) -> None:
        answers = await asyncio.gather(*(place.directory.find(Bearer("x"), {}, "127.0.0.1") for _ in range(3)))
        assert all(isinstance(answer, Deny) for answer in answers)
        assert not place.directory._by_session
        assert not place.directory._opening

    run(test)


def test_a_client_that_leaves_while_its_session_is_opened_leaves_nothing_behind() -> None:
    async def test(place: Place) -> None:
        opened = asyncio.Event()

        async def open_session(login: object) -> Any:
            await opened.wait()

        place.stub.open_session = open_session  # type: ignore[method-assign]
        finding = asyncio.create_task(place.find("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        finding.cancel()
        await asyncio.gather(finding, return_exceptions=True)
        assert not place.directory._opening

    run(test)


def test_a_session_that_is_not_used_is_closed_and_the_next_request_opens_another() -> None:
    async def test(place: Place) -> None:
        first = await place.find("a")
        await place.sweep()
        assert first in place.directory
        place.entry(first).used -= 100.0
        place.serving = {first}
        await place.sweep()
        assert first in place.directory
        place.serving = set()
        await place.sweep()
        assert first not in place.directory
        assert not len(place.runtime.sessions)
        assert await place.find("a") != first

    run(test)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_revoked_session_is_told_to_the_connections_and_serves_nothing_new(at_once: bool) -> None:
    async def test(place: Place) -> None:
        first, other = await place.find("a"), await place.find("b")
        place.serving = {first}
        place.runtime.sessions._live[first].post(Revoked("killed", at_once))
        assert place.told == [Revoked("killed", at_once, first)]
        assert await place.find("a") != first
        assert await place.find("b") == other
        await place.sweep()
        assert first in place.directory, "what runs is recorded in its chain"
        place.serving = set()
        await place.sweep()
        assert first not in place.directory

    run(test)


def test_another_policy_opens_the_session_again_and_lets_what_runs_run() -> None:
    async def test(place: Place) -> None:
        first = await place.find("a")
        place.serving = {first}
        place.stub.input_paths = frozenset({"action.properties.http.body"})
        place.runtime.sessions._live[first].post(PolicyChanged("r-2"))
        assert place.told == []
        known = await place.directory.find(Bearer("a"), {}, "127.0.0.1")
        assert isinstance(known, Known)
        assert known.session != first
        assert known.input_paths == place.stub.input_paths
        assert place.directory.gate(first).enforcer is not None

    run(test)


def test_approvals_that_are_pending_keep_their_session_through_all_of_this() -> None:
    async def test(place: Place) -> None:
        first = await place.find("a")
        place.stub.policy = lambda action: require_approval()
        enforcer = place.directory.gate(first).enforcer
        assert enforcer is not None
        async for _ in enforcer.decide(Ask(1, (ACTION,), hold=60.0, detached=True, session=first)):
            pass
        assert enforcer.has_detached
        place.runtime.sessions._live[first].post(PolicyChanged("r-2"))
        place.entry(first).used -= 100.0
        await place.sweep()
        known = await place.directory.find(Bearer("a"), {}, "127.0.0.1")
        assert isinstance(known, Known)
        assert known.session == first
        assert known.input_paths == {"action.properties"}, "everything may be read by the new policy"

    run(test)


def test_a_session_that_was_just_found_is_not_dismissed_under_its_request() -> None:
    async def test(place: Place) -> None:
        first = await place.find("a")
        place.runtime.sessions._live[first].post(Revoked("killed", at_once=False))
        await place.swept()
        assert first in place.directory

    run(test)


def test_when_the_proxy_stops_every_session_ends() -> None:
    async def test(place: Place) -> None:
        names = {await place.find("a"), await place.find("b")}
        place.runtime.stopping.set()
        place.runtime.sessions.revoke_all("the proxy is stopping")
        assert {event.session for event in place.told} == {""}, "every connection is told"
        await place.swept()
        assert not [name for name in names if name in place.directory]

    run(test)


def test_without_a_session_nothing_can_be_asked() -> None:
    async def test(place: Place) -> None:
        assert place.directory.gate("s-0").enforcer is None
        assert place.directory.gate("").enforcer is None

    run(test)


def test_no_two_credentials_have_one_name_and_none_is_in_it() -> None:
    shown: list[Credential] = [
        Bearer("a"),
        Bearer("b"),
        Bearer("a' "),
        Bearer("('a',)"),
        ClientCertificate((b"a",)),
        ClientCertificate((b"b",)),
        ClientCertificate((b"a", b"b")),
        ClientCertificate((b"ab",)),
    ]
    names = [digest_of(credential) for credential in shown]
    assert len(set(names)) == len(names)
    assert digest_of(Bearer("a")) == digest_of(Bearer("a"))
    assert {len(name) for name in names} == {32}


async def detached(place: Place, name: str) -> Any:
    """An approval that nobody waits for; the enforcer of its session."""
    place.stub.policy = lambda action: require_approval()
    enforcer = place.directory.gate(name).enforcer
    assert enforcer is not None
    async for _ in enforcer.decide(Ask(1, (ACTION,), detached=True, session=name)):
        pass
    assert enforcer.has_detached
    return enforcer


def test_a_session_whose_approval_nobody_comes_back_for_ends_with_it() -> None:
    async def test(place: Place) -> None:
        first, other = await place.find("a"), await place.find("b")
        enforcer = await detached(place, first)
        place.entry(first).used -= 100.0
        await place.sweep()
        assert first in place.directory
        enforcer._detached._now = lambda: time.time() + 3600.0
        await place.sweep()
        assert not enforcer.has_detached
        await place.sweep()
        assert first not in place.directory
        assert other in place.directory
        assert len(place.stub.cancelled) == 1

    run(test)


def test_a_session_that_only_an_approval_kept_through_a_change_of_policy_is_opened_again() -> None:
    async def test(place: Place) -> None:
        first = await place.find("a")
        enforcer = await detached(place, first)
        place.runtime.sessions._live[first].post(PolicyChanged("r-2"))
        assert await place.find("a") == first
        enforcer._detached._now = lambda: time.time() + 3600.0
        await place.sweep()
        await place.sweep()
        assert await place.find("a") != first
        assert first not in place.directory

    run(test)


def test_one_session_that_is_slow_to_close_delays_no_other() -> None:
    async def test(place: Place) -> None:
        slow, other = await place.find("a"), await place.find("b")
        go_on, closed = asyncio.Event(), []

        async def close_session(session: SessionHandle, reason: str, last_seq: int) -> None:
            if session.session_id == slow:
                await go_on.wait()
            closed.append(session.session_id)

        place.stub.close_session = close_session  # type: ignore[method-assign]
        for name in (slow, other):
            place.entry(name).used -= 100.0
        place.directory._sweep()
        await until(lambda: other in closed)
        assert closed == [other]
        go_on.set()
        await place.directory.swept()
        assert closed == [other, slow]

    run(test)


def test_a_session_that_was_opened_for_a_client_that_has_left_is_closed_again() -> None:
    async def test(place: Place) -> None:
        asked, answer, closed = asyncio.Event(), asyncio.Event(), []
        opens = place.stub.open_session

        async def open_session(login: Any) -> Any:
            asked.set()
            await answer.wait()
            return await opens(login)

        async def close_session(session: SessionHandle, reason: str, last_seq: int) -> None:
            closed.append(session.session_id)

        place.stub.open_session = open_session  # type: ignore[method-assign]
        place.stub.close_session = close_session  # type: ignore[method-assign]
        finding = asyncio.create_task(place.find("a"))
        await asked.wait()
        finding.cancel()
        await asyncio.gather(finding, return_exceptions=True)
        answer.set()
        await place.runtime.settled()
        assert closed == list(place.stub.sessions)
        assert len(closed) == 1

    run(test)
