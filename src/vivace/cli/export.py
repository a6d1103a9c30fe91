"""`vivace export`: one GGUF file, for llama.cpp and all that reads its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.console import notice, print_json, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.optimizing import backend_for, calibration_runs, print_evidence
from vivace.core.config import BackendChoice, DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.plans import CalibrationPlan, EvidencePlan

if TYPE_CHECKING:
    from vivace.optimize.gguf.export import ExportJob

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a .gguf file or a hub id.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The .gguf file to write.")]


@dataclass(frozen=True)
class How:
    """Attributes:
    type: Q4_K_M, Q4_K_S, Q5_K_M, Q5_K_S, Q6_K, Q8_0, Q4_0, BF16, F16 or F32.
    method: gptq, importance (what errors weigh is learnt from text) or search (without text).
    calibration: a file of UTF-8 text; None is Python's standard library, less what is held out.
    backend: what computes.
    dtype: what is computed in; auto is what the model is stored in.
    threads: None is all cores.
    """

    type: str = "Q4_K_M"
    method: str = "gptq"
    calibration: Path | None = None
    backend: BackendChoice = "auto"
    dtype: DTypeChoice = "auto"
    threads: int | None = None


@flags
def export(
    model: Model,
    out: Out,
    how: How,
    calibration: CalibrationPlan,
    evidence: EvidencePlan,
    json: JsonFlag = False,
) -> None:
    """Write MODEL as the GGUF file OUT, with what it lost in the file's metadata."""
    from vivace.optimize import evidence as measuring
    from vivace.optimize.gguf.export import export as run

    if out.suffix.lower() != ".gguf":
        raise UsageError(f"{out} must end with .gguf.")
    job = _job(model, out, how, calibration)
    with progress("Exporting") as report:
        done = run(job, report)
    where = measuring.Where(how.backend, how.dtype, how.threads, notice)
    with progress("Measuring") as report:
        found = measuring.evidence(job.folder, done.file.path, evidence, where, report)
    about = {"recipe": done.recipe, "evidence": found}
    done.file.describe(found)
    done.file.publish()
    if json:
        print_json({"file": str(out), **about})
        return
    print_evidence(out, found)


def _job(model: str, out: Path, how: How, plan: CalibrationPlan) -> ExportJob:
    from vivace.formats.hub import resolve_model
    from vivace.optimize.gguf.export import ExportJob, reads_text

    needs_text = reads_text(how.type, how.method)
    folder = resolve_model(model, notice)
    backend = backend_for(folder, how.backend, how.dtype, how.threads)
    runs = calibration_runs(folder, how.calibration, plan) if needs_text else ()
    return ExportJob(model, folder, out, how.type.upper(), how.method, backend, runs)
