"""When a call cannot be answered: an error status, which means that no decision was made.

The interceptor here is the only place where an exception becomes a status. What is not a `Refused` is logged and
becomes INTERNAL without its text, because gRPC would send that to the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from sqlalchemy.exc import DataError

from pdp.store.database import StoreUnavailable

log = structlog.get_logger("pdp.service")

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Refused(Exception):
    """The call ends with this status; the text is for the caller."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Refusals(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Turns exceptions of every call into statuses."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc.health."):
            return handler
        arguments = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.stream_unary is not None or handler.unary_unary is not None:
            assert handler.unary_unary is not None, "the contract has no call of this kind"
            return grpc.unary_unary_rpc_method_handler(_call(handler.unary_unary, method), **arguments)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, method), **arguments)
        return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream, method), **arguments)


def _call(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - every error becomes a status, and is logged
            await _abort(error, method, context)

    return guarded


def _stream(behaviour: Callable[..., AsyncIterator[Any]], method: str) -> Callable[..., Any]:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for answer in behaviour(request, context):
                yield answer
        except Exception as error:  # noqa: BLE001 - every error becomes a status, and is logged
            await _abort(error, method, context)

    return guarded


async def _abort(error: Exception, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    match error:
        case Refused(code=code, text=text):
            log.info("call refused", method=method, code=code.name, why=text)
            await context.abort(code, text)
        case grpc.aio.AbortError():
            raise error
        case StoreUnavailable():
            log.warning("call not answered", method=method, why=str(error), cause=str(error.__cause__ or ""))
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        case DataError():
            # A server's columns have lengths, and its texts no zero bytes.
            log.info("call refused", method=method, why="the store cannot hold a value", cause=str(error.orig))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a value is too long, or not one that can be stored")
        case _:
            log.error("call failed", method=method, exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "the decision service failed; its log says why")
