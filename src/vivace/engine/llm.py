"""`LLM`: an engine in this process, for scripts and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError, VivaceError
from vivace.core.request import Delta, LoRARequest, Pooling, Request, RequestOutput
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineStats
from vivace.engine.build import build_engine
from vivace.engine.frontend import Frontend, Messages
from vivace.engine.notices import Notify, to_standard_error
from vivace.engine.outputs import Collector
from vivace.engine.pooling import unit
from vivace.engine.prompts import Prompt, each_prompt
from vivace.engine.waves import waves

ItemT = TypeVar("ItemT")
Adapters: TypeAlias = LoRARequest | Sequence[LoRARequest | None] | None


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

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """Continue prompts in their order: texts, lists of token ids, or vLLM's maps of them.

        Args:
            sampling_params: for all, or one for each; None takes the model's defaults.
            progress: called with (finished prompts, prompts).
            lora_request: the adapter for all, or one for each; None is the model itself. One that
                is not loaded takes the place of the one used longest ago; where they are more than
                `max_loras`, prompts run in turns.

        Raises:
            RequestError: a prompt or a parameter does not fit; nothing was started.
            VivaceError: an adapter cannot be loaded.
        """
        listed = each_prompt(prompts)
        params = _one_each(sampling_params, SamplingParams, len(listed))
        return self._collect(listed, params, lora_request, progress)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """Answer one conversation, or several."""
        single = not messages or isinstance(messages[0], dict)
        conversations: Any = [messages] if single else messages
        prompts = [self._frontend.chat_prompt(conversation) for conversation in conversations]
        params = _one_each(sampling_params, SamplingParams, len(prompts))
        return self._collect(prompts, params, lora_request, None)

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

    def logits(
        self, token_ids: Sequence[int], *, lora_request: LoRARequest | None = None
    ) -> NDArray[np.float32]:
        """float32 [len, vocab]: row i is the model's prediction after token i.

        Raises:
            RequestError: there are no tokens, unknown ones, or more than the context holds.
            VivaceError: the adapter cannot be loaded.
        """
        return np.concatenate([*self.logit_batches(token_ids, lora_request=lora_request)])

    def logit_batches(
        self, token_ids: Sequence[int], *, lora_request: LoRARequest | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The same some rows at a time, for vocabularies of which a whole text takes too much.

        Raises:
            As `logits`, when the first rows are asked for.
        """
        if lora_request is not None:
            self._bring(lora_request)
        yield from self._core.logit_batches(token_ids, _name(lora_request))

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling: Pooling | None = None,
        *,
        lora_request: Adapters = None,
    ) -> NDArray[np.float32]:
        """A vector of length 1 for each prompt: float32 [prompts, hidden_size].

        Args:
            pooling: the mean of a prompt's final hidden states, or the last of them; None is what
                the model was made for.
            lora_request: as in `generate`.

        Raises:
            RequestError: a prompt does not fit; nothing was started.
            VivaceError: an adapter cannot be loaded.
        """
        listed = each_prompt(prompts)
        adapters = _one_each(lora_request, LoRARequest, len(listed))
        asked = [
            _Asked(
                [self._frontend.pooling(self._next_id(), prompt, pooling, _name(adapter))], adapter
            )
            for prompt, adapter in zip(listed, adapters, strict=True)
        ]
        found: dict[str, NDArray[np.float32]] = {}
        for delta in self._run(asked):
            if delta.embedding is None:
                raise VivaceError(delta.error or "The engine gave no vector.")
            found[delta.request_id] = unit(delta.embedding)
        return np.stack([found[one.requests[0].request_id] for one in asked])

    def unload_adapter(self, name: str) -> None:
        """Give the place of a LoRA adapter to others. Raises RequestError for an unknown name."""
        self._core.adapters.unload(name)

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

    def _collect(
        self,
        prompts: Sequence[Prompt],
        params: Sequence[SamplingParams | None],
        lora_request: Adapters,
        progress: Callable[[int, int], None] | None,
    ) -> list[RequestOutput]:
        adapters = _one_each(lora_request, LoRARequest, len(prompts))
        asked, collectors = [], []
        owners: dict[str, Collector] = {}
        for prompt, param, adapter in zip(prompts, params, adapters, strict=True):
            request_id = self._next_id()
            text, requests = self._frontend.requests(request_id, prompt, param, _name(adapter))
            collector = Collector(request_id, text, requests)
            asked.append(_Asked(requests, adapter))
            collectors.append(collector)
            owners |= dict.fromkeys(collector.request_ids, collector)
        done = 0
        for delta in self._run(asked):
            done += owners[delta.request_id].take(delta).finished
            if progress is not None and delta.finish_reason is not None:
                progress(done, len(asked))
        return [collector.output for collector in collectors]

    def _run(self, asked: Sequence[_Asked]) -> Iterator[Delta]:
        """What is added to these requests, to the end of all; whatever happens, none stays."""
        try:
            for wave in waves([one.adapter for one in asked], self.info.max_loras):
                for adapter in wave.adapters:
                    self._bring(adapter)
                requests = [request for place in wave.places for request in asked[place].requests]
                yield from chain.from_iterable(self._steps(requests))
        finally:
            for one in asked:
                self._abort(one.requests)

    def _bring(self, adapter: LoRARequest) -> None:
        self._core.adapters.bring(adapter.lora_name, adapter.lora_path)

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
    """A prompt's requests, and the adapter that they name."""

    requests: Sequence[Request]
    adapter: LoRARequest | None


def _name(adapter: LoRARequest | None) -> str | None:
    return None if adapter is None else adapter.lora_name


def _one_each(
    given: ItemT | Sequence[ItemT | None] | None, kind: type[ItemT], count: int
) -> list[ItemT | None]:
    """One thing for all, or one for each."""
    if given is None or isinstance(given, kind):
        return [given] * count
    each: Any = given
    return list(each)
