"""Turns checkpoint folders into GGUF files by the rules of llama.cpp's converter, written by
llama.cpp's own Python package, which also knows the names: the oracle of what vivace reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from vivace.formats.checkpoint import open_checkpoint

Arrays = dict[str, np.ndarray]

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "granite": gguf.MODEL_ARCH.GRANITE,
}
NEIGHBOURS = ("llama", "mixtral", "smollm3", "granite")

# config.json's keys, and the writer's method for each.
METHODS = {
    "max_position_embeddings": "add_context_length",
    "hidden_size": "add_embedding_length",
    "num_hidden_layers": "add_block_count",
    "intermediate_size": "add_feed_forward_length",
    "num_attention_heads": "add_head_count",
    "num_key_value_heads": "add_head_count_kv",
    "head_dim": "add_key_length",
    "rms_norm_eps": "add_layer_norm_rms_eps",
    "rope_theta": "add_rope_freq_base",
    "sliding_window": "add_sliding_window",
    "attn_logit_softcapping": "add_attn_logit_softcapping",
    "final_logit_softcapping": "add_final_logit_softcapping",
    "num_local_experts": "add_expert_count",
    "num_experts_per_tok": "add_expert_used_count",
    "moe_intermediate_size": "add_expert_feed_forward_length",
    "attention_multiplier": "add_attention_scale",
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "logits_scaling": "add_logit_scale",
}


def convert(
    folder: Path, path: Path, kind: str = "F32", others: Mapping[str, str] | None = None
) -> Path:
    """`kind` is what matrices become, but for `others` by the middle of their names; vectors are
    float32. The tokenizer comes along."""
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[architecture])
    for key, method in METHODS.items():
        if config.get(key) is not None:
            getattr(writer, method)(config[key])
    _add_rope(writer, config)
    if (folder / "tokenizer.json").exists():
        _add_tokenizer(writer, folder)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for name, array in converted(folder, config):
        target = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        _add(writer, target, array, (others or {}).get(target.split(".")[-2], kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def converted(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Names as the converter asks its table for them, and what it makes of the values."""
    tensors = open_checkpoint(folder).tensors
    arrays = {name: tensors.get(name).to_float32() for name in tensors}
    heads = {"q_proj": config["num_attention_heads"]}
    heads["k_proj"] = config.get("num_key_value_heads") or heads["q_proj"]
    for name, array in stacked(arrays).items():
        part = name.split(".")[-2]
        if config["model_type"] in NEIGHBOURS and part in heads:
            array = neighbours(array, heads[part])
        if config["model_type"].startswith("gemma") and name.endswith("norm.weight"):
            array = array + np.float32(1)
        yield name, array
    yield from _rope_tensors(config)


def neighbours(array: np.ndarray, heads: int) -> np.ndarray:
    halves = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def stacked(arrays: Arrays) -> Arrays:
    """Experts together, under the names that the table has for them."""
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"model\.layers\.(\d+)\.(\w+)\.experts\.(\d+)\.(\w+)\.weight", name)
        if match is None:
            found[name] = array
            continue
        layer, block, expert, part = match.groups()
        mixtral = block == "block_sparse_moe"
        where = f"layers.{layer}.feed_forward" if mixtral else f"model.layers.{layer}.{block}"
        found.setdefault(f"{where}.experts.{part}.weight", {})[int(expert)] = array
    return {
        name: np.stack([each[e] for e in range(len(each))]) if isinstance(each, dict) else each
        for name, each in found.items()
    }


def _add(writer: gguf.GGUFWriter, name: str, array: np.ndarray, kind: str) -> None:
    if array.ndim == 1 or kind == "F32":
        writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
        return
    raw_dtype = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(name, gguf.quants.quantize(array, raw_dtype), raw_dtype=raw_dtype)


def _add_rope(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_rope_dimension_count(int(size * config.get("partial_rotary_factor", 1)))
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(scaling["factor"])
    if "original_max_position_embeddings" in scaling:
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if kind == "longrope":
        scale = config["max_position_embeddings"] / scaling["original_max_position_embeddings"]
        original = math.log(scaling["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / original))


def _rope_tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "longrope":
        for kind in ("long", "short"):
            factors = np.asarray(scaling[f"{kind}_factor"], np.float32)
            yield f"rope_factors_{kind}.weight", factors
    if scaling.get("rope_type") == "llama3":
        yield "rope_freqs.weight", np.asarray(list(_llama3_factors(config, scaling)), np.float32)


def _llama3_factors(config: Mapping[str, Any], scaling: Mapping[str, Any]) -> Iterator[float]:
    """By what each pair's frequency is divided."""
    size, original = config["head_dim"], scaling["original_max_position_embeddings"]
    low, high, factor = (scaling[key] for key in ("low_freq_factor", "high_freq_factor", "factor"))
    for i in range(0, size, 2):
        wave = 2 * math.pi * config["rope_theta"] ** (i / size)
        kept = min(max((original / wave - low) / (high - low), 0), 1)
        yield 1 / ((1 - kept) / factor + kept)


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """One with byte pairs of bytes, cut as GPT-2 does."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([control if i in special else normal for i in range(len(vocabulary))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(vocabulary[config["bos_token"]])
    writer.add_eos_token_id(vocabulary[config["eos_token"]])
    writer.add_add_bos_token(config["add_bos_token"])
    writer.add_chat_template(config["chat_template"])
