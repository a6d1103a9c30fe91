"""Prompts cut by what their ends look at, under a whole engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.engine.tiny import write_tiny_llama
from vivace import LLM
from vivace.core.config import EngineConfig
from vivace.core.errors import RequestError, UsageError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.engine.requests import fan_out

PROMPT = [(7 * i + i * i % 31) % 199 for i in range(200)]
PARAMS = SamplingParams(temperature=1, seed=5, max_tokens=40, ignore_eos=True)
KEPT = Sight(kept=50)
FIRST = len(PROMPT) - 50


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llama(tmp_path_factory.mktemp("tiny") / "llama"))


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "cpu":
        pytest.importorskip("vivace.backends.cpu._native")
    return str(request.param)


def core_of(model: str, backend: str = "reference", **options: Any) -> EngineCore:
    return build_engine(EngineConfig(model, backend=backend, **options))


def made(
    core: EngineCore, name: str, sight: Sight, prompt: list[int], max_tokens: int = 40
) -> Request:
    params = replace(PARAMS, max_tokens=max_tokens)
    (request,) = fan_out(core.info, name, prompt, params, sight)
    return request


def run(core: EngineCore, *requests: Request) -> dict[str, list[int]]:
    """Each request's tokens, all running together."""
    tokens: dict[str, list[int]] = {one.request_id: [] for one in requests}
    for request in requests:
        core.add(request)
    while core.has_work:
        for delta in core.step():
            assert delta.error is None
            tokens[delta.request_id].extend(delta.token_ids)
    core.check_integrity()
    return tokens


def test_tokens_do_not_depend_on_chunks_company_prefixes_or_preemption(
    tiny: str, backend: str
) -> None:
    def requests(core: EngineCore) -> list[Request]:
        asked = {"a": KEPT, "b": Sight(kept=33), "c": ALL, "d": KEPT, "e": Sight(20, 4)}
        prompts = {"b": PROMPT[:90], "d": [3, *PROMPT[:100]]}
        return [
            made(core, name, asked[name], prompts.get(name, PROMPT[:100]), 100) for name in asked
        ]

    alone = {}
    for index in range(5):
        core = core_of(tiny, backend, enable_prefix_caching=False)
        alone |= run(core, requests(core)[index])
    assert len({tuple(tokens) for tokens in alone.values()}) == 5
    for options in (
        {},
        {"max_prefill_chunk": 7},
        {"max_prefill_chunk": 7, "max_num_batched_tokens": 23, "max_num_seqs": 2},
        {"max_num_batched_tokens": 64, "max_model_len": 208, "kv_memory_bytes": 125_000},
    ):
        core = core_of(tiny, backend, **options)
        assert run(core, *requests(core)) == alone, options
        assert run(core, *requests(core)) == alone, f"{options}, with prefixes known"
    assert core.stats().preemptions > 0


def test_a_budget_that_holds_the_prompt_changes_nothing(tiny: str, backend: str) -> None:
    core = core_of(tiny, backend)
    wide, plain = made(core, "a", Sight(kept=200), PROMPT), made(core, "b", ALL, PROMPT)
    tokens = run(core, wide, plain)
    assert tokens["a"] == tokens["b"]


def test_pages_are_given_back_and_the_prefix_is_everybodys(tiny: str) -> None:
    core = core_of(tiny)
    core.add(made(core, "a", KEPT, PROMPT))
    used = []
    while core.has_work:
        core.step()
        used.append(core.stats().pages_used)
    assert used[0] == -(-200 // 16) - FIRST // 16
    assert max(used[:-1]) == -(-239 // 16) - FIRST // 16
    for name, sight in (("b", ALL), ("c", KEPT)):
        core.add(made(core, name, sight, PROMPT))
        deltas = [delta for _ in range(10_000) if core.has_work for delta in core.step()]
        assert deltas[-1].num_cached_tokens == FIRST // 16 * 16


def test_a_request_that_ends_early_leaves_nothing(tiny: str) -> None:
    core = core_of(tiny, max_prefill_chunk=20)
    core.add(made(core, "a", KEPT, PROMPT))
    for _ in range(9):  # into the last rows of the prompt
        core.step()
    core.abort("a")
    core.check_integrity()
    assert core.stats().pages_used == 0
    again = run(core, made(core, "a", KEPT, PROMPT))
    assert again == run(core_of(tiny), made(core, "a", KEPT, PROMPT))


def test_a_server_may_cut_every_prompt(tiny: str) -> None:
    llm = LLM(tiny, backend="reference", kv_eviction="snap:50")
    (output,) = llm.generate([PROMPT], PARAMS)
    core = core_of(tiny)
    assert output.outputs[0].token_ids == run(core, made(core, "a", KEPT, PROMPT))["a"]
    assert llm.logits(PROMPT).shape == (200, 199)


def test_packed_pages_are_refused(tiny: str) -> None:
    with pytest.raises(UsageError, match="leave kv_cache_dtype at auto"):
        core_of(tiny, kv_eviction="snap:50", kv_cache_dtype="int8")
    core = core_of(tiny, kv_cache_dtype="int4")
    with pytest.raises(RequestError, match="not packed"):
        made(core, "a", KEPT, PROMPT)
