"""A canary sees damage, and nothing else."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.engine.tiny import write_tiny_llama
from vivace import LLM
from vivace.core.config import EngineConfig
from vivace.core.errors import CheckpointError, UsageError
from vivace.core.request import Logprob, Request
from vivace.core.sampling import SamplingParams
from vivace.engine import canary
from vivace.engine.build import build_engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model"))


def loaded(folder: Path, **options: Any) -> LLM:
    return LLM(
        str(folder), backend="reference", kv_memory_bytes=4 << 20, notify=lambda _: None, **options
    )


@pytest.fixture(scope="module")
def recorded(folder: Path) -> canary.CanaryRecord:
    return canary.record(loaded(folder), None)


def test_the_same_weights_do_not_drift(folder: Path, recorded: canary.CanaryRecord) -> None:
    assert canary.measure(loaded(folder), recorded) < 1e-6
    assert canary.measure(loaded(folder, max_num_batched_tokens=7), recorded) < 1e-6


def test_a_flipped_bit_on_disk_is_seen(
    folder: Path, recorded: canary.CanaryRecord, tmp_path: Path
) -> None:
    """The highest of an exponent, which makes a small number a large one."""
    tensors = load_file(folder / "model.safetensors")
    weight = tensors["model.layers.1.mlp.down_proj.weight"]
    weight.view(np.uint32)[3, 4] ^= 1 << 30
    damaged = write_tiny_llama(tmp_path / "damaged")
    save_file(tensors, damaged / "model.safetensors")
    assert canary.measure(loaded(damaged), recorded) > recorded.max_kl


def test_a_bit_that_flips_in_memory_is_seen(folder: Path) -> None:
    llm = loaded(folder, dtype="bfloat16")  # rounded, so that no array is a view of the file
    before = canary.record(llm, None)
    assert canary.measure(llm, before) < 1e-6
    (weight, *_) = (one for one in arrays(llm._core) if one.shape == (48,) and one.flags.writeable)
    weight.view(np.uint32)[1] ^= 1 << 30
    assert canary.measure(llm, before) > before.max_kl


def arrays(root: object) -> Iterator[np.ndarray]:  # type: ignore[type-arg]
    """Every array of floats that can be reached from an object."""
    seen, stack = set(), [root]
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, ModuleType | type | FunctionType):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray) and one.dtype == np.float32:
            yield one
        stack.extend(gc.get_referents(one))


def test_what_fails_is_infinitely_far(recorded: canary.CanaryRecord) -> None:
    assert canary.worst(recorded, [[] for _ in recorded.prompts]) == math.inf


def test_a_prompt_is_one_short_step_behind_all_others(
    folder: Path, recorded: canary.CanaryRecord
) -> None:
    core = build_engine(EngineConfig(str(folder), backend="reference", kv_memory_bytes=4 << 20))
    core.add(canary.request(core.info, "canary", recorded.prompts[0]))
    core.add(Request("user", (5,) * 200, SamplingParams(max_tokens=2)))
    order = [delta.request_id for _ in range(8) for delta in core.step() if delta.token_ids]
    assert order[0] == "user"
    core.add(canary.request(core.info, "alone", recorded.prompts[1]))
    while core.has_work:
        deltas = core.step()
    (delta,) = deltas
    assert len(canary.predictions([delta])) == len(recorded.prompts[1].token_ids)


def test_a_record_is_kept_beside_what_else_the_file_holds(
    recorded: canary.CanaryRecord, tmp_path: Path
) -> None:
    (tmp_path / canary.FILE).write_text('{"recipe": ["int4-g128"]}')
    canary.save(tmp_path, recorded)
    assert canary.load(tmp_path) == recorded
    assert json.loads((tmp_path / canary.FILE).read_text())["recipe"] == ["int4-g128"]
    assert (tmp_path / canary.FILE).stat().st_size < 64 * 1024
    assert [path.name for path in tmp_path.iterdir()] == [canary.FILE]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert canary.load(tmp_path) is None
    assert canary.load(tmp_path / "model.gguf") is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"canary": {}}',
        '{"canary": {"precision": "float32", "max_kl": 1, "prompts": []}}',
        '{"canary": {"precision": "float32", "max_kl": 1, '
        '"prompts": [{"tokens": "1", "top": ["x"]}]}}',
    ],
)
def test_a_damaged_record_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / canary.FILE).write_text(text)
    with pytest.raises(CheckpointError):
        canary.load(tmp_path)


def test_a_model_that_is_no_folder_has_no_place_for_one(
    recorded: canary.CanaryRecord, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no folder"):
        canary.save(tmp_path / "model.gguf", recorded)


def known(probabilities: np.ndarray, count: int) -> dict[int, Logprob]:  # type: ignore[type-arg]
    order = np.argsort(-probabilities)[:count]
    return {
        int(token): Logprob(math.log(probabilities[token]), rank)
        for rank, token in enumerate(order, 1)
    }


@pytest.mark.parametrize("distance", [0.0, 0.1, 1.0, 10.0])
def test_the_bound_is_below_the_truth_and_not_far(distance: float) -> None:
    rng = np.random.default_rng(int(distance * 10))
    truths, bounds = [], []
    for _ in range(50):
        logits = rng.normal(0, 3, 200)
        moved = logits + distance * rng.normal(0, 1, 200)
        before, now = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (logits, moved))
        truths.append(float((before * np.log(before / now)).sum()))
        kept = {token: one.logprob for token, one in known(before, 8).items()}
        bounds.append(canary.divergence(kept, known(now, 20)))
        assert -1e-9 <= bounds[-1] <= truths[-1] + 1e-6
    assert sum(bounds) >= 0.4 * sum(truths)


def test_predictions_without_a_token_in_common_are_far_apart() -> None:
    before = {token: math.log(0.12) for token in range(8)}
    now = {token: Logprob(math.log(0.045), token - 99) for token in range(100, 120)}
    assert canary.divergence(before, now) > 0.3
