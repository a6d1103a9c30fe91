"""Whole checkpoints as GGUF files: the same model is read back, rounded as asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.optimize.models import FAMILIES, runs, write_model
from vivace import LLM
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import CheckpointError, UsageError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.gguf.checkpoint import read_metadata
from vivace.optimize.gguf.export import ExportJob, export
from vivace.optimize.gguf.mixtures import FILE_TYPES, Shape, type_of
from vivace.optimize.layer import WorkingLayer

TOKENS = np.random.default_rng(9).integers(1, 199, 60).tolist()
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 32, "num_attention_heads": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {"rope_type": "longrope", "long_factor": [4.0] * 8, "short_factor": [1.5] * 8}
MIXTURES = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True}),
    "llama 3": ("llama", {"rope_scaling": LLAMA3}),
    "linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "yarn": (
        "qwen2",
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "longrope": ("phi3", {"rope_scaling": LONG, "original_max_position_embeddings": 128}),
    "qwen3": ("llama", {"model_type": "qwen3"}),
    "mistral": ("llama", {"model_type": "mistral", "sliding_window": None}),
    "gemma3": ("gemma2", {"model_type": "gemma3_text", "num_hidden_layers": 7}),
    "granite": ("llama", {"model_type": "granite", "residual_multiplier": 0.3}),
    "smollm3": ("llama", {"model_type": "smollm3", "num_hidden_layers": 5}),
    "mixtral": ("llama", {"model_type": "mixtral", "num_local_experts": 4, **MIXTURES}),
    "qwen3 with experts": (
        "llama",
        {"model_type": "qwen3_moe", "norm_topk_prob": True, **MIXTURES},
    ),
}


def exported(folder: Path, out: Path, file_type: str, method: str = "search") -> Path:
    job = ExportJob("tiny", folder, out, file_type, method, ReferenceBackend(), runs())
    export(job).file.publish()
    return out


def logits(model: Path) -> np.ndarray:
    llm = LLM(str(model), backend="reference", dtype="float32", notify=lambda _: None)
    return llm.logits(TOKENS)


def distance(model: Path, expected: np.ndarray) -> float:
    return float(np.square(logits(model) - expected).mean() / np.square(expected).mean())


@pytest.mark.parametrize("case", CASES)
def test_the_same_model_is_read_back(case: str, tmp_path: Path) -> None:
    family, overrides = CASES[case]
    folder = write_model(tmp_path / "model", family, **overrides)
    out = exported(folder, tmp_path / "x.gguf", "F32")
    assert distance(out, logits(folder)) < 1e-10
    before, after = (open_checkpoint(path).tensors for path in (folder, out))
    assert set(before) == set(after)
    for name in before:
        np.testing.assert_allclose(
            after.get(name).to_float32(), before.get(name).to_float32(), atol=1e-6
        )


def test_types_and_sizes(tmp_path: Path) -> None:
    """A width of no whole blocks falls back, as in llama.cpp."""
    wide = write_model(tmp_path / "wide", **WIDE)
    narrow = write_model(tmp_path / "narrow")
    kinds = {
        folder.name: {
            tensors.dtype(name)
            for tensors in [open_checkpoint(path).tensors]
            for name in tensors
            if "norm" not in name
        }
        for folder in (wide, narrow)
        for path in [exported(folder, tmp_path / f"{folder.name}.gguf", "Q4_K_M")]
    }
    assert kinds == {"wide": {"Q4_K", "Q6_K"}, "narrow": {"Q5_0", "Q8_0"}}


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_every_type_costs_what_it_should(file_type: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1, **WIDE)
    found = distance(exported(folder, tmp_path / "x.gguf", file_type), logits(folder))
    limits = {"F32": 1e-12, "F16": 1e-5, "BF16": 1e-4, "Q8_0": 1e-3, "Q6_K": 3e-3}
    assert found < limits.get(file_type, 0.06)
    assert read_metadata(tmp_path / "x.gguf")["general.file_type"] == FILE_TYPES[file_type].number


def test_inputs_make_a_difference(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", **WIDE)
    expected = logits(folder)
    plain, spread = (
        distance(exported(folder, tmp_path / f"{method}.gguf", "Q4_K_M", method), expected)
        for method in ("search", "gptq")
    )
    assert spread < 0.9 * plain


def test_layers_see_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of a layer come from those before it as they will be read, rows in order."""
    seen: dict[str, np.ndarray] = {}
    advance = WorkingLayer.advance

    def remember(layer: WorkingLayer) -> None:
        seen.update({name: t.to_float32() for name, t in layer.tensors.changed.items()})
        advance(layer)

    monkeypatch.setattr(WorkingLayer, "advance", remember)
    folder = write_model(tmp_path / "model")
    tensors = open_checkpoint(exported(folder, tmp_path / "x.gguf", "Q4_0", "gptq")).tensors
    assert len(seen) == 2 * 7
    for name, values in seen.items():
        np.testing.assert_array_equal(tensors.get(name).to_float32(), values)


class StoppedError(Exception):
    pass


