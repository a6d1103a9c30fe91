"""Tiers, pins and prefetch under a whole engine: the same tokens, and less computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams
from vivace.core.config import EngineConfig
from vivace.core.errors import RequestError
from vivace.core.request import Delta, Request
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore

pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")

LENGTH = 256
PAGES = 20  # a sequence of LENGTH needs 16
BUNDLED = Path(__file__).parents[2] / "src" / "vivace" / "assets" / "vivace-mini"
needs_model = pytest.mark.skipif(
    not (BUNDLED / "config.json").exists(), reason="the bundled model is not in this checkout"
)
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


def prompts() -> list[list[int]]:
    """Ten conversations of three turns each, one turn of all before the next."""
    starts = [[(7 * c + 3 * i) % 250 + 1 for i in range(70)] for c in range(10)]
    return [
        start + [(c + t + i) % 250 + 1 for i in range(30 * t)]
        for t in range(3)
        for c, start in enumerate(starts)
    ]


def page_bytes() -> int:
    """Of one page of the bundled model over all its layers, in bfloat16."""
    from vivace.backends.cpu import CpuBackend
    from vivace.cache.pool import page_bytes
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.models.loader import model_spec

    spec = model_spec(open_checkpoint(BUNDLED).config, LENGTH)
    return sum(page_bytes(CpuBackend("bfloat16", 1), spec.kv_groups))


def mini(**options: object) -> LLM:
    return LLM(backend="cpu", dtype="bfloat16", max_model_len=LENGTH, **options)


def tokens_of(llm: LLM, one_by_one: bool = True) -> list[list[int]]:
    if one_by_one:
        return [llm.generate([p], GREEDY)[0].outputs[0].token_ids for p in prompts()]
    return [output.outputs[0].token_ids for output in llm.generate(prompts(), GREEDY)]


@pytest.fixture(scope="module")
def alone() -> list[list[int]]:
    return tokens_of(mini(enable_prefix_caching=False))


@needs_model
@pytest.mark.parametrize("one_by_one", [True, False])
def test_tiny_pools_with_tiers_give_the_same_tokens(
    alone: list[list[int]], tmp_path: Path, one_by_one: bool
) -> None:
    size = page_bytes()
    llm = mini(
        kv_memory_bytes=PAGES * size,
        kv_host_bytes=25 * size,
        kv_disk_bytes=2**30,
        kv_disk_folder=str(tmp_path),
    )
    assert tokens_of(llm, one_by_one) == alone
    stats = llm.stats()
    assert stats.tiers.saved > 0
    assert stats.tiers.restored > 0
    assert stats.pages_used == 0
    llm.close()


@needs_model
def test_a_restart_finds_its_disk_tier_and_gives_the_same_tokens(
    alone: list[list[int]], tmp_path: Path
) -> None:
    size = page_bytes()
    options = {
        "kv_host_bytes": 400 * size,
        "kv_disk_bytes": 2**30,
        "kv_disk_folder": str(tmp_path),
    }
    first = mini(**options)
    assert tokens_of(first) == alone
    first.close()
    again = mini(**options)
    assert tokens_of(again) == alone
    stats = again.stats()
    assert stats.tiers.fetched_used > 0
    assert stats.prefix_hit_tokens > 0.8 * stats.prefix_query_tokens
    again.close()
    other = mini(**options, quantize="int8")
    other.generate([prompts()[0]], GREEDY)
    assert other.stats().tiers.fetched == 0


@needs_model
@pytest.mark.parametrize("kept", ["int8", "int4"])
def test_packed_pages_come_back_too(tmp_path: Path, kept: str) -> None:
    alone = tokens_of(mini(enable_prefix_caching=False, kv_cache_dtype=kept))
    options = {
        "kv_cache_dtype": kept,
        "max_num_batched_tokens": 64,
        "kv_memory_bytes": 640 * 2**10,
        "kv_host_bytes": 2**20,
        "kv_disk_bytes": 2**30,
        "kv_disk_folder": str(tmp_path),
    }
    first = mini(**options)
    assert tokens_of(first) == alone
    assert first.stats().tiers.restored > 0
    first.close()
    again = mini(**options)
    assert tokens_of(again) == alone
    assert again.stats().tiers.fetched_used > 0
    again.close()
    other = mini(**{**options, "kv_cache_dtype": "int4" if kept == "int8" else "int8"})
    other.generate([prompts()[0]], GREEDY)
    assert other.stats().tiers.fetched == 0
    other.close()


@pytest.fixture
def core(tmp_path: Path) -> Iterator[EngineCore]:
    folder = write_tiny_llama(tmp_path)
    core = build_engine(EngineConfig(str(folder), backend="reference", max_num_seqs=2))
    yield core
    core.check_integrity()


def finish(core: EngineCore, request: Request) -> Delta:
    core.add(request)
    deltas: list[Delta] = []
    while core.has_work:
        deltas += core.step()
    return deltas[-1]


def request(number: int, length: int, pin_id: str | None = None) -> Request:
    prompt = tuple((number * 31 + i) % 198 + 1 for i in range(length))
    params = SamplingParams(max_tokens=1, ignore_eos=True)
    return Request(str(number), prompt, params, pin_id=pin_id)


def test_a_request_pins_its_prompt_when_it_ends(core: EngineCore) -> None:
    assert finish(core, request(1, 50, "p")).finish_reason == "length"
    assert core.stats().pins == ("p",)
    assert core.stats().pages_pinned == 3
    core.check_integrity()
    core.unpin("p")
    core.unpin("unknown")
    assert core.stats().pages_used == 0


def test_pins_that_do_not_fit_are_refused_before_and_after(core: EngineCore) -> None:
    finish(core, request(1, 200, "first"))
    with pytest.raises(RequestError, match="longest length"):
        core.add(request(2, 200, "second"))
    core.unpin("first")
    core.add(request(3, 200, "third"))
    core.add(request(4, 200, "fourth"))
    deltas = []
    while core.has_work:
        deltas += core.step()
    reasons = sorted(str(delta.finish_reason) for delta in deltas)
    assert reasons == ["error", "length"]
    assert [d.error_param for d in deltas if d.finish_reason == "error"] == ["pin"]


def test_an_aborted_request_pins_nothing(core: EngineCore) -> None:
    core.add(request(1, 50, "p"))
    core.abort("1")
    assert finish(core, replace(request(1, 50), pin_id=None)).error is None
    assert core.stats().pins == ()
