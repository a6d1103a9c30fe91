"""From a request body to `SamplingParams`: the request's values over the model's defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vivace.core.errors import RequestError
from vivace.core.sampling import MAX_CHOICES, SamplingParams
from vivace.serve.schemas import ChatBody, CompletionBody, GenerationBody
from vivace.serve.structured import constraint

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions

SAME_NAME = (
    "n",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "allowed_token_ids",
    "bad_words",
    "seed",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "prompt_logprobs",
    "skip_special_tokens",
)


def completion_params(body: CompletionBody, defaults: SamplingParams) -> SamplingParams:
    """Raises RequestError, whose `param` names the parameter at fault."""
    asked = COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    if echoes_alone(body):
        params = _params(body, defaults, 1, body.logprobs)
        params = replace(
            params, stop=(), stop_token_ids=(), ignore_eos=True, structured_outputs=None
        )
    else:
        params = _params(body, defaults, asked, body.logprobs)
    return _with_best_of(body, _with_echo(body, params))


def echoes_alone(body: CompletionBody) -> bool:
    """Whether only the prompt is asked back. A token is drawn all the same, and left out."""
    return bool(body.echo) and body.max_tokens == 0


def _with_echo(body: CompletionBody, params: SamplingParams) -> SamplingParams:
    """Where the answer begins with the prompt, so do its log-probabilities."""
    if not body.echo or params.logprobs is None:
        return params
    if body.stream and params.n > 1:
        raise RequestError(
            "echo with logprobs cannot be streamed for several choices; leave out n or stream.",
            "echo",
        )
    if params.prompt_logprobs is not None:
        return params
    return replace(params, prompt_logprobs=params.logprobs)


def _with_best_of(body: CompletionBody, params: SamplingParams) -> SamplingParams:
    """So many choices are drawn; their log-probabilities say which n are the best."""
    drawn = params.n if body.best_of is None else body.best_of
    if drawn == params.n:
        return params
    if not params.n < drawn <= MAX_CHOICES:
        raise RequestError(
            f"best_of must be from n ({params.n}) to {MAX_CHOICES}, got {drawn}.", "best_of"
        )
    if body.stream:
        raise RequestError("best_of cannot be streamed; leave out stream or best_of.", "best_of")
    return replace(params, n=drawn, logprobs=params.logprobs or 0)


def chat_params(body: ChatBody, defaults: SamplingParams) -> SamplingParams:
    """Raises RequestError, whose `param` names the parameter at fault."""
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs to be true.", "top_logprobs")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _params(body, defaults, asked_max_tokens(body), logprobs)


def _params(
    body: GenerationBody, defaults: SamplingParams, max_tokens: int | None, logprobs: int | None
) -> SamplingParams:
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options needs stream to be true.", "stream_options")
    wants = body.stream_options
    if wants is not None and wants.continuous_usage_stats and not wants.include_usage:
        raise RequestError("continuous_usage_stats needs include_usage.", "stream_options")
    if body.prompt_logprobs is not None and body.stream:
        raise RequestError("prompt_logprobs cannot be streamed; leave out stream.", "stream")
    given: dict[str, Any] = {
        name: value for name in SAME_NAME if (value := getattr(body, name)) is not None
    }
    if body.stop is not None:
        given["stop"] = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    if body.logit_bias is not None:
        given["logit_bias"] = _logit_bias(body.logit_bias)
    given["structured_outputs"] = constraint(body)
    return replace(defaults, **given, max_tokens=max_tokens, logprobs=logprobs)


def asked_max_tokens(body: GenerationBody) -> int | None:
    """What the caller asked for, by chat's newer name or the older."""
    newer = body.max_completion_tokens if isinstance(body, ChatBody) else None
    older = body.max_tokens
    if newer is not None and older is not None and newer != older:
        raise RequestError(
            "max_tokens and max_completion_tokens differ; give one of them.",
            "max_completion_tokens",
        )
    return older if newer is None else newer


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    if not all(key.isascii() and key.isdecimal() and len(key) < 20 for key in bias):
        raise RequestError("logit_bias must have token ids as its keys.", "logit_bias")
    return {int(key): value for key, value in bias.items()}
