"""Smaller shapes: what is left computes what the whole model would without the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.optimize.models import runs, write_model
from vivace import LLM
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import UsageError
from vivace.optimize.layerwise import open_floats
from vivace.optimize.plans import Shape
from vivace.optimize.prune.cut import Kept
from vivace.optimize.prune.importance import block_influence, energy_shares, most_important
from vivace.optimize.prune.structure import StructureJob, choose, prune_structure

TOKENS = np.random.default_rng(9).integers(1, 199, 60).tolist()
EVERYTHING = Shape(layers=2, hidden_size=48, mlp_size=96, heads=2, kv_heads=1)


def job(folder: Path, out: Path, shape: Shape) -> StructureJob:
    return StructureJob("tiny", folder, out, shape, ReferenceBackend(), runs())


def made(folder: Path, out: Path, shape: Shape) -> Path:
    prune_structure(job(folder, out, shape)).artefact.publish()
    return out


def logits(folder: Path) -> np.ndarray:
    llm = LLM(str(folder), backend="reference", dtype="float32", notify=lambda _: None)
    return llm.logits(TOKENS)


def write_masked(folder: Path, out: Path, kept: Kept) -> Path:
    """The whole model, with all that is not kept at zero where it is added to the hidden states."""
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    gone = np.setdiff1d(np.arange(config["hidden_size"]), kept.channels)
    tensors["model.embed_tokens.weight"][:, gone] = 0
    layers = {layer.index: layer for layer in kept.layers}
    for i in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{i}."
        added = (prefix + "self_attn.o_proj.weight", prefix + "mlp.down_proj.weight")
        if i not in layers:
            for name in added:
                tensors[name][:] = 0
            continue
        size = config["head_dim"]
        heads = np.zeros(tensors[added[0]].shape[1] // size, np.bool_)
        heads[layers[i].heads] = True
        neurons = np.zeros(tensors[added[1]].shape[1], np.bool_)
        neurons[layers[i].neurons] = True
        for name, columns in zip(added, (np.repeat(heads, size), neurons), strict=True):
            tensors[name][gone] = 0
            tensors[name][:, ~columns] = 0
    out.mkdir()
    save_file(tensors, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize(
    "shape",
    [
        Shape(layers=2),
        Shape(hidden_size=40),
        Shape(mlp_size=50),
        Shape(heads=2),
        Shape(kv_heads=1),
        EVERYTHING,
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "olmo2", "qwen3"])
def test_what_is_left_equals_the_rest_at_zero(family: str, shape: Shape, tmp_path: Path) -> None:
    if family == "olmo2" and (shape.heads or shape.kv_heads):
        pytest.skip("its queries are normed over all heads")
    overrides = {"model_type": family, "pad_token_id": 0, "num_hidden_layers": 3}
    overrides["rms_norm_eps"] = 1e-12  # which is added to means over fewer channels, unscaled
    folder = write_model(tmp_path / "model", num_key_value_heads=2, **overrides)
    kept = choose(open_floats(folder, "pruned"), job(folder, tmp_path / "out", shape))
    masked = logits(write_masked(folder, tmp_path / "masked", kept))
    found = logits(made(folder, tmp_path / "out", shape))
    assert np.abs(found - masked).max() < 1e-5 * np.abs(masked).max()


def test_the_result_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=3)
    out = made(folder, tmp_path / "out", EVERYTHING)
    config = json.loads((out / "config.json").read_text())
    sizes = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    assert [config[name] for name in sizes] == [2, 48, 96, 2]
    shapes = {n: a.shape for f in out.glob("*.safetensors") for n, a in load_file(f).items()}
    assert shapes["model.layers.1.self_attn.q_proj.weight"] == (2 * 16, 48)
    assert shapes["model.layers.1.self_attn.k_proj.weight"] == (16, 48)
    assert not any(".layers.2." in name for name in shapes)
    about = json.loads((out / "vivace.json").read_text())
    assert about["recipe"]["shape"]["hidden_size"] == 48
    assert len(about["kept_layers"]) == 2


def test_energies_are_those_of_the_outputs() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((50, 12)), rng.standard_normal((7, 12))
    shares = energy_shares(weights.astype(np.float32), (x.T @ x).astype(np.float32), 3)
    whole = np.square(x @ weights.T).sum()
    alone = [np.square(x[:, i : i + 3] @ weights[:, i : i + 3].T).sum() for i in range(0, 12, 3)]
    np.testing.assert_allclose(shares, alone / whole, rtol=1e-5)


def test_a_layer_that_does_nothing_has_no_influence() -> None:
    x = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    assert block_influence([(x, 2 * x)]) == pytest.approx(0, abs=1e-6)
    assert block_influence([(x, -x)]) == pytest.approx(2)


def test_the_most_important_stay_in_order() -> None:
    values = np.asarray([1, 5, 3, 5, 0], np.float32)
    assert most_important(values, 3).tolist() == [1, 2, 3]


def test_what_does_nothing_goes_first(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=3)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"][:] *= 1e-3
    tensors["model.layers.1.mlp.down_proj.weight"][:] *= 1e-3
    tensors["model.layers.0.mlp.down_proj.weight"][:, 7] = 0
    tensors["model.layers.0.self_attn.o_proj.weight"][:, 16:32] = 0
    save_file(tensors, folder / "model.safetensors")
    shape = Shape(layers=2, mlp_size=127, heads=2)
    kept = choose(open_floats(folder, "pruned"), job(folder, tmp_path / "out", shape))
    assert [layer.index for layer in kept.layers] == [0, 2]
    assert 7 not in kept.layers[0].neurons
    assert 1 not in kept.layers[0].heads


class StoppedError(Exception):
    pass


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vivace.optimize.artefact import PartialArtefact

    folder = write_model(tmp_path / "model")
    whole = made(folder, tmp_path / "whole", Shape(mlp_size=96))
    write = PartialArtefact.write

    def stop(self: PartialArtefact, shard: int, tensors: object) -> None:
        if shard == 1:
            raise StoppedError
        write(self, shard, tensors)  # type: ignore[arg-type]

    monkeypatch.setattr(PartialArtefact, "write", stop)
    with pytest.raises(StoppedError):
        made(folder, tmp_path / "parts", Shape(mlp_size=96))
    monkeypatch.setattr(PartialArtefact, "write", write)
    with pytest.raises(UsageError, match="is of a run with another"):
        made(folder, tmp_path / "parts", Shape(mlp_size=64))
    parts = made(folder, tmp_path / "parts", Shape(mlp_size=96))
    for file in whole.glob("*.safetensors"):
        assert (parts / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("overrides", "shape", "message"),
    [
        ({}, Shape(layers=3), "has layers 2; --layers cannot be 3"),
        ({}, Shape(heads=3), "3 heads cannot share 2 KV heads"),
        ({}, Shape(heads=4, kv_heads=1), "at most 2"),
        ({"model_type": "olmo2"}, Shape(heads=2), "normed over all heads"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 16}, Shape(hidden_size=32), "follows"),
    ],
)
def test_shapes_that_cannot_be(
    overrides: dict[str, object], shape: Shape, message: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", **overrides)
    with pytest.raises(UsageError, match=message):
        made(folder, tmp_path / "out", shape)


def test_layers_that_differ_keep_their_kind(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    folder = write_model(
        tmp_path / "model",
        model_type="gemma2",
        query_pre_attn_scalar=16,
        num_hidden_layers=3,
        sliding_window=8,
        layer_types=kinds,
    )
    plan = replace(Shape(), layers=2)
    kept = choose(open_floats(folder, "pruned"), job(folder, tmp_path / "out", plan))
    out = made(folder, tmp_path / "out", plan)
    config = json.loads((out / "config.json").read_text())
    assert config["layer_types"] == [kinds[layer.index] for layer in kept.layers]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_transformers_computes_the_same(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = write_model(tmp_path / "model", model_type=family, num_hidden_layers=3)
    out = made(folder, tmp_path / "out", EVERYTHING)
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    with torch.no_grad():
        theirs = model(torch.tensor([TOKENS])).logits[0].numpy()
    np.testing.assert_allclose(theirs, logits(out), rtol=1e-3, atol=1e-3)
