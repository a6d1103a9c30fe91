"""What a server is asked: random prompts of given lengths, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

from vivace.bench.plans import WorkloadPlan
from vivace.core.errors import UsageError
from vivace.text.tokenizer import Tokenizer, load_tokenizer

# From a length to a prompt and, where it is known, the length that it got.
Writer = Callable[[int], tuple[str | list[int], int | None]]

# Most tokenizers have each of these, with the space before it, as one token.
WORDS = (
    "the of and to in is it that was for on are with as they be at one have this from or had by "
    "not but what all were when we there can an your which their said if do will each about how "
    "up out them then she many some so these would other into has more two like him see time "
    "could no make than first been its who now people my made over did down only way find use "
    "may water long little very after words called just where most know"
)


@dataclass(frozen=True)
class Prompt:
    """Attributes:
    content: text, or token ids.
    input_len: its tokens; None where only the server can count them.
    output_len: at most this many new tokens.
    """

    content: str | list[int]
    input_len: int | None
    output_len: int


def make_prompts(plan: WorkloadPlan, as_text: bool, rng: np.random.Generator) -> list[Prompt]:
    """The prompts of a run; random ones differ, so that no prefix cache helps.

    Raises:
        UsageError: the data set or the tokenizer cannot be read.
    """
    if plan.dataset is not None:
        prompts = dataset_prompts(plan.dataset, plan.num_prompts, plan.output_len)
        if as_text and not all(isinstance(prompt.content, str) for prompt in prompts):
            raise UsageError(f"{plan.dataset} holds token ids: a chat needs text.")
        return prompts
    inputs = random_lengths(plan.input_len, plan.range_ratio, plan.num_prompts, rng)
    outputs = random_lengths(plan.output_len, plan.range_ratio, plan.num_prompts, rng)
    write = _text_writer(plan, rng) if as_text or plan.text_prompts else _id_writer(plan, rng)
    return [
        Prompt(*write(input_len), output_len)
        for input_len, output_len in zip(inputs, outputs, strict=True)
    ]


def random_lengths(length: int, ratio: float, count: int, rng: np.random.Generator) -> list[int]:
    """`count` lengths, uniform from (1 - ratio) to (1 + ratio) times `length`, at least 1."""
    low, high = max(1, floor(length * (1 - ratio))), ceil(length * (1 + ratio))
    return [int(n) for n in rng.integers(low, high + 1, count)]


def dataset_prompts(path: Path, count: int, output_len: int) -> list[Prompt]:
    """The first `count` prompts of a JSON-lines file, from its beginning again where it is short.

    Raises:
        UsageError: a line is not {"prompt": text or token ids, "output_len": optional}.
    """
    found = list(_dataset_lines(path, output_len))
    if not found:
        raise UsageError(f"{path} holds no prompts.")
    return [found[i % len(found)] for i in range(count)]


def _dataset_lines(path: Path, output_len: int) -> Iterator[Prompt]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"The data set {path} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _dataset_prompt(line, f"{path}, line {number}", output_len)


def _dataset_prompt(line: str, where: str, output_len: int) -> Prompt:
    try:
        row: Any = json.loads(line)
        content, length = row["prompt"], row.get("output_len", output_len)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{where}: this needs a JSON object with "prompt".') from error
    is_ids = isinstance(content, list) and all(type(token) is int for token in content)
    if not content or not (is_ids or isinstance(content, str)):
        raise UsageError(f'{where}: "prompt" must be text or a list of token ids.')
    if type(length) is not int or length < 1:
        raise UsageError(f'{where}: "output_len" must be an integer of at least 1.')
    return Prompt(content, len(content) if is_ids else None, length)


def _id_writer(plan: WorkloadPlan, rng: np.random.Generator) -> Writer:
    def write(length: int) -> tuple[list[int], int]:
        return rng.integers(0, plan.vocab_size, length).tolist(), length

    return write


def _text_writer(plan: WorkloadPlan, rng: np.random.Generator) -> Writer:
    tokenizer = None if plan.tokenizer is None else _tokenizer(plan.tokenizer)
    words = WORDS.split()

    def write(length: int) -> tuple[str, int | None]:
        text = " ".join(rng.choice(words, length))
        return (text, None) if tokenizer is None else _cut(text, length, tokenizer)

    return write


def _cut(text: str, length: int, tokenizer: Tokenizer) -> tuple[str, int]:
    """Text of `length` tokens, as far as its tokens stay the same when it is cut."""
    text = tokenizer.decode(tokenizer.encode(text)[:length])
    return text, len(tokenizer.encode(text))


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise UsageError(f"{folder} has no tokenizer.json.")
    return tokenizer
