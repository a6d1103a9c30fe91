"""Logits of a checkpoint by another engine, for benchmarks/artefacts.py.

    python logits_worker.py transformers|vllm MODEL TOKENS.json OUT.npz

Transformers gives `logits` [tokens, vocab] in float32, and every weight of a linear as it has
taken it out of its words; vLLM the log-probability of each token after the first, as `nll`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
os.environ["VLLM_CPU_INT4_W4A8"] = "0"  # else activations are rounded beside int4

import numpy as np


def transformers(model: str, tokens: list[int]) -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    how = {}
    config = json.loads(Path(model, "config.json").read_text()).get("quantization_config", {})
    if config.get("quant_method") in ("gptq", "awq"):
        from transformers import AutoRoundConfig

        how = {"quantization_config": AutoRoundConfig()}  # auto-round multiplies on a CPU too
    groups = config.get("config_groups", {}).values()
    if not all(group["weights"]["symmetric"] for group in groups):  # else they seem misshapen
        how = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **how).eval()
    with torch.no_grad():
        logits = loaded(torch.tensor([tokens])).logits[0].float().numpy()
    weights = {
        f"{name}.weight": module.weight.detach().float().numpy()
        for name, module in loaded.named_modules()
        if "_proj" in name and getattr(module, "weight", None) is not None
    }
    return {"logits": logits, **weights}


def vllm(model: str, tokens: list[int]) -> dict[str, np.ndarray]:
    from vllm import LLM, SamplingParams

    llm = LLM(model, dtype="bfloat16", max_model_len=1024, max_num_seqs=1, enforce_eager=True)
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    (answer,) = llm.generate([{"prompt_token_ids": tokens}], params)
    found = zip(answer.prompt_logprobs[1:], tokens[1:], strict=True)
    return {"nll": np.asarray([-logprobs[token].logprob for logprobs, token in found])}


def main() -> None:
    engine, model, tokens, out = sys.argv[1:]
    given = json.loads(Path(tokens).read_text())
    np.savez(out, **{"transformers": transformers, "vllm": vllm}[engine](model, given))


if __name__ == "__main__":
    main()
