"""Others' quantizers, for benchmarks/quantizers.py: int4 in symmetric groups of 128.

    python quantizers_worker.py gptq|awq|auto-round MODEL RUNS.npy OUT

gptq and awq are llm-compressor's and write OUT/compressed-tensors. auto-round writes the same model
as OUT/gptq and OUT/awq. RUNS is calibration text, [runs, tokens]. All as
their own documents have it, with the checkpoint's own float type.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SCHEME = "W4A16"  # both call it that; groups of 128
ITERATIONS = 200
FORMATS = {"auto_gptq": "gptq", "auto_awq": "awq"}


def llm_compressor(method: str, model: Any, tokenizer: Any, runs: np.ndarray, out: Path) -> None:
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    what = {"targets": "Linear", "scheme": SCHEME, "ignore": ["lm_head"]}
    awq = [AWQModifier(), QuantizationModifier(**what)]
    recipe = [GPTQModifier(**what)] if method == "gptq" else awq
    columns = {"input_ids": runs.tolist(), "attention_mask": np.ones_like(runs).tolist()}
    oneshot(
        model=model,
        tokenizer=tokenizer,
        dataset=Dataset.from_dict(columns),
        recipe=recipe,
        max_seq_length=runs.shape[1],
        num_calibration_samples=len(runs),
        output_dir=str(out / "compressed-tensors"),
    )


def auto_round(method: str, model: Any, tokenizer: Any, runs: np.ndarray, out: Path) -> None:
    from auto_round import AutoRound

    rounding = AutoRound(
        model,
        tokenizer,
        scheme=SCHEME,
        dataset=[torch.tensor(run)[None] for run in runs.astype(np.int64)],
        iters=ITERATIONS,
        nsamples=len(runs),
        seqlen=runs.shape[1],
        device_map="cpu",
    )
    _, folders = rounding.quantize_and_save(str(out / "all"), format=",".join(FORMATS))
    for folder, layout in zip(folders, FORMATS.values(), strict=True):
        Path(folder).rename(out / layout)


def _unpinned(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    """llm-compressor's awq pins memory for a GPU even where there is none, and fails."""
    return tensor


def main() -> None:
    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = _unpinned
    method, folder, runs, out = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    quantize = auto_round if method == "auto-round" else llm_compressor
    quantize(method, model, tokenizer, np.load(runs), Path(out))


if __name__ == "__main__":
    main()
