"""What each measuring command can be told; a plan costs nothing to import."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from vivace.core.errors import UsageError

RampUpStrategy = Literal["linear", "exponential"]
RouterName = Literal["round-robin", "least-loaded"]
Endpoint = Literal["/v1/completions", "/v1/chat/completions"]


@dataclass(frozen=True)
class LatencyPlan:
    """Attributes:
    input_len: tokens of each prompt.
    output_len: new tokens of each answer.
    batch_size: requests that start together.
    num_iters: batches measured.
    num_iters_warmup: batches run before.
    """

    input_len: int = 32
    output_len: int = 128
    batch_size: int = 1
    num_iters: int = 5
    num_iters_warmup: int = 1


@dataclass(frozen=True)
class ThroughputPlan:
    """Attributes:
    input_len: tokens of each prompt.
    output_len: new tokens of each answer.
    num_prompts: requests, all submitted at once.
    """

    input_len: int = 128
    output_len: int = 64
    num_prompts: int = 64


@dataclass(frozen=True)
class StartupPlan:
    """Attributes:
    input_len: tokens of the prompt.
    num_iters: starts measured, after the first one.
    """

    input_len: int = 32
    num_iters: int = 5


@dataclass(frozen=True)
class FitPlan:
    """Attributes:
    num_iters: times that every shape of step is run.
    context: longest prompt; longer ones are predicted.
    """

    num_iters: int = 2
    context: int = 1024


@dataclass(frozen=True)
class SimulationPlan:
    """A fleet, and what its engines do otherwise than the one that was profiled.

    Attributes:
        engines: how many there are, each as the one that was profiled.
        router: who gets a request: the next engine in turn, or the one with the fewest.
        seed: where the random choices begin.
        max_num_seqs: requests running at once; None is as profiled.
        max_num_batched_tokens: token budget of one step; None is as profiled.
        max_prefill_chunk: tokens of one prompt computed in one step; None is as profiled.
        max_prefill_beside_decodes: tokens of prompts computed in a step in which others decode;
            None is as profiled.
        target_itl_ms: milliseconds between two tokens of a stream; None is as profiled.
        target_ttft_ms: milliseconds to a first token; None is as profiled.
        max_wait_seconds: who waited that long is served in order of arrival; None is as profiled.
        tenant_weights: shares of the engine, such as alice=2,bob=0.5; None is as profiled.
        max_queued_requests: further requests are refused while so many wait; None is as profiled.
        max_queued_tokens: requests are refused whose tokens would make those that wait more than
            this; None is as profiled.
    """

    engines: int = 1
    router: RouterName = "least-loaded"
    seed: int = 0
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_prefill_chunk: int | None = None
    max_prefill_beside_decodes: int | None = None
    target_itl_ms: float | None = None
    target_ttft_ms: float | None = None
    max_wait_seconds: float | None = None
    tenant_weights: str | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None


@dataclass(frozen=True)
class TargetPlan:
    """Which server is driven, and how a request reads.

    Attributes:
        base_url: the server, without the endpoint's path.
        endpoint: path of the endpoint.
        extra_body: a JSON object whose fields are added to every request.
        ignore_eos: ask for answers that do not end by themselves (not every server can).
        timeout: seconds without a byte after which a request has failed.
        api_key: sent as a bearer token; None is $OPENAI_API_KEY.
    """

    base_url: str = "http://127.0.0.1:8000"
    endpoint: Endpoint = "/v1/completions"
    extra_body: str | None = None
    ignore_eos: bool = False
    timeout: float = 600.0
    api_key: str | None = None

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise UsageError(f"timeout must be above 0, got {self.timeout}.")


@dataclass(frozen=True)
class WorkloadPlan:
    """What is asked.

    Attributes:
        num_prompts: requests.
        input_len: tokens of each random prompt.
        output_len: at most this many new tokens for each.
        range_ratio: lengths are drawn from (1 - RATIO) to (1 + RATIO) times the ones given.
        dataset: a file with a JSON object per line, {"prompt": ..., "output_len": ...}, in place
            of random prompts; the length may be left out.
        tokenizer: folder of the model's tokenizer, to make random text of an exact length.
        text_prompts: send random prompts as text; chats always are.
        vocab_size: random token ids are below this.
        seed: where the random choices begin.
    """

    num_prompts: int = 100
    input_len: int = 128
    output_len: int = 64
    range_ratio: float = 0.0
    dataset: Path | None = None
    tokenizer: Path | None = None
    text_prompts: bool = False
    vocab_size: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.range_ratio < 1:
            raise UsageError(f"range_ratio must be from 0 to below 1, got {self.range_ratio}.")


@dataclass(frozen=True)
class ArrivalPlan:
    """When requests are sent.

    Attributes:
        request_rate: requests per second; inf sends all at once.
        burstiness: shape of the gamma distribution of the gaps between requests: 1 is a Poisson
            process, below 1 comes in bursts, above 1 is more even, inf is perfectly even.
        max_concurrency: at most this many requests under way; None is no limit.
        ramp_up_strategy: how the rate grows from the first request to the last; None keeps it.
        ramp_up_start_rps: rate at the first request of a ramp.
        ramp_up_end_rps: rate at the last request of a ramp.
    """

    request_rate: float = inf
    burstiness: float = 1.0
    max_concurrency: int | None = None
    ramp_up_strategy: RampUpStrategy | None = None
    ramp_up_start_rps: float | None = None
    ramp_up_end_rps: float | None = None

    def __post_init__(self) -> None:
        if not self.request_rate > 0 or not self.burstiness > 0:
            raise UsageError("request_rate and burstiness must be above 0.")
        ramp = (self.ramp_up_start_rps, self.ramp_up_end_rps)
        if self.ramp_up_strategy is None:
            if ramp != (None, None):
                raise UsageError("A ramp needs ramp_up_strategy: linear or exponential.")
            return
        if self.request_rate != inf:
            raise UsageError("A ramp sets the rate: leave request_rate out.")
        if not all(rate is not None and 0 < rate < inf for rate in ramp):
            raise UsageError(
                "A ramp needs ramp_up_start_rps and ramp_up_end_rps, finite and above 0."
            )
