"""Tells people that something waits for them, by webhook.

What is to be told is written in the transaction that makes the question (an outbox), so a restart loses nothing; it
may be told twice, under one id. Each destination has a task and a thread of its own: one that is slow or hostile
delays nothing but what goes to itself. What cannot be delivered is tried again, ever less often, and then given up and
kept in a list. A message holds no statement and no value; its link opens a page or names a command, and changes
nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import enum
import random
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Connection

from pdp.approvals.sentence import safe, sentence
from pdp.approvals.webhook import Hook, NotDelivered, post
from pdp.config import Approvals as Settings
from pdp.config import Destination
from pdp.identity.tokens import Clock
from pdp.store import approvals as stored_approvals
from pdp.store import notifications as stored
from pdp.store.approvals import Approval, ApprovalState
from pdp.store.database import Database
from pdp.store.notifications import Notification, NotificationState
from pdp.v1 import access_pb2
from pdp.v1.config_values import parse_duration
from pdp.v1.strict_yaml import ConfigError

log = structlog.get_logger("pdp.notifications")

MOST_ATTEMPTS: Final = 12
_FIRST: Final = datetime.timedelta(seconds=2)
_LONGEST: Final = datetime.timedelta(minutes=15)
# An attempt that takes longer is given up; its thread ends when the other side lets it.
_DEADLINE: Final = 30.0
_CLAIMED: Final = datetime.timedelta(minutes=2)
_GLANCE: Final = 1.0
REQUESTED: Final = "approval.requested"
ESCALATED: Final = "approval.escalated"
_WORKFLOW: Final = ("graph", "node", "run")

Post = Callable[[Hook, str, str, bytes], None]
# Who answers for each dataset of a resource, as the policies' data say.
Owners = Callable[[str], Mapping[str, Sequence[str]]]


class Over(enum.Enum):
    """Nobody needs to be told any more."""

    OVER = enum.auto()


_OVER: Final = Over.OVER


class Notifications:
    """All of them. `add` is for whoever has the transaction; `run` delivers until it is cancelled."""

    def __init__(self, settings: Settings, now: Clock, owners: Owners, send: Post = post) -> None:
        self._settings = settings
        self._owners = owners
        self._now = now
        self._send = send
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: dict[str, asyncio.Event] = {name: asyncio.Event() for name in settings.notify}

    def add(self, connection: Connection, approval: Approval) -> None:
        """Writes down who is to be told of a pending approval, and when; once for each destination.

        Whom it is escalated to is told when it is: till then the message waits in the outbox, and is dropped there if
        the question ends before.
        """
        turns = ((name, turn(each, approval)) for name, each in self._settings.notify.items())
        wanted = [(name, at) for name, at in turns if at is not None]
        if not wanted or stored.told(connection, approval.id):
            return
        now = self._now()
        said = message(approval, link(self._settings, approval.id), self._owners(approval.resource))
        for name, at in wanted:
            escalated = {"event": ESCALATED} if at > approval.created_at else {}
            body = orjson.dumps({**said, **escalated})
            name_of_it, waiting = f"n-{secrets.token_hex(8)}", NotificationState.WAITING
            due = max(at, now)
            stored.insert(connection, Notification(name_of_it, approval.id, name, body, now, waiting, 0, due))
        self.wake()

    def wake(self) -> None:
        """From whatever thread: something may be due. What is not committed yet is found at the next glance."""
        if self._loop is not None and not self._loop.is_closed():
            for each in self._news.values():
                self._loop.call_soon_threadsafe(each.set)

    async def retry(self, database: Database, id: str) -> int:
        """Tries one again that was given up, or with an empty id all of them; how many that are."""
        now = self._now()
        count = await database.short.run(lambda connection: stored.retry(connection, id, now))
        self.wake()
        return count

    async def run(self, database: Database) -> None:
        """Delivers until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for name, destination in self._settings.notify.items():
                tasks.create_task(self._deliver_all(database, name, destination))

    async def _deliver_all(self, database: Database, name: str, destination: Destination) -> None:
        stuck: asyncio.Future[None] | None = None
        while True:
            self._news[name].clear()
            try:
                # As long as an earlier attempt keeps its thread, no other thread is given to this destination.
                more = False
                if stuck is None or stuck.done():
                    more, stuck = await self._deliver_one(database, name, destination)
            except Exception:
                log.exception("notifications could not be looked at", destination=name)
                more = False
            if not more:
                try:
                    async with asyncio.timeout(_GLANCE):
                        await self._news[name].wait()
                except TimeoutError:
                    continue

    async def _deliver_one(
        self, database: Database, name: str, destination: Destination
    ) -> tuple[bool, asyncio.Future[None] | None]:
        """Whether there was one to deliver, and the attempt that has not come to an end."""
        now = self._now()

        def take(connection: Connection) -> Notification | Over | None:
            claimed = stored.claim(connection, name, now, now + _CLAIMED)
            if claimed is None:
                return None
            approval = stored_approvals.find(connection, claimed.approval_id)
            if approval is None or approval.state is not ApprovalState.PENDING or approval.expires_at <= now:
                stored.settle(connection, claimed, NotificationState.OVER, next_at=now)
                return _OVER
            return claimed

        claimed = await database.short.run(take)
        if claimed is None or claimed is _OVER:
            return claimed is _OVER, None
        error, attempt = await self._attempt(destination, claimed)
        await database.short.run(lambda connection: self._settle(connection, claimed, error))
        return True, attempt

    async def _attempt(
        self, destination: Destination, claimed: Notification
    ) -> tuple[str | None, asyncio.Future[None] | None]:
        """Why it failed, or None; and the attempt, if it goes on without being waited for."""
        try:
            secret = await asyncio.to_thread(destination.webhook.secret.resolve)
        except ConfigError as error:
            return f"its secret cannot be had: {error}", None
        hook = Hook(destination.webhook.url, secret.encode(), destination.webhook.ca)
        timestamp = str(int(self._now().timestamp()))
        attempt = _in_a_thread(lambda: self._send(hook, claimed.id, timestamp, claimed.body))
        try:
            async with asyncio.timeout(_DEADLINE):
                await asyncio.shield(attempt)
        except TimeoutError:
            attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
            return f"no answer within {_DEADLINE:g} seconds", attempt
        except NotDelivered as error:
            return str(error), None
        return None, None

    def _settle(self, connection: Connection, claimed: Notification, error: str | None) -> None:
        now = self._now()
        named = {"notification": claimed.id, "destination": claimed.destination, "approval": claimed.approval_id}
        if error is None:
            log.info("people told", **named)
            stored.settle(connection, claimed, NotificationState.SENT, next_at=now)
        elif claimed.attempts >= MOST_ATTEMPTS:
            log.error("notification given up", why=error, attempts=claimed.attempts, **named)
            stored.settle(connection, claimed, NotificationState.DEAD, next_at=now, error=error)
        else:
            log.warning("notification not delivered", why=error, attempts=claimed.attempts, **named)
            later = now + pause(claimed.attempts)
            stored.settle(connection, claimed, NotificationState.WAITING, next_at=later, error=error)


