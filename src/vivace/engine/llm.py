"""`LLM`: an engine in this process, for scripts and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError, VivaceError
from vivace.core.request import Delta, LoRARequest, Pooling, Request, RequestOutput
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineStats
from vivace.engine.build import build_engine
from vivace.engine.frontend import Frontend, KnownAdapters, Messages
from vivace.engine.notices import Notify, to_standard_error
from vivace.engine.outputs import Collector
from vivace.engine.pooling import unit
from vivace.engine.prompts import Prompt, each_prompt

ItemT = TypeVar("ItemT")


class LLM:
    """A loaded model. Names and defaults follow vLLM's where both have the thing.

    Args:
        model: a folder or a hub id; None is the bundled vivace-mini.
        notify: called with lines about the progress of loading and the limits chosen; they go
            to standard error unless it is given.
        options: the other fields of `EngineConfig`.

    Raises:
        VivaceError: the model could not be loaded.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        notify: Notify = to_standard_error,
        **options: Any,
    ) -> None:
        self._core = build_engine(EngineConfig(model, **options), notify)
        self._frontend = Frontend(self._core.info)
        self.info = self._core.info
        self.tokenizer = self._frontend.tokenizer
        self._count = 0
        self._adapters = KnownAdapters()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Continue prompts in their order: texts, lists of token ids, or vLLM's maps of them.

        Args:
            sampling_params: for all, or one for each; None takes the model's defaults.
            progress: called with (finished prompts, prompts).
            lora_request: the adapter for all, or one for each, loaded where it is not; None is the
                model itself.

        Raises:
            RequestError: a prompt or a parameter does not fit; nothing was started.
            VivaceError: an adapter cannot be loaded; likewise.
        """
        listed = each_prompt(prompts)
        asked = self._asked(listed, sampling_params, lora_request)
        return self._collect(asked, progress)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation, or several."""
        single = not messages or isinstance(messages[0], dict)
        conversations: Any = [messages] if single else messages
        prompts = [self._frontend.chat_prompt(conversation) for conversation in conversations]
        return self._collect(self._asked(prompts, sampling_params, lora_request), None)

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> Generator[Delta, None, None]:
        """Deltas of one prompt's continuation as they come; closing it ends the request.

        A step that adds nothing, as while a long prompt is computed, gives an empty delta: so the
        caller has a word in every step.
        """
        _, requests = self._frontend.requests(self._next_id(), prompt, sampling_params)
        try:
            for deltas in self._steps(requests):
                yield from deltas or [Delta(requests[0].request_id)]
        finally:
            self._abort(requests)

    def stream_chat(
        self, messages: Messages, sampling_params: SamplingParams | None = None
    ) -> Generator[Delta, None, None]:
        """Deltas of the answer to a conversation."""
        return self.stream(self._frontend.chat_prompt(messages), sampling_params)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """float32 [len, vocab]: row i is the model's prediction after token i.

        Raises:
            RequestError: there are no tokens, unknown ones, or more than the context holds.
        """
        return self._core.logits(token_ids)

    def logit_batches(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """The same some rows at a time, for vocabularies of which a whole text takes too much.

        Raises:
            RequestError: as `logits`, when the first rows are asked for.
        """
        return self._core.logit_batches(token_ids)

    def embed(
        self, prompts: Prompt | Sequence[Prompt], pooling: Pooling | None = None
    ) -> NDArray[np.float32]:
        """A vector of length 1 for each prompt: float32 [prompts, hidden_size].

        Args:
            pooling: the mean of a prompt's final hidden states, or the last of them; None is what
                the model was made for.

        Raises:
            RequestError: a prompt does not fit; nothing was started.
        """
        requests = [
            self._frontend.pooling(self._next_id(), prompt, pooling)
            for prompt in each_prompt(prompts)
        ]
        found: dict[str, NDArray[np.float32]] = {}
        try:
            for delta in chain.from_iterable(self._steps(requests)):
                if delta.embedding is None:
                    raise VivaceError(delta.error or "The engine gave no vector.")
                found[delta.request_id] = unit(delta.embedding)
        finally:
            self._abort(requests)
        return np.stack([found[request.request_id] for request in requests])

    def unload_adapter(self, name: str) -> None:
        """Give the place of a LoRA adapter to others. Raises RequestError for an unknown name."""
        self._core.adapters.unload(name)
        self._adapters.remove(name)

    def get_default_sampling_params(self) -> SamplingParams:
        """What `generate` uses when given none, from the model's generation_config.json."""
        return self.info.default_params

    def reset_prefix_cache(self) -> None:
        """Forget every computed prefix."""
        self._core.reset_prefix_cache()

    def stats(self) -> EngineStats:
        return self._core.stats()

    def close(self) -> None:
        """Give back the model's memory now; nothing else may be called afterwards."""
        self._core.close()
        del self._core

    def _asked(
        self,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None,
    ) -> list[_Asked]:
        params = _one_each(sampling_params, SamplingParams, len(prompts))
        adapters = _one_each(lora_request, LoRARequest, len(prompts))
        return [
            _Asked(prompt, param, self._adapter(adapter))
            for prompt, param, adapter in zip(prompts, params, adapters, strict=True)
        ]

    def _adapter(self, asked: LoRARequest | None) -> str | None:
        """Its name, once it is loaded."""
        if asked is None:
            return None
        if self._adapters.is_new(asked):
            self._core.adapters.load(asked.lora_name, asked.lora_path)
            self._adapters.add(asked)
        return asked.lora_name

    def _collect(
        self, asked: Sequence[_Asked], progress: Callable[[int, int], None] | None
    ) -> list[RequestOutput]:
        collectors = [self._collector(one) for one in asked]
        owners = {
            request.request_id: collector
            for collector, requests in collectors
            for request in requests
        }
        everything = [request for _, requests in collectors for request in requests]
        done = 0
        try:
            for delta in chain.from_iterable(self._steps(everything)):
                done += owners[delta.request_id].take(delta).finished
                if progress is not None and delta.finish_reason is not None:
                    progress(done, len(asked))
        finally:
            self._abort(everything)
        return [collector.output for collector, _ in collectors]

    def _collector(self, asked: _Asked) -> tuple[Collector, list[Request]]:
        request_id = self._next_id()
        text, requests = self._frontend.requests(
            request_id, asked.prompt, asked.params, asked.adapter
        )
        return Collector(request_id, text, requests), requests

    def _steps(self, requests: Sequence[Request]) -> Iterator[list[Delta]]:
        """Run these requests and no others; what each step adds."""
        if self._core.has_work:
            raise UsageError("LLM serves one call at a time; use AsyncLLM for several.")
        for request in requests:
            self._core.add(request)
        while self._core.has_work:
            yield self._core.step()

    def _abort(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._core.abort(request.request_id)

    def _next_id(self) -> str:
        self._count += 1
        return str(self._count - 1)


@dataclass(frozen=True)
class _Asked:
    """Attributes:
    adapter: the name of a LoRA adapter that is loaded; None is the model itself.
    """

    prompt: Prompt
    params: SamplingParams | None
    adapter: str | None


def _one_each(
    given: ItemT | Sequence[ItemT | None] | None, kind: type[ItemT], count: int
) -> list[ItemT | None]:
    """One thing for all, or one for each."""
    if given is None or isinstance(given, kind):
        return [given] * count
    each: Any = given
    return list(each)
