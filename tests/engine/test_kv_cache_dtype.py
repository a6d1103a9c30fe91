"""An engine whose KV pages are packed: less memory, and the same tokens however they are made."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.tiny import CONFIG, write_tiny_llama
from vivace import LLM, SamplingParams
from vivace.backends.protocol import Backend, FarKV, KVSpec
from vivace.backends.reference import ReferenceBackend
from vivace.cache.pool import PageDemand, page_bytes, plan_pages
from vivace.core.config import KVCacheDType
from vivace.core.errors import UsageError
from vivace.engine.plan import with_kv_dtype
from vivace.formats.kv_format import INT4_KV, INT8_KV
from vivace.models.loader import model_spec

PREFIX = list(range(1, 39))
COUNT = 9
MISTRAL = {"model_type": "mistral", "sliding_window": 100}


def requests() -> tuple[list[list[int]], list[SamplingParams]]:
    source = random.Random(5)
    lengths = [source.randrange(1, 40) for _ in range(COUNT)]
    prompts = [[source.randrange(1, 199) for _ in range(length)] for length in lengths]
    prompts = [PREFIX + tail if i % 3 else tail for i, tail in enumerate(prompts)]
    params = [
        SamplingParams(temperature=i % 2, seed=i, max_tokens=80 + 10 * (i % 4), ignore_eos=True)
        for i in range(COUNT)
    ]
    return prompts, params


def answers(llm: LLM, prompts: list[list[int]], params: list[SamplingParams]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(prompts, params)]


@dataclass(frozen=True)
class Packed:
    """How an engine keeps its pages, and where."""

    backend: str
    kv_cache_dtype: KVCacheDType

    def opened(self, folder: Path, **options: Any) -> LLM:
        named = {"backend": self.backend, "kv_cache_dtype": self.kv_cache_dtype}
        return LLM(str(folder), max_model_len=192, dtype="float32", **named, **options)

    def least_memory(self, **overrides: Any) -> int:
        """Bytes of one sequence of the greatest length, of which a step computes 32 tokens."""
        spec = model_spec({**CONFIG, **overrides}, 192)
        groups = with_kv_dtype(spec, self.kv_cache_dtype, "float32").kv_groups
        sizes = page_bytes(self._made(), groups)
        return plan_pages(groups, sizes, PageDemand(192, 1, 32, 32), 2**30).total_bytes

    def _made(self) -> Backend:
        if self.backend == "reference":
            return ReferenceBackend()
        from vivace.backends.cpu import CpuBackend

        return CpuBackend("float32", 1)


@pytest.fixture(params=itertools.product(["reference", "cpu"], ["int8", "int4"]), ids="-".join)
def packed(request: pytest.FixtureRequest) -> Packed:
    if request.param[0] == "cpu":
        pytest.importorskip("vivace.backends.cpu._native")
    return Packed(*request.param)


SETTINGS: dict[str, dict[str, Any]] = {
    "one-batch": {},
    "chunks-of-7": {"max_prefill_chunk": 7},
    "small-batches": {"max_num_seqs": 3, "max_num_batched_tokens": 23},
    "no-sharing": {"enable_prefix_caching": False},
}


@pytest.mark.parametrize("overrides", [{}, MISTRAL], ids=["llama", "mistral"])
def test_tokens_do_not_depend_on_what_runs_around_them(
    tmp_path: Path, packed: Packed, overrides: dict[str, Any]
) -> None:
    folder = write_tiny_llama(tmp_path, **overrides)
    prompts, params = requests()
    llm = packed.opened(folder, enable_prefix_caching=False)
    alone = [answers(llm, [one], [of_it])[0] for one, of_it in zip(prompts, params, strict=True)]
    for name, options in SETTINGS.items():
        llm = packed.opened(folder, **options)
        assert answers(llm, prompts, params) == alone, name
        assert answers(llm, prompts, params) == alone, f"{name}, again, with prefixes known"
        assert llm.stats().pages_used == 0
    scarce = packed.opened(
        folder, max_num_batched_tokens=32, kv_memory_bytes=packed.least_memory(**overrides)
    )
    assert answers(scarce, prompts, params) == alone
    assert scarce.stats().preemptions > 0


@pytest.mark.parametrize("kv_cache_dtype", ["int8", "int4"])
def test_prefixes_come_back_from_host_memory_and_disk(tmp_path: Path, kv_cache_dtype: Any) -> None:
    """On the slow backend, where moving a page is always cheaper than computing it again."""
    packed = Packed("reference", kv_cache_dtype)
    folder = write_tiny_llama(tmp_path)
    prompts, params = requests()
    options: dict[str, Any] = {
        "kv_memory_bytes": packed.least_memory(),
        "max_num_batched_tokens": 32,
        "kv_host_bytes": 2**16,
        "kv_disk_bytes": 2**24,
        "kv_disk_folder": str(tmp_path / "kept"),
    }
    alone = answers(packed.opened(folder), prompts, params)
    for restored in ("since eviction", "after a restart"):
        llm = packed.opened(folder, **options)
        assert answers(llm, prompts, params) == alone, restored
        assert llm.stats().tiers.restored > 0, restored
        llm.close()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_packed_pages_are_used_and_close(tmp_path: Path, backend: str) -> None:
    if backend == "cpu":
        pytest.importorskip("vivace.backends.cpu._native")
    folder = write_tiny_llama(tmp_path)
    tokens = [random.Random(1).randrange(1, 199) for _ in range(180)]
    exact, int8, int4 = (
        Packed(backend, kept).opened(folder).logits(tokens) for kept in ("auto", "int8", "int4")
    )
    np.testing.assert_array_equal(int8[:32], exact[:32])
    np.testing.assert_array_equal(int4[:32], exact[:32])
    error8, error4 = np.abs(int8 - exact)[64:].mean(), np.abs(int4 - exact)[64:].mean()
    assert 0 < error8 < error4 / 5
    assert error4 < 0.2 * np.abs(exact).mean()


def test_groups_that_see_far_get_packed_pages_beside_the_near_ones() -> None:
    spec = model_spec(CONFIG)
    packed = with_kv_dtype(spec, "int4", "float32")
    assert packed.kv_groups == (KVSpec(2, 2, 12, 1), KVSpec(2, 2, 12, None, INT4_KV))
    assert {layer.attention.far for layer in packed.layers} == {FarKV(1, INT4_KV)}
    narrow = model_spec({**CONFIG, **MISTRAL, "sliding_window": 32})
    assert with_kv_dtype(narrow, "int8", "float32") == narrow
    wide = with_kv_dtype(model_spec({**CONFIG, **MISTRAL}), "int8", "float32")
    assert wide.kv_groups == (KVSpec(2, 2, 12, 1), KVSpec(2, 2, 12, 100, INT8_KV))


def test_pages_in_another_float_than_the_backends_are_refused() -> None:
    spec = model_spec(CONFIG)
    assert with_kv_dtype(spec, "bfloat16", "bfloat16") is spec
    with pytest.raises(UsageError, match="dtype bfloat16"):
        with_kv_dtype(spec, "bfloat16", "float32")
