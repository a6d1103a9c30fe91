"""Qwen 3 with a mixture of experts in all layers, every few, or all but some."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import activation, attention, decoder_spec, dense_mlp, num_layers
from vivace.models.config import Config
from vivace.models.families import qwen2
from vivace.models.family import Family
from vivace.models.spec import ExpertsSpec, LayerSpec, ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    slides = config.flag("use_sliding_window")
    attends = attention(config, config.optional_size("sliding_window") if slides else None)
    dense, experts = dense_mlp(config), experts_spec(config)
    layers = [
        LayerSpec(attends, experts if _is_sparse(config, i) else dense, rotary=0)
        for i in range(num_layers(config))
    ]
    decoder = decoder_spec(config, layers)
    return replace(decoder, qk_norm="head", qkv_bias=bias, output_bias=bias)


def experts_spec(config: Config) -> ExpertsSpec:
    # Transformers 5 writes num_local_experts, earlier ones num_experts.
    count = config.optional_size("num_local_experts") or config.integer("num_experts")
    return ExpertsSpec(
        num_experts=count,
        top_k=config.integer("num_experts_per_tok"),
        intermediate_size=config.integer("moe_intermediate_size"),
        activation=activation(config),
        renormalize=config.flag("norm_topk_prob"),
    )


def _is_sparse(config: Config, layer: int) -> bool:
    dense_layers = config.optional_list("mlp_only_layers") or []
    return layer not in dense_layers and (layer + 1) % config.integer("decoder_sparse_step") == 0


FAMILY = Family(
    spec,
    defaults={
        **qwen2.DEFAULTS,
        "decoder_sparse_step": 1,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_key_value_heads": 4,
    },
)
