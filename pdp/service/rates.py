"""How many decisions a person or workload may ask for in a second: a token bucket for each, at this replica.

Whoever is over it is denied and told to come back; nobody else notices. A batch is let through whole as long as
anything is left, and the rest is owed: a list of a thousand tools is one question of a client.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pdp.identity.subject import Subject

# Whose bucket is forgotten first has not asked for the longest time, so it is full or nobody's.
_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Rates:
    """One bucket for each root subject; it holds what may be asked in a second."""

    def __init__(self, per_second: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, subject: Subject, decisions: int) -> bool:
        """Whether so many decisions may be asked for now."""
        now = self._monotonic()
        root = subject.share
        bucket = self._buckets.get(root)
        if bucket is None:
            bucket = self._buckets[root] = _Bucket(self._per_second, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(root)
        bucket.left = min(self._per_second, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.left < 1:
            return False
        bucket.left -= decisions
        return True
