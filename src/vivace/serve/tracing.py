"""OpenTelemetry: a span for each request, under vLLM's names, in the trace of whoever called."""

from __future__ import annotations

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vivace.serve.watch import FinishedRequest

_NANO = 1_000_000_000


class Tracer:
    """Sends spans in batches, from a thread of the exporter's own: a collector that is slow or gone
    costs spans, no request.

    Args:
        endpoint: where OTLP over HTTP goes, such as http://127.0.0.1:4318/v1/traces. The
            environment variables of OpenTelemetry say everything else.
    """

    def __init__(self, endpoint: str) -> None:
        resource = Resource({SERVICE_NAME: "vivace"}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("vivace")

    def finished(self, model_name: str, one: FinishedRequest) -> None:
        """A request of a model ended in the context that the call brought."""
        span = self._tracer.start_span(
            "llm_request",
            kind=trace.SpanKind.SERVER,
            attributes=_attributes(one, model_name),
            start_time=int((one.ended - one.e2e) * _NANO),
        )
        if one.reason == "error":
            span.set_status(trace.StatusCode.ERROR, one.error)
        span.end(int(one.ended * _NANO))

    @staticmethod
    def join(app: ASGIApp) -> CallersTrace:
        """Middleware, with which calls join the traces of their callers."""
        return CallersTrace(app)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class CallersTrace:
    """ASGI middleware: what a call does belongs to the trace that its headers name
    (W3C traceparent and tracestate)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = context.attach(propagate.extract(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _attributes(one: FinishedRequest, model_name: str) -> dict[str, str | int | float]:
    request = one.request
    known: dict[str, str | int | float | None] = {
        "gen_ai.request.id": request.request_id,
        "gen_ai.request.model": model_name,
        "gen_ai.response.model": model_name,
        "gen_ai.request.temperature": request.params.temperature,
        "gen_ai.request.top_p": request.params.top_p,
        "gen_ai.request.max_tokens": request.params.max_tokens,
        "gen_ai.request.n": request.params.n,
        "gen_ai.usage.num_sequences": 1,
        "gen_ai.usage.prompt_tokens": len(request.prompt_token_ids),
        "gen_ai.usage.completion_tokens": one.num_tokens,
        "gen_ai.latency.time_in_queue": one.queued,
        "gen_ai.latency.time_to_first_token": one.first,
        "gen_ai.latency.e2e": one.e2e,
        "gen_ai.latency.time_in_model_prefill": one.prefill,
        "gen_ai.latency.time_in_model_decode": one.decode,
        "gen_ai.latency.time_in_model_inference": one.inference,
        "vivace.finish_reason": one.reason,
        "vivace.usage.cached_tokens": one.num_cached_tokens,
        "vivace.preemptions": one.num_preemptions,
    }
    return {name: value for name, value in known.items() if value is not None}
