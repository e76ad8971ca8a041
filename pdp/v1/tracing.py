"""Traces of OpenTelemetry, where the configuration names a collector; otherwise nothing is made or sent.

A span holds names and ids: no statement, no value, no secret. The context travels between the processes as
`traceparent` (W3C Trace Context), in the metadata of a call. The libraries are an extra, `checkrein[telemetry]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pdp.v1.operations_config import Traces
from pdp.v1.strict_yaml import ConfigError


class Span(Protocol):
    """A span that is open."""

    def set(self, name: str, value: str | Sequence[str]) -> None:
        """An attribute, under the name `checkrein.NAME`."""


class Tracer(Protocol):
    """What makes spans."""

    def span(self, name: str, attributes: Mapping[str, str], parent: Mapping[str, str] | None = None) -> Any:
        """A context manager that gives the Span; `parent` is the metadata of a call that began elsewhere."""

    def carried(self) -> Mapping[str, str]:
        """What a call carries, so that the other side's spans belong to the one that is open here."""

    def close(self) -> None:
        """Sends what is left."""


class _NoSpan:
    def set(self, name: str, value: str | Sequence[str]) -> None:
        pass


class NoTracer:
    """Makes none."""

    @contextmanager
    def span(
        self,
        name: str,  # noqa: ARG002
        attributes: Mapping[str, str],  # noqa: ARG002
        parent: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Iterator[Span]:
        yield _NO_SPAN

    def carried(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        pass


_NO_SPAN = _NoSpan()


class _OpenSpan:
    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, name: str, value: str | Sequence[str]) -> None:
        self._span.set_attribute(f"checkrein.{name}", value)


class _OtlpTracer:
    """Sends spans in batches, from a thread of the library's own."""

    def __init__(self, url: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("checkrein")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, str], parent: Mapping[str, str] | None = None) -> Iterator[Span]:
        context = None if parent is None else self._propagator.extract(parent)
        with self._tracer.start_as_current_span(
            name, context=context, record_exception=False, set_status_on_exception=False
        ) as span:
            opened = _OpenSpan(span)
            for key, value in attributes.items():
                opened.set(key, value)
            yield opened

    def carried(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def close(self) -> None:
        self._provider.shutdown()


def open_tracer(traces: Traces | None, service: str) -> Tracer:
    """The tracer that the configuration asks for. Raises ConfigError where its libraries are missing."""
    if traces is None:
        return NoTracer()
    try:
        return _OtlpTracer(traces.url, service)
    except ImportError:
        raise ConfigError("telemetry.traces needs more libraries: pip install 'checkrein[telemetry]'") from None
