"""What a smaller model has lost against the one that it was made from: for vivace.json."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vivace.core.config import WeightBits
from vivace.core.errors import UsageError
from vivace.engine.llm import LLM
from vivace.engine.notices import Notify
from vivace.evaluate.corpus import held_out_files, text_file
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import Progress, Scores, Window, cut, score
from vivace.evaluate.summary import divergence, prediction
from vivace.formats.checkpoint import Tensors, open_checkpoint
from vivace.formats.quantized.nested import FINER_INDEX
from vivace.formats.safetensors import FLOAT_DTYPES
from vivace.models.loader import model_spec
from vivace.optimize.plans import EvidencePlan


@dataclass(frozen=True)
class View:
    """A model in one of its precisions; None is its finest."""

    folder: Path
    weight_bits: WeightBits | None = None


@dataclass(frozen=True)
class Where:
    """On what the models are run: as the flags of every command."""

    backend: str
    dtype: str
    threads: int | None
    notify: Notify

    def load(self, view: View, length: int) -> LLM:
        return LLM(
            str(view.folder),
            notify=self.notify,
            weight_bits=view.weight_bits,
            backend=self.backend,
            dtype=self.dtype,
            threads=self.threads,
            packed_cache=False,
            max_model_len=length,
            max_num_seqs=1,
        )


def evidence(
    base: Path, smaller: Path, plan: EvidencePlan, where: Where, progress: Progress | None = None
) -> dict[str, Any]:
    """Sizes, and, as `vivace eval --against` has them, the figures of quality; of a nested model
    those in 4 bits too, as "four_bits".

    Raises:
        UsageError: the models have no tokenizer to read text with.
    """
    found = _evidence(base, View(smaller), plan, where, progress)
    if (smaller / FINER_INDEX).is_file():
        found["four_bits"] = _evidence(base, View(smaller, 4), plan, where, progress)
    return found


def _evidence(
    base: Path, smaller: View, plan: EvidencePlan, where: Where, progress: Progress | None
) -> dict[str, Any]:
    sizes = {"size": size_of(base, smaller)}
    if plan.eval_windows == 0:
        return sizes
    texts = held_out_files() if plan.eval_text is None else (text_file(plan.eval_text),)
    protocol = _protocol(base)
    models = [where.load(view, protocol.context) for view in (View(base), smaller)]
    encoder = models[0].tokenizer
    if encoder is None:
        raise UsageError("The model has no tokenizer to read text with; give --eval-windows 0.")
    windows = cut(texts, encoder, protocol, plan.eval_windows)
    scores = score(models[1].logit_batches, windows, models[0].logit_batches, progress)
    return {
        **sizes,
        "text": "the held-out text" if plan.eval_text is None else str(plan.eval_text),
        "protocol": {**asdict(protocol), "windows": len(windows)},
        "precision": models[1].info.precision,
        "figures": _figures(scores, windows),
    }


def size_of(base: Path, smaller: View) -> dict[str, float]:
    """Bytes of all tensors, scales and whatever is kept as floats included; bits per parameter."""
    before = open_checkpoint(base).tensors
    after = open_checkpoint(smaller.folder, smaller.weight_bits).tensors
    parameters = _parameters(after, list(after))
    matrices = [name for name in after if after.dtype(name) not in FLOAT_DTYPES]
    quantized = _parameters(after, matrices)
    return {
        "bytes": _nbytes(after),
        "base_bytes": _nbytes(before),
        "parameters": parameters,
        "base_parameters": _parameters(before, list(before)),
        "bits_per_weight": 8 * _nbytes(after) / parameters,
        "bits_per_quantized_weight": 8 * _nbytes(after, matrices) / max(quantized, 1),
        "quantized_share": quantized / parameters,
    }


def _parameters(tensors: Tensors, names: list[str]) -> int:
    return sum(math.prod(tensors.shape(name)) for name in names)


def _nbytes(tensors: Tensors, names: list[str] | None = None) -> int:
    return sum(tensors.nbytes(name) for name in (tensors if names is None else names))


def _protocol(base: Path) -> Protocol:
    """The usual one, or of half the context where the model is shorter."""
    usual = Protocol()
    length = min(model_spec(open_checkpoint(base).config).max_model_len, usual.context)
    return Protocol(length, max(length // 2, 1))


def _figures(scores: Scores, windows: list[Window]) -> dict[str, Any]:
    assert scores.beside is not None
    found = prediction(scores.nats, scores, windows)
    base = prediction(scores.beside.base_nats, scores, windows)
    found |= {f"base_{name}": figure for name, figure in base.items()}
    found |= divergence(scores, scores.beside, windows)
    return {name: asdict(figure) for name, figure in found.items()}
