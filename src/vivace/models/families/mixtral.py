"""Mixtral: Mistral with eight experts, of which two run."""

from __future__ import annotations

from vivace.models.build import activation, decoder_spec, uniform_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ExpertsSpec, ModelSpec
from vivace.models.weights import ExpertNames, Layout


def spec(config: Config) -> ModelSpec:
    experts = ExpertsSpec(
        num_experts=config.integer("num_local_experts"),
        top_k=config.integer("num_experts_per_tok"),
        intermediate_size=config.integer("intermediate_size"),
        activation=activation(config),
        renormalize=True,
    )
    window = config.optional_size("sliding_window")
    return decoder_spec(config, uniform_layers(config, experts, window))


EXPERT = "block_sparse_moe.experts.{}."

FAMILY = Family(
    spec,
    Layout(
        router="block_sparse_moe.gate",
        experts=ExpertNames(up=(f"{EXPERT}w1", f"{EXPERT}w3"), down=f"{EXPERT}w2"),
    ),
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
    },
)
