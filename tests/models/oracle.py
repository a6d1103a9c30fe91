"""Random checkpoints made by Transformers, and what Transformers computes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from family_cases import DIMS, Case
from numpy.typing import NDArray

torch.set_num_threads(1)  # the models are too small to share

_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def save_checkpoint(
    case: Case, folder: Path, dtype: torch.dtype = torch.float32, **saving: Any
) -> None:
    """Every weight is random: gains are not 1, biases and sinks not 0."""
    model_class = getattr(transformers, case.model)
    model = model_class(_config(case, model_class.config_class))
    generator = torch.Generator().manual_seed(len(case.name))
    for name, parameter in model.named_parameters():
        parameter.data = _random(name, parameter.data, generator)
    model.to(dtype).save_pretrained(folder, **saving)


def _config(case: Case, config_class: Any) -> Any:
    options = {**DIMS, **case.options}
    if case.family == "gpt2":
        options["layer_norm_epsilon"] = options.pop("rms_norm_eps")
        for key in ("intermediate_size", "num_key_value_heads", "rope_parameters"):
            del options[key]
    if case.family.startswith("gemma3"):
        options["rope_parameters"] = case.options.get("rope_parameters")
    if case.family != "gemma3":
        return config_class(**options)
    options["pad_token_id"] = 0
    return config_class(text_config=options, vision_config=_VISION, mm_tokens_per_image=4)


def _random(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(like.shape, generator=generator)
    if like.dim() > 1:
        scale = 1.0 if "embed" in name or "wte" in name else like.shape[-1] ** -0.5
        return scale * noise
    return like + 0.3 * noise


def old_style(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json as Transformers 4 wrote it."""
    old = dict(config)
    if "text_config" in old:
        return {**old, "text_config": old_style(old["text_config"])}
    parameters = dict(old.pop("rope_parameters", None) or {})
    kind_key = "type"
    if "full_attention" in parameters:
        kind_key = "rope_type"
        old["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = dict(parameters["full_attention"])
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in parameters:
            old[key] = parameters.pop(key)
    if parameters.get("rope_type", "default") != "default":
        parameters[kind_key] = parameters.pop("rope_type")
        old["rope_scaling"] = parameters
    if old["model_type"] == "qwen3_moe":
        old["num_experts"] = old.pop("num_local_experts")
    return old


def rewrite_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(old_style(json.loads(path.read_text()))))


class Oracle:
    """Transformers, eager, on a saved checkpoint."""

    def __init__(self, case: Case, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.model = getattr(transformers, case.model).from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="eager",
            experts_implementation="eager",
        )

    def logits(self, token_ids: list[int]) -> NDArray[np.float32]:
        with torch.no_grad():
            return self.model(torch.tensor([token_ids])).logits[0].float().numpy()

    def continuation(self, token_ids: list[int], count: int) -> list[int]:
        """Greedy, whatever end tokens come."""
        prompt = torch.tensor([token_ids])
        output = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            eos_token_id=None,
        )
        return output[0, len(token_ids) :].tolist()
