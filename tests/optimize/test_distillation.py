"""Distillation: its loss, its order of text, and training that goes on as if never stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file  # noqa: E402

from tests.optimize.models import write_model  # noqa: E402
from vivace import LLM  # noqa: E402
from vivace.core.errors import CheckpointError, UsageError  # noqa: E402
from vivace.evaluate.divergence import kl_divergence, log_probabilities  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.optimize.distill.batches import Batches  # noqa: E402
from vivace.optimize.distill.job import DistillJob  # noqa: E402
from vivace.optimize.distill.loss import distillation_loss, next_token_loss  # noqa: E402
from vivace.optimize.distill.run import distill  # noqa: E402
from vivace.optimize.distill.training import schedule, teacher_of  # noqa: E402
from vivace.optimize.plans import TrainingPlan  # noqa: E402

pytestmark = pytest.mark.oracle

PLAN = TrainingPlan(steps=8, batch_tokens=128, run_len=16, save_every=3)


def logits(rows: int, vocab: int, seed: int, size: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * size


def documents(count: int = 20) -> list[np.ndarray]:
    """Text that can be learned: runs of one token after the other."""
    rng = np.random.default_rng(3)
    return [
        ((rng.integers(199) + np.arange(rng.integers(20, 60))) % 199).astype(np.int32)
        for _ in range(count)
    ]


def job(teacher: Path, student: Path, out: Path, plan: TrainingPlan = PLAN) -> DistillJob:
    return DistillJob(teacher, student, ("a", "b"), out, documents(), plan, 1.0, "float32")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    teacher = write_model(tmp_path / "teacher")
    return teacher, write_model(tmp_path / "student", seed=1, num_hidden_layers=1)


def test_the_loss_is_the_divergence_of_the_evaluation() -> None:
    student, teacher = logits(9, 31, 0), logits(9, 31, 1)
    base, other = (log_probabilities(x.numpy()) for x in (teacher, student))
    expected = kl_divergence(base, other).mean()
    assert float(distillation_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(student, student)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gradients_are_the_difference_of_probabilities(temperature: float) -> None:
    """T (q - p) / rows, and none for the teacher."""
    student, teacher = logits(5, 13, 0).requires_grad_(), logits(5, 13, 1).requires_grad_()
    distillation_loss(student, teacher, temperature).backward()
    q, p = ((x.detach() / temperature).softmax(-1) for x in (student, teacher))
    torch.testing.assert_close(student.grad, temperature * (q - p) / 5)
    assert teacher.grad is None


def test_at_high_temperatures_logits_are_matched() -> None:
    """The limit: half of the variance of their difference over the vocabulary."""
    student, teacher = logits(6, 40, 0), logits(6, 40, 1)
    expected = (student - teacher).var(dim=1, unbiased=False).mean() / 2
    found = distillation_loss(student.double(), teacher.double(), 1000.0)
    assert float(found) == pytest.approx(float(expected), rel=1e-2)


def test_next_tokens_stay_in_their_run() -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    sure = torch.full((2, 3, 8), -50.0)
    for run in range(2):
        for place in range(2):
            sure[run, place, ids[run, place + 1]] = 50
    assert float(next_token_loss(sure.view(6, 8), ids)) == pytest.approx(0, abs=1e-6)


def test_batches_are_a_function_of_the_step() -> None:
    texts = documents()
    forward = Batches(texts, 4, 16, seed=5)
    steps = range(2 * forward.per_epoch + 1)
    found = [forward.at(step).copy() for step in steps]
    again = Batches(texts, 4, 16, seed=5)
    for step in reversed(steps):
        np.testing.assert_array_equal(again.at(step), found[step])
    other = Batches(texts, 4, 16, seed=6)
    assert not np.array_equal(other.at(0), found[0])
    epochs = [np.stack(found[: forward.per_epoch]), np.stack(found[forward.per_epoch : -1])]
    assert not np.array_equal(*epochs)
    with pytest.raises(UsageError, match="less than a batch"):
        Batches(texts[:1], 8, 16)


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    shares = [schedule(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.2)
    assert max(shares) == shares[5] == 1
    assert 0 < shares[-1] < 0.02


def test_a_student_comes_closer_to_its_teacher(pair: tuple[Path, Path], tmp_path: Path) -> None:
    teacher, student = pair
    out = tmp_path / "out"
    reports: list[tuple[int, int]] = []
    plan = replace(PLAN, steps=20, vector_rate=1e-2)
    made = distill(job(teacher, student, out, plan), lambda line: None, _into(reports))
    made.artefact.publish()
    assert reports[-1] == (20, 20)
    tokens = documents(1)[0].tolist()
    found = {
        folder: LLM(str(folder), backend="reference", dtype="float32", notify=lambda _: None)
        for folder in (teacher, student, out)
    }
    base = log_probabilities(found[teacher].logits(tokens))
    before, after = (
        kl_divergence(base, log_probabilities(found[folder].logits(tokens))).mean()
        for folder in (student, out)
    )
    assert after < 0.7 * before
    assert not (out / "state.pt").exists()
    about = json.loads((out / "vivace.json").read_text())
    assert about["recipe"]["plan"]["steps"] == 20


def _into(reports: list[tuple[int, int]]):  # type: ignore[no-untyped-def]
    return lambda done, total: reports.append((done, total))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stopped_after", [2, 3, 7])
def test_an_interrupted_run_goes_on(
    pair: tuple[Path, Path], tmp_path: Path, stopped_after: int
) -> None:
    def stop(done: int, total: int) -> None:
        if done == stopped_after:
            raise StoppedError

    whole, parts, said = tmp_path / "whole", tmp_path / "parts", []
    distill(job(*pair, whole), said.append).artefact.publish()
    with pytest.raises(StoppedError):
        distill(job(*pair, parts), lambda line: None, stop)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "parts.partial")
    with pytest.raises(UsageError, match="is of a run with another"):
        distill(job(*pair, parts, replace(PLAN, seed=1)), lambda line: None)
    reports: list[tuple[int, int]] = []
    distill(job(*pair, parts), lambda line: None, _into(reports)).artefact.publish()
    saved = (stopped_after - 1) // PLAN.save_every * PLAN.save_every
    assert reports[0][0] == saved + 1
    file = "model-00001-of-00001.safetensors"
    assert (parts / file).read_bytes() == (whole / file).read_bytes()
    assert said[-1].startswith("Step 8: ")


def test_the_teacher_is_not_trained(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before = load_file(pair[0] / "model.safetensors")
    distill(job(*pair, tmp_path / "out"), lambda line: None)
    for name, array in load_file(pair[0] / "model.safetensors").items():
        np.testing.assert_array_equal(array, before[name])
    loss = teacher_of(open_checkpoint(pair[0]), "float32", 1.0)
    ids = np.asarray([[1, 2, 3, 4]], np.int32)
    student = torch.zeros(4, 199, requires_grad=True)
    loss(ids, student).backward()
    assert student.grad is not None


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"run_len": 512, "batch_tokens": 512}, {}, "at most 256 tokens"),
        ({"batch_tokens": 100}, {}, "no multiple"),
        ({}, {"vocab_size": 150}, "must share a tokenizer"),
        ({"batch_tokens": 16000}, {}, "less than a batch"),
    ],
)
def test_models_and_plans_that_do_not_fit(
    changes: dict[str, int], overrides: dict[str, int], message: str, tmp_path: Path
) -> None:
    teacher = write_model(tmp_path / "teacher")
    student = write_model(tmp_path / "student", **overrides)
    with pytest.raises(UsageError, match=message):
        distill(job(teacher, student, tmp_path / "out", replace(PLAN, **changes)), print)
