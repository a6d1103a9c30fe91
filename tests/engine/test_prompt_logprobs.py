"""The log-probabilities of a prompt are those of `LLM.logits`, whatever runs around it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams
from vivace.core.request import RequestOutput

PREFIX = list(range(1, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def by_logits(llm: LLM, prompt: list[int]) -> list[float]:
    """The log-probability of each token but the first, computed apart from all requests."""
    logits = llm.logits(prompt).astype(np.float64)
    best = logits.max(axis=1, keepdims=True)
    logprobs = logits - best - np.log(np.exp(logits - best).sum(axis=1, keepdims=True))
    return [float(logprobs[place, token]) for place, token in enumerate(prompt[1:])]


def of_prompt(output: RequestOutput) -> list[float]:
    assert output.prompt_logprobs is not None
    first, *rest = output.prompt_logprobs
    assert first is None
    assert len(rest) == len(output.prompt_token_ids) - 1
    pairs = zip(rest, output.prompt_token_ids[1:], strict=True)
    return [entry[token].logprob for entry, token in pairs if entry is not None]


def mixed(count: int) -> tuple[list[list[int]], list[SamplingParams]]:
    """Prompts with a common beginning, two in three of them to be scored."""
    source = random.Random(5)
    prompts = [
        PREFIX + [source.randrange(1, 199) for _ in range(source.randrange(1, 60))]
        for _ in range(count)
    ]
    params = [
        SamplingParams(
            temperature=0,
            max_tokens=source.randrange(1, 20),
            ignore_eos=True,
            prompt_logprobs=None if number % 3 == 0 else number % 4,
        )
        for number in range(count)
    ]
    return prompts, params


def test_they_are_those_of_the_logits(folder: Path) -> None:
    llm = LLM(str(folder), backend="reference", max_prefill_chunk=7)
    params = SamplingParams(max_tokens=2, prompt_logprobs=3, n=2)
    (output,) = llm.generate(PREFIX, params)
    np.testing.assert_allclose(of_prompt(output), by_logits(llm, PREFIX), atol=1e-4)
    assert output.prompt_logprobs is not None
    logits = llm.logits(PREFIX)
    for row, entry in zip(logits, output.prompt_logprobs[1:], strict=False):
        assert entry is not None
        by_rank = sorted(entry, key=lambda token: entry[token].rank)
        assert by_rank[:3] == np.argsort(-row, kind="stable")[:3].tolist()


def test_nobody_gets_them_unasked(folder: Path) -> None:
    llm = LLM(str(folder), backend="reference")
    (output,) = llm.generate(PREFIX, SamplingParams(max_tokens=1))
    assert output.prompt_logprobs is None


SETTINGS = {
    "one-batch": {},
    "small-batches": {"max_num_seqs": 3, "max_num_batched_tokens": 23},
    "chunks-of-7": {"max_prefill_chunk": 7},
    "no-sharing": {"enable_prefix_caching": False},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_they_are_the_same_bits_in_any_company(folder: Path, options: dict[str, int]) -> None:
    pytest.importorskip("vivace.backends.cpu._native", reason="built without a compiler")
    prompts, params = mixed(40)
    llm = LLM(str(folder), backend="cpu", dtype="bfloat16", **options)
    alone = LLM(str(folder), backend="cpu", dtype="bfloat16")
    for output, prompt, one in zip(llm.generate(prompts, params), prompts, params, strict=True):
        if one.prompt_logprobs is not None:
            np.testing.assert_allclose(of_prompt(output), by_logits(llm, prompt), atol=1e-6)
            (again,) = alone.generate(prompt, one)
            assert output.prompt_logprobs == again.prompt_logprobs
    assert llm.stats().pages_used == 0
