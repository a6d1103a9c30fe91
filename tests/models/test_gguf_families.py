"""Every family that GGUF files are read for computes what its Hugging Face checkpoint does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vivace import LLM
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.gguf.architectures import ARCHITECTURES
from vivace.models.loader import model_spec, tensor_shapes
from vivace.models.precision import precision_of

gguf_models = pytest.importorskip("tests.formats.gguf_models", exc_type=ImportError)

pytestmark = pytest.mark.oracle

DIMS = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "rms_norm_eps": 0.01,
    "rope_theta": 30.0,
    "tie_word_embeddings": False,
}
MOE = {"num_local_experts": 5, "num_experts_per_tok": 2}
ORIGINAL = {"original_max_position_embeddings": 24}
CASES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {"tie_word_embeddings": True},
    "llama-biases": {"attention_bias": True, "mlp_bias": True},
    "llama-head_dim": {"head_dim": 10, "num_key_value_heads": 1},
    "llama-linear": {"rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "llama-yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, **ORIGINAL}},
    "llama-llama3": {
        "rope_theta": 90.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            **ORIGINAL,
        },
    },
    "mixtral": MOE,
    "qwen2": {},
    "qwen3": {"head_dim": 12},
    "qwen3_moe": {**MOE, "moe_intermediate_size": 16, "norm_topk_prob": True},
    "gemma2": {
        "sliding_window": 7,
        "attn_logit_softcapping": 20.0,
        "final_logit_softcapping": 9.0,
        "query_pre_attn_scalar": 8,
        "tie_word_embeddings": True,
    },
    "gemma3_text": {
        "sliding_window": 7,
        "num_hidden_layers": 7,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": None,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "tie_word_embeddings": True,
    },
    "phi3": {"partial_rotary_factor": 0.5, "sliding_window": 9},
    "phi3-longrope": {
        **ORIGINAL,
        "rope_scaling": {
            "rope_type": "longrope",
            "long_factor": [1.2, 2.5, 4.0, 5.0],
            "short_factor": [1.0, 1.1, 1.3, 1.5],
            **ORIGINAL,
        },
    },
    "olmo2": {},
    "smollm3": {"num_hidden_layers": 5},
    "granite": {
        "attention_multiplier": 0.3,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "logits_scaling": 2.5,
    },
}
TOKENS = np.random.default_rng(3).integers(0, 67, 41).tolist()


def write_random(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(len(json.dumps(config)))
    tensors = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in sorted(tensor_shapes(model_spec(config)).items())
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def logits(model: Path) -> np.ndarray:
    llm = LLM(str(model), backend="reference", dtype="float32", notify=lambda _: None)
    return llm.logits(TOKENS)


def test_every_architecture_has_a_case() -> None:
    families = {name.split("-")[0] for name in CASES}
    assert families == {each.model_type for each in ARCHITECTURES.values()} | {"mixtral"}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_folder(case: str, tmp_path: Path) -> None:
    config = {"model_type": case.split("-")[0], **DIMS, **CASES[case]}
    folder = write_random(tmp_path, config)
    path = gguf_models.convert(folder, tmp_path / "model.gguf")
    expected, found = logits(folder), logits(path)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


WHOLE_BLOCKS = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "head_dim": 16,
}


@pytest.mark.parametrize("case", ["phi3", "qwen3_moe", "mixtral", "qwen2", "olmo2"])
def test_q4_0_is_multiplied_as_it_is_stored(case: str, tmp_path: Path) -> None:
    """Stacked projections, experts and biases beside codes; activations go as bfloat16."""
    config = {"model_type": case, **DIMS, **CASES[case], **WHOLE_BLOCKS}
    folder = write_random(tmp_path, config)
    path = gguf_models.convert(folder, tmp_path / "q4_0.gguf", "Q4_0", {"ffn_gate_inp": "F32"})
    tensors = open_checkpoint(path).tensors
    stored = precision_of(model_spec(config), open_checkpoint(path)).stored
    assert {scheme.name for scheme in stored.values()} == {"int4-g32-a16"}
    save_file({n: tensors.get(n).to_float32() for n in tensors}, folder / "model.safetensors")
    expected, found = logits(folder), logits(path)
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0 < np.median(errors) < 0.03  # in a row or two a router may choose otherwise


@pytest.mark.parametrize("case", ["llama-biases", "qwen3_moe", "mixtral"])
def test_tensors_are_those_of_the_folder_to_the_bit(case: str, tmp_path: Path) -> None:
    config = {"model_type": case.split("-")[0], **DIMS, **CASES[case]}
    folder = write_random(tmp_path, config)
    path = gguf_models.convert(folder, tmp_path / "model.gguf")
    expected, found = open_checkpoint(folder).tensors, open_checkpoint(path).tensors
    assert set(found) == set(expected)
    for name in expected:
        assert found.shape(name) == expected.shape(name)
        np.testing.assert_array_equal(
            found.get(name).to_float32(), expected.get(name).to_float32(), err_msg=name
        )
