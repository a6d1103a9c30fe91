"""What constraints cost: tokens per second with them and without, turn by turn on one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import make_tokenizer
from peers.models import FOLDER

from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.run import random_requests, run_requests
from vivace.core.request import Request
from vivace.core.structured import StructuredOutputsParams
from vivace.engine.core import EngineCore

PROMPT = 32  # tokens
RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "name": {"type": "string", "maxLength": 24},
        "kind": {"enum": ["first", "second", "another"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "at": {"type": "string", "format": "date-time"},
    },
    "required": ["id", "name", "kind", "tags", "score", "at"],
    "additionalProperties": False,
}
# More records than an answer has tokens: none ends before its last token, with or without.
ENDLESS = {"type": "array", "items": RECORD, "minItems": 500}
ON, OFF = "on", "off"


def with_tokenizer(preset: str) -> Path:
    """A random model with a tokenizer of its vocabulary, beside the one that has none."""
    write_random_model(FOLDER / preset, PRESETS[preset])
    folder = FOLDER / f"{preset}-text"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).exists():
            (folder / name).symlink_to(Path("..", preset, name))
    make_tokenizer.main(folder)
    return folder


def rates(
    core: EngineCore, batches: Sequence[int], tokens: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Tokens per second of each round, by requests at once. All start together, prompts are
    computed within the time, and the grammar is known from a warm-up.

    Args:
        tokens: of each answer.
    """
    rng = np.random.default_rng(0)
    found = {}
    for batch in batches:
        by_kind: dict[str, list[float]] = {ON: [], OFF: []}
        for number in range(rounds + 1):
            for kind in (ON, OFF) if number % 2 else (OFF, ON):
                rate = _rate(core, _requests(core, kind, batch, tokens, rng))
                if number:  # the first round warms up
                    by_kind[kind].append(rate)
        found[str(batch)] = by_kind
    return found


def share(by_kind: dict[str, list[float]]) -> float:
    """The throughput with constraints as a share of that without: the median over rounds."""
    return median(on / off for on, off in zip(by_kind[ON], by_kind[OFF], strict=True))


def _requests(
    core: EngineCore, kind: str, batch: int, tokens: int, rng: np.random.Generator
) -> list[Request]:
    changes: dict[str, Any] = {"temperature": 1.0}
    if kind == ON:
        changes["structured_outputs"] = StructuredOutputsParams(json=ENDLESS)
    return [
        replace(request, params=replace(request.params, **changes))
        for request in random_requests(core, batch, PROMPT, tokens, rng)
    ]


def _rate(core: EngineCore, requests: list[Request]) -> float:
    run = run_requests(core, requests)
    expected = sum(request.params.max_tokens or 0 for request in requests)
    if run.output_tokens != expected:
        raise ValueError(f"{run.output_tokens} tokens instead of {expected}.")
    return run.output_tokens / run.elapsed
