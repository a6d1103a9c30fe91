"""`vivace distill`: a student that learns from its teacher, and how far it is from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.console import notice, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.optimizing import publish, show
from vivace.core.config import DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.plans import EvidencePlan, TrainingPlan

if TYPE_CHECKING:
    from vivace.backends.protocol import DTypeName
    from vivace.optimize.calibrate import TokenIds
    from vivace.optimize.distill.job import DistillJob

Pair = Annotated[
    tuple[str, str],
    typer.Argument(metavar="TEACHER STUDENT", help="Folders or hub ids, with one tokenizer."),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")]


@dataclass(frozen=True)
class How:
    """Attributes:
    text: a file of UTF-8 text; None is Python's standard library, less what is held out.
    temperature: that softens what both models say.
    dtype: what matrices are multiplied in; auto is what the student is stored in.
    threads: None is all cores.
    """

    text: Path | None = None
    temperature: float = 1.0
    dtype: DTypeChoice = "auto"
    threads: int | None = None


@flags
def distill(
    models: Pair,
    out: Out,
    how: How,
    plan: TrainingPlan,
    evidence: EvidencePlan,
    json: JsonFlag = False,
) -> None:
    """Train STUDENT on what TEACHER says, into the folder OUT, with what is still between them in
    OUT/vivace.json. Needs PyTorch."""
    job = _job(models, out, how, plan)
    try:
        from vivace.optimize.distill.memory import keep_freed_memory, use_threads
        from vivace.optimize.distill.run import distill as run
    except ImportError:
        raise UsageError(
            "Distillation needs PyTorch: install it with pip install 'vivace[torch]'."
        ) from None
    use_threads(how.threads)
    keep_freed_memory()
    with progress("Distilling") as report:
        done = run(job, notice, report)
    about = publish(done, job.teacher, evidence, ("auto", how.dtype, how.threads))
    show(out, about, json)


def _job(models: tuple[str, str], out: Path, how: How, plan: TrainingPlan) -> DistillJob:
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.formats.hub import resolve_model
    from vivace.optimize.distill.job import DistillJob

    if how.temperature <= 0:
        raise UsageError(f"temperature must be above 0, got {how.temperature:g}.")
    teacher, student = (resolve_model(name, notice) for name in models)
    if not (teacher.is_dir() and student.is_dir()):
        raise UsageError("GGUF files cannot be distilled; give the folders they were made from.")
    stored: DTypeName = "float32" if open_checkpoint(student).dtype == "float32" else "bfloat16"
    return DistillJob(
        teacher,
        student,
        models,
        out,
        _documents(teacher, how.text),
        plan,
        how.temperature,
        stored if how.dtype == "auto" else how.dtype,
    )


def _documents(folder: Path, text: Path | None) -> list[TokenIds]:
    from vivace.evaluate.corpus import text_file
    from vivace.optimize.calibrate import default_texts, encoded
    from vivace.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise UsageError("The teacher has no tokenizer to read text with.")
    given = None if text is None else text_file(text).text
    return encoded(default_texts() if given is None else [lambda: given], tokenizer.encode)
