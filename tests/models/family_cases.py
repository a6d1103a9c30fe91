"""Tiny random models of every family, each option switched on in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LENGTH = 41  # of the sequences compared; every window below is shorter
TRAINED = 96  # max_position_embeddings
SHORT = 24  # shorter than LENGTH: factors that depend on length change there


@dataclass(frozen=True)
class Case:
    """One model: which Transformers class, and its configuration beside `DIMS`."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    length_dependent: bool = False

    @property
    def family(self) -> str:
        return self.name.split("-")[0]


# Epsilon and base are such that a wrong one shows at these lengths.
DIMS = {
    "vocab_size": 67,
    "hidden_size": 36,
    "intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": TRAINED,
    "rms_norm_eps": 0.01,
    "rope_parameters": {"rope_type": "default", "rope_theta": 30.0},
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _rope(kind: str, theta: float = 40.0, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **parameters}}


def _family(model: str, **variants: dict[str, Any]) -> list[Case]:
    family = _FAMILY_NAMES[model]
    return [
        Case(f"{family}-{name}", model, options, name.startswith(_LENGTH_DEPENDENT))
        for name, options in variants.items()
    ]


_FAMILY_NAMES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "MixtralForCausalLM": "mixtral",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Gemma3ForConditionalGeneration": "gemma3",
    "Phi3ForCausalLM": "phi3",
    "Olmo2ForCausalLM": "olmo2",
    "SmolLM3ForCausalLM": "smollm3",
    "GraniteForCausalLM": "granite",
    "GPT2LMHeadModel": "gpt2",
    "GptOssForCausalLM": "gpt_oss",
}
_LENGTH_DEPENDENT = ("dynamic", "longrope")

