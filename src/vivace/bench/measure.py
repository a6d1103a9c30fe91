"""`bench latency` and `bench throughput`: what they measure, with vLLM's names."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from vivace.bench.plans import LatencyPlan, ThroughputPlan
from vivace.bench.run import Report, Run, random_requests, run_requests
from vivace.engine.core import EngineCore
from vivace.hardware.memory import peak_rss_bytes

PERCENTILES = (10, 25, 50, 75, 90, 99)


def measure_latency(
    core: EngineCore, plan: LatencyPlan, seed: int, report: Report | None = None
) -> dict[str, Any]:
    """Run equal batches one after another."""
    rng = np.random.default_rng(seed)
    runs = []
    iterations = plan.num_iters_warmup + plan.num_iters
    for iteration in range(iterations):
        requests = random_requests(core, plan.batch_size, plan.input_len, plan.output_len, rng)
        runs.append(run_requests(core, requests))
        if report is not None:
            report(iteration + 1, iterations)
    runs = runs[plan.num_iters_warmup :]
    latencies = [run.elapsed for run in runs]
    return {
        "avg_latency": sum(latencies) / len(latencies),
        "latencies": latencies,
        "percentiles": {str(p): float(np.percentile(latencies, p)) for p in PERCENTILES},
        **_rates(core, runs),
    }


def measure_throughput(
    core: EngineCore, plan: ThroughputPlan, seed: int, report: Report | None = None
) -> tuple[dict[str, Any], Run]:
    """Run all requests at once, after one alone to warm up; the figures, and the run itself."""
    rng = np.random.default_rng(seed)
    run_requests(core, random_requests(core, 1, plan.input_len, plan.output_len, rng))
    requests = random_requests(core, plan.num_prompts, plan.input_len, plan.output_len, rng)
    run = run_requests(core, requests, report)
    total_tokens = run.prompt_tokens + run.output_tokens
    result = {
        "elapsed_time": run.elapsed,
        "num_requests": run.num_requests,
        "total_num_tokens": total_tokens,
        "tokens_per_second": total_tokens / run.elapsed,
        **_rates(core, [run]),
    }
    return result, run


def _rates(core: EngineCore, runs: Sequence[Run]) -> dict[str, Any]:
    """Medians over the runs; the decode rate is None where no step was a pure decode."""
    decodes = [run.decode_tokens / run.decode_seconds for run in runs if run.decode_tokens]
    info = core.info
    return {
        "model": info.model_name,
        "backend": info.backend,
        "dtype": info.dtype,
        "quantization": info.quantization,
        "threads": info.threads,
        "load_seconds": info.load_seconds,
        "ttft_seconds": median(t for run in runs for t in run.first_tokens.values()),
        "prefill_tokens_per_second": median(
            run.prompt_tokens / run.prefill_seconds for run in runs
        ),
        "decode_tokens_per_second": median(decodes) if decodes else None,
        "requests_per_second": median(run.num_requests / run.elapsed for run in runs),
        "peak_rss_bytes": peak_rss_bytes(),
    }