def pause(attempts: int) -> datetime.timedelta:
    """How long after so many attempts the next one comes: twice as long each time, and never all at once."""
    full: datetime.timedelta = min(_FIRST * 2 ** min(attempts - 1, 20), _LONGEST)
    return full * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load, it hides nothing


def message(approval: Approval, link: str, owners: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """What is sent; without the statement and without any value in it.

    Foreign words have no power there either: what would direct other characters, or be markup, is a code point.
    """
    subject = approval.subject
    said = sentence(
        access_pb2.Action.FromString(approval.action), owners=owners, estimate=approval.estimate, values=False
    )
    document: dict[str, Any] = {
        "v": 1,
        "event": REQUESTED,
        "approval": approval.id,
        "resource": approval.resource,
        "who": {"type": subject.type, "id": safe(subject.id)},
        "sentence": f"{safe(subject.key)} on {safe(approval.resource)}: {said}",
        "held_by": [f"{each['policy']}/{each['code']}" for each in approval.requirements],
        "link": link,
        "expires_at": approval.expires_at.isoformat().replace("+00:00", "Z"),
    }
    if subject.root.id != subject.id:
        document["on_behalf_of"] = {"type": subject.root.type, "id": safe(subject.root.id)}
    if workflow := {key: safe(subject.workflow[key]) for key in _WORKFLOW if key in subject.workflow}:
        document["workflow"] = workflow
    return document


def link(settings: Settings, approval_id: str) -> str:
    """What opens it; opening changes nothing."""
    address = settings.address
    return f"{address.rstrip('/')}/approvals/{approval_id}" if address else f"pdp approvals show {approval_id}"


def turn(destination: Destination, approval: Approval) -> datetime.datetime | None:
    """When the first of the destination's groups may answer (`rules.approvers`); None where none of them ever may."""
    if "*" in destination.groups:
        return approval.created_at
    groups = {f"group:{group}" for group in destination.groups}
    turns = []
    for each in approval.requirements:
        escalate = each.get("escalate")
        if groups & set(each["approvers"]):
            turns.append(approval.created_at)
        elif escalate and groups & set(escalate["approvers"]):
            turns.append(approval.created_at + parse_duration(escalate["after"]))
    return min(turns, default=None)


def _in_a_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Runs it in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - handed to whoever waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="webhook", daemon=True).start()
    return done
