"""One side of a session: a byte-stream connection, to a client or to an upstream.

While a login is exchanged a leg is read with `await read()`; `attach` then hands what arrives to the driver's
callbacks. Works on uvloop and on asyncio. It knows no protocol and never decides what is forwarded.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

# Above this many unsent bytes the other side is no longer read.
WRITE_HIGH: Final = 256 * 1024
CLOSE_SECONDS: Final = 5.0
# What is still read, and for how long, of an end that is told something and has not read it.
LINGER_BYTES: Final = 64 * 1024
LINGER_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05
_GONE: Final = select.POLLRDHUP | select.POLLERR | select.POLLHUP | select.POLLNVAL


class Receiver(Protocol):
    """What the driver is told by a leg that is attached to it. Called on the loop, must not block."""

    def received(self, data: bytes) -> None:
        """Bytes arrived."""

    def ended(self) -> None:
        """Nothing more will arrive; said once."""

    def writable(self, *, yes: bool) -> None:
        """The unsent bytes went over the high mark, or fell under the low one again."""


class LegClosed(ConnectionError):
    """The connection is gone, or must not be used any more."""


class Leg(asyncio.Protocol):
    """A connection. `limit` bounds what is buffered before the login reads it."""

    def __init__(self, *, accepted: Callable[[Leg], None] | None = None, limit: int = 64 * 1024) -> None:
        self._accepted = accepted
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None
        self._receiver: Receiver | None = None
        self._pauses: set[str] = set()
        self._paused = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closed = asyncio.Event()
        self._poll: select.poll | None = None
        self._lingers = False
        self._address = ""

    @classmethod
    async def connect(cls, host: str, port: int, *, timeout: float = 5.0) -> Leg:
        """A leg to host and port. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            _, leg = await loop.create_connection(cls, host, port)
        return leg

    # --- for the login and the driver ---------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The other end's address, as host:port; empty where the kernel names none."""
        address = self._info("peername")
        if not isinstance(address, tuple):
            return str(address or "")
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def address(self) -> str:
        """The other end's host, without its port; as it was when the connection was made."""
        return self._address

    @property
    def encrypted(self) -> bool:
        return self._info("ssl_object") is not None

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on in the TLS handshake; empty where none was."""
        tls = self._info("ssl_object")
        return "" if tls is None else tls.selected_alpn_protocol() or ""

    def peer_certificate(self) -> bytes | None:
        """The certificate, in DER, whose key the other end has proved to have; None where it showed none."""
        tls = self._info("ssl_object")
        certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
        # Without a demand for one, what a client shows is not verified.
        return certificate if tls is not None and tls.context.verify_mode is not ssl.CERT_NONE else None

    async def read(self) -> bytes:
        """Whatever has arrived, at least a byte; b"" once the other end has closed."""
        while not self._buffer:
            if self._eof:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer)
        self._buffer.clear()
        self.resume("unread")
        return data

    def unread(self, data: bytes) -> None:
        """Put back what the login has read beyond its own messages; the next read, or the driver, gets it first."""
        self._buffer[:0] = data

    def write(self, data: bytes) -> None:
        """Queue bytes; on a connection that is gone they are dropped, `ended` has told so."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the other end takes bytes again. Raises LegClosed."""
        await self._may_write.wait()
        if self._closed.is_set():
            raise LegClosed("the connection is closed")

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Go on in TLS. There must be no await between writing the message that invites it and this call.

        Bytes that came in clear before it would be taken for encrypted ones, so they are refused. Raises LegClosed.
        """
        if self._transport is None or self._buffer or self._eof:
            raise LegClosed("bytes arrived before the TLS handshake")
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(
            self._transport,
            self,
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=timeout,
        )
        if transport is None:
            raise LegClosed("the connection closed during the TLS handshake")
        self._take(transport)

    async def accept_tls(self, context: ssl.SSLContext, *, timeout: float = 10.0) -> None:
        """Go on in TLS with a client whose handshake has begun: its first bytes are unread here. Raises LegClosed."""
        begun = self._transport
        if begun is None or self._eof:
            raise LegClosed("the connection closed before the TLS handshake")
        loop = asyncio.get_running_loop()
        upgrade = loop.create_task(
            loop.start_tls(begun, self, context, server_side=True, ssl_handshake_timeout=timeout)
        )
        try:
            # After this the handshake's own protocol stands, and has its first turn before anything more is read;
            # what was read here comes in between.
            await asyncio.sleep(0)
            loop.call_soon(self._hand_on, begun)
            transport = await upgrade
        finally:
            upgrade.cancel()
        if transport is None:
            raise LegClosed("the connection closed during the TLS handshake")
        self._take(transport)

    def _hand_on(self, transport: asyncio.Transport) -> None:
        """Give the protocol that has taken over what was read before, as the transport would."""
        protocol = cast(asyncio.BufferedProtocol, transport.get_protocol())
        data, self._buffer = self._buffer, bytearray()
        while data:
            room = memoryview(cast(bytearray, protocol.get_buffer(len(data))))
            count = min(len(room), len(data))
            room[:count] = data[:count]
            del data[:count]
            protocol.buffer_updated(count)

    def attach(self, receiver: Receiver) -> None:
        """From now on the receiver gets what arrives, beginning with what is buffered."""
        self._receiver = receiver
        if not self._may_write.is_set():
            receiver.writable(yes=False)
        data = bytes(self._buffer)
        self._buffer.clear()
        if data:
            receiver.received(data)
        if self._eof:
            receiver.ended()
        self.resume("unread")

    def pause(self, reason: str) -> None:
        """Stop reading until every reason to is gone."""
        self._pauses.add(reason)
        self._apply_pauses()

    def resume(self, reason: str) -> None:
        if reason in self._pauses:
            self._pauses.discard(reason)
            self._apply_pauses()

    def paused_for(self, reason: str) -> bool:
        return reason in self._pauses

    def gone(self) -> bool:
        """Whether the other end has closed or reset, asked of the kernel: holds also while reading is paused.

        A FIN is not seen while it waits behind more unread bytes than the kernel's receive buffer takes.
        """
        if self._eof or self._closed.is_set() or self._transport is None:
            return True
        if self._poll is None:
            descriptor = self._info("socket").fileno()
            if descriptor < 0:
                return True
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLRDHUP)
        return any(events & _GONE for _, events in self._poll.poll(0))

    def linger(self) -> None:
        """From now on the other end gets time to read what was written before the connection goes; see `finish`."""
        self._lingers = True

    def close(self) -> None:
        """Close once what was written is sent; one that lingers is closed by `finish`."""
        if self._transport is not None and not self._lingers:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        if self._transport is not None:
            self._transport.abort()

    async def finish(self, timeout: float = CLOSE_SECONDS) -> None:
        """Close, and wait until it is; a peer that takes nothing more is cut off after `timeout` seconds."""
        if self._lingers:
            await self._linger()
        self.close()
        try:
            async with asyncio.timeout(timeout):
                await self._closed.wait()
        except TimeoutError:
            self.abort()

    async def _linger(self) -> None:
        """Says that nothing more is written, and reads on for a while, to no purpose but that.

        Closing over bytes that were not read is a reset, and a reset takes away what the other end has not read yet.
        """
        discarding = _Discarding(self)
        self._receiver = discarding
        self._pauses.clear()
        self._apply_pauses()
        try:
            transport = self._transport
            if transport is not None and not transport.is_closing() and transport.can_write_eof():  # TLS cannot
                transport.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                # With reading paused an end is no event.
                while not self.gone():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            pass
        finally:
            self._lingers = False
            self.close()

    # --- called by the event loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, no test: uvloop's transports only look like asyncio's.
        self._take(cast(asyncio.Transport, transport))
        self._address = self.peer.rpartition(":")[0]
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._accepted is not None:
            self._accepted(self)

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.received(data)
            return
        self._buffer += data
        if len(self._buffer) >= self._limit:
            self.pause("unread")
        self._wake()

    def eof_received(self) -> None:
        """A half-closed connection is a closed one: returning nothing lets the transport close itself."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._closed.set()
        self._may_write.set()
        self._poll = None
        self._end()

    def pause_writing(self) -> None:
        self._may_write.clear()
        if self._receiver is not None:
            self._receiver.writable(yes=False)

    def resume_writing(self) -> None:
        self._may_write.set()
        if self._receiver is not None:
            self._receiver.writable(yes=True)

    def _take(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)

    def _info(self, name: str) -> Any:
        return None if self._transport is None else self._transport.get_extra_info(name)

    def _apply_pauses(self) -> None:
        wanted = bool(self._pauses)
        if self._transport is None or wanted == self._paused or self._transport.is_closing():
            return
        self._paused = wanted
        if wanted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self) -> None:
        if self._eof:
            return
        self._eof = True
        self._wake()
        if self._receiver is not None:
            self._receiver.ended()


class _Discarding:
    """Takes what arrives, up to a limit."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._left = LINGER_BYTES

    def received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self._leg.pause("enough")

    def ended(self) -> None:
        """Nothing to do: the leg knows."""

    def writable(self, *, yes: bool) -> None:
        """Nothing more is written."""
