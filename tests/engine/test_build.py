"""What an engine takes from a folder beside its weights, and the limits it says it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import write_tiny_llama
from tests.text.trained import byte_level
from vivace.core.config import EngineConfig
from vivace.core.errors import CheckpointError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.engine import build
from vivace.engine.build import build_engine, scheduling
from vivace.engine.core import EngineCore


def built(folder: Path, **options: Any) -> EngineCore:
    return build_engine(EngineConfig(str(folder), backend="reference", **options))


@pytest.mark.parametrize(
    ("listed", "expected"), [([5, 1], (5, 1, 2)), ([2, 7], (2, 7)), (None, (0, 2))]
)
def test_the_tokenizers_end_token_ends_an_answer_too(
    tmp_path: Path, listed: list[int] | None, expected: tuple[int, ...]
) -> None:
    folder = write_tiny_llama(tmp_path, vocab_size=400)
    tokenizer = byte_level()
    assert tokenizer.token_to_id("</s>") == 2
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": listed}))
    assert built(folder).info.eos_token_ids == expected


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"eos_token_id": [1, None]}])
def test_a_wrong_generation_config_is_said_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    def load(*args: object) -> None:
        raise AssertionError("weights were loaded")

    folder = write_tiny_llama(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps(wrong))
    monkeypatch.setattr(build, "load_decoder", load)
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        built(folder)


def test_the_limits_of_a_step_are_those_asked_for(tmp_path: Path) -> None:
    core = built(write_tiny_llama(tmp_path), max_prefill_chunk=30, max_prefill_beside_decodes=9)
    params = SamplingParams(max_tokens=20, ignore_eos=True)
    core.add(Request("early", tuple(range(1, 21)), params))
    core.step()
    core.add(Request("long", tuple(range(1, 101)), params))
    assert [one.count for one in core.scheduler.schedule().sequences] == [1, 9]
    core.abort("early")
    assert [one.count for one in core.scheduler.schedule().sequences] == [30]


def test_no_more_sequences_are_promised_than_a_step_has_tokens(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = write_tiny_llama(tmp_path)
    limits = {"max_num_seqs": 100, "max_num_batched_tokens": 8}
    config = EngineConfig(str(folder), backend="reference", **limits)  # type: ignore[arg-type]
    info = build_engine(config, lines.append).info
    assert info.max_num_seqs == 8
    assert "8 sequences, 8 tokens a step" in lines[-1]


def test_targets_reach_the_scheduler() -> None:
    limits = scheduling(EngineConfig(target_itl_ms=40, target_ttft_ms=900.5))
    assert (limits.target_itl_ms, limits.target_ttft_ms) == (40, 900.5)
