"""A request as the engine takes it, and what comes back: plain data, names as in vLLM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vivace.core.errors import OverloadedError, RequestError, VivaceError
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight

IDLE_PRIORITY = 2**62  # behind everything that somebody waits for
FinishReason = Literal["stop", "length", "abort", "error", "deadline"]
Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class LoRARequest:
    """A LoRA adapter to answer with, as in vLLM.

    Attributes:
        lora_name: what it is called.
        lora_int_id: at least 1; of the same name always the same, as is its path.
        lora_path: its folder, as PEFT writes it.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        if not self.lora_name or self.lora_int_id < 1:
            raise RequestError("A LoRARequest needs a name and a lora_int_id of at least 1.")


@dataclass(frozen=True)
class AdapterPlace:
    """Attributes:
    slot: where an engine has an adapter, from 1.
    digest: of the adapter's content.
    """

    slot: int
    digest: str


@dataclass(frozen=True)
class Request:
    """One prompt to continue once. A caller's `n` completions are n requests (see `index`).

    Attributes:
        request_id: unique among the requests alive in the engine.
        prompt_token_ids: at least one token.
        arrival: seconds on the engine's clock.
        priority: lower runs earlier, as in vLLM.
        deadline: seconds on the engine's clock, or None.
        index: which of the caller's n completions this is.
        cache_salt: prefixes are shared only among equal salts.
        tenant: on whose account it runs; tenants share the engine by their weights.
        drop_if_late: end it with the finish reason "deadline" once its deadline has passed;
            otherwise the deadline only says which of equal priority runs first.
        pin_id: the prompt's full pages are pinned under it when the request ends; None pins none.
        pooling: no token is drawn: the answer is one vector, the mean of the prompt's final hidden
            states, or the last of them.
        adapter: the LoRA adapter to answer with, by name.
        adapter_place: where that is; the engine fills it in.
        ahead: it computes its prompt for others, who may come (a prefetch).
        sight: what its rows see, with its prompt; pages that none will see again are given back.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    arrival: float = 0.0
    priority: int = 0
    deadline: float | None = None
    index: int = 0
    cache_salt: str = ""
    tenant: str = ""
    drop_if_late: bool = False
    pin_id: str | None = None
    pooling: Pooling | None = None
    sight: Sight = ALL
    adapter: str | None = None
    adapter_place: AdapterPlace | None = None
    ahead: bool = False

    @property
    def cache_scope(self) -> str:
        """What prefixes are shared under: equal salts, and the same adapter or none. No salt can
        read like another scope."""
        if self.adapter_place is not None:
            return f"adapter:{self.adapter_place.digest}:{self.cache_salt}"
        return f"salt:{self.cache_salt}" if self.cache_salt else ""


@dataclass(frozen=True)
class Logprob:
    """One token's log-probability under the model, its rank (1 is likeliest) and its text."""

    logprob: float
    rank: int
    decoded_token: str = ""


@dataclass(frozen=True)
class Delta:
    """What one step adds to one request. `finish_reason` is set on the last one only.

    Attributes:
        token_ids: new tokens (none on an abort or an error).
        text: new text, whole characters only; text that may become a stop string is held back.
        logprobs: per new token a map from token id to `Logprob`, when asked for.
        stop_reason: the stop string or stop token id that ended it, as in vLLM.
        num_cached_tokens: prompt tokens found in the prefix cache.
        queue_seconds: from its arrival until it first ran, with the first token.
        num_preemptions: how often it had to give way so far.
        error: one sentence, when `finish_reason` is "error".
        error_param: the parameter at fault, where that error is the request's own.
        error_code: what is wrong, in a word for programs.
        retry_after_seconds: when to try again, where that error is a full queue.
        prompt_logprobs: as `logprobs`, for the next tokens of the prompt, from its second on: a
            long prompt's come in several deltas.
        embedding: float32 values of the vector of a request with `pooling`, on its last delta.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[dict[int, Logprob], ...] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    num_cached_tokens: int = 0
    queue_seconds: float | None = None
    num_preemptions: int = 0
    error: str | None = None
    error_param: str | None = None
    error_code: str | None = None
    retry_after_seconds: float | None = None
    prompt_logprobs: tuple[dict[int, Logprob], ...] | None = None
    embedding: tuple[float, ...] | None = None

    @staticmethod
    def failed(request_id: str, error: Exception | str) -> Delta:
        """The last delta of a request that ends by an error."""
        return Delta(
            request_id,
            finish_reason="error",
            error=str(error),
            error_param=error.param if isinstance(error, RequestError) else None,
            error_code=error.code if isinstance(error, VivaceError) else None,
            retry_after_seconds=(
                error.retry_after_seconds if isinstance(error, OverloadedError) else None
            ),
        )


@dataclass
class CompletionOutput:
    """One completion, with vLLM's field names; `error` says why one failed."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None


@dataclass
class RequestOutput:
    """What `LLM.generate` returns for one prompt, with vLLM's field names.

    Attributes:
        prompt_logprobs: when asked for, an entry for each prompt token; the first has None.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int = 0
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
