"""As many sequences as pages were planned for run side by side, and fill them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import write_tiny_llama
from vivace.core.config import EngineConfig
from vivace.core.sampling import SamplingParams
from vivace.engine.build import build_engine
from vivace.engine.requests import fan_out

SEQUENCES, STEP_TOKENS = 3, 32


@pytest.mark.parametrize("eviction", ["none", "sinks:60"])
@pytest.mark.parametrize("kept", ["auto", "int8", "int4"])
def test_as_many_as_were_planned_for(tmp_path: Path, kept: Any, eviction: str) -> None:
    config = EngineConfig(
        str(write_tiny_llama(tmp_path)),
        backend="reference",
        kv_cache_dtype=kept,
        kv_eviction=eviction,
        max_model_len=224,
        max_num_seqs=SEQUENCES,
        max_num_batched_tokens=STEP_TOKENS,
        enable_prefix_caching=False,
    )
    core = build_engine(config)
    params = SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
    for number in range(SEQUENCES):
        core.add(*fan_out(core.info, str(number), [number + 1] * 160, params))
    most = 0
    while core.has_work:
        core.step()
        most = max(most, core.stats().pages_used)
    stats = core.stats()
    assert stats.preemptions == 0
    page = core.info.page_tokens
    assert most >= stats.pages_total - SEQUENCES - 2 * STEP_TOKENS // page
