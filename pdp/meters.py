"""What the decision service counts and times, for Prometheus.

Verdicts are counted where decisions are logged; the rest is read from the service when somebody asks for the metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from pdp.decisions.decided import Decided

_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the service stands at the moment."""

    revision: str
    opa_ready: bool
    opa_restarts: int
    policies_broken: bool
    sessions: int
    approvals_pending: int
    proxies: int


class Meters:
    """The metrics of one service."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        Info("checkrein_pdp", "The program.", registry=self.registry).info({"version": version})
        self._verdicts = Counter(
            "checkrein_pdp_decisions",
            "Decisions, by the policies that gave reasons.",
            ("resource", "verdict", "policy"),
            registry=self.registry,
        )
        self._stages = Histogram(
            "checkrein_pdp_stage_seconds",
            "Time of one call or part of it, by stage: opa, Decide, OpenSession, ...",
            ("stage",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._records_refused = Counter(
            "checkrein_pdp_records_refused", "Records that do not fit their chain.", registry=self.registry
        )
        self._revision = Gauge(
            "checkrein_pdp_policy_revision", "1 for the revision in force.", ("revision",), registry=self.registry
        )
        self._gauges = {
            name: Gauge(f"checkrein_pdp_{name}", words, registry=self.registry)
            for name, words in (
                ("opa_ready", "1 if OPA answers with a loaded policy."),
                ("opa_restarts", "How often OPA had to be started again."),
                ("policies_broken", "1 if the newest policy files are not in force because something is wrong."),
                ("sessions", "Sessions that are open."),
                ("approvals_pending", "Approvals that wait for people."),
                ("proxies", "Proxies with a live lease."),
            )
        }

    def decided(self, decided: Decided) -> None:
        """A decision was made; one that took no time was made without OPA."""
        for policy in {policy for policy, _ in decided.reasons} or {""}:
            self._verdicts.labels(decided.resource, decided.verdict, policy).inc()
        if decided.nanoseconds:
            self._stages.labels("opa").observe(decided.nanoseconds / 1e9)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The time that the block takes, however it ends."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._stages.labels(stage).observe(time.perf_counter() - begun)

    def record_refused(self) -> None:
        self._records_refused.inc()

    def show(self, now: Standing) -> None:
        """The gauges, as the service stands."""
        self._revision.clear()
        self._revision.labels(now.revision).set(1)
        for name, gauge in self._gauges.items():
            gauge.set(float(getattr(now, name)))
