"""Counts and times as plain numbers, which become metrics of Prometheus when somebody asks for them.

Every command is counted in several places, and a counter of the library costs more than what it counts: it looks its
labels up and takes a lock. All that is counted here is counted on one event loop, where an addition is one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter; without labels it is counted under ()."""

    def __init__(self, name: str, words: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._words, self._labels = name, words, labels
        self._counts: Counter[tuple[str, ...]] = Counter() if labels else Counter({(): 0})
        registry.register(self)

    def add(self, *labels: str) -> None:
        self._counts[labels] += 1

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._words, labels=self._labels)
        for labels, count in tuple(self._counts.items()):
            family.add_metric(labels, count)
        yield family


class Times(Collector):
    """A histogram of seconds by one label; `bounds` rise."""

    def __init__(self, name: str, words: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._words, self._label, self._bounds = name, words, label, bounds
        # How many fell between two bounds, the last ones over all of them; and their sum.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def add(self, label: str, seconds: float) -> None:
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = [0] * (len(self._bounds) + 1)
            self._sums[label] = 0.0
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[label] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._words, labels=(self._label,))
        for label, counts in tuple(self._counts.items()):
            so_far, buckets = 0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                so_far += count
                buckets.append((bound, so_far))
            family.add_metric((label,), buckets, self._sums[label])
        yield family
