"""Copies of the store: what comes back with one, what must not, and what proxies that are ahead of it are told."""

import asyncio
import datetime
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog.testing
from sqlalchemy import Connection, select
from typer.testing import CliRunner

from pdp.cli import app
from pdp.commands.failure import Failure
from pdp.store import sessions as stored
from pdp.store import tables
from pdp.store.approvals import ApprovalState
from pdp.store.backup import settle
from pdp.store.database import Database
from pdp.store.sessions import SessionState
from pdp.v1 import admin_service_pb2
from tests.fix_postgres import PostgresServer
from tests.fix_store import server_url
from tests.pdp import serving as serving_module
from tests.pdp.serving import SELECT, action, digest_of, folder, serving, status_of
from tests.pdp.test_records import event_of, last, refusals, sealed, ship, shipped

RUNNER = CliRunner()
NOW = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)


def backup(path: Path, target: Path) -> Any:
    return RUNNER.invoke(app, ["store", "backup", str(target), "-c", str(path / "checkrein.yaml")])


async def approved(service: Any, proxy: Any, opened: Any) -> str:
    asked = await proxy.ask(opened, action())
    request = admin_service_pb2.ResolveApprovalRequest(
        approval_id=asked.approval_id, action_digest=digest_of(action(), opened)
    )
    request.yes.SetInParent()
    await (await service.person("olivia", "owners")).call("ResolveApproval", request)
    return str(asked.approval_id)


def test_a_restored_copy_has_the_records_and_nothing_that_could_be_used_again():
    async def scenario():
        with folder() as path:
            copy = path / "copy.db"
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                events = sealed(opened.session_id, 6)
                await ship(proxy, shipped(events[:3]))
                approval = await approved(service, proxy, opened)
                done = await asyncio.to_thread(backup, path, copy)
                assert done.exit_code == 0, done.output
                assert "1 open sessions and 1 approvals are ended" in " ".join(done.output.split())
                # After the copy: the grant is used, more is recorded, another session comes.
                digest = digest_of(action(), opened)
                assert (await proxy.redeem(opened.token, approval, digest)).WhichOneof("verdict") == "allow"
                assert last(await ship(proxy, shipped(events[3:5]))) == 4
                later = await proxy.open()
                assert last(await ship(proxy, shipped(sealed(later.session_id, 2)))) == 1
            assert copy.stat().st_mode & 0o777 == 0o600
            for left in (path / "state").glob("pdp.db*"):
                left.unlink()
            shutil.copy(copy, path / "state" / "pdp.db")
            (path / "state" / "pdp.db").chmod(0o600)
            async with serving(path) as service:
                proxy = await service.proxy()
                # No token, no session and no grant of before is good for anything.
                for token in (opened.token, later.token):
                    code, _ = await status_of(proxy.decide(token, action(SELECT)))
                    assert code is grpc.StatusCode.UNAUTHENTICATED
                kept = await service.inside.approvals.find(approval)
                assert kept is not None
                assert kept.state is ApprovalState.CANCELLED
                session = await service.inside.database.short.run(lambda c: stored.find(c, opened.session_id))
                assert session is not None
                assert session.state is SessionState.LOST
                # What the proxy sends of a chain that is ahead of the copy is refused with an alarm: it stays with it.
                with structlog.testing.capture_logs() as logs:
                    assert refusals(await ship(proxy, [event_of(events[5])])) == [
                        "the event with number 3 has not come"
                    ]
                assert [each["alarm"] for each in logs if each["event"] == "record refused"] == [True]
                # What it still has from there on is taken; and so is all that is new.
                assert last(await ship(proxy, shipped(events[3:]))) == 5
                fresh = await proxy.open()
                assert last(await ship(proxy, shipped(sealed(fresh.session_id, 2)))) == 1

    asyncio.run(scenario())