def stop_at(parts: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == parts:
            raise StoppedError

    return progress


@pytest.mark.parametrize("method", ["search", "gptq"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_an_interrupted_run_goes_on(method: str, parts: int, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    whole = exported(folder, tmp_path / "whole.gguf", "Q4_K_M", method)
    out = tmp_path / "x.gguf"
    job = ExportJob("tiny", folder, out, "Q4_K_M", method, ReferenceBackend(), runs())
    with pytest.raises(StoppedError):
        export(job, stop_at(parts))
    partial = tmp_path / "x.partial.gguf"
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        open_checkpoint(partial)
    again: list[int] = []
    export(job, lambda done, total: again.append(done)).file.publish()
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_model(tmp_path / "model"), tmp_path / "x.gguf"
    job = ExportJob("tiny", folder, out, "Q8_0", "gptq", ReferenceBackend(), runs())
    with pytest.raises(StoppedError):
        export(job, stop_at(2))
    written: list[str] = []
    write = "vivace.formats.gguf.writer.PartialFile.write"
    monkeypatch.setattr(write, lambda self, name, rows, start=0: written.append(name))
    export(job)
    assert set(written) == {"token_embd.weight", "output_norm.weight", "output.weight"}


def test_the_recipe_is_in_the_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    out = exported(folder, tmp_path / "x.gguf", "Q8_0", "importance")
    recipe = json.loads(read_metadata(out)["vivace.recipe"])
    assert (recipe["scheme"], recipe["method"]) == ("Q8_0", "importance")
    assert recipe["calibration"]["runs"] == 4


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"model_type": "gpt_oss"}, "gpt_oss cannot be written as GGUF"),
        ({"hidden_act": "gelu"}, "kind would be read back"),
        ({"model_type": "mistral", "sliding_window": 16}, "window would be read back"),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    overrides: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", **overrides)
    with pytest.raises(UsageError, match=reason):
        exported(folder, tmp_path / "x.gguf", "F32")
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize(
    ("file_type", "method", "reason"),
    [
        ("Q3", "search", "no type 'Q3'; choose among F32"),
        ("Q8_0", "rtn", "no method 'rtn'; choose among search"),
    ],
)
def test_wrong_usage(file_type: str, method: str, reason: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(UsageError, match=reason):
        exported(folder, tmp_path / "x.gguf", file_type, method)


def test_what_is_rounded_already_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    first = exported(folder, tmp_path / "a.gguf", "Q8_0")
    with pytest.raises(UsageError, match="quantized already"):
        exported(first, tmp_path / "b.gguf", "Q4_0")
    floats = exported(folder, tmp_path / "c.gguf", "F16")
    exported(floats, tmp_path / "d.gguf", "Q4_0")


def test_experts_are_not_calibrated(tmp_path: Path) -> None:
    family, overrides = CASES["mixtral"]
    folder = write_model(tmp_path / "model", family, **overrides)
    with pytest.raises(UsageError, match="give --method search"):
        exported(folder, tmp_path / "x.gguf", "Q8_0", "gptq")
    exported(folder, tmp_path / "x.gguf", "Q8_0")


# --- which tensor gets which type -----------------------------------------------------------------

PLAIN = Shape(layers=32, experts=0, groups_heads=True, tied=False)


def kind(name: str, file_type: str, model: Shape = PLAIN, width: int = 4096) -> str:
    return type_of(name, (64, width), FILE_TYPES[file_type], model)


@pytest.mark.tiny
def test_some_layers_are_finer() -> None:
    """As llama.cpp's Q4_K_M of a model of 32 layers."""
    finer = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for part in ("attn_v", "ffn_down"):
        found = [kind(f"blk.{i}.{part}.weight", "Q4_K_M") for i in range(32)]
        assert [i for i, name in enumerate(found) if name == "Q6_K"] == finer
        assert set(found) == {"Q4_K", "Q6_K"}
    small = [kind(f"blk.{i}.ffn_down.weight", "Q4_K_S") for i in range(32)]
    assert small == ["Q5_K"] * 4 + ["Q4_K"] * 28


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "file_type", "model", "width", "expected"),
    [
        ("output.weight", "Q4_0", PLAIN, 4096, "Q6_K"),
        ("output.weight", "Q8_0", PLAIN, 4096, "Q8_0"),
        ("output.weight", "Q6_K", PLAIN, 96, "Q8_0"),
        ("token_embd.weight", "Q4_0", PLAIN, 4096, "Q4_0"),
        ("token_embd.weight", "Q4_0", Shape(32, 0, True, True), 4096, "Q6_K"),
        ("blk.5.attn_v.weight", "Q4_K_M", Shape(80, 0, True, False), 8192, "Q6_K"),
        ("blk.11.attn_v.weight", "Q4_K_M", Shape(80, 0, True, False), 8192, "Q5_K"),
        ("blk.4.attn_k.weight", "Q4_K_M", Shape(32, 8, True, False), 4096, "Q8_0"),
        ("blk.4.attn_output.weight", "Q4_K_M", Shape(32, 8, True, False), 4096, "Q5_K"),
        ("blk.4.ffn_gate_inp.weight", "Q4_K_M", Shape(32, 8, True, False), 4096, "F32"),
        ("blk.4.attn_q.weight", "Q4_K_M", PLAIN, 96, "Q5_0"),
        ("blk.4.attn_q.weight", "Q4_0", PLAIN, 48, "F16"),
    ],
)
def test_rules(name: str, file_type: str, model: Shape, width: int, expected: str) -> None:
    assert kind(name, file_type, model, width) == expected
