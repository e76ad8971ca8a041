"""The log of checkpoints is brought elsewhere, and what is missing is said."""

import asyncio
import datetime
import os
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Select, func, select, update

from pdp.audit import checkpoints
from pdp.audit.anchors import Anchors, NotAnchored, _append
from pdp.audit.notary import Notary
from pdp.commands.proof import Finding, Ledger
from pdp.config import Anchor
from pdp.store import checkpoints as stored
from pdp.store import tables
from pdp.store.completeness import SILENCE, completeness
from pdp.store.database import Database
from pdp.store.keys import signing_keys
from pdp.store.sessions import SessionState
from pdp.v1 import audit_service_pb2 as pb
from pep.core.records import Event, EventType
from tests.pdp.commanding import OWNER, as_, record
from tests.pdp.serving import action, folder, serving
from tests.pdp.test_checkpoints import MINUTE, NOW, Clock, grow, log_of
from tests.pdp.test_records import ship

pytestmark = pytest.mark.usefixtures("each_store")

WHOLE = [Event(EventType.SESSION_OPENED), Event(EventType.SESSION_CLOSED)]
TAKE = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"


def test_each_place_gets_every_checkpoint_in_order(tmp_path: Path):
    async def scenario() -> None:
        taken = tmp_path / "taken"
        places = [
            Anchor(file=tmp_path / "file"),
            Anchor(command=(sys.executable, "-c", "raise SystemExit(3)")),
            Anchor(command=(sys.executable, "-c", TAKE, str(taken))),
        ]
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1)
            anchors = Anchors(database, places)
            for _ in range(2):
                await database.bulk.run(lambda connection: grow(connection, "c", 1))
                await notary.round()
                with structlog.testing.capture_logs() as logs:
                    await anchors.round()
                assert [each["why"] for each in logs if each.get("alarm")] == ["the command ended with 3"]
            log = await log_of(database)
            for file in (tmp_path / "file", taken):
                assert [checkpoints.read_line(line) for line in file.read_bytes().splitlines()] == log

    asyncio.run(scenario())


