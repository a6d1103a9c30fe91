"""What each linear costs by itself in each scheme: KL divergence from the model as it is, with that
one linear rounded. Measured on calibration text, never on what evidence is measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.evaluate.scoring import LogitBatches, Window, score
from vivace.formats.checkpoint import Checkpoint
from vivace.formats.qtensor import Scheme
from vivace.formats.schemes import NESTED
from vivace.models.decoder import Decoder
from vivace.models.loader import WeightReader, checked_plan, model_spec, role_shapes
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.forward import logits_of
from vivace.optimize.layer import Edited, WorkingLayer
from vivace.optimize.quantize.allocate import allocate
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.run import Job
from vivace.optimize.quantize.schemes import schemes_of
from vivace.optimize.quantize.stored import store

SENSITIVITY_RUNS, SENSITIVITY_LEN = 8, 256  # of the calibration text

Progress: TypeAlias = Callable[[int, int], None]
Choice: TypeAlias = tuple[str, Scheme]  # a linear's role, and what it is rounded to


def mixed_scheme(
    checkpoint: Checkpoint,
    job: Job,
    bits: float,
    names: Sequence[str],
    progress: Progress | None = None,
) -> str:
    """The best mix of some schemes, as `Job.scheme` takes it.

    Raises:
        UsageError: as `schemes_of` and `allocate`; or a scheme is a nested one.
    """
    if any(name in NESTED for name in names):
        raise UsageError("A mix is of single precisions: leave nested schemes out of --mix.")
    spec = model_spec(checkpoint.config)
    roles = list(schemes_of(names[0], spec))
    choices = [(role, schemes_of(name, spec)[role]) for role in roles for name in names]
    runs = [run[:SENSITIVITY_LEN] for run in job.runs[:SENSITIVITY_RUNS]]
    costs = sensitivities(Judge(checkpoint, job.backend, runs), choices, progress)
    found = mixed(costs, role_shapes(spec), bits)
    return ",".join(f"{role}={scheme.name}" for role, scheme in found.items())


def sensitivities(
    judge: Judge, choices: Sequence[Choice], progress: Progress | None = None
) -> dict[Choice, float]:
    """Of each linear rounded by itself: mean nats per token."""
    found = {}
    for done, (role, scheme) in enumerate(choices, 1):
        found[role, scheme] = judge.divergence({role: scheme})
        if progress is not None:
            progress(done, len(choices))
    return found


class Judge:
    """Measures what rounding some linears to nearest costs on one text.

    Args:
        runs: of equal length.
    """

    def __init__(self, checkpoint: Checkpoint, backend: Backend, runs: Sequence[TokenIds]) -> None:
        self._checkpoint = checkpoint
        self._backend = backend
        self._spec = model_spec(checkpoint.config)
        self._plan = checked_plan(self._spec, checkpoint)
        self._length = len(runs[0])
        self._windows = [Window(run[:-1].tolist(), run[1:].tolist(), 1) for run in runs]
        self._base = self._model(Edited(checkpoint.tensors))

    def divergence(self, schemes: Mapping[str, Scheme]) -> float:
        """Mean KL from the model as it is, in nats per token.

        Args:
            schemes: of the linears that are rounded, by their roles.
        """
        tensors = Edited(self._checkpoint.tensors)
        for role, scheme in schemes.items():
            _, index, name = role.split(".", 2)
            layer = WorkingLayer(int(index), self._spec, self._plan, self._backend, tensors)
            store(layer, name, rtn(layer.weights(name), scheme))
        beside = score(self._model(tensors), self._windows, self._base).beside
        assert beside is not None
        return float(beside.kl.mean())

    def _model(self, tensors: Edited) -> LogitBatches:
        reader = WeightReader(self._plan, tensors, self._backend, self._spec)
        return logits_of(Decoder(self._spec, reader.decoder()), self._backend, self._length)


def mixed(
    costs: Mapping[Choice, float], shapes: Mapping[str, Sequence[tuple[int, ...]]], bits: float
) -> dict[str, Scheme]:
    """The scheme of each linear, so that all together take at most `bits` per weight.

    Raises:
        UsageError: as `allocate`.
    """
    roles = list(dict.fromkeys(role for role, _ in costs))
    schemes = [[scheme for owner, scheme in costs if owner == role] for role in roles]

    def size(role: str, scheme: Scheme) -> int:
        return sum(stored_bytes(scheme, *shape) for shape in shapes[role])

    weights = sum(math.prod(shape) for role in roles for shape in shapes[role])
    chosen = allocate(
        [[costs[role, s] for s in each] for role, each in zip(roles, schemes, strict=True)],
        [[size(role, s) for s in each] for role, each in zip(roles, schemes, strict=True)],
        int(bits * weights / 8),
    )
    return {role: each[i] for role, each, i in zip(roles, schemes, chosen, strict=True)}


def stored_bytes(scheme: Scheme, *shape: int) -> int:
    """Of a matrix in the artefact, scales and zero points included."""
    outputs, inputs = shape
    if scheme.group_size is None:
        return outputs * (inputs + 4)
    groups = inputs // scheme.group_size
    zeros = groups * _word_bytes(outputs, scheme.bits) if scheme.zero_points else 0
    return outputs * (_word_bytes(inputs, scheme.bits) + 2 * groups) + zeros


def _word_bytes(count: int, bits: int) -> int:
    return 4 * -(-count * bits // 32)
