"""Gathers deltas into vLLM's result objects."""

from __future__ import annotations

from collections.abc import Sequence

from vivace.core.request import CompletionOutput, Delta, Request, RequestOutput


class Collector:
    """The growing result of one prompt: its n requests' deltas become one `RequestOutput`."""

    def __init__(self, request_id: str, prompt: str | None, requests: Sequence[Request]) -> None:
        wants_logprobs = requests[0].params.logprobs is not None
        outputs = [_empty(request.index, wants_logprobs) for request in requests]
        self._by_id = {
            request.request_id: output for request, output in zip(requests, outputs, strict=True)
        }
        self.output = RequestOutput(
            request_id,
            prompt,
            list(requests[0].prompt_token_ids),
            outputs,
            finished=False,
            prompt_logprobs=None if requests[0].params.prompt_logprobs is None else [None],
        )

    @property
    def request_ids(self) -> tuple[str, ...]:
        return tuple(self._by_id)

    def take(self, delta: Delta) -> RequestOutput:
        """Add a delta of one of the requests; mutates and returns the output."""
        completion = self._by_id[delta.request_id]
        completion.token_ids.extend(delta.token_ids)
        completion.text += delta.text
        if completion.logprobs is not None and delta.logprobs:
            _take_logprobs(completion, delta)
        completion.finish_reason = delta.finish_reason
        completion.stop_reason = delta.stop_reason
        completion.error = delta.error
        output = self.output
        if output.prompt_logprobs is not None and delta.prompt_logprobs:
            output.prompt_logprobs.extend(delta.prompt_logprobs)
        output.num_cached_tokens = max(output.num_cached_tokens, delta.num_cached_tokens)
        output.finished = all(one.finish_reason is not None for one in output.outputs)
        return output


def _empty(index: int, wants_logprobs: bool) -> CompletionOutput:
    if not wants_logprobs:
        return CompletionOutput(index, "", [], None, None)
    return CompletionOutput(index, "", [], 0.0, [])


def _take_logprobs(completion: CompletionOutput, delta: Delta) -> None:
    assert completion.logprobs is not None
    assert completion.cumulative_logprob is not None
    for token_id, logprobs in zip(delta.token_ids, delta.logprobs or (), strict=True):
        completion.logprobs.append(logprobs)
        completion.cumulative_logprob += logprobs[token_id].logprob
