"""How the model types that vivace knows are called in GGUF: configuration keys and tensor names.

llama.cpp's converter (convert_hf_to_gguf.py) renames what a Hugging Face checkpoint holds, and for
some architectures moves rows, stacks experts or adds one to gains. Each row says what to undo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})

# Keys of config.json by the key in GGUF, which has the architecture's name before it.
KEYS: Mapping[str, str] = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}

OUTSIDE: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class Architecture:
    """Attributes:
    model_type: the family.
    keys: beyond `KEYS`.
    names: of a layer's tensors, over `LAYER`; "{}" is an expert of a tensor that stacks them.
    rotary_neighbours: rows of queries and keys are ordered for rotating neighbours, where
        Hugging Face rotates halves of a head.
    gain_offset: was added to the gains of norms.
    """

    model_type: str
    keys: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    names: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    rotary_neighbours: bool = False
    gain_offset: float = 0.0


_EXPERT = "block_sparse_moe.experts.{}."
_GEMMA_KEYS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base_swa": "rope_local_base_freq",
}
_GEMMA_NAMES = {"ffn_norm": "pre_feedforward_layernorm"}

LLAMA = Architecture("llama", rotary_neighbours=True)
MIXTRAL = Architecture(
    "mixtral",
    keys={"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
    names={
        "ffn_gate_inp": "block_sparse_moe.gate",
        "ffn_gate_exps": f"{_EXPERT}w1",
        "ffn_up_exps": f"{_EXPERT}w3",
        "ffn_down_exps": f"{_EXPERT}w2",
    },
    rotary_neighbours=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": LLAMA,  # Mistral's too; with experts it is MIXTRAL
    "gemma2": Architecture("gemma2", _GEMMA_KEYS, _GEMMA_NAMES, gain_offset=1.0),
    "gemma3": Architecture("gemma3_text", _GEMMA_KEYS, _GEMMA_NAMES, gain_offset=1.0),
    "granite": Architecture(
        "granite",
        keys={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        rotary_neighbours=True,
    ),
    "olmo2": Architecture("olmo2", names=_GEMMA_NAMES),  # it has norms behind its blocks alone
    "phi3": Architecture("phi3", names={"ffn_up": "mlp.gate_up_proj"}),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "qwen3moe": Architecture(
        "qwen3_moe",
        keys={
            "expert_count": "num_experts",
            "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "moe_intermediate_size",
        },
        names={
            "ffn_gate_inp": "mlp.gate",
            "ffn_gate_exps": "mlp.experts.{}.gate_proj",
            "ffn_up_exps": "mlp.experts.{}.up_proj",
            "ffn_down_exps": "mlp.experts.{}.down_proj",
        },
    ),
    "smollm3": Architecture("smollm3", rotary_neighbours=True),
}


def usual_name(architecture: Architecture, name: str) -> str | None:
    """A tensor's name in a Hugging Face checkpoint; None for one that such checkpoints lack."""
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("blk."):
        return f"{OUTSIDE[stem]}.{kind}" if stem in OUTSIDE else None
    layer, _, part = stem.removeprefix("blk.").partition(".")
    usual = architecture.names.get(part) or LAYER.get(part)
    return None if usual is None else f"model.layers.{layer}.{usual}.{kind}"


def file_name(architecture: Architecture, usual: str) -> str | None:
    """The way back: experts of a layer share one name. None where there is none."""
    stem, _, kind = usual.rpartition(".")
    outside = {theirs: ours for ours, theirs in OUTSIDE.items()}
    if stem in outside:
        return f"{outside[stem]}.{kind}"
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if found is None:
        return None
    part = re.sub(r"\.experts\.\d+\.", ".experts.{}.", found[2])
    parts = {theirs: ours for ours, theirs in {**LAYER, **architecture.names}.items()}
    return f"blk.{found[1]}.{parts[part]}.{kind}" if part in parts else None
