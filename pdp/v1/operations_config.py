"""The parts of the configuration that say how a process is operated, the same for the service and for proxies."""

from __future__ import annotations

from pdp.v1.addresses import Address
from pdp.v1.strict_yaml import StrictModel


class Admin(StrictModel):
    """Where a process answers what an operator's tools ask; see `pdp.v1.operations`."""

    listen: Address


class Traces(StrictModel):
    """Where spans are sent: an OTLP endpoint for traces over HTTP, like `http://127.0.0.1:4318/v1/traces`."""

    url: str


class Telemetry(StrictModel):
    """What a process sends of itself; nothing without `traces`."""

    traces: Traces | None = None
