"""`vivace quantize`: a smaller checkpoint, and what it lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.console import notice, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.optimizing import backend_for, calibration_runs, publish, show
from vivace.core.config import BackendChoice, DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.plans import CalibrationPlan, EvidencePlan

if TYPE_CHECKING:
    from vivace.optimize.quantize.run import Job

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder or a hub id.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")]


@dataclass(frozen=True)
class How:
    """Attributes:
    scheme: for all layers (int8, int4-g128, int3-g64-zp ...), and exceptions: layers.0.*=int8.
    bits: per weight of the layers, scales included, for a mix of schemes; None takes --scheme.
    mix: the schemes to choose among for each linear, by what it costs.
    method: rtn, hqq, gptq, awq, awq-gptq, signround, smoothquant or smoothquant-gptq.
    calibration: a file of UTF-8 text; None is Python's standard library, less what is held out.
    backend: what computes.
    dtype: what is computed in; auto is what the model is stored in.
    threads: None is all cores.
    """

    scheme: str = "int4-g128"
    bits: float | None = None
    mix: str = "int8,int4-g128,int3-g128"
    method: str = "gptq"
    calibration: Path | None = None
    backend: BackendChoice = "auto"
    dtype: DTypeChoice = "auto"
    threads: int | None = None


@flags
def quantize(
    model: Model,
    out: Out,
    how: How,
    calibration: CalibrationPlan,
    evidence: EvidencePlan,
    json: JsonFlag = False,
) -> None:
    """Write MODEL in fewer bits to the folder OUT, with what it lost in OUT/vivace.json."""
    from vivace.optimize.quantize.run import quantize as run

    job = _job(model, out, how, calibration)
    with progress("Quantizing") as report:
        done = run(job, report)
    about = publish(done, job.folder, evidence, (how.backend, how.dtype, how.threads))
    show(out, about, json)


def _job(model: str, out: Path, how: How, plan: CalibrationPlan) -> Job:
    from vivace.formats.hub import resolve_model
    from vivace.optimize.quantize.methods import method_named
    from vivace.optimize.quantize.run import Job

    method = method_named(how.method)
    folder = resolve_model(model, notice)
    if not folder.is_dir():
        raise UsageError("A GGUF file cannot be quantized yet; give the folder it was made from.")
    backend = backend_for(folder, how.backend, how.dtype, how.threads)
    needs_text = method.reads_text or how.bits is not None
    runs = calibration_runs(folder, how.calibration, plan) if needs_text else ()
    job = Job(model, folder, out, how.scheme, how.method, backend, runs)
    return job if how.bits is None else replace(job, scheme=_mixed(job, how.bits, how.mix))


def _mixed(job: Job, bits: float, mix: str) -> str:
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.optimize.quantize.sensitivity import mixed_scheme

    with progress("Measuring what each linear costs") as report:
        scheme = mixed_scheme(open_checkpoint(job.folder), job, bits, mix.split(","), report)
    notice(f"At {bits} bits per weight: {scheme}")
    return scheme
