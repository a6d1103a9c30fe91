"""What is scheduled around a request never changes its tokens: bit-exact on the cpu backend."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams

pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")

COUNT = 200
PREFIX = list(range(1, 34))
MISTRAL = {"model_type": "mistral", "sliding_window": 21}


def mixed_requests(count: int) -> tuple[list[list[int]], list[SamplingParams]]:
    """Prompts of mixed lengths, a third with a common beginning, and mixed sampling."""
    source = random.Random(11)
    prompts, params = [], []
    for index in range(count):
        tail = [source.randrange(1, 199) for _ in range(source.randrange(1, 60))]
        prompts.append(PREFIX + tail if index % 3 == 0 else tail)
        params.append(
            SamplingParams(
                temperature=source.choice([0, 0.7, 1.3]),
                top_k=source.choice([0, 5, 40]),
                top_p=source.choice([1.0, 0.9]),
                min_p=source.choice([0.0, 0.05]),
                repetition_penalty=source.choice([1.0, 1.2]),
                presence_penalty=source.choice([0.0, 0.5]),
                seed=index,
                max_tokens=source.randrange(1, 40),
                ignore_eos=source.random() < 0.5,
            )
        )
    return prompts, params


def answers(llm: LLM, prompts: list[list[int]], params: list[SamplingParams]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(prompts, params)]


SETTINGS = {
    "one-batch": {},
    "small-batches": {"max_num_seqs": 5, "max_num_batched_tokens": 23},
    "chunks-of-1": {"max_prefill_chunk": 1},
    "chunks-of-7": {"max_prefill_chunk": 7},
    "chunks-of-64": {"max_prefill_chunk": 64, "enable_prefix_caching": False},
    "chunks-beside-decodes": {"max_prefill_beside_decodes": 1},
    "unlimited": {"max_num_batched_tokens": 8192, "enable_prefix_caching": False},
    "one-thread": {"threads": 1},
}


@pytest.fixture(scope="module", params=["llama", "mistral"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = MISTRAL if request.param == "mistral" else {}
    return write_tiny_llama(tmp_path_factory.mktemp(request.param), **overrides)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_requests_get_the_same_tokens_whatever_runs_around_them(folder: Path, dtype: str) -> None:
    check_every_setting(folder, COUNT, dtype=dtype)


@pytest.mark.parametrize("quantize", ["int8", "int4-g128", "int4-g32-zp", "int4-g64-a16"])
def test_so_they_do_with_rounded_weights(folder: Path, quantize: str) -> None:
    check_every_setting(folder, COUNT // 4, dtype="bfloat16", quantize=quantize)


def check_every_setting(folder: Path, count: int, **numbers: str) -> None:
    prompts, params = mixed_requests(count)
    llm = LLM(str(folder), backend="cpu", enable_prefix_caching=False, **numbers)
    alone = [answers(llm, [one], [of_it])[0] for one, of_it in zip(prompts, params, strict=True)]
    order = random.Random(3).sample(range(count), count)
    shuffled = [prompts[i] for i in order], [params[i] for i in order]
    for name, options in SETTINGS.items():
        llm = LLM(str(folder), backend="cpu", **numbers, **options)
        assert answers(llm, *shuffled) == [alone[i] for i in order], name
        assert llm.stats().pages_used == 0


@pytest.mark.parametrize("caching", [True, False])
def test_preempted_requests_get_the_same_tokens(tmp_path: Path, caching: bool) -> None:
    folder = write_tiny_llama(tmp_path)
    prompts, params = mixed_requests(COUNT)
    llm = LLM(str(folder), backend="cpu", dtype="bfloat16")
    alone = [answers(llm, [one], [of_it])[0] for one, of_it in zip(prompts, params, strict=True)]
    page_bytes = 2 * 2 * 2 * 2 * 16 * 16  # layers, K and V, heads, bytes, tokens, padded head
    scarce = LLM(
        str(folder),
        backend="cpu",
        dtype="bfloat16",
        max_model_len=144,
        kv_memory_bytes=14 * page_bytes,
        enable_prefix_caching=caching,
    )
    assert answers(scarce, prompts, params) == alone
    assert scarce.stats().preemptions > 0
    assert scarce.stats().pages_used == 0
