"""gpt-oss: attention sinks, windows in every other layer, clamped gated experts with biases."""

from __future__ import annotations

from dataclasses import replace

from vivace.backends.protocol import Activation
from vivace.models.build import attention, decoder_spec, windows
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ExpertsSpec, LayerSpec, ModelSpec
from vivace.models.weights import Layout, StackedExperts

YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    if config.values.get("rope_parameters") is None:
        config = replace(config, values={**config.values, "rope_parameters": YARN})
    experts = experts_spec(config)
    layers = [
        LayerSpec(attention(config, window), experts, rotary=0, sinks=True)
        for window in windows(config, lambda layer: layer % 2 == 0)
    ]
    return replace(decoder_spec(config, layers), qkv_bias=bias, output_bias=bias)


def experts_spec(config: Config) -> ExpertsSpec:
    limit, alpha = config.number("swiglu_limit"), config.number("swiglu_alpha")
    return ExpertsSpec(
        num_experts=config.integer("num_local_experts"),
        top_k=config.integer("num_experts_per_tok"),
        intermediate_size=config.integer("intermediate_size"),
        activation=Activation("swiglu_clamped", gated=True, limit=limit, alpha=alpha),
        renormalize=True,
        bias=True,
        router_bias=True,
    )


FAMILY = Family(
    spec,
    Layout(router="mlp.router", experts=StackedExperts()),
    defaults={
        "attention_bias": True,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "num_experts_per_tok": 4,
        "num_key_value_heads": 8,
        "num_local_experts": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "sliding_window": 128,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
    },
)
