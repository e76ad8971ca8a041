"""Times every call, and makes a span of it that belongs to the trace of the proxy that calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from pdp.meters import Meters
from pdp.v1.tracing import Tracer

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Observed(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Calls with one answer; a stream has no time of its own."""

    def __init__(self, meters: Meters, tracer: Tracer) -> None:
        self._meters = meters
        self._tracer = tracer

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None or not method.startswith("/pdp."):
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._observed(handler.unary_unary, method.rsplit("/", 1)[-1]),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _observed(self, behaviour: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def observed(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            carried = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            with self._meters.timed(name), self._tracer.span(f"pdp.{name}", {}, carried):
                return await behaviour(request, context)

        return observed
