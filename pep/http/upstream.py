"""Connections to the target: kept between the requests of one session, never shared between two.

`UpstreamSide` is what the driver takes for the upstream: it stands for whatever connection serves the exchange that is
going on, and between exchanges for none. Knows nothing of HTTP but that a connection is either reusable or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pep.core.config import TcpAddress
from pep.core.errors import ConfigError
from pep.core.leg import Leg, LegClosed, Receiver
from pep.core.tls import upstream_context
from pep.http.config import HttpUpstream

# Servers close what is idle for a minute or more; the proxy is to be the one who does.
IDLE_SECONDS: Final = 30.0
_CLOCK_SECONDS: Final = 0.002
IDLE_PER_KEY: Final = 8
IDLE_IN_ALL: Final = 512


class UpstreamPool:
    """Where connections come from and rest. Raises ConfigError."""

    def __init__(
        self,
        upstream: HttpUpstream,
        *,
        idle_seconds: float = IDLE_SECONDS,
        per_key: int = IDLE_PER_KEY,
        in_all: int = IDLE_IN_ALL,
    ) -> None:
        self._addresses = tuple(_tcp(upstream))
        self._timeout = upstream.connect_timeout.total_seconds()
        self._tls = upstream_context(upstream.tls) if upstream.scheme == "https" else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._idle_seconds = idle_seconds
        self._per_key = per_key
        self._in_all = in_all
        # In the order in which they became idle.
        self._idle: dict[_Idle, None] = {}
        self._resting: dict[str, dict[_Idle, None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    def has(self, key: str) -> bool:
        """Whether a connection rests that was used for that key."""
        return key in self._resting

    async def take(self, key: str) -> Leg:
        """A connection for that key: the one used last, or a new one. Raises OSError, TimeoutError."""
        return self.take_idle(key) or await self._open()

    def take_idle(self, key: str) -> Leg | None:
        """The connection used last for that key, of those that are still there."""
        while resting := self._resting.get(key):
            idle = next(reversed(resting))
            self.forget(idle)
            if not idle.leg.gone():
                return idle.leg
            idle.leg.abort()
        return None

    def keep(self, key: str, leg: Leg) -> None:
        """Let a connection rest whose last response has been read to its end."""
        if self._closed:
            leg.abort()
            return
        loop = asyncio.get_running_loop()
        idle = _Idle(self, key, leg, loop.time() + self._idle_seconds)
        self._idle[idle] = None
        resting = self._resting.setdefault(key, {})
        resting[idle] = None
        if len(resting) > self._per_key:
            next(iter(resting)).discard()
        elif len(self._idle) > self._in_all:
            next(iter(self._idle)).discard()
        if self._sweep is None:
            self._sweep = loop.call_at(idle.until, self._discard_old)
        # Last: what has arrived already, or its end, discards it at once. The kernel is asked when it is taken.
        leg.attach(idle)

    def _discard_old(self) -> None:
        """One timer for all of them: they rest in the order in which their times are over."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        # A timer may be early by what the clock does not tell apart.
        now = loop.time() + _CLOCK_SECONDS
        while (first := next(iter(self._idle), None)) is not None and first.until <= now:
            first.discard()
        if first is not None:
            self._sweep = loop.call_at(first.until, self._discard_old)

    def forget(self, idle: _Idle) -> None:
        self._idle.pop(idle, None)
        resting = self._resting.get(idle.key)
        if resting is not None:
            resting.pop(idle, None)
            if not resting:
                del self._resting[idle.key]

    async def close(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        legs = [idle.leg for idle in self._idle]
        for idle in tuple(self._idle):
            idle.discard()
        await asyncio.gather(*(leg.finish() for leg in legs))

    async def _open(self) -> Leg:
        why: OSError = LegClosed("no address")
        for address in self._addresses:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._open_at(address)
            except OSError as error:
                # TimeoutError and ssl.SSLError are among them.
                why = error
        raise why

    async def _open_at(self, address: TcpAddress) -> Leg:
        leg = await Leg.connect(address.host, address.port, timeout=self._timeout)
        if self._tls is not None:
            try:
                await leg.start_tls(self._tls, server_side=False, server_hostname=address.host, timeout=self._timeout)
            except BaseException:
                leg.abort()
                raise
        return leg


class _Idle:
    """A connection at rest. Nothing may arrive on it: whatever does, or its end, discards it."""

    def __init__(self, pool: UpstreamPool, key: str, leg: Leg, until: float) -> None:
        self.key = key
        self.leg = leg
        self.until = until
        self._pool = pool

    def received(self, data: bytes) -> None:  # noqa: ARG002 - what it is does not matter
        self.discard()

    def ended(self) -> None:
        self.discard()

    def writable(self, *, yes: bool) -> None:
        """Nothing is written."""

    def discard(self) -> None:
        self._pool.forget(self)
        self.leg.abort()


@dataclass(slots=True)
class _Serving:
    """What the connection that serves the exchange reports; silent once it does not serve any more."""

    side: UpstreamSide
    key: str
    leg: Leg
    writes: bool = True

    def received(self, data: bytes) -> None:
        receiver = self.side.receiver_of(self)
        if receiver is not None:
            self.side.returned += len(data)
            receiver.received(data)

    def ended(self) -> None:
        receiver = self.side.receiver_of(self)
        if receiver is not None:
            receiver.ended()

    def writable(self, *, yes: bool) -> None:
        self.writes = yes
        receiver = self.side.receiver_of(self)
        if receiver is not None:
            receiver.writable(yes=yes)


class UpstreamSide:
    """The upstream of one client connection."""

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._receiver: Receiver | None = None
        self._serving: _Serving | None = None
        self._pauses: set[str] = set()
        self._over = False
        self.returned = 0  # bytes reported, ever

    @property
    def connected(self) -> bool:
        return self._serving is not None

    @property
    def takes_more(self) -> bool:
        """Whether the connection that serves at the moment takes more bytes, as far as is known."""
        return self._serving is None or self._serving.writes

    async def connect(self, key: str) -> None:
        """Have a connection that serves `key`, and nobody else. Raises OSError, TimeoutError."""
        self._serve(key, await self._pool.take(key))

    def connect_idle(self, key: str) -> bool:
        """The same with a connection that is there, if there is one."""
        leg = None if self._over else self._pool.take_idle(key)
        if leg is None:
            return False
        self._serve(key, leg)
        return True

    def _serve(self, key: str, leg: Leg) -> None:
        assert self._serving is None, "the exchange before has released its connection"
        if self._over:
            leg.abort()
            raise LegClosed("the session has ended")
        for reason in self._pauses:
            leg.pause(reason)
        self._serving = _Serving(self, key, leg)
        leg.attach(self._serving)

    def release(self, reusable: bool) -> None:
        """The exchange is over; nothing more of its connection is reported."""
        serving, self._serving = self._serving, None
        if serving is None:
            return
        if not serving.writes and self._receiver is not None:
            # The client waited for this connection to take more.
            self._receiver.writable(yes=True)
        for reason in self._pauses:
            serving.leg.resume(reason)
        if reusable and serving.writes and not self._over:
            self._pool.keep(serving.key, serving.leg)
        else:
            serving.leg.abort()

    def receiver_of(self, serving: _Serving) -> Receiver | None:
        return self._receiver if serving is self._serving else None

    # --- for the driver -----------------------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        if self._serving is None:
            raise AssertionError("nothing is written between exchanges")
        self._serving.leg.write(data)

    def pause(self, reason: str) -> None:
        """Remembered while there is no connection."""
        self._pauses.add(reason)
        if self._serving is not None:
            self._serving.leg.pause(reason)

    def resume(self, reason: str) -> None:
        self._pauses.discard(reason)
        if self._serving is not None:
            self._serving.leg.resume(reason)

    def paused_for(self, reason: str) -> bool:
        return reason in self._pauses

    def close(self) -> None:
        """Close once what was written is sent; no connection serves afterwards."""
        self._over = True
        if self._serving is not None:
            self._serving.leg.close()

    def abort(self) -> None:
        """Cut the connection that serves at the moment; its end is reported."""
        if self._serving is not None:
            self._serving.leg.abort()

    async def finish(self) -> None:
        self.close()
        if self._serving is not None:
            await self._serving.leg.finish()


def _tcp(upstream: HttpUpstream) -> Iterator[TcpAddress]:
    for address in upstream.addresses:
        if not isinstance(address, TcpAddress):
            raise ConfigError(f"an upstream of an HTTP proxy is a URL, not {address}")
        yield address
