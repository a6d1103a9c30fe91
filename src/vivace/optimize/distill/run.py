"""`distill`: a student that reads what its teacher reads, and learns to say what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vivace.core.errors import UsageError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.qtensor import Array
from vivace.optimize.artefact import PartialArtefact
from vivace.optimize.calibrate import digest
from vivace.optimize.distill.batches import Batches
from vivace.optimize.distill.job import DistillJob
from vivace.optimize.distill.training import Training, load_student, teacher_of
from vivace.optimize.layerwise import FloatModel, Made, Progress, open_floats

VERSION = 1
_STATE_FILE = "state.pt"

Notify: TypeAlias = Callable[[str], None]


def distill(job: DistillJob, notify: Notify, progress: Progress | None = None) -> Made:
    """Write the partial artefact: the student in its own types. An interrupted run goes on from its
    last state, as if it had never stopped.

    Args:
        notify: told the mean loss since the last state, in nats per token.
        progress: called with the steps done, of how many.

    Raises:
        UsageError: the models do not fit each other or the plan, or the place is taken.
        CheckpointError: one cannot be read.
    """
    teacher, student = (open_floats(path, "distilled") for path in (job.teacher, job.student))
    _check(teacher, student, job)
    recipe = {
        "version": VERSION,
        "method": "distill",
        "teacher": job.names[0],
        "model": job.names[1],
        "weights": [teacher.identity(), student.identity()],
        "plan": asdict(job.plan),
        "temperature": job.temperature,
        "text": {"tokens": sum(map(len, job.documents)), "digest": digest(job.documents)},
        "computed": job.dtype,
    }
    artefact = PartialArtefact(job.out, 1)
    artefact.open(recipe)
    if not artefact.has(0):
        artefact.write(0, _trained(job, student, artefact.folder / _STATE_FILE, notify, progress))
    (artefact.folder / _STATE_FILE).unlink(missing_ok=True)
    about = {"recipe": recipe}
    artefact.complete(job.student, student.checkpoint.config, about)
    return Made(artefact, about)


def _check(teacher: FloatModel, student: FloatModel, job: DistillJob) -> None:
    vocabularies = [model.spec.vocab_size for model in (teacher, student)]
    if vocabularies[0] != vocabularies[1]:
        raise UsageError(
            f"The teacher has {vocabularies[0]} tokens, the student {vocabularies[1]}: they must "
            "share a tokenizer."
        )
    longest = min(model.spec.max_model_len for model in (teacher, student))
    if job.plan.run_len > longest:
        raise UsageError(f"The models read at most {longest} tokens; give a smaller --run-len.")
    if min(job.plan.matrix_rate, job.plan.vector_rate) <= 0:
        raise UsageError("Learning rates must be above 0.")
    if job.plan.batch_tokens % job.plan.run_len:
        raise UsageError(
            f"--batch-tokens {job.plan.batch_tokens} is no multiple of --run-len "
            f"{job.plan.run_len}."
        )


def _trained(
    job: DistillJob, model: FloatModel, state: Path, notify: Notify, progress: Progress | None
) -> dict[str, Array]:
    """The student's tensors after all steps, in the types that they were stored in."""
    plan = job.plan
    batches = Batches(job.documents, plan.batch_tokens // plan.run_len, plan.run_len, plan.seed)
    student = load_student(model.checkpoint, job.dtype)
    objective = teacher_of(open_checkpoint(job.teacher), job.dtype, job.temperature)
    training = Training(student, objective, batches, plan)
    if state.exists():
        training.restore(state)
    losses: list[float] = []
    while training.done < plan.steps:
        losses.append(training.step())
        if progress is not None:
            progress(training.done, plan.steps)
        if training.done % plan.save_every == 0 or training.done == plan.steps:
            training.save(state)
            notify(f"Step {training.done}: {np.mean(losses):.4f} nats per token.")
            losses = []
    return {
        name: parameter.detach().numpy().astype(model.stored(name).dtype)
        for name, parameter in student.parameters.items()
    }
