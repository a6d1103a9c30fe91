"""Adapters as PEFT writes them, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.peft_files import write_adapter, write_files
from vivace.core.errors import CheckpointError
from vivace.formats.peft import open_adapter

pytestmark = pytest.mark.tiny

MODULES = {"model.layers.0.self_attn.q_proj": (6, 8), "model.layers.1.mlp.down_proj": (8, 5)}


@pytest.mark.parametrize("stabilised", [False, True])
def test_modules_and_their_scale(tmp_path: Path, stabilised: bool) -> None:
    added = write_adapter(tmp_path, MODULES, rank=4, lora_alpha=6, use_rslora=stabilised)
    adapter = open_adapter(tmp_path)
    assert adapter.modules.keys() == MODULES.keys()
    for name, module in adapter.modules.items():
        assert module.rank == 4
        assert module.scale == 6 / (2 if stabilised else 4)
        product = module.scale * (module.b.to_float32() @ module.a.to_float32())
        np.testing.assert_allclose(product, added[name], rtol=1e-6)


def test_a_module_has_its_own_alpha(tmp_path: Path) -> None:
    write_adapter(tmp_path, MODULES, rank=4, lora_alpha=8, alpha_pattern={"down_proj": 2})
    scales = {name: module.scale for name, module in open_adapter(tmp_path).modules.items()}
    assert scales == {"model.layers.0.self_attn.q_proj": 2.0, "model.layers.1.mlp.down_proj": 0.5}


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    digests = set()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_adapter(tmp_path / name, MODULES, seed=seed)
        digests.add(open_adapter(tmp_path / name).digest)
    assert len(digests) == 2
    write_adapter(tmp_path / "a", MODULES, lora_alpha=3)
    assert open_adapter(tmp_path / "a").digest not in digests


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "type LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trained tokens"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
    ],
)
def test_what_is_more_than_lora_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    write_adapter(tmp_path, MODULES)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(CheckpointError, match=message):
        open_adapter(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.embed_tokens.lora_embedding_A", (4, 9), "lora_embedding_A"),
        ("model.layers.0.self_attn.q_proj.lora_magnitude_vector", (6,), "lora_magnitude_vector"),
        ("model.layers.0.self_attn.q_proj.lora_B.bias", (6,), r"lora_B\.bias"),
        ("model.layers.0.self_attn.k_proj.lora_A.weight", (4, 8), "only one of"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", (3, 8), "do not fit together"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", (8,), "do not fit together"),
    ],
)
def test_other_tensors_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": np.zeros((4, 8), np.float32),
        f"{module}.lora_B.weight": np.zeros((6, 4), np.float32),
        f"base_model.model.{name}": np.zeros(shape, np.float32),
    }
    write_files(tmp_path, tensors, lora_alpha=8)
    with pytest.raises(CheckpointError, match=message):
        open_adapter(tmp_path)


def test_what_is_no_adapter_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no LoRA adapter"):
        open_adapter(tmp_path)
    config = tmp_path / "adapter_config.json"
    for text, message in (("{", "not JSON"), ("[]", "JSON object"), ("{}", "as safetensors")):
        config.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            open_adapter(tmp_path)
    write_files(tmp_path, {}, lora_alpha=8)
    with pytest.raises(CheckpointError, match="no tensors"):
        open_adapter(tmp_path)