def test_a_copy_is_never_written_over_another_file_and_is_there_whole_or_not_at_all():
    with folder() as path:
        serving_module.configure(path)
        target = path / "copy.db"
        missing = backup(path, target)
        assert (missing.exit_code, target.exists()) == (1, False)

        async def make() -> None:
            async with Database(f"sqlite:///{path}/state/pdp.db"):
                pass

        asyncio.run(make())
        # While nobody has the store open as well.
        assert backup(path, target).exit_code == 0
        content = target.read_bytes()
        again = backup(path, target)
        assert again.exit_code == 1
        assert target.read_bytes() == content
        assert sorted(each.name for each in path.glob("*copy*")) == ["copy.db"]
        store = path / "state" / "pdp.db"
        with store.open("r+b") as file:
            file.seek(100)
            file.write(os.urandom(8000))
        other = path / "other.db"
        assert backup(path, other).exit_code == 1
        assert not other.exists()
        assert list(path.glob(".other*")) == []


def test_a_store_in_postgresql_is_copied_with_its_own_tools(
    postgres_store: str, postgres18: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serving_module, "STORE", postgres_store)
    name = postgres_store.rpartition("/")[2]
    dump = tmp_path / "checkrein.dump"

    async def before() -> tuple[str, list[Any]]:
        with folder() as path:
            async with serving(path) as service:
                proxy = await service.proxy()
                opened = await proxy.open()
                events = sealed(opened.session_id, 3)
                await ship(proxy, shipped(events))
                await approved(service, proxy, opened)
                refused = await asyncio.to_thread(backup, path, tmp_path / "x.db")
                assert refused.exit_code == 1
                run(postgres18, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={postgres18.dsn(name)}")
                return opened.session_id, events

    session, events = asyncio.run(before())
    restored = f"{name}_restored"
    run(postgres18, "pg_restore", f"--dbname={postgres18.create_database(restored)}", str(dump))
    monkeypatch.setattr(serving_module, "STORE", server_url(postgres18, restored))

    async def after(path: Path) -> None:
        async with serving(path) as service:
            proxy = await service.proxy()
            kept = await service.inside.database.short.run(lambda c: stored.find(c, session))
            assert kept is not None
            assert kept.state is SessionState.LOST
            assert await service.inside.approvals.list([ApprovalState.PENDING, ApprovalState.APPROVED]) == []
            assert last(await ship(proxy, shipped(events))) == 2

    with folder() as path:
        serving_module.configure(path)
        done = RUNNER.invoke(app, ["store", "settle", "-c", str(path / "checkrein.yaml")])
        assert done.exit_code == 0, done.output
        assert "ended 1 open sessions and 1 approvals" in " ".join(done.output.split())
        asyncio.run(after(path))


def test_where_there_is_no_store_nothing_is_copied_settled_or_made():
    with folder() as path:
        settings = serving_module.configure(path)
        for words in (["backup", str(path / "copy.db")], ["settle"]):
            done = RUNNER.invoke(app, ["store", *words, "-c", str(path / "checkrein.yaml")])
            assert isinstance(done.exception, Failure)
            assert "there is no store yet" in str(done.exception)
        assert list(settings.state.glob("pdp.db*")) == []


def run(server: PostgresServer, program: str, *words: str) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    subprocess.run([server.bin_dir / program, *words], check=True, env=environment, capture_output=True)


def test_settling_leaves_other_keys_and_every_record(store_url: str):
    def fill(connection: Connection) -> None:
        for purpose in ("session", "checkpoint"):
            connection.execute(
                tables.keys.insert().values(id=purpose, purpose=purpose, created_at=NOW, public=b"x", private=b"x")
            )
        connection.execute(tables.records.insert().values(session_id="s", seq=0, event=b"{}", hash=b"h"))

    async def scenario():
        async with Database(store_url) as database:
            await database.short.run(fill)
            await database.short.run(lambda c: settle(c, NOW))
            assert await database.short.run(lambda c: [*c.execute(select(tables.keys.c.purpose)).scalars()]) == [
                "checkpoint"
            ]
            assert len(await database.short.run(lambda c: c.execute(select(tables.records)).all())) == 1

    asyncio.run(scenario())
