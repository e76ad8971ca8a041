"""Sessions of the store as people's calls hand them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pdp.service.sessions import Sessions
from pdp.service.subjects import subject_message
from pdp.service.times import timestamp
from pdp.store import sessions as stored
from pdp.store.database import Database
from pdp.store.sessions import StoredSession
from pdp.v1 import admin_service_pb2 as pb


async def session_messages(database: Database, live: Sessions, sessions: Sequence[StoredSession]) -> list[pb.Session]:
    """With the number of their events, and the verdicts that are not stored yet."""
    ids = [each.id for each in sessions]
    counts = await database.short.run(lambda connection: stored.event_counts(connection, ids))
    return [
        pb.Session(
            session_id=each.id,
            subject=subject_message(each.subject),
            resource=each.resource,
            protocol=each.protocol,
            proxy=each.proxy.rpartition("/")[2],
            client_address=each.client_address,
            state=each.state.value,
            opened_at=timestamp(each.opened_at),
            closed_at=timestamp(each.closed_at),
            close_reason=each.close_reason,
            events=counts.get(each.id, 0),
            verdicts=dict(Counter(each.verdicts) + Counter(live.verdicts(each.id))),
        )
        for each in sessions
    ]
