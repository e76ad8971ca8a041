"""The channels to the decision service, all with one certificate, and what goes wrong on them.

A certificate is a channel's for its life, so a new certificate is a new set of channels: calls move over at once,
streams are told by `retired`, and the old channels are closed when nothing is left on them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from pdp.v1 import approval_service_pb2_grpc, decision_service_pb2, decision_service_pb2_grpc
from pep.core.errors import DecisionUnavailable, RequestRefused, ShareExhausted

# A stopped service leaves a stream hanging, where a call runs into its time limit; pings find out. A restarted one is
# found again soon.
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 16 << 20),
    # Channels to one address share a connection otherwise, and a retry would take the one that just failed.
    ("grpc.use_local_subchannel_pool", 1),
)
_FINAL_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# How long a stream waits for a connection where there is another address to try.
_REACH_SECONDS: Final = 1.0


class Retired(Exception):
    """The stream's connection is no longer used; it is to be opened again on another."""


class Unauthenticated(RequestRefused):
    """What was shown is not, or is no longer, taken; something newer may be."""


class Connections:
    """Channels of one certificate, for calls and for streams. Made on the running loop."""

    def __init__(self, addresses: Sequence[str], credentials: grpc.ChannelCredentials, server_name: str) -> None:
        named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
        options = (*_OPTIONS, *named)
        targets = [addresses[index % len(addresses)] for index in range(max(2, len(addresses)))]
        calls = [grpc.aio.secure_channel(target, credentials, options) for target in targets]
        streams = [grpc.aio.secure_channel(target, credentials, options) for target in addresses]
        self._channels = [*calls, *streams]
        self.decisions = [decision_service_pb2_grpc.DecisionServiceStub(channel) for channel in calls]
        self.approvals = [approval_service_pb2_grpc.ApprovalServiceStub(channel) for channel in calls]
        self.streams = StreamChannels(streams)
        self.retired = asyncio.Event()

    async def try_out(self, timeout: float) -> None:
        """One call that changes nothing, answered only to a proxy that the service knows."""
        asked = decision_service_pb2.KeepSessionsRequest()
        # The stubs do not say that a call may wait for its connection.
        stub: Any = self.decisions[0]
        await stub.KeepSessions(asked, timeout=timeout, wait_for_ready=True)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class StreamChannels:
    """Channels for streams, one for each address. When a stream breaks, the next one is opened at the next address."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self._channels = channels
        self._preferred = 0

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[grpc.aio.Channel]:
        """The channel to take now. With several addresses one that cannot be reached soon is DecisionUnavailable."""
        taken = self._preferred
        channel = self._channels[taken]
        try:
            if len(self._channels) > 1:
                await _reached(channel)
            yield channel
        except RequestRefused:
            raise
        except DecisionUnavailable:
            # Only the first of the streams that broke together moves on.
            if self._preferred == taken:
                self._preferred = (taken + 1) % len(self._channels)
            raise


async def _reached(channel: grpc.aio.Channel) -> None:
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            await channel.channel_ready()
    except TimeoutError:
        raise DecisionUnavailable("the decision service is not reached at that address") from None


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise DecisionUnavailable("the decision service did not answer in time") from None
    except asyncio.InvalidStateError:
        raise DecisionUnavailable("the decision service ended the stream") from None
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
        words = f"the decision service answered {code.name}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise ShareExhausted(words) from None
        if code is grpc.StatusCode.UNAUTHENTICATED:
            raise Unauthenticated(words) from None
        raise (RequestRefused if code in _FINAL_CODES else DecisionUnavailable)(words) from None


async def answers(call: Any, retired: asyncio.Event) -> AsyncIterator[Any]:
    """What a stream brings, to its end; Retired as soon as its connection is."""
    waiting = asyncio.ensure_future(retired.wait())
    try:
        while True:
            reading = asyncio.ensure_future(call.read())
            try:
                await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    raise Retired
                answer = reading.result()
            finally:
                reading.cancel()
            if answer is grpc.aio.EOF:
                return
            yield answer
    finally:
        waiting.cancel()
