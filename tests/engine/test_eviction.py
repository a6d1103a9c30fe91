"""Sinks and a window under a whole engine: one request's tokens, bounded pages, any company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import CONFIG, write_tiny_llama
from vivace import LLM, SamplingParams
from vivace.core.config import EngineConfig
from vivace.core.errors import RequestError, UsageError
from vivace.core.sight import ALL, Sight
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.engine.requests import fan_out

LENGTH = 640
PROMPT = [(7 * i + 3) % 199 for i in range(400)]
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama"))


def core_of(model: str, backend: str = "reference", **options: object) -> EngineCore:
    options = {"max_model_len": LENGTH, "kv_eviction": "sinks:60"} | options
    config = EngineConfig(model, backend=backend, **options)  # type: ignore[arg-type]
    return build_engine(config)


def tokens_of(core: EngineCore, **sights: Sight) -> tuple[dict[str, list[int]], int]:
    """Each request's tokens, all running together, and the most pages ever held."""
    tokens: dict[str, list[int]] = {name: [] for name in sights}
    most = 0
    for name, sight in sights.items():
        prompt = PROMPT if sight.reach else PROMPT[: CONFIG["max_position_embeddings"] - 50]
        (request,) = fan_out(core.info, name, prompt, GREEDY, sight)
        core.add(request)
    while core.has_work:
        for delta in core.step():
            assert delta.error is None
            tokens[delta.request_id].extend(delta.token_ids)
        most = max(most, core.stats().pages_used)
    core.check_integrity()
    return tokens, most


@pytest.mark.parametrize("kept", ["auto", "int8", "int4"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_tokens_do_not_depend_on_chunks_company_or_preemption(
    tiny: str, backend: str, kept: str
) -> None:
    if backend == "cpu":
        pytest.importorskip("vivace.backends.cpu._native")
    sights = {"a": Sight(60, 4), "b": Sight(33, 16), "c": ALL, "d": Sight(60, 4)}
    packed = {"kv_cache_dtype": kept}
    alone = {}
    for name, sight in sights.items():
        found, _ = tokens_of(core_of(tiny, backend, **packed), **{name: sight})
        alone |= found
    # about 30 pages of 16 tokens, or 9 to 14 of 32
    memory = 200_000 if kept == "auto" else 110_000
    scarce = {"max_num_batched_tokens": 64, "kv_memory_bytes": memory}
    for options in ({"max_prefill_chunk": 7}, scarce):
        together, _ = tokens_of(core_of(tiny, backend, **packed, **options), **sights)
        assert together == alone
    assert alone["a"] == alone["d"] != alone["b"]


def test_packed_pages_are_given_back_too(tiny: str) -> None:
    core = core_of(tiny, kv_cache_dtype="int4", max_num_batched_tokens=32)
    _, most = tokens_of(core, a=Sight(60, 4))
    # packed: sinks, the window, a step's tokens, and a page at the end partly used; and a row's own
    assert most <= (1 + (60 + 30) // 32 + 1 + 1) + 1


def test_a_long_request_holds_few_pages(tiny: str) -> None:
    core = core_of(tiny, max_num_batched_tokens=32)
    _, most = tokens_of(core, a=Sight(60, 4))
    # sinks, the window, a step's tokens, and a page at either end partly used
    assert most <= 1 + (60 + 32) // 16 + 2
    _, most = tokens_of(core, a=Sight(200, 4))
    assert 200 // 16 < most <= 1 + (200 + 32) // 16 + 2


def test_a_cache_as_long_as_the_request_changes_nothing(tiny: str) -> None:
    plain, _ = tokens_of(core_of(tiny, kv_eviction="none", max_model_len=256), a=ALL)
    wide, _ = tokens_of(core_of(tiny), a=Sight(242, 4))
    prompt = PROMPT[:206]
    (request,) = fan_out(core_of(tiny).info, "a", prompt, GREEDY, Sight(242, 4))
    core = core_of(tiny)
    core.add(request)
    tokens: list[int] = []
    while core.has_work:
        tokens += [token for delta in core.step() for token in delta.token_ids]
    assert tokens == plain["a"] != wide["a"]


def test_prefixes_are_shared_within_a_sight_alone(tiny: str) -> None:
    core = core_of(tiny)
    cached = []
    for name, sight in (("a", Sight(60, 4)), ("b", Sight(60, 4)), ("c", Sight(60, 3))):
        (request,) = fan_out(core.info, name, PROMPT, GREEDY, sight)
        core.add(request)
        last = [delta for _ in range(10_000) if core.has_work for delta in core.step()][-1]
        cached.append(last.num_cached_tokens)
    assert cached == [0, 399 // 16 * 16, 0]


def test_logits_are_those_of_the_engines_own_sight(tiny: str) -> None:
    evicting = LLM(tiny, backend="reference", max_model_len=LENGTH, kv_eviction="sinks:60:2")
    plain = LLM(tiny, backend="reference")
    short, long = evicting.logits(PROMPT[:200]), plain.logits(PROMPT[:200])
    np.testing.assert_array_equal(short[:62], long[:62])
    assert np.abs(short[62:] - long[62:]).max(axis=1).min() > 1e-3
    assert evicting.logits(PROMPT).shape == (len(PROMPT), 199)


def test_only_what_evicts_may_be_longer_than_the_model_was_trained_for(tiny: str) -> None:
    with pytest.raises(UsageError, match="trained for"):
        core_of(tiny, kv_eviction="none")
    with pytest.raises(UsageError, match="give a smaller window"):
        core_of(tiny, kv_eviction="sinks:253")
    info = core_of(tiny).info
    assert info.longest(info.sight) == LENGTH
    assert info.longest(ALL) == info.longest(Sight(253, 4)) == 256
    with pytest.raises(RequestError, match="fills the model's context of 256"):
        fan_out(info, "a", PROMPT, GREEDY, ALL)
    (request,) = fan_out(info, "a", PROMPT[:250], replace(GREEDY, max_tokens=None), ALL)
    assert request.params.max_tokens == 6


def test_pages_are_planned_for_what_is_kept(tmp_path: Path) -> None:
    config = write_tiny_llama(tmp_path / "llama")
    whole = core_of(str(config), kv_eviction="none", max_model_len=256, max_num_seqs=1)
    kept = core_of(str(config), max_model_len=100_000, max_num_seqs=1, max_num_batched_tokens=32)
    assert whole.info.num_pages == 16
    assert kept.info.num_pages == (64 + 32 + 2 * 16) // 16
