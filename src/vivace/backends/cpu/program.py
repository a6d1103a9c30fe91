"""A compiled forward: one native call per step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.backends.cpu import _native
from vivace.backends.cpu.lowering import lower, place_of
from vivace.backends.cpu.planning import plan_buffers
from vivace.backends.cpu.recording import Recorder, Value, inputs
from vivace.backends.protocol import Batch, BatchLimits, Forward, Observed
from vivace.core.errors import BackendError

_SEES_ALL = np.zeros((0, 3), np.int32)
_UNOBSERVED = Observed(np.zeros(0, np.int32), ())


@dataclass(frozen=True)
class Result:
    """What the forward returned for one batch, until the program's next run."""

    program: _native.Program
    place: tuple[int, int]
    rows: int

    def numpy(self) -> NDArray[np.float32]:
        """float32 [rows, width], sharing the program's buffer."""
        return self.program.output(self.place, self.rows)


@dataclass(frozen=True)
class CpuProgram:
    """A native program and where its result stands."""

    native: _native.Program
    place: tuple[int, int]
    per_logit_row: bool

    def run(self, batch: Batch) -> Result:
        """Run one step, the GIL released.

        Raises:
            BackendError: the batch is not one that this program can take; nothing ran.
        """
        observed = batch.observed or _UNOBSERVED
        try:
            self.native.run(
                batch.token_ids,
                batch.positions,
                batch.query_starts,
                batch.context_lens,
                batch.block_tables,
                batch.logit_rows,
                batch.adapter_ids,
                _SEES_ALL if batch.sights is None else batch.sights,
                observed.rows,
                observed.queries,
            )
        except ValueError as error:
            raise BackendError(str(error)) from None
        rows = batch.logit_rows if self.per_logit_row else batch.token_ids
        return Result(self.native, self.place, len(rows))

    @property
    def native_calls(self) -> int:
        """Steps run so far, each one native call."""
        return self.native.runs


def compile_program(
    runtime: _native.Runtime,
    dtype: _native.DType,
    forward: Forward,
    caches: list[_native.KVCache],
    limits: BatchLimits,
) -> CpuProgram:
    """Record the forward, plan its buffers and build its native program.

    Raises:
        BackendError: the forward's parts do not fit together.
    """
    recorder = Recorder()
    result: Value = forward(recorder)
    if any(value.per_logit_row for record in recorder.records for value in inputs(record)):
        raise BackendError("Logits are a forward's result: no op can go on from them.")

    def size_of(value: Value) -> int:
        rows = limits.max_logit_rows if value.per_logit_row else limits.max_tokens
        return rows * value.width * value.planes

    plan = plan_buffers(recorder.records, result, size_of)
    bounds = (limits.max_tokens, limits.max_sequences, limits.max_logit_rows)
    native = _native.Program(runtime, dtype, caches, bounds, plan.sizes)
    try:
        lower(recorder.records, plan, native)
    except (ValueError, IndexError) as error:
        raise BackendError(str(error)) from None
    return CpuProgram(native, place_of(plan, result), result.per_logit_row)
