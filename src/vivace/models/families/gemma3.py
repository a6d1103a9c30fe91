"""The text part of a multimodal Gemma 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vivace.core.errors import CheckpointError
from vivace.models.families import gemma2, gemma3_text
from vivace.models.family import Family
from vivace.models.weights import Root


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """`text_config`; whether embeddings are tied stands outside it."""
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        raise CheckpointError("config.json of a gemma3 model must have a text_config.")
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", True))
    return {**text, "model_type": "gemma3", "tie_word_embeddings": tied}


FAMILY = Family(
    gemma3_text.spec,
    replace(
        gemma2.LAYOUT,
        roots=(
            Root("language_model.model.", "language_model.lm_head"),
            Root("model.language_model.", "lm_head"),
        ),
    ),
    gemma3_text.DEFAULTS,
    text_part,
)
