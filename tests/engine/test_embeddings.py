"""Embeddings are pooled hidden states, whatever runs around them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams
from vivace.core.errors import CheckpointError, RequestError
from vivace.core.request import Delta
from vivace.engine.requests import to_pool

PROMPT = [7 * token % 199 for token in range(1, 50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return LLM(str(folder), backend="reference", max_num_batched_tokens=64)


def vector_of(llm: LLM, prompt: list[int], pooling: str) -> NDArray[np.float64]:
    """As the engine gives it, not at length 1."""
    core = llm._core
    core.add(to_pool(llm.info, "one", prompt, pooling))  # type: ignore[arg-type]
    deltas: list[Delta] = []
    while core.has_work:
        deltas += core.step()
    (delta,) = deltas
    assert delta.embedding is not None
    return np.asarray(delta.embedding, np.float64)


def test_the_last_hidden_state_is_what_the_head_turns_into_logits(llm: LLM, folder: Path) -> None:
    head = load_file(folder / "model.safetensors")["lm_head.weight"]
    logits = head @ vector_of(llm, PROMPT, "last")
    np.testing.assert_allclose(logits, llm.logits(PROMPT)[-1], rtol=1e-3, atol=1e-3)


def test_the_mean_is_that_of_the_last_states_of_all_beginnings(llm: LLM) -> None:
    states = [vector_of(llm, PROMPT[: end + 1], "last") for end in range(len(PROMPT))]
    found = vector_of(llm, PROMPT, "mean")
    np.testing.assert_allclose(found, np.mean(states, axis=0), rtol=1e-4, atol=1e-4)


def test_vectors_have_length_1_and_come_in_order(llm: LLM) -> None:
    vectors = llm.embed([PROMPT, PROMPT[:5], PROMPT])
    assert vectors.shape == (3, 48)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])
    assert llm.stats().pages_used == 0
    with pytest.raises(RequestError):
        llm.embed([[1000]])


def test_a_prompt_may_fill_the_context(llm: LLM) -> None:
    assert llm.embed([1] * llm.info.max_model_len, "last").shape == (1, 48)
    with pytest.raises(RequestError):
        llm.embed([1] * (llm.info.max_model_len + 1))


def test_a_hidden_state_that_is_not_a_number_fails_its_request_alone(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = llm._core
    plain = core._runner.run_hidden

    def broken(sequences: object) -> NDArray[np.float32]:
        hidden = plain(sequences).copy()  # type: ignore[arg-type]
        hidden[0, 3] = np.nan
        return hidden

    core.add(to_pool(llm.info, "bad", PROMPT[:8]))
    core.add(to_pool(llm.info, "good", PROMPT[:8]))
    monkeypatch.setattr(core._runner, "run_hidden", broken)
    deltas = core.step()
    monkeypatch.undo()
    while core.has_work:
        deltas += core.step()
    ends = {delta.request_id: delta.finish_reason for delta in deltas}
    assert ends == {"bad": "error", "good": "stop"}
    good = next(delta.embedding for delta in deltas if delta.request_id == "good")
    assert good is not None
    np.testing.assert_allclose(good, vector_of(llm, PROMPT[:8], "mean"), rtol=1e-5, atol=1e-5)


def test_the_checkpoint_says_how_it_pools(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path)
    (folder / "1_Pooling").mkdir()
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}))
    llm = LLM(str(folder), backend="reference")
    assert llm.info.pooling == "last"
    np.testing.assert_allclose(llm.embed(PROMPT), llm.embed(PROMPT, "last"), atol=1e-5)
    file.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(CheckpointError, match="pooling_mode_lasttoken"):
        LLM(str(folder), backend="reference")


SETTINGS = {
    "one-batch": {},
    "small-batches": {"max_num_seqs": 3, "max_num_batched_tokens": 23},
    "chunks-of-7": {"max_prefill_chunk": 7},
    "no-sharing": {"enable_prefix_caching": False},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_they_are_the_same_bits_in_any_company(
    folder: Path, pooling: str, options: dict[str, int]
) -> None:
    pytest.importorskip("vivace.backends.cpu._native", reason="built without a compiler")
    source = random.Random(2)
    prompts = [PROMPT[: source.randrange(1, 49)] for _ in range(12)]
    alone = LLM(str(folder), backend="cpu", dtype="bfloat16", enable_prefix_caching=False)
    expected = [vector_of(alone, prompt, pooling) for prompt in prompts]
    llm = LLM(str(folder), backend="cpu", dtype="bfloat16", **options)
    for number, prompt in enumerate(prompts):
        llm._core.add(to_pool(llm.info, str(number), prompt, pooling))  # type: ignore[arg-type]
    beside = SamplingParams(temperature=0, max_tokens=9, ignore_eos=True)
    _, requests = llm._frontend.requests("beside", PROMPT, beside)
    llm._core.add(requests[0])
    found: dict[str, tuple[float, ...]] = {}
    while llm._core.has_work:
        deltas = [delta for delta in llm._core.step() if delta.embedding is not None]
        found |= {delta.request_id: delta.embedding or () for delta in deltas}
    assert [found[str(number)] for number in range(12)] == [tuple(one) for one in expected]
    assert llm.stats().pages_used == 0
