"""Approvals, what was sent about them, and what is said of processes: kept as long as configured, and no longer."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, select

from pdp.audit.notary import Notary
from pdp.audit.retention import REMOVED, Retention
from pdp.audit.service_chain import ServiceChain
from pdp.identity.subject import Subject
from pdp.store import approvals, notifications, records, sessions, tables
from pdp.store import checkpoints as stored
from pdp.store.approvals import Approval, ApprovalState, Assent
from pdp.store.completeness import completeness
from pdp.store.database import Database
from pdp.store.notifications import Notification, NotificationState
from pdp.store.sessions import SessionState, StoredSession

NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
SUBJECT = Subject("agent", "planner", ("agents",), "checkrein", "token")


def session(connection: Connection, id: str, *, ended: bool = True) -> None:
    opened = StoredSession(id, "spiffe://c/pep/shop", "shop", "postgres", "", {}, (), SUBJECT, None, NOW - 50 * DAY)
    sessions.insert(connection, opened)
    if ended:
        sessions.end(connection, id, SessionState.CLOSED, "done", NOW - 40 * DAY, 0)


def approval(connection: Connection, id: str, of: str, state: ApprovalState, ago: int, **more: Any) -> None:
    """One that expired so many days ago, with a yes, a use, and a notification in each state."""
    at = NOW - ago * DAY
    asked = Approval(
        id, id, of, "d", "shop", SUBJECT, "h", "planner", b"act", b"digest", (), state, False, at - DAY, at, 0, **more
    )
    approvals.insert(connection, asked)
    approvals.add_assent(connection, id, Assent("olga", ("olga",), "olga", (), at, ()))
    connection.execute(tables.redemptions.insert().values(approval_id=id, execution_id="e", decision=b"", at=at))
    for each in NotificationState:
        sent = Notification(f"{id}-{each.value}", id, "chat", b"{}", at, each, 1, at)
        notifications.insert(connection, sent)


def names(connection: Connection, table: Table, column: str) -> set[str]:
    return set(connection.execute(select(table.c[column])).scalars())


def process(connection: Connection, name: str, ago: int, began: int, *, ended: bool = True, refused: int = 0) -> None:
    """One that was last heard of so many days ago and began so many sessions, of which the records are here."""
    at = NOW - ago * DAY
    records.add(connection, name, 0, b"{}", b"h")
    stored.note(connection, name, proxy="shop", seq=0, ended=ended)
    stored.checked(connection, name, 0, at)
    stored.mark(connection, stored.Mark(name, "shop", at, began, refused, at))


async def kept(database: Database, *, now: datetime.datetime = NOW, **retain: Any) -> Retention:
    chain = ServiceChain(database, lambda: now)
    await chain.begin()
    notary = await Notary.open(database, lambda: now, every=DAY, events=100)
    spans: dict[str, Any] = {"bodies": None, "index": None, "approvals": None, "notifications": 30 * DAY, **retain}
    return Retention(database, chain, notary, lambda: now, **spans)


def test_approvals_that_are_over_go_with_all_that_hangs_on_them(store_url: str) -> None:
    def fill(connection: Connection) -> None:
        session(connection, "s-over")
        session(connection, "s-open", ended=False)
        approval(connection, "old", "s-over", ApprovalState.REDEEMED, 11, grant_expires_at=NOW - 11 * DAY)
        approval(connection, "denied", "s-over", ApprovalState.DENIED, 11)
        approval(connection, "young", "s-over", ApprovalState.EXPIRED, 9)
        # What still may happen, or just could: a yes that is good for longer, a question that waits, an open session.
        approval(connection, "granted", "s-over", ApprovalState.REDEEMED, 11, grant_expires_at=NOW - DAY)
        approval(connection, "yes", "s-over", ApprovalState.APPROVED, 11, grant_expires_at=NOW - 11 * DAY)
        approval(connection, "waits", "s-over", ApprovalState.PENDING, 11)
        approval(connection, "asked", "s-open", ApprovalState.DENIED, 11)

    async def scenario() -> None:
        async with Database(store_url) as database:
            run = database.bulk.run
            await run(fill)
            left = {"young", "granted", "yes", "waits", "asked"}
            await (await kept(database)).round()
            assert await run(lambda c: names(c, tables.approvals, "id")) == left | {"old", "denied"}
            retention = await kept(database, approvals=10 * DAY)
            await retention.round()
            for table, column in (
                (tables.approvals, "id"),
                (tables.assents, "approval_id"),
                (tables.redemptions, "approval_id"),
                (tables.notifications, "approval_id"),
            ):
                assert await run(lambda c, t=table, n=column: names(c, t, n)) == left
            events = await run(
                lambda c: [each for each in names(c, tables.records, "event") if REMOVED.encode() in each]
            )
            assert [b'"approvals":2' in each for each in events] == [True]
            await retention.round()
            assert len(await run(lambda c: names(c, tables.approvals, "id"))) == len(left)

    asyncio.run(scenario())


def test_what_was_sent_goes_when_nobody_waits_for_it(store_url: str) -> None:
    def fill(connection: Connection) -> None:
        session(connection, "s-over")
        approval(connection, "old", "s-over", ApprovalState.DENIED, 31)
        approval(connection, "young", "s-over", ApprovalState.DENIED, 29)
        approval(connection, "waits", "s-over", ApprovalState.PENDING, 31)

    async def scenario() -> None:
        async with Database(store_url) as database:
            await database.bulk.run(fill)
            # Without a word of the configuration, too.
            await (await kept(database)).round()
            left = await database.bulk.run(lambda c: names(c, tables.notifications, "id"))
            every = {f"{approval}-{state.value}" for approval in ("young", "waits") for state in NotificationState}
            assert left == every | {"old-waiting"}

    asyncio.run(scenario())


def test_what_is_said_of_processes_goes_when_nothing_of_them_is_left_to_miss(store_url: str) -> None:
    def fill(connection: Connection) -> None:
        process(connection, "process-shop-old", 70, 2)
        process(connection, "process-shop-gap", 70, 2)
        process(connection, "process-shop-held", 70, 1)
        process(connection, "process-shop-refused", 70, 0, refused=1)
        process(connection, "process-shop-lives", 70, 0, ended=False)
        process(connection, "process-shop-young", 50, 0)
        session(connection, "s-there")
        begun = (("gone-1", "old", 1), ("gone-2", "old", 2), ("gone-3", "gap", 2), ("s-there", "held", 1))
        for name, who, number in begun:
            stored.note(
                connection, name, proxy="shop", seq=1, ended=True, begun=stored.Begun(f"process-shop-{who}", number)
            )
        # Nothing is said of another proxy since.
        process(connection, "process-pay-last", 70, 0)
        connection.execute(
            tables.proxy_marks.update().where(tables.proxy_marks.c.process == "process-pay-last").values(proxy="pay")
        )

    async def scenario() -> None:
        async with Database(store_url) as database:
            run = database.bulk.run
            await run(fill)
            before = await run(lambda c: completeness(c, NOW).missing)
            assert any("process-shop-gap began" in each for each in before)
            await (await kept(database)).round()
            assert len(await run(lambda c: names(c, tables.proxy_marks, "process"))) == 7
            await (await kept(database, index=60 * DAY)).round()
            assert await run(lambda c: names(c, tables.proxy_marks, "process")) == {
                "process-shop-gap",
                "process-shop-held",
                "process-shop-refused",
                "process-shop-lives",
                "process-shop-young",
                "process-pay-last",
            }
            assert {"gone-1", "gone-2"}.isdisjoint(await run(lambda c: names(c, tables.chains, "session_id")))
            # Nothing is missed that was not, and everything that was.
            assert await run(lambda c: completeness(c, NOW).missing) == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("written", "expected"),
    [("", (None, 30 * DAY)), ("approvals: 90d, notifications: 7d", (90 * DAY, 7 * DAY))],
)
def test_how_long_is_configured(tmp_path: Path, written: str, expected: tuple[Any, Any]) -> None:
    from tests.pdp.serving import configure

    retain = configure(tmp_path, more=f"  records: {{retain: {{{written}}}}}").pdp.records.retain
    assert (retain.approvals, retain.notifications) == expected
