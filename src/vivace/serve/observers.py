"""Who is told of requests and calls beside the metrics, as the options say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from vivace.core.errors import UsageError
from vivace.serve.access_log import RefusedCalls, log_finished
from vivace.serve.metrics import ServerMetrics
from vivace.serve.options import ServeOptions

if TYPE_CHECKING:
    from vivace.serve.tracing import Tracer


class Observers:
    """The log of a server, and its traces.

    Raises:
        UsageError: traces are asked for, and OpenTelemetry is not installed.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._logs = options.access_log
        endpoint = options.otlp_traces_endpoint
        self._tracer = None if endpoint is None else _tracer(endpoint)

    def watch(self, metrics: ServerMetrics, model_name: str) -> None:
        """Be told of each request of a model that ends."""
        if self._logs:
            metrics.listeners.append(log_finished)
        if self._tracer is not None:
            metrics.listeners.append(partial(self._tracer.finished, model_name))

    def install(self, app: FastAPI) -> None:
        """See the calls of an application."""
        if self._logs:
            app.add_middleware(RefusedCalls)
        if self._tracer is not None:
            app.add_middleware(self._tracer.join)

    def close(self) -> None:
        """Send what is left; it may take seconds."""
        if self._tracer is not None:
            self._tracer.close()


def _tracer(endpoint: str) -> Tracer:
    try:
        from vivace.serve.tracing import Tracer
    except ImportError as error:
        raise UsageError(
            "--otlp-traces-endpoint needs OpenTelemetry: pip install 'vivace[otel]'."
        ) from error
    return Tracer(endpoint)
