"""Specs and plans without weights, and a sentence for each thing that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_runs import logits
from safetensors.numpy import save_file

from tests.engine.tiny import write_tiny_llama
from vivace.backends.protocol import KVSpec, LinearForm
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import CheckpointError, UsageError, VivaceError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.policy import PrecisionPolicy
from vivace.formats.qtensor import INT8
from vivace.formats.schemes import int4
from vivace.models.families import FAMILIES
from vivace.models.loader import load_decoder, model_spec, tensor_shapes

pytestmark = pytest.mark.tiny

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 11, "n_embd": 8, "n_layer": 1, "n_head": 2}


def save(folder: Path, config: dict[str, Any], **changes: np.ndarray | None) -> None:
    """Random weights; `changes` replace some, or leave them out."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(model_spec(config))
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= changes
    (folder / "config.json").write_text(json.dumps(config))
    kept = {name: array for name, array in tensors.items() if array is not None}
    save_file(kept, folder / "model.safetensors")


def test_model_len_is_the_models_own_unless_given() -> None:
    assert model_spec(LLAMA).max_model_len == 32
    spec = model_spec(LLAMA, 20)
    assert spec.max_model_len == spec.rotaries[0].max_positions == 20


def test_layers_of_one_kind_share_a_kv_group() -> None:
    config = {**LLAMA, "model_type": "gemma2", "head_dim": 4, "num_hidden_layers": 5}
    spec = model_spec({**config, "sliding_window": 7})
    assert spec.kv_groups == (KVSpec(3, 1, 4, window=7), KVSpec(2, 1, 4, window=None))
    places = [(layer.attention.kv_group, layer.attention.kv_layer) for layer in spec.layers]
    assert places == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]


def test_an_absent_window_takes_the_default_and_null_is_none() -> None:
    config = {**LLAMA, "model_type": "mistral"}
    assert model_spec(config).layers[0].attention.window == 4096
    assert model_spec({**config, "sliding_window": None}).layers[0].attention.window is None


def test_gemma3_text_config_may_leave_out_what_is_usual() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 6}
    spec = model_spec({"model_type": "gemma3", "text_config": text})
    assert spec.vocab_size == 262208
    windows = [layer.attention.window for layer in spec.layers]
    assert windows == [4096] * 5 + [None]
    assert [layer.rotary for layer in spec.layers] == [1] * 5 + [0]


def test_linears_are_kept_as_the_policy_and_their_place_ask(tmp_path: Path) -> None:
    forms: dict[str, LinearForm] = {}

    class Watching(ReferenceBackend):
        def linear(self, parts: Any, *others: Any, form: LinearForm, **more: Any) -> Any:
            forms[parts[0].name.removeprefix("model.")] = form
            return super().linear(parts, *others, form=form, **more)

    checkpoint = open_checkpoint(
        write_tiny_llama(tmp_path, model_type="mixtral", num_local_experts=2)
    )
    load_decoder(checkpoint, Watching(), policy=PrecisionPolicy.parse("int4-g32,layers.1.*=none"))
    experts = "layers.{}.block_sparse_moe.experts.1.{}.weight"
    assert forms[experts.format(0, "w1")] == LinearForm(int4(32), gated=True)
    assert forms[experts.format(0, "w2")] == LinearForm(int4(32))
    assert forms["layers.0.self_attn.q_proj.weight"] == LinearForm(int4(32))
    assert forms["layers.0.block_sparse_moe.gate.weight"] == LinearForm()
    assert forms[experts.format(1, "w1")] == LinearForm(gated=True)
    assert forms["lm_head.weight"] == LinearForm(INT8)


def test_a_rule_that_names_nothing_is_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_tiny_llama(tmp_path))
    with pytest.raises(UsageError, match=r"layers\.0\.attention\.qkv"):
        load_decoder(checkpoint, ReferenceBackend(), policy=PrecisionPolicy.parse("*.router=int8"))


@pytest.mark.parametrize("exception", ["experts.1.*=int8", "experts.0.down=none"])
def test_the_experts_of_a_layer_share_one_scheme(tmp_path: Path, exception: str) -> None:
    checkpoint = open_checkpoint(
        write_tiny_llama(tmp_path, model_type="mixtral", num_local_experts=2)
    )
    policy = PrecisionPolicy.parse(f"int4-g32,layers.1.mlp.{exception}")
    with pytest.raises(UsageError, match=r"name them together, as layers\.1\.mlp\.experts\.\*="):
        load_decoder(checkpoint, ReferenceBackend(), policy=policy)
    both = PrecisionPolicy.parse("int4-g32,layers.1.mlp.experts.*=int8,*.down=none")
    load_decoder(checkpoint, ReferenceBackend(), policy=both)


def test_weights_are_views_and_keep_their_names(tmp_path: Path) -> None:
    save(tmp_path, {**LLAMA, "tie_word_embeddings": True})
    seen = []

    class Watching(ReferenceBackend):
        def linear(self, parts: Any, *others: Any, **options: Any) -> Any:
            seen.extend(parts)
            return super().linear(parts, *others, **options)

    done: list[tuple[int, int]] = []
    checkpoint = open_checkpoint(tmp_path)
    load_decoder(checkpoint, Watching(), progress=lambda *step: done.append(step))
    assert not any(tensor.buffers["weight"].flags.owndata for tensor in seen)
    names = {tensor.name for tensor in seen}
    assert names == {name for name in checkpoint.tensors if "norm" not in name}
    assert done[-1] == (len(checkpoint.tensors), len(checkpoint.tensors))


