"""Who is told of requests and calls beside the metrics, as the options say."""

from __future__ import annotations

from fastapi import FastAPI

from vivace.core.errors import UsageError
from vivace.serve.access_log import RefusedCalls, log_finished
from vivace.serve.metrics import ServerMetrics
from vivace.serve.options import ServeOptions


def add_observers(
    app: FastAPI, metrics: ServerMetrics, options: ServeOptions, model_name: str
) -> None:
    """Add them to an application; what must be closed when it ends is in `app.state.closing`.

    Raises:
        UsageError: traces are asked for, and OpenTelemetry is not installed.
    """
    app.state.closing = []
    if options.access_log:
        metrics.listeners.append(log_finished)
        app.add_middleware(RefusedCalls)
    if options.otlp_traces_endpoint is not None:
        try:
            from vivace.serve.tracing import CallersTrace, Tracer
        except ImportError as error:
            raise UsageError(
                "--otlp-traces-endpoint needs OpenTelemetry: pip install 'vivace[otel]'."
            ) from error
        tracer = Tracer(options.otlp_traces_endpoint, model_name)
        metrics.listeners.append(tracer.finished)
        app.add_middleware(CallersTrace)
        app.state.closing.append(tracer.close)
