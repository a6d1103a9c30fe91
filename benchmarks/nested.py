"""8 and 4 bits in one folder, beside a model of each alone: KL divergence, greedy agreement, bytes.

    python benchmarks/nested.py [--method gptq] [--windows N] [--samples N]

Takes some minutes with the bundled model; prints one JSON object. All are made by the same method
from the same calibration text and compared with the original on the held-out text. `same_bytes` is
whether the files that hold the nested model's 4 bits are those of the model of 4 bits alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from vivace.backends.cpu import CpuBackend
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.optimize.calibrate import default_texts, draw
from vivace.optimize.evidence import Where, evidence
from vivace.optimize.plans import CalibrationPlan, EvidencePlan
from vivace.optimize.quantize.run import Job, quantize
from vivace.text.tokenizer import load_tokenizer

NESTED, FOUR, EIGHT = "nested-g128", "int4-g128", "int8"


def same_bytes(nested: Path, alone: Path) -> bool:
    shards = sorted(alone.glob("model-*.safetensors"))
    return all((nested / shard.name).read_bytes() == shard.read_bytes() for shard in shards)


def figures(found: dict[str, Any]) -> dict[str, Any]:
    names = ("delta_nll", "kl_mean", "top1_agreement")
    return {**found["size"], **{name: found["figures"][name] for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description="8 and 4 bits in one folder.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--method", default="gptq")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    given = parser.parse_args()
    folder = resolve_model(given.model)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    runs = tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(given.samples, 512)))
    backend = CpuBackend("bfloat16", detect().cores)
    where = Where("cpu", "bfloat16", None, lambda line: None)
    plan = EvidencePlan(None, given.windows)
    report: dict[str, Any] = {"method": given.method, "windows": given.windows}
    with tempfile.TemporaryDirectory() as place:
        for scheme in (NESTED, FOUR, EIGHT):
            out = Path(place, scheme)
            job = Job(folder.name, folder, out, scheme, given.method, backend, runs)
            quantize(job).artefact.publish()
            found = evidence(folder, out, plan, where)
            report[scheme] = figures(found)
            if "four_bits" in found:
                report[f"{scheme} in 4 bits"] = figures(found["four_bits"])
        report["same_bytes"] = same_bytes(Path(place, NESTED), Path(place, FOUR))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