def test_a_decoder_runs_without_torch(tmp_path: Path) -> None:
    save(tmp_path, GPT2)
    backend = ReferenceBackend()
    decoder = load_decoder(open_checkpoint(tmp_path), backend)
    assert logits(decoder, backend, [1, 2, 3]).shape == (3, 11)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert' .* not supported; known are gemma2, gemma3"),
        ({}, "model_type None"),
        ({**LLAMA, "hidden_size": None}, r"config\.json lacks hidden_size"),
        ({**LLAMA, "vocab_size": "11"}, "vocab_size in .* must be an integer, got '11'"),
        ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads in .* must be at least 1"),
        ({**LLAMA, "attention_bias": 3}, "attention_bias in .* must be true or false"),
        ({**LLAMA, "rope_theta": []}, "rope_theta .* must be a number"),
        ({**LLAMA, "rope_scaling": 3}, "rope_scaling in .* must be an object"),
        ({**LLAMA, "num_key_value_heads": 3}, "num_attention_heads 2 .* no multiple"),
        ({**LLAMA, "hidden_act": "mish"}, "Activation 'mish' is unknown; known are silu"),
        (
            {**LLAMA, "quantization_config": {"quant_method": "gptq"}},
            r"quantized \(gptq\), which is not supported",
        ),
        (
            {**LLAMA, "model_type": "qwen2", "layer_types": ["full_attention"]},
            "layer_types in .* lists 1 of 2 layers",
        ),
        (
            {**LLAMA, "model_type": "qwen2", "layer_types": ["chunked_attention"] * 2},
            "Attention 'chunked_attention' .* not supported",
        ),
        ({**LLAMA, "model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers .* 1 of 2"),
        ({"model_type": "gemma3"}, "must have a text_config"),
        ({**LLAMA, "head_dim": 0}, "head_dim in .* must be at least 1, got 0"),
        ({**LLAMA, "head_dim": -4}, "head_dim in .* must be at least 1, got -4"),
        ({**LLAMA, "num_attention_heads": 9}, "hidden_size 8 .* less than num_attention_heads 9"),
        ({**LLAMA, "num_key_value_heads": -1}, "num_key_value_heads in .* at least 1, got -1"),
        ({**LLAMA, "quantization_config": [4]}, "quantization_config in .* must be an object"),
        ({**LLAMA, "model_type": ["llama"]}, r"model_type \['llama'\] .* not supported"),
        (
            {**LLAMA, "model_type": "qwen2", "layer_types": [{}, {}]},
            r"Attention \{\} in layer_types is not supported",
        ),
        ({**LLAMA, "rope_theta": 0}, "rope_theta .* must be above 0, got 0"),
        ({**LLAMA, "model_type": "mistral", "sliding_window": 0}, "sliding_window in .* least 1"),
        ({**LLAMA, "model_type": "phi3", "sliding_window": -7}, "sliding_window in .* least 1"),
        ({**LLAMA, "model_type": "gemma2", "sliding_window": 0}, "sliding_window in .* least 1"),
        (
            {
                **LLAMA,
                "model_type": "gemma3_text",
                "rope_parameters": {"full_attention": [1]},
            },
            "full_attention in .* must be an object",
        ),
        (
            {**LLAMA, "model_type": "gemma2", "use_bidirectional_attention": True},
            "use_bidirectional_attention .* not supported",
        ),
        ({**GPT2, "add_cross_attention": True}, "add_cross_attention .* not supported"),
    ],
)
def test_wrong_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        model_spec(config)


@pytest.mark.parametrize(("config", "length"), [(LLAMA, -1), (LLAMA, 0), (LLAMA, 33), (GPT2, 1025)])
def test_wrong_lengths(config: dict[str, Any], length: int) -> None:
    with pytest.raises(UsageError, match="max_model_len"):
        model_spec(config, length)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.layers.1.mlp.down_proj.weight": None, "model.norm.weight": None},
            r"lacks 2 of 21 tensors, first model\.layers\.1\.mlp\.down_proj\.weight",
        ),
        (
            {"model.norm.weight": np.ones(9, np.float32)},
            r"model\.norm\.weight has shape \[9\] where config\.json asks for \[8\]",
        ),
        (
            {"model.norm.weight": np.ones(8, np.int32)},
            r"model\.norm\.weight has dtype I32; supported are F32",
        ),
    ],
)
def test_wrong_tensors_are_found_before_any_is_handed_over(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    class Untouched(ReferenceBackend):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    save(tmp_path, LLAMA, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_decoder(open_checkpoint(tmp_path), object.__new__(Untouched))


def test_every_error_is_one_sentence() -> None:
    with pytest.raises(VivaceError) as caught:
        model_spec({"model_type": "unknown"})
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert all(family in text for family in FAMILIES)
