"""Compare a real checkpoint with Transformers: logits and greedy tokens on a few prompts.

    python tools/check_checkpoint.py MODEL [--backend cpu] [--dtype float32] [--tokens 32]

MODEL is a local folder or a hub id. Needs the extra `[oracle]` and memory for both models.
Prints a row for each prompt and ends with 1 if logits differ by more than the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from vivace import LLM, SamplingParams
from vivace.core.errors import VivaceError
from vivace.formats.hub import resolve_model
from vivace.text.tokenizer import load_tokenizer

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time there was a small grey cat who",
    "Water boils at 100 degrees Celsius. In Fahrenheit, that is",
)
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """Attributes:
    error: largest absolute difference over largest absolute logit.
    agreement: share of positions whose likeliest token is the same.
    same_tokens: how many greedy tokens agree before the first that does not.
    """

    prompt: str
    error: float
    agreement: float
    same_tokens: int


def main() -> int:
    args = parse_arguments()
    try:
        return check(args)
    except VivaceError as error:
        print(error, file=sys.stderr)
        return 1


def check(args: argparse.Namespace) -> int:
    folder = resolve_model(args.model, print)
    prompts = encode(folder)
    # Transformers chooses length-dependent rotary factors by the sequence, vivace by this.
    longest = max(map(len, prompts.values())) + args.tokens
    llm = LLM(str(folder), backend=args.backend, dtype=args.dtype, max_model_len=longest)
    oracle = load_oracle(folder)
    rows = [compare(llm, oracle, prompt, ids, args.tokens) for prompt, ids in prompts.items()]
    print_table(rows, args.tokens)
    return int(max(row.error for row in rows) > TOLERANCES[args.dtype])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare a checkpoint with Transformers.")
    parser.add_argument("model", help="a local folder or a hub id")
    parser.add_argument("--backend", default="cpu", choices=("cpu", "reference", "torch"))
    parser.add_argument("--dtype", default="float32", choices=tuple(TOLERANCES))
    parser.add_argument("--tokens", type=int, default=32, help="greedy tokens for each prompt")
    return parser.parse_args()


def encode(folder: Path) -> dict[str, list[int]]:
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise VivaceError(f"{folder} has no tokenizer.json to encode the prompts with.")
    return {prompt: tokenizer.encode(prompt) for prompt in PROMPTS}


def load_oracle(folder: Path) -> Any:
    """The class that config.json names, in float32."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model_class = getattr(transformers, config.architectures[0])
    return model_class.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def compare(llm: LLM, oracle: Any, prompt: str, token_ids: list[int], count: int) -> Row:
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        expected: Logits = oracle(ids).logits[0].numpy()
    found = llm.logits(token_ids)
    answer = oracle.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=count,
        max_new_tokens=count,
        eos_token_id=None,
    )[0, len(token_ids) :].tolist()
    greedy = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
    spoken = llm.generate([token_ids], greedy)[0].outputs[0].token_ids
    return Row(
        prompt,
        error=float(np.abs(found - expected).max() / np.abs(expected).max()),
        agreement=float(np.mean(found.argmax(-1) == expected.argmax(-1))),
        same_tokens=shared_prefix(list(spoken), answer),
    )


def shared_prefix(left: list[int], right: list[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def print_table(rows: list[Row], count: int) -> None:
    print(f"{'prompt':40}  {'logit error':>11}  {'top-1 agree':>11}  {'greedy tokens':>13}")
    for row in rows:
        prompt = row.prompt.replace("\n", " ")[:40]
        tokens = f"{row.same_tokens} of {count}"
        print(f"{prompt:40}  {row.error:11.1e}  {row.agreement:11.0%}  {tokens:>13}")


if __name__ == "__main__":
    sys.exit(main())
