"""Spans of real requests, received by a small OTLP collector."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.commanded import commanded
from tests.serve.scripted import wait_until

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Its URL, and the spans that have come."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            request = service.ExportTraceServiceRequest.FromString(data)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_each_request_is_a_span_in_its_callers_trace(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with ExitStack() as stack:
        with collector() as (endpoint, spans):
            flags = ("--otlp-traces-endpoint", endpoint)
            server = stack.enter_context(commanded(model, tmp_path / "log", *flags))
            ask = partial(httpx.post, f"{server.url}/v1/completions", timeout=60)
            body = {"prompt": [20] * 12, "max_tokens": 5, "temperature": 0.5, "ignore_eos": True}
            named = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "mine"}
            assert ask(json=body, headers=named).status_code == 200
            named["x-request-id"] = "streamed"
            assert ask(json={**body, "stream": True}, headers=named).status_code == 200
            assert ask(json={**body, "n": 2}).status_code == 200
            wait_until(lambda: len(spans) == 4, 60)
        assert ask(json=body).status_code == 200  # a collector that is gone costs no request
        server.stop()
    check(spans)


def check(spans: list[Any]) -> None:
    first, second, *pair = spans
    for span, name in ((first, "cmpl-mine"), (second, "cmpl-streamed")):
        assert span.name == "llm_request"
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
        found = attributes(span)
        assert found["gen_ai.request.id"].startswith(name)
        assert found["gen_ai.usage.prompt_tokens"] == 12
        assert found["gen_ai.usage.completion_tokens"] == 5
        assert found["gen_ai.request.temperature"] == 0.5
        assert found["gen_ai.request.max_tokens"] == 5
        e2e = found["gen_ai.latency.e2e"]
        assert 0 < found["gen_ai.latency.time_to_first_token"] <= e2e
        nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
        assert nanoseconds == pytest.approx(e2e * 1e9, rel=1e-3)
    assert len(pair) == 2
    assert TRACE not in {span.trace_id.hex() for span in pair}
