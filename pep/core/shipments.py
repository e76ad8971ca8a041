"""What goes from a proxy's spool to the decision service, and what comes back: values between three parts.

`spool` reads the records back, `shipper` sees to their order and their signatures, `grpc_client` carries them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pep.core.signer import Signed


@dataclass(frozen=True, slots=True)
class Shipment:
    """An event, or a body where `body` is its position among the bodies of event `seq`; `hash` is an event's."""

    session: str
    seq: int
    data: bytes = field(repr=False)
    body: int | None = None
    salt: bytes = b""
    hash: bytes = b""
    signed: Signed | None = None


@dataclass(frozen=True, slots=True)
class Spooled:
    """How a spool stands. `age` is that of the oldest record which is not stored yet, in seconds; `trouble` says why
    the last record could not be written, `failed` that none can be any more."""

    size: int
    limit: int
    age: float
    trouble: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to when (epoch seconds) everything on record here has been acknowledged; for the chain of the process."""

    process: str
    complete_until: float
    sessions: int
    refused: int


@dataclass(frozen=True, slots=True)
class Countersign:
    """A signature of a chain whose event has been shipped before."""

    session: str
    seq: int
    signed: Signed


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything of the session up to `seq` is stored; `refused` says why one was not."""

    session: str
    seq: int
    refused: str = ""