_SLIDING = "sliding_attention"
_FULL = "full_attention"
_LONGROPE = {
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.2, 2.5, 4.0],
}
_LLAMA3 = {
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {"factor": 4.0, "original_max_position_embeddings": SHORT}
_MOE = {"num_local_experts": 5, "num_experts_per_tok": 2}

CASES = [
    *_family(
        "LlamaForCausalLM",
        plain={},
        tied={"tie_word_embeddings": True, "num_key_value_heads": None},
        biases={"attention_bias": True, "mlp_bias": True},
        head_dim={"head_dim": 10, "num_key_value_heads": 1, "hidden_act": "gelu"},
        linear=_rope("linear", factor=3.0),
        dynamic={**_rope("dynamic", factor=2.0), "max_position_embeddings": SHORT},
        dynamic_short=_rope("dynamic", factor=2.0),
        llama3=_rope("llama3", theta=90.0, **_LLAMA3),
        yarn=_rope("yarn", **_YARN),
        yarn_own_scale=_rope("yarn", **_YARN, attention_factor=0.8, beta_fast=8, beta_slow=2),
        yarn_mscale=_rope("yarn", **_YARN, mscale=0.7, mscale_all_dim=0.3, truncate=False),
        original_outside={
            **_rope("yarn", factor=4.0),
            "original_max_position_embeddings": SHORT,
        },
    ),
    *_family(
        "MistralForCausalLM",
        window={"sliding_window": 7},
        no_window={"sliding_window": None, "head_dim": 8, "tie_word_embeddings": True},
    ),
    *_family(
        "Qwen2ForCausalLM",
        plain={},
        upper_windows={"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
        layer_types={
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": [_SLIDING, _FULL, _SLIDING],
            "tie_word_embeddings": True,
        },
        yarn=_rope("yarn", **_YARN),
    ),
    *_family(
        "Qwen3ForCausalLM",
        plain={"head_dim": 8},
        biases={"head_dim": 6, "attention_bias": True, "tie_word_embeddings": True},
        windows={
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 2,
        },
    ),
    *_family(
        "Qwen3MoeForCausalLM",
        plain={**_MOE, "head_dim": 8, "moe_intermediate_size": 13},
        normalized={
            "num_local_experts": 4,
            "num_experts_per_tok": 3,
            "head_dim": 6,
            "moe_intermediate_size": 7,
            "norm_topk_prob": True,
            "attention_bias": True,
        },
        every_second={
            **_MOE,
            "head_dim": 8,
            "moe_intermediate_size": 13,
            "decoder_sparse_step": 2,
            "tie_word_embeddings": True,
        },
        dense_layers={
            **_MOE,
            "head_dim": 8,
            "moe_intermediate_size": 13,
            "mlp_only_layers": [1],
            "use_sliding_window": True,
            "sliding_window": 6,
        },
    ),
    *_family(
        "MixtralForCausalLM",
        plain=_MOE,
        window={"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 6},
        head_dim={**_MOE, "head_dim": 10, "tie_word_embeddings": True},
    ),
    *_family(
        "Gemma2ForCausalLM",
        plain={"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 11},
        no_softcaps={
            "head_dim": 8,
            "sliding_window": 6,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "attention_bias": True,
        },
        small_softcaps={
            "head_dim": 8,
            "sliding_window": 5,
            "query_pre_attn_scalar": 4,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "layer_types": [_FULL, _SLIDING, _SLIDING],
            "tie_word_embeddings": False,
        },
    ),
    *_family(
        "Gemma3ForCausalLM",
        plain={"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 11},
        pattern={
            "head_dim": 8,
            "sliding_window": 6,
            "sliding_window_pattern": 2,
            "final_logit_softcapping": 4.0,
            "attention_bias": True,
        },
        two_rotaries={
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": [_SLIDING, _FULL, _FULL],
            "rope_parameters": {
                _FULL: {"rope_type": "linear", "factor": 3.0, "rope_theta": 50.0},
                _SLIDING: {"rope_type": "default", "rope_theta": 20.0},
            },
        },
        default_rotaries={
            "head_dim": 4,
            "sliding_window": 6,
            "layer_types": [_SLIDING, _FULL, _FULL],
        },
    ),
    *_family(
        "Gemma3ForConditionalGeneration",
        wrapped={
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": [_SLIDING, _FULL, _SLIDING],
        },
    ),
    *_family(
        "Phi3ForCausalLM",
        plain={},
        partial=_rope("default", partial_rotary_factor=0.7),
        window={"sliding_window": 7, "tie_word_embeddings": True},
        longrope_short={
            **_rope("longrope", **_LONGROPE),
            "original_max_position_embeddings": 64,
        },
        longrope_long={
            **_rope("longrope", **_LONGROPE),
            "original_max_position_embeddings": SHORT,
        },
        longrope_partial={
            **_rope(
                "longrope",
                short_factor=[1.0, 1.4],
                long_factor=[2.0, 3.0],
                partial_rotary_factor=0.75,
            ),
            "original_max_position_embeddings": 64,
        },
    ),
    *_family(
        "Olmo2ForCausalLM",
        plain={},
        biases={"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 6},
        llama3=_rope("llama3", theta=90.0, **_LLAMA3),
    ),
    *_family(
        "SmolLM3ForCausalLM",
        interval={"no_rope_layer_interval": 2},
        layers={
            "no_rope_layers": [0, 1, 1],
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
        windows={
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 6,
        },
    ),
    *_family(
        "GraniteForCausalLM",
        plain={},
        multipliers={
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.3,
            "residual_multiplier": 0.22,
            "logits_scaling": 5.0,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    *_family(
        "GPT2LMHeadModel",
        plain={},
        inner={"n_inner": 31, "activation_function": "relu", "tie_word_embeddings": False},
        scales={"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        unscaled={"scale_attn_weights": False, "activation_function": "gelu"},
    ),
    *_family(
        "GptOssForCausalLM",
        plain={**_MOE, "head_dim": 8, "sliding_window": 6},
        no_biases={
            **_MOE,
            "head_dim": 6,
            "sliding_window": 6,
            "attention_bias": False,
            "layer_types": [_FULL, _SLIDING, _FULL],
            "swiglu_limit": 0.5,
            "swiglu_alpha": 1.1,
            **_rope("yarn", **_YARN, truncate=False),
        },
    ),
]
