"""The service's own chain: what happens here and belongs to no proxy's record.

Approvals that are asked for, answered and used; records that people read; settings that change. The events have the
format of the proxies' records and stand in the same table, so that whatever verifies one verifies the other. An event
is written in the transaction of what it tells of: neither is there without the other, and what cannot be put on
record does not happen.

Each process begins a chain of its own, whose first event names the end of the chain that was begun before it: a chain
that was taken away is missed. Not here: what a proxy's session did, which stands in the session's own chain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from pdp.identity.tokens import Clock
from pdp.store import checkpoints
from pdp.store import records as stored
from pdp.store.database import Database
from pdp.v1.digests import GENESIS, SALT_SIZE, body_digest, canonical_json, chain_hash

PREFIX: Final = "pdp-"
"""How the names of these chains begin; no session's and no proxy's does."""

STARTED: Final = "service.started"
STOPPED: Final = "service.stopped"


@dataclass(frozen=True, slots=True)
class Body:
    """A body of an event: what it is, its bytes, and its salt. It may be erased; the event stays."""

    kind: str
    content: bytes
    salt: bytes = field(default_factory=lambda: os.urandom(SALT_SIZE))

    @classmethod
    def of_json(cls, kind: str, document: object) -> Body:
        return cls(kind, canonical_json(document))


class ServiceChain:
    """The chain of this process. `write` is for those who have a transaction, `append` for those who have none."""

    def __init__(self, database: Database, now: Clock) -> None:
        self._database = database
        self._now = now
        # Names sort by time: that is how the next process finds the last one.
        self.id: Final = f"{PREFIX}{now():%Y%m%dT%H%M%S.%fZ}-{os.urandom(8).hex()}"

    async def begin(self) -> None:
        """The first event, before any other."""

        def work(connection: Connection) -> None:
            facts: dict[str, Any] = {"pid": os.getpid()}
            if (before := stored.last_chain(connection, PREFIX)) is not None:
                last = stored.last(connection, before)
                assert last is not None
                facts["previous"] = {"chain": before, "seq": last[0], "hash": last[1].hex()}
            self.write(connection, STARTED, facts)

        await self._database.short.run(work)

    async def append(
        self,
        type: str,
        facts: Mapping[str, Any],
        bodies: Sequence[Body] = (),
        *,
        decision_id: str = "",
        policy_revision: str = "",
    ) -> None:
        """Puts an event on record in a transaction of its own; it is stored when this returns."""

        def work(connection: Connection) -> None:
            self.write(connection, type, facts, bodies, decision_id=decision_id, policy_revision=policy_revision)

        await self._database.short.run(work)

    def write(
        self,
        connection: Connection,
        type: str,
        facts: Mapping[str, Any],
        bodies: Sequence[Body] = (),
        *,
        decision_id: str = "",
        policy_revision: str = "",
    ) -> None:
        """Puts an event on record in the caller's transaction.

        `facts` holds ids, names and numbers; a statement, a value or a person's words are bodies.
        """
        stored.lock(connection, self.id)
        last = stored.last(connection, self.id)
        seq, previous = (0, GENESIS) if last is None else (last[0] + 1, last[1])
        document: dict[str, Any] = {
            "v": 1,
            "session": self.id,
            "seq": seq,
            "time": self._now().isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "type": type,
        }
        if decision_id:
            document["decision_id"] = decision_id
        if policy_revision:
            document["policy_revision"] = policy_revision
        if facts:
            document["facts"] = facts
        if bodies:
            document["bodies"] = [
                {"kind": each.kind, "size": len(each.content), "sha256": body_digest(each.salt, each.content).hex()}
                for each in bodies
            ]
        data = canonical_json(document)
        stored.add(connection, self.id, seq, data, chain_hash(previous, self.id, seq, data))
        checkpoints.note(connection, self.id, proxy="", seq=seq, ended=type == STOPPED)
        for index, each in enumerate(bodies):
            stored.add_body(connection, self.id, seq, index, each.salt, each.content, self._now())
