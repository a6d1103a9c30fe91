"""A GGUF file as a checkpoint: names, order of rows, exact codes, configuration, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.gguf_files import IDS, LLAMA, RNG, Tensor, floats, quantized, write_gguf
from vivace.core.errors import CheckpointError
from vivace.core.sampling import SamplingParams
from vivace.formats.checkpoint import (
    Checkpoint,
    end_token_ids,
    open_checkpoint,
    sampling_defaults,
)
from vivace.formats.gguf.blocks import TYPES, dequantize

pytestmark = pytest.mark.tiny


def values_of(tensor: Tensor) -> np.ndarray:
    type_id, shape, content = tensor
    raw = np.frombuffer(content, np.uint8).reshape(int(np.prod(shape[:-1])), -1)
    return dequantize(raw, TYPES[type_id]).reshape(shape)


def opened(folder: Path, tensors: dict[str, Tensor], **metadata: Any) -> Checkpoint:
    more = {key.replace("__", "."): value for key, value in metadata.items()}
    return open_checkpoint(write_gguf(folder / "x.gguf", {**LLAMA, **more}, tensors))


def halves(values: np.ndarray, heads: int) -> np.ndarray:
    """Row 2i of a head goes to i, row 2i + 1 to half a head beyond."""
    size = len(values) // heads
    order = [h * size + 2 * i + j for h in range(heads) for j in (0, 1) for i in range(size // 2)]
    return values[order]


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_matrix_has_the_files_values(tmp_path: Path, kind: str) -> None:
    stored = quantized(kind, 64, 32)
    tensor = opened(tmp_path, {"blk.0.ffn_up.weight": stored}).tensors.get(
        "model.layers.0.mlp.up_proj.weight"
    )
    assert tensor.shape == (64, 32)
    np.testing.assert_array_equal(tensor.to_float32(), values_of(stored))
    assert tensor.scheme.name == ("int4-g32-a16" if kind == "Q4_0" else "float32")


def test_q4_0_keeps_its_codes_and_scales(tmp_path: Path) -> None:
    stored = quantized("Q4_0", 3, 64)
    blocks = np.frombuffer(stored[2], TYPES[stored[0]].block).reshape(3, 2)
    tensors = opened(tmp_path, {"blk.0.ffn_down.weight": stored}).tensors
    buffers = tensors.get("model.layers.0.mlp.down_proj.weight").buffers
    np.testing.assert_array_equal(buffers["weight_scale"], blocks["d"])
    assert buffers["weight_packed"].shape == (3, 32)
    low = blocks["codes"] & 15
    assert (buffers["weight_packed"][:, :8] & 15 == low[:, 0, 0::2]).all()
    assert (buffers["weight_packed"][:, :8] >> 4 == low[:, 0, 1::2]).all()
    assert "weight_zero_point" not in buffers


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F32"])
@pytest.mark.parametrize(("name", "usual", "heads"), [("q", "q_proj", 4), ("k", "k_proj", 2)])
def test_rows_of_queries_and_keys_go_back(
    tmp_path: Path, kind: str, name: str, usual: str, heads: int
) -> None:
    rows = 8 * heads
    stored = floats(RNG.normal(size=(rows, 32))) if kind == "F32" else quantized(kind, rows, 32)
    bias = RNG.normal(size=rows).astype(np.float32)
    tensors = opened(
        tmp_path, {f"blk.0.attn_{name}.weight": stored, f"blk.0.attn_{name}.bias": floats(bias)}
    ).tensors
    given = values_of(stored) if kind != "F32" else np.frombuffer(stored[2], "<f4").reshape(-1, 32)
    prefix = f"model.layers.0.self_attn.{usual}"
    np.testing.assert_array_equal(
        tensors.get(f"{prefix}.weight").to_float32(), halves(given, heads)
    )
    np.testing.assert_array_equal(tensors.get(f"{prefix}.bias").to_float32(), halves(bias, heads))


def test_a_table_is_floats_even_from_q4_0(tmp_path: Path) -> None:
    stored = quantized("Q4_0", 5, 32)
    checkpoint = opened(tmp_path, {"token_embd.weight": stored})
    table = checkpoint.tensors.get("model.embed_tokens.weight")
    assert table.scheme.name == "float32"
    np.testing.assert_array_equal(table.to_float32(), values_of(stored))
    assert checkpoint.dtype == "bfloat16"
    assert checkpoint.config["vocab_size"] == 5


def test_each_expert_has_a_part(tmp_path: Path) -> None:
    stored = quantized("Q8_0", 3, 64, 32)
    checkpoint = opened(
        tmp_path,
        {"blk.0.ffn_gate_exps.weight": stored},
        llama__expert_count=3,
        llama__expert_used_count=2,
    )
    assert checkpoint.config["model_type"] == "mixtral"
    for expert in range(3):
        name = f"model.layers.0.block_sparse_moe.experts.{expert}.w1.weight"
        found = checkpoint.tensors.get(name).to_float32()
        np.testing.assert_array_equal(found, values_of(stored)[expert])


def test_the_configuration(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": floats(np.zeros((5, 32)))}
    config = opened(tmp_path, tensors).config
    expected = {
        "model_type": "llama",
        "hidden_size": 32,
        "head_dim": 8,
        "num_key_value_heads": 2,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
    }
    assert {key: config[key] for key in expected} == expected


def test_a_number_for_each_layer_that_all_share(tmp_path: Path) -> None:
    key = "llama__attention__head_count_kv"
    assert opened(tmp_path, {}, **{key: [2, 2]}).config["num_key_value_heads"] == 2
    for wrong in ([2, 4], "two"):
        with pytest.raises(CheckpointError, match=r"head_count_kv in .* is not one number"):
            opened(tmp_path, {}, **{key: wrong})


def test_end_tokens(tmp_path: Path) -> None:
    tokens = ["a", "</s>", "<|im_end|>", "<|end|>", "<|eot_id|>"]
    checkpoint = opened(
        tmp_path,
        {},
        tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=[1, 3, 3, 1, 3],
        tokenizer__ggml__eos_token_id=1,
        tokenizer__ggml__eot_token_id=4,
    )
    assert end_token_ids(checkpoint) == (1, 4, 2)


def test_sampling_suggestions(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, {}, general__sampling__temp=0.5, general__sampling__top_k=7)
    assert sampling_defaults(checkpoint) == SamplingParams(temperature=0.5, top_k=7)


def test_no_suggestions(tmp_path: Path) -> None:
    assert sampling_defaults(opened(tmp_path, {})) == SamplingParams()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general__architecture": "rwkv7"}, "'rwkv7' of .* is not supported; known are llama"),
        ({"split__count": 3}, "is one of 3 parts; join them"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        opened(tmp_path, {}, **metadata)


@pytest.mark.parametrize(("type_id", "name"), [(23, "IQ4_XS"), (39, "MXFP4"), (77, "type 77")])
def test_other_types_are_listed_but_not_given(tmp_path: Path, type_id: int, name: str) -> None:
    tensors = opened(tmp_path, {"output_norm.weight": (type_id, (256,), bytes(136))}).tensors
    assert tensors.dtype("model.norm.weight") == name
    with pytest.raises(CheckpointError, match=f"is stored as {name}, which is not supported"):
        tensors.get("model.norm.weight")


def test_rows_without_whole_blocks(tmp_path: Path) -> None:
    stored = IDS["Q4_K"], (2, 128), bytes(144)
    with pytest.raises(CheckpointError, match=r"output\.weight in .* is damaged"):
        opened(tmp_path, {"output.weight": stored})


def test_rows_that_are_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 12 rows, no pairs in 4 heads"):
        opened(tmp_path, {"blk.0.attn_q.weight": floats(np.zeros((12, 32)))})


def test_tensors_that_no_folder_has_are_left_out(tmp_path: Path) -> None:
    tensors = {"rope_freqs.weight": floats(np.ones(4)), "blk.0.other.weight": floats(np.ones(4))}
    checkpoint = opened(tmp_path, {**tensors, "blk.0": floats(np.ones(4))})
    assert list(checkpoint.tensors) == []
    assert checkpoint.config["rope_scaling"]["long_factor"] == [1, 1, 1, 1]
