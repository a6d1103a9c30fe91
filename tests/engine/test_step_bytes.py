"""What the values of a step take, against what the cpu backend plans for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.tiny import write_tiny_llama
from vivace.core.config import EngineConfig
from vivace.engine.plan import batch_limits, step_bytes
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend
from vivace.backends.cpu.planning import plan_buffers
from vivace.backends.cpu.recording import Recorder, Value


@pytest.mark.parametrize("shape", [{}, {"intermediate_size": 400}, {"num_attention_heads": 12}])
def test_the_cpu_backend_takes_no_more_for_both_programs(
    tmp_path: Path, shape: dict[str, int]
) -> None:
    checkpoint = open_checkpoint(write_tiny_llama(tmp_path, **shape))
    decoder = load_decoder(checkpoint, CpuBackend(threads=1))
    limits = batch_limits(EngineConfig(max_num_seqs=8, max_num_batched_tokens=100))

    def size_of(value: Value) -> int:
        rows = limits.max_logit_rows if value.per_logit_row else limits.max_tokens
        return 4 * rows * value.width * value.planes

    taken = 0
    for forward in (decoder.logits, decoder.hidden):
        recorder = Recorder()
        taken += sum(plan_buffers(recorder.records, forward(recorder), size_of).sizes)
    assert taken <= step_bytes(decoder.spec, limits) <= 1.5 * taken
