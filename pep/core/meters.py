"""What a proxy counts and times, for Prometheus.

Verdicts and responses are counted from what goes on record, so that the figures and the records tell one story; times
are taken by whoever does the work and handed in. The rest is read from the proxy when somebody asks for the metrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, Info

from pep.core.records import Event, EventType
from pep.core.tallies import Tally, Times

# Seconds: a decision takes about a millisecond, a person's answer is not timed here.
_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the proxy stands at the moment. Sizes in bytes, ages in seconds."""

    sessions: int
    connections: int
    spool_bytes: int
    spool_limit: int
    spool_age: float
    heard_of: bool


class Meters:
    """The metrics of one proxy. `standing` says how it stands when they are read."""

    def __init__(self, *, proxy: str, resource: str, protocol: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self.trouble = ""  # why the last record could not be written; "" while they are
        about = Info("checkrein_proxy", "The proxy and the program.", registry=self.registry)
        about.info({"proxy": proxy, "resource": resource, "protocol": protocol, "version": version})
        self._verdicts = self._counter(
            "verdicts", "Decisions that the proxy acted on, by the policies that gave reasons.", "verdict", "policy"
        )
        words = "Time of one call, by stage: open, decide, redeem, record."
        self._stages = Times("checkrein_proxy_stage_seconds", words, "stage", _BUCKETS, self.registry)
        self._unavailable = self._counter("unavailable", "Calls to the decision service without an answer.", "stage")
        self._records = self._counter("records", "Events that were put on record.", "type")
        self._unrecorded = self._counter("unrecorded", "Times when nothing could be put on record, so it was denied.")
        self._refused = self._counter("logins_refused", "Logins that were refused.")
        self._approvals = self._counter("approvals", "Approvals, by what became of them.", "state")
        self._withheld = self._counter("responses_withheld", "Responses that could not be masked, so were not shown.")
        self._disagreements = self._counter(
            "redaction_disagreements", "Results whose columns are of another table than the one decided about."
        )

    def watch(self, standing: Callable[[], Standing]) -> None:
        """Gauges of how the proxy stands, read each time that somebody asks."""
        gauges: dict[str, tuple[str, Callable[[Standing], float]]] = {
            "sessions": ("Sessions that are open.", lambda now: now.sessions),
            "connections": ("Connections of clients.", lambda now: now.connections),
            "spool_bytes": ("Records that the decision service does not have yet, in bytes.", _spool_bytes),
            "spool_limit_bytes": ("How many bytes of records may wait.", lambda now: now.spool_limit),
            "spool_age_seconds": ("How long the oldest record has waited.", lambda now: now.spool_age),
            "decision_service_heard": ("1 if the decision service was heard of lately.", lambda now: now.heard_of),
        }
        for name, (words, read) in gauges.items():
            gauge = Gauge(f"checkrein_proxy_{name}", words, registry=self.registry)
            gauge.set_function(_reading(standing, read))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The time that the block takes, however it ends."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.took(stage, time.perf_counter() - begun)

    def took(self, stage: str, seconds: float) -> None:
        """The same, of time that the caller has taken."""
        self._stages.add(stage, seconds)

    def unavailable(self, stage: str) -> None:
        """The decision service gave no answer."""
        self._unavailable.add(stage)

    def recorded(self, events: Sequence[Event]) -> None:
        """These events are on record."""
        self.trouble = ""
        for event in events:
            self._records.add(event.type)
            match event.type:
                case EventType.DECISION:
                    self._decided(event.facts)
                case EventType.LOGIN_REFUSED:
                    self._refused.add()
                case EventType.APPROVAL_REQUESTED:
                    self._approvals.add("requested")
                case EventType.APPROVAL_RESOLVED:
                    self._approvals.add(str(event.facts["state"]))
                case EventType.APPROVAL_REDEEMED:
                    self._approvals.add("redeemed")
                case EventType.RESPONSE:
                    if "withheld" in event.facts:
                        self._withheld.add()
                    if "disagreement" in event.facts:
                        self._disagreements.add()
                case _:
                    pass

    def unrecorded(self, why: str) -> None:
        """Something could not be put on record."""
        self.trouble = why
        self._unrecorded.add()

    def _decided(self, facts: Any) -> None:
        # What cannot be parsed is denied without a question: no policy gave a reason.
        policies = {reason["policy"] for reason in facts.get("reasons", ()) if reason["policy"]} or {""}
        for policy in policies:
            self._verdicts.add(facts.get("verdict", ""), policy)

    def _counter(self, name: str, words: str, *labels: str) -> Tally:
        return Tally(f"checkrein_proxy_{name}", words, labels, self.registry)


def _spool_bytes(now: Standing) -> float:
    return now.spool_bytes


def _reading(standing: Callable[[], Standing], read: Callable[[Standing], float]) -> Callable[[], float]:
    return lambda: float(read(standing()))
