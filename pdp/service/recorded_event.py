"""An event of the store as people's calls hand it out."""

from __future__ import annotations

from pdp.store.records import StoredEvent
from pdp.v1.admin_service_pb2 import RecordedEvent


def event_message(event: StoredEvent) -> RecordedEvent:
    return RecordedEvent(
        seq=event.seq,
        event=event.event,
        hash=event.hash,
        bodies=dict(event.bodies),
        salts=dict(event.salts),
        erased=sorted(event.erased),
    )
