"""Instants as messages, and back."""

from __future__ import annotations

import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(instant: datetime.datetime | None) -> Timestamp | None:
    """An instant as a message; None stays unset."""
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def instant(stamp: Timestamp) -> datetime.datetime:
    return stamp.ToDatetime(datetime.UTC)
