"""What the engine counts of its steps."""

from __future__ import annotations

from pathlib import Path

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams


def test_steps_are_counted_by_their_tokens(tmp_path: Path) -> None:
    llm = LLM(str(write_tiny_llama(tmp_path)), backend="reference", notify=lambda line: None)
    llm.generate([5] * 20, SamplingParams(max_tokens=4, ignore_eos=True))
    stats = llm.stats()
    assert (stats.steps, stats.step_sizes.total) == (4, 20 + 3)
    assert stats.step_sizes.counts == (3, 0, 0, 1, *[0] * 10)
