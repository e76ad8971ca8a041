"""The two sides of a driven session: what the driver needs of each, and how they report to the session's mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from pep.core import wire
from pep.core.leg import Receiver
from pep.core.mailbox import Mailbox

# What is worked off at once of what arrives: a loop's read may be 256 KiB, thousands of messages or rows.
_CLIENT_PIECE: Final = 8 << 10
_UPSTREAM_PIECE: Final = 32 << 10


class Side(Protocol):
    """What the driver needs of a side: a `Leg`, or one that stands for whatever connection serves at the moment."""

    def attach(self, receiver: Receiver) -> None: ...

    def write(self, data: bytes) -> None: ...

    def pause(self, reason: str) -> None: ...

    def resume(self, reason: str) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    async def finish(self) -> None: ...


class Client(Side, Protocol):
    """What the driver needs of a client's side besides: a `Leg`, or what stands for a part of one."""

    def paused_for(self, reason: str) -> bool: ...

    def gone(self) -> bool: ...

    def linger(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ClientSide:
    """What the client's leg reports."""

    mailbox: Mailbox
    other: Side

    def received(self, data: bytes) -> None:
        if len(data) <= _CLIENT_PIECE:
            self.mailbox.post(wire.ClientData(data))
            return
        for start in range(0, len(data), _CLIENT_PIECE):
            self.mailbox.post(wire.ClientData(data[start : start + _CLIENT_PIECE]))

    def ended(self) -> None:
        self.mailbox.post(wire.ClientClosed())

    def writable(self, *, yes: bool) -> None:
        _throttle(self.other, yes=yes)


@dataclass(frozen=True, slots=True)
class UpstreamSide:
    """What the upstream's leg reports."""

    mailbox: Mailbox
    other: Side

    def received(self, data: bytes) -> None:
        if len(data) <= _UPSTREAM_PIECE:
            self.mailbox.post(wire.UpstreamData(data))
            return
        for start in range(0, len(data), _UPSTREAM_PIECE):
            self.mailbox.post(wire.UpstreamData(data[start : start + _UPSTREAM_PIECE]))

    def ended(self) -> None:
        self.mailbox.post(wire.UpstreamClosed())

    def writable(self, *, yes: bool) -> None:
        _throttle(self.other, yes=yes)


def _throttle(other: Side, *, yes: bool) -> None:
    """A side that takes no more bytes stops the other one from sending more."""
    if yes:
        other.resume("peer")
    else:
        other.pause("peer")
