"""Mixed precision at equal bytes: beside one scheme for all, and beside random mixes.

    python benchmarks/mixed_precision.py [--random N] [--runs N]

Takes some minutes with the bundled model; prints one JSON object. What each linear costs is
measured on calibration text, what a mix costs on the held-out text: mean KL divergence from the
model as it is, weights rounded to nearest. `predicted` is the sum of what the chosen schemes cost
one by one, `measured` what they cost together, both on calibration text. Random mixes are drawn
until they take between 97% and all of the bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from vivace.backends.cpu import CpuBackend
from vivace.evaluate.corpus import held_out_files
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.formats.qtensor import Scheme
from vivace.hardware.machine import detect
from vivace.models.loader import model_spec, role_shapes
from vivace.optimize.calibrate import default_texts, draw
from vivace.optimize.plans import CalibrationPlan
from vivace.optimize.quantize.schemes import STORED, schemes_of
from vivace.optimize.quantize.sensitivity import Judge, mixed, sensitivities, stored_bytes
from vivace.text.tokenizer import load_tokenizer

MIX = ("int8", "int4-g128", "int3-g128")
UNIFORM = "int4-g128"
LEAST_SHARE = 0.97


def random_mixes(
    rng: np.random.Generator, sizes: Mapping[str, list[int]], budget: int
) -> Iterator[dict[str, Scheme]]:
    while True:
        chosen = rng.choice(len(MIX), len(sizes), p=(0.15, 0.45, 0.4))
        total = sum(each[i] for each, i in zip(sizes.values(), chosen, strict=True))
        if LEAST_SHARE * budget <= total <= budget:
            yield {role: STORED[MIX[i]] for role, i in zip(sizes, chosen, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed precision at equal bytes.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--random", type=int, default=100)
    parser.add_argument("--runs", type=int, default=8, help="of 256 tokens, of either text")
    given = parser.parse_args()
    folder = resolve_model(given.model)
    checkpoint, tokenizer = open_checkpoint(folder), load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    spec = model_spec(checkpoint.config)
    shapes, plan = role_shapes(spec), CalibrationPlan(given.runs, 256)
    held_out = [lambda text=file.text: text for file in held_out_files()]
    backend = CpuBackend("bfloat16", detect().cores)
    calibration, evaluation = (
        Judge(checkpoint, backend, draw(texts, tokenizer.encode, plan))
        for texts in (default_texts(), held_out)
    )
    roles = list(schemes_of(UNIFORM, spec))
    sizes = {
        role: [sum(stored_bytes(STORED[name], *shape) for shape in shapes[role]) for name in MIX]
        for role in roles
    }
    budget = sum(each[MIX.index(UNIFORM)] for each in sizes.values())
    weights = sum(math.prod(shape) for role in roles for shape in shapes[role])
    costs = sensitivities(calibration, [(role, STORED[name]) for role in roles for name in MIX])
    best = mixed(costs, shapes, 8 * budget / weights)
    predicted = sum(costs[choice] for choice in best.items())
    uniform = evaluation.divergence(schemes_of(UNIFORM, spec))
    print(f"mixed {evaluation.divergence(best):.5f}, uniform {uniform:.5f}", file=sys.stderr)
    mixes = random_mixes(np.random.default_rng(0), sizes, budget)
    report = {
        "bits": 8 * budget / weights,
        "mix": {role: scheme.name for role, scheme in best.items()},
        "mixed": evaluation.divergence(best),
        "uniform": uniform,
        "random": [evaluation.divergence(next(mixes)) for _ in range(given.random)],
        "predicted": predicted,
        "measured": calibration.divergence(best),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
