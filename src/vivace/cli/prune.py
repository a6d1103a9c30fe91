"""`vivace prune`: weights at zero, or smaller shapes, and what that lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.console import Report, notice, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.optimizing import backend_for, calibration_runs, publish, show
from vivace.core.config import BackendChoice, DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.plans import CalibrationPlan, EvidencePlan, Shape

if TYPE_CHECKING:
    from vivace.optimize.layerwise import Made

Paths = Annotated[
    tuple[str, Path],
    typer.Argument(metavar="MODEL OUT", help="A folder or a hub id, and the folder to write."),
]


@dataclass(frozen=True)
class How:
    """Attributes:
    method: magnitude, wanda, wanda-matrix or sparsegpt; None is sparsegpt, or none where the
        shape gets smaller.
    sparsity: the share of the layers' weights that become zero; None is 0.5.
    pattern: kept weights of each so many neighbouring inputs, as 2:4; None is any.
    calibration: a file of UTF-8 text; None is Python's standard library, less what is held out.
    backend: what computes.
    dtype: what is computed in; auto is what the model is stored in.
    threads: None is all cores.
    """

    method: str | None = None
    sparsity: float | None = None
    pattern: str | None = None
    calibration: Path | None = None
    backend: BackendChoice = "auto"
    dtype: DTypeChoice = "auto"
    threads: int | None = None


@flags
def prune(
    paths: Paths,
    how: How,
    shape: Shape,
    calibration: CalibrationPlan,
    evidence: EvidencePlan,
    json: JsonFlag = False,
) -> None:
    """Write MODEL with weights at zero, or in a smaller shape, to the folder OUT, with what it lost
    in OUT/vivace.json."""
    from vivace.formats.hub import resolve_model

    (model, out), folder = paths, resolve_model(paths[0], notice)
    if not folder.is_dir():
        raise UsageError("A GGUF file cannot be pruned yet; give the folder it was made from.")
    if shape == Shape():
        run = _zeroing(model, folder, out, how, calibration)
    else:
        run = _cutting(model, folder, out, how, shape, calibration)
    with progress("Pruning") as report:
        done = run(report)
    about = publish(done, folder, evidence, (how.backend, how.dtype, how.threads))
    show(out, about, json)


def _zeroing(
    model: str, folder: Path, out: Path, how: How, plan: CalibrationPlan
) -> Callable[[Report], Made]:
    from vivace.optimize.prune.methods import method_named
    from vivace.optimize.prune.pattern import pattern_of
    from vivace.optimize.prune.run import Job, prune

    name = how.method or "sparsegpt"
    method, pattern = method_named(name), pattern_of(how.sparsity, how.pattern)
    backend = backend_for(folder, how.backend, how.dtype, how.threads)
    runs = calibration_runs(folder, how.calibration, plan) if method.reads_text else ()
    return lambda report: prune(Job(model, folder, out, pattern, name, backend, runs), report)


def _cutting(
    model: str, folder: Path, out: Path, how: How, shape: Shape, plan: CalibrationPlan
) -> Callable[[Report], Made]:
    from vivace.optimize.prune.structure import StructureJob, prune_structure

    given = {name: value for name, value in asdict(how).items() if value is not None}
    unused = [f"--{name}" for name in ("method", "sparsity", "pattern") if name in given]
    if unused:
        raise UsageError(
            f"{' and '.join(unused)} set weights to zero, other flags cut the shape: prune twice "
            "to do both."
        )
    backend = backend_for(folder, how.backend, how.dtype, how.threads)
    runs = calibration_runs(folder, how.calibration, plan)
    job = StructureJob(model, folder, out, shape, backend, runs)
    return lambda report: prune_structure(job, report)
