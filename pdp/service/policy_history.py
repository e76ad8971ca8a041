"""Keeps what happens to the policies: each change with its bundle in the store, and the way back to an earlier one.

The revision that people went back to stands in the store, so that a restart finds it and replicas share it. It holds
for a service whose policy files are those that it was set over; it ends when they change, or when somebody says so.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy import Connection

from pdp.audit.service_chain import ServiceChain
from pdp.identity.tokens import Clock
from pdp.opa.engine import PolicyEngine
from pdp.policies.difference import changes
from pdp.policies.history import Change, Pin, PolicyEvent
from pdp.store import policies as stored
from pdp.store.database import Database, StoreUnavailable

log = structlog.get_logger("pdp.policies")

ROLLED_BACK: Final = "policy.rolled_back"
RESUMED: Final = "policy.resumed"
CHANGED: Final = "policy.changed"

_AGAIN: Final = 1.0
_ELSEWHERE: Final = "another replica"
# Bundles of the newest changes stay whether a decision refers to them or not; more than the most never do.
_NEWEST: Final = 20
_MOST: Final = 200


class PolicyHistory:
    """The history of one engine. `restore` before the engine begins, `run` and `follow` while it does."""

    def __init__(self, engine: PolicyEngine, database: Database, chain: ServiceChain, now: Clock) -> None:
        self._engine = engine
        self._database = database
        self._chain = chain
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Writes down each change, as they come."""
        while True:
            event = await self._engine.events.get()
            while True:
                try:
                    await self._write(event)
                except StoreUnavailable:
                    await asyncio.sleep(_AGAIN)
                except Exception:
                    # One that cannot be kept must not end the history, nor the service with it.
                    log.exception("a change of the policies is not in their history", change=event.change.value)
                    break
                else:
                    break

    async def follow(self) -> None:
        """Takes up what another replica has gone back to, or has ended."""
        async with self._one_at_a_time:
            pin = await self._database.short.run(stored.pin)
            ours = self._engine.pinned
            if pin is None and ours is not None:
                await self._engine.unpin(_ELSEWHERE)
            elif pin is not None and not _same(pin, ours) and await self._engine.files() == pin.files:
                await self._engine.pin(pin)

    async def forget(self) -> None:
        """Drops bundles that nothing needs."""
        await self._database.bulk.run(lambda connection: stored.forget(connection, newest=_NEWEST, most=_MOST))

    async def roll_back(self, revision: str, content: bytes, by: str, decision_id: str) -> None:
        """Puts a kept bundle in force. Raises PolicyError or OpaFailed, with nothing changed."""
        async with self._one_at_a_time:
            pin = Pin(revision, content, await self._engine.files(), by, self._now())
            before = self._engine.revision

            def work(connection: Connection) -> None:
                stored.set_pin(connection, pin)
                facts = {"by": by, "from": before, "to": revision}
                self._chain.write(connection, ROLLED_BACK, facts, decision_id=decision_id, policy_revision=before)

            previous = self._engine.pinned
            # Tried first: a bundle that cannot be loaded must not be what a restart begins with.
            await self._engine.pin(pin)
            try:
                await self._database.short.run(work)
            except BaseException:
                # What is not on record does not happen.
                if previous is not None:
                    await self._engine.pin(previous)
                else:
                    await self._engine.unpin("it could not be put on record")
                raise

    async def resume(self, by: str, decision_id: str) -> bool:
        """Puts the files in force again; False if they are."""
        async with self._one_at_a_time:
            pin = self._engine.pinned
            if pin is None:
                return False

            def work(connection: Connection) -> None:
                stored.end_pin(connection, pin)
                facts = {"by": by, "from": self._engine.revision}
                self._chain.write(connection, RESUMED, facts, decision_id=decision_id)

            await self._database.short.run(work)
            await self._engine.unpin(by)
            return True

    async def _write(self, event: PolicyEvent) -> None:
        def work(connection: Connection) -> None:
            before = stored.last_revision(connection)
            same = event.revision == before and event.change in (Change.ACTIVATED, Change.LAST_GOOD)
            differing = []
            if event.bundle is not None and not same:
                content = stored.bundle(connection, before)
                differing = changes(content, event.bundle.content) if content is not None else []
            # What another replica has ended is not there any more; a pin that is, came after it.
            here = event.change is Change.RESUMED and event.by != _ELSEWHERE
            if here and (pin := stored.pin(connection)) and pin.at <= event.at:
                stored.end_pin(connection, pin)
            if same and event.bundle is not None and stored.bundle(connection, event.revision) is not None:
                return
            stored.add(connection, event, differing)
            facts = {"change": event.change.value, "revision": event.revision}
            if event.by:
                facts["by"] = event.by
            self._chain.write(connection, CHANGED, facts, policy_revision=event.revision)

        await self._database.short.run(work)
        log.info("policies changed", change=event.change.value, revision=event.revision)


def _same(pin: Pin, ours: Pin | None) -> bool:
    return ours is not None and (ours.revision, ours.at) == (pin.revision, pin.at)


async def restore(engine: PolicyEngine, database: Database) -> None:
    """Before the engine begins: what people went back to is in force from the first moment on."""
    pin = await database.short.run(stored.pin)
    if pin is not None:
        engine.begin_with(pin)