def test_a_place_that_hangs_holds_up_no_other(tmp_path: Path):
    async def scenario() -> None:
        places = [
            # Given up after 30 seconds each.
            Anchor(command=("sleep", "1000")),
            Anchor(command=("sleep", "1001")),
            Anchor(file=tmp_path / "file"),
        ]
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1)
            await database.bulk.run(lambda connection: grow(connection, "c", 1))
            await notary.round()
            round_ = asyncio.create_task(Anchors(database, places).round())
            async with asyncio.timeout(50):
                while not (tmp_path / "file").exists() or not (tmp_path / "file").read_bytes().endswith(b"\n"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            round_.cancel()
            await asyncio.gather(round_, return_exceptions=True)

    asyncio.run(scenario())


def test_a_pipe_that_nobody_reads_is_a_place_that_fails(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAnchored):
        _append(tmp_path / "pipe", b"a line\n")


def test_a_line_that_a_full_disk_cut_off_harms_no_other(tmp_path: Path):
    async def scenario() -> None:
        file = tmp_path / "file"
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:
            notary = await Notary.open(database, Clock(), every=MINUTE, events=1)
            for chain in ("c", "d"):
                await database.bulk.run(lambda connection, chain=chain: grow(connection, chain, 1))
                await notary.round()
            first, second = await log_of(database)
            file.write_bytes(first.line + second.line[:50])
            await Anchors(database, [Anchor(file=file)]).round()
            assert file.read_bytes() == first.line + second.line[:50] + b"\n" + first.line + second.line
            keys = await database.bulk.run(lambda connection: signing_keys(connection, checkpoints.PURPOSE, NOW))
            ledger = Ledger({each.id: each.private.public_key() for each in keys})
            for entry in await database.bulk.run(lambda connection: stored.entries(connection, 0, 10)):
                assert list(ledger.feed(entry)) == []
            assert list(ledger.compare(file.read_bytes().splitlines(keepends=True))) == []
            assert list(ledger.compare([*file.read_bytes().splitlines(keepends=True), b'{"other'])) == [
                Finding("a line of the anchor is no checkpoint")
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize("given", [{}, {"url": "http://there/"}, {"file": Path("x"), "url": "https://there/"}])
def test_a_place_is_exactly_one(given: dict):
    with pytest.raises(ValueError, match=r"exactly one|pattern"):
        Anchor(**given)


def number(database: Database, wanted: Select[tuple[int]]) -> Awaitable[int]:
    return database.bulk.run(lambda connection: connection.execute(wanted).scalar_one())


def found(database: Database, now: datetime.datetime):
    return database.bulk.run(lambda connection: completeness(connection, now))


def test_what_a_process_began_is_counted_and_its_silence_noticed(tmp_path: Path):
    async def scenario() -> None:
        async with Database(f"sqlite:///{tmp_path}/pdp.db") as database:

            def begin(connection):
                for name, process, number in (("s-1", "process-shop-1", 1), ("s-3", "process-shop-1", 3)):
                    begun = stored.Begun(process, number)
                    stored.note(connection, name, proxy="shop", seq=3, ended=True, begun=begun)
                for process in ("process-shop-1", "process-shop-2"):
                    stored.note(connection, process, proxy="shop", seq=0, ended=False)
                    stored.mark(connection, stored.Mark(process, "shop", NOW, 3, 0, NOW))

            await database.bulk.run(begin)
            state = await found(database, NOW)
            assert state.missing == ("of the 3 sessions that process-shop-1 began, these are not on record: 2",)
            (proxy,) = state.proxies
            assert (proxy.proxy, proxy.complete_until, proxy.running, proxy.sessions) == ("shop", NOW, 2, 2)
            later = NOW + SILENCE * 2
            assert [each for each in (await found(database, later)).missing if "not heard of since" in each]
            # One that has ended began as many as it last said.
            await database.bulk.run(
                lambda connection: stored.note(connection, "process-shop-2", proxy="shop", seq=1, ended=True)
            )
            assert any("process-shop-2 began" in each for each in (await found(database, NOW)).missing)
            refused = stored.Mark("process-shop-1", "shop", NOW, 3, 2, NOW)
            await database.bulk.run(lambda connection: stored.mark(connection, refused))
            assert any("keeps 2 chains" in each for each in (await found(database, NOW)).missing)

    asyncio.run(scenario())


def test_a_session_that_ended_without_its_record_is_missed_once_the_proxy_has_shipped_all():
    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                whole, cut = await proxy.open(), await proxy.open()
                await record(proxy, whole.session_id, WHOLE)
                await record(proxy, cut.session_id, WHOLE[:1])
                sessions = service.inside.sessions
                for opened in (whole, cut):
                    await sessions.end(opened.session_id, SessionState.CLOSED, "over", 1)
                process = f"process-shop-{'0' * 32}"
                mark = pb.Mark(sessions=2)
                # Not yet: it says that it has shipped what came before both began.
                mark.complete_until.FromDatetime(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
                await ship(proxy, [pb.RecordRequest(session_id=process, mark=mark)])
                good = await as_(service, OWNER, "records", "missing")
                assert (good.status, "nothing is missing" in good.out) == (0, True), good
                mark.complete_until.FromDatetime(service.clock() + datetime.timedelta(seconds=1))
                await ship(proxy, [pb.RecordRequest(session_id=process, mark=mark)])
                state = await found(service.inside.database, service.clock())
                assert [cut.session_id in each for each in state.missing] == [True]

    asyncio.run(scenario())


def test_a_session_that_its_proxy_never_took_up_is_not_missed_and_one_in_which_something_was_decided_is():
    """The answer may have come too late for the proxy, or the beginning could not be put on record there."""

    async def scenario() -> None:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                sessions, database = service.inside.sessions, service.inside.database
                opened = [await proxy.open() for _ in range(3)]
                unused, used, kept = (each.session_id for each in opened)
                await database.short.run(
                    lambda connection: connection.execute(
                        update(tables.sessions)
                        .where(tables.sessions.c.id == kept)
                        .values(kept_at=service.clock() + datetime.timedelta(seconds=10))
                    )
                )
                await proxy.decide(opened[1].token, action())
                # That the session may begin, and what was asked in it: the store has them a moment later.
                of_it = select(func.count()).where(tables.decisions.c.session_id == used)
                async with asyncio.timeout(60):
                    while await number(database, of_it) < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                for session in (unused, used, kept):
                    await sessions.end(session, SessionState.CLOSED, "over", 0)
                process = f"process-shop-{'0' * 32}"
                mark = pb.Mark(sessions=0)
                mark.complete_until.FromDatetime(service.clock() + datetime.timedelta(seconds=1))
                await ship(proxy, [pb.RecordRequest(session_id=process, mark=mark)])
                missing = (await found(database, service.clock())).missing
                named = {each for each in (unused, used, kept) if any(each in line for line in missing)}
                assert named == {used, kept}

    asyncio.run(scenario())
