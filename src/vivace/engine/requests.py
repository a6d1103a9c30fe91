"""From what a caller asks to the requests an engine takes: checked, with nothing left open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from vivace.core.errors import RequestError
from vivace.core.request import Pooling, Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import Sight
from vivace.core.stats import EngineInfo
from vivace.formats.kv_format import KV_FORMATS


def fan_out(
    info: EngineInfo,
    request_id: str,
    prompt_token_ids: Sequence[int],
    params: SamplingParams,
    sight: Sight | None = None,
) -> list[Request]:
    """The `params.n` requests for one prompt, each with a definite max_tokens. The prompt's own
    log-probabilities are asked of the first alone.

    Args:
        sight: what their rows see; None is the engine's own choice.

    Raises:
        RequestError: the prompt is empty, too long or holds unknown token ids, or the sampling
            parameters do not fit the model; `param` names the offender.
    """
    prompt = tuple(prompt_token_ids)
    check_token_ids(info, prompt)
    _check_params(info, params)
    sight = (info.sight if sight is None else sight).of_prompt(len(prompt))
    _check_sight(info, sight)
    longest = info.longest(sight)
    if longest <= len(prompt):
        raise RequestError(
            f"The prompt fills the model's context of {longest} tokens; shorten it by at least "
            f"{len(prompt) - longest + 1}.",
            "prompt",
            "context_length_exceeded",
        )
    room = longest - len(prompt)
    max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
    settled = replace(
        params, n=1, max_tokens=max_tokens, min_tokens=min(params.min_tokens, max_tokens)
    )
    arrival = time.monotonic()
    return [
        Request(
            request_id=f"{request_id}-{index}" if params.n > 1 else request_id,
            prompt_token_ids=prompt,
            params=settled if index == 0 else replace(settled, prompt_logprobs=None),
            arrival=arrival,
            index=index,
            sight=sight,
        )
        for index in range(params.n)
    ]


def to_pool(
    info: EngineInfo,
    request_id: str,
    prompt_token_ids: Sequence[int],
    pooling: Pooling | None = None,
) -> Request:
    """A request for one vector; None pools as the model was made for.

    Raises:
        RequestError: the prompt is empty, too long or holds unknown token ids.
    """
    prompt, sight = tuple(prompt_token_ids), info.sight.uncut
    check_token_ids(info, prompt)
    return Request(
        request_id,
        prompt,
        SamplingParams(max_tokens=1),
        arrival=time.monotonic(),
        pooling=pooling or info.pooling,
        sight=sight,
    )


def check_token_ids(info: EngineInfo, token_ids: Sequence[int]) -> None:
    """Raises RequestError for no tokens, unknown ones, or more than the context holds."""
    if not token_ids:
        raise RequestError("The prompt is empty; give at least one token.", "prompt")
    if len(token_ids) > info.max_model_len:
        raise RequestError(
            f"The prompt has {len(token_ids)} tokens, but the model's context is "
            f"{info.max_model_len}; shorten it.",
            "prompt",
            "context_length_exceeded",
        )
    if min(token_ids) < 0 or max(token_ids) >= info.vocab_size:
        raise RequestError(
            f"The prompt has a token id outside 0 to {info.vocab_size - 1}.", "prompt"
        )


def _check_sight(info: EngineInfo, sight: Sight) -> None:
    if sight.kept is not None and info.kv_cache_dtype in KV_FORMATS:
        raise RequestError(
            f"kv_eviction {sight} needs KV pages that are not packed, as with kv_cache_dtype auto.",
            "kv_eviction",
        )


def _check_params(info: EngineInfo, params: SamplingParams) -> None:
    if params.structured_outputs is not None and not (info.has_tokenizer and info.eos_token_ids):
        raise RequestError(
            "structured_outputs needs a model with a tokenizer and an end token.",
            "structured_outputs",
        )
    for param, instead in (("stop", "stop_token_ids"), ("bad_words", "logit_bias")):
        if getattr(params, param) and not info.has_tokenizer:
            raise RequestError(
                f"{param} needs a tokenizer, which this model's folder lacks; use {instead}.", param
            )
    for param in ("stop_token_ids", "logit_bias", "allowed_token_ids"):
        ids = getattr(params, param) or ()
        if any(not 0 <= token < info.vocab_size for token in ids):
            raise RequestError(f"{param} has a token id outside 0 to {info.vocab_size - 1}.", param)
