"""The training program, on a corpus of seconds: it learns, and goes on as if never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corpus import Corpus, SourceFile, split  # noqa: E402
from train_mini import PRESETS, Preset, Training  # noqa: E402

from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.models.loader import model_spec, tensor_shapes  # noqa: E402
from vivace.optimize.distill.optimizer import Optimizer, OptimizerSettings, orthogonalize  # noqa: E402

pytestmark = pytest.mark.oracle

TINY = Preset(
    hidden_size=64,
    intermediate_size=64,
    layers=1,
    heads=1,
    kv_heads=1,
    steps=6,
    finish_steps=2,
    batch_tokens=64,
    lengths=((0.0, 16), (0.5, 32)),
    warmup_steps=1,
    report_every=1,
    evaluate_every=3,
)


@pytest.fixture(scope="module")
def files() -> Corpus:
    body = "def function_{0}(value):\n    other = value + {0}\n    return other\n\n\n"
    texts = ["".join(body.format(i * j) for i in range(12)) for j in range(1, 40)]
    return split([SourceFile(f"file{i}.py", text) for i, text in enumerate(texts)])


def train(preset: Preset, files: Corpus, output: Path) -> tuple[Training, list[dict[str, object]]]:
    training = Training(preset, files, output, seed=0)
    if (output / "state.pt").exists():
        training.restore()
    return training, list(training.run())


@pytest.mark.parametrize("killed_after", [5, 7])  # before and in the finish
def test_a_resumed_run_equals_one_that_never_stopped(
    files: Corpus, tmp_path: Path, killed_after: int
) -> None:
    whole, reports = train(TINY, files, tmp_path / "whole")
    killed = Training(TINY, files, tmp_path / "killed", seed=0)
    for _ in zip(range(killed_after), killed.run(), strict=False):
        pass
    saved = killed_after // TINY.evaluate_every * TINY.evaluate_every
    resumed, later_reports = train(TINY, files, tmp_path / "killed")
    assert [report["step"] for report in later_reports] == list(range(saved + 1, 9))
    for name, parameter in whole.backend.parameters.items():
        assert torch.equal(parameter, resumed.backend.parameters[name])
    kept = ("step", "epoch", "loss", "rate")
    for one, other in zip(reports[saved:], later_reports, strict=True):
        assert [one[key] for key in kept] == [other[key] for key in kept]
    assert reports[-1]["held_out_bits_per_byte"] == later_reports[-1]["held_out_bits_per_byte"]


def test_training_learns_and_leaves_a_model_folder(files: Corpus, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    training, reports = train(replace(TINY, steps=30, evaluate_every=10), files, tmp_path)
    assert reports[-1]["loss"] < reports[0]["loss"] - 1
    assert training.best < 8
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "best")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "best")
    assert model.dtype == torch.bfloat16
    assert tokenizer("def f").input_ids[0] == tokenizer.bos_token_id == 0
    assert open_checkpoint(tmp_path / "best").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [("vivace-mini", 8e6, 12e6), ("vivace-draft", 0, 1.5e6)],
)
def test_presets_are_of_the_size_asked_for(name: str, smallest: float, largest: float) -> None:
    shapes = tensor_shapes(model_spec(PRESETS[name].config()))
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert smallest <= parameters <= largest


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, n))[0][:, : min(shape)] for n in shape)
    matrix = left * torch.linspace(10, 1000, min(shape)) @ right.T
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_optimizer_finds_a_minimum() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"q_proj.weight": (8, 8), "embed_tokens.weight": (8, 8), "norm.weight": (8,)}
    goal = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    parameters = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    optimizer = Optimizer(parameters, OptimizerSettings(0.1, 0.1, weight_decay=0))
    for step in range(150):
        loss = sum((parameters[name] - goal[name]).square().sum() for name in shapes)
        loss.backward()
        optimizer.step(1 - step / 150)
    assert float(loss.detach()) < 0.05
