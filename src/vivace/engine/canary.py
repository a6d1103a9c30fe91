"""A canary: what a model predicted on a few fixed prompts, and how far it is from that now.

Weights that were damaged, on disk or in memory, and kernels that compute something else than they
did, show here first. What is kept of a prediction is its likeliest tokens; the Kullback-Leibler
divergence between two predictions of which only these are known has a lower bound, and that is
what is looked at: what it sees is there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vivace.core.errors import CheckpointError, UsageError, VivaceError
from vivace.core.request import IDLE_PRIORITY, Delta, Logprob, Request, RequestOutput
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.engine.requests import fan_out

FILE = "vivace.json"
MAX_KL = 0.01  # nats: far above what another processor rounds otherwise, far below any damage
_KEY = "canary"
_PROMPT_TOKENS = 24  # so that a prompt is one short step
_SEEN = 20  # likeliest tokens of a position, beside the prompt's own next one
_PARAMS = SamplingParams(
    max_tokens=1, temperature=0, ignore_eos=True, logprobs=_SEEN, prompt_logprobs=_SEEN
)
_TEXTS = (
    "The history of the city begins with a small harbour at the mouth of the river, where",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
    '{"name": "Ada", "born": 1815, "languages": ["English", "French"], "works": [',
    "Question: What is 17 times 24?\nAnswer: 17 times 20 is 340, 17 times 4 is 68, so",
    "Der schnelle braune Fuchs springt über den faulen Hund, und 敏捷的棕色狐狸跳过",
    "zxqj 0x7f3a9c ~~ %%% }{ ][ 999999 aaaaaaaaaaaaaaaa \t\t\n\n",
)


@dataclass(frozen=True)
class CanaryPrompt:
    """Attributes:
    token_ids: the prompt.
    top: behind each of its tokens, log-probabilities of the likeliest next ones, and of its own.
    """

    token_ids: tuple[int, ...]
    top: tuple[Mapping[int, float], ...]


@dataclass(frozen=True)
class CanaryRecord:
    """Attributes:
    precision: what it was recorded in, as `EngineInfo.precision`; it says nothing of others.
    max_kl: nats above which a prompt's mean divergence is a drift.
    """

    precision: str
    prompts: tuple[CanaryPrompt, ...]
    max_kl: float = MAX_KL


Prediction = Mapping[int, Logprob]


class Generator(Protocol):
    """What recording needs of `LLM`."""

    @property
    def info(self) -> EngineInfo: ...

    def generate(
        self, prompts: list[list[int]], sampling_params: SamplingParams
    ) -> list[RequestOutput]: ...


def record(
    llm: Generator, encode: Callable[[str], list[int]] | None, max_kl: float = MAX_KL
) -> CanaryRecord:
    """What a model predicts now.

    Args:
        encode: the model's tokenizer; without one, prompts are token ids without a meaning.

    Raises:
        VivaceError: the model fails at a prompt.
    """
    prompts = _prompts(llm.info, encode)
    outputs = llm.generate(prompts, _PARAMS)
    for output in outputs:
        if output.outputs[0].error is not None:
            raise VivaceError(output.outputs[0].error)
    return CanaryRecord(
        llm.info.precision,
        tuple(
            CanaryPrompt(tuple(prompt), tuple(map(_kept, _of_output(output))))
            for prompt, output in zip(prompts, outputs, strict=True)
        ),
        max_kl,
    )


def measure(llm: Generator, recorded: CanaryRecord) -> float:
    """As `worst`, of what a model predicts now."""
    outputs = llm.generate([list(one.token_ids) for one in recorded.prompts], _PARAMS)
    return worst(recorded, [_of_output(output) for output in outputs])


def request(info: EngineInfo, request_id: str, prompt: CanaryPrompt) -> Request:
    """One prompt as a request that gives way to every other, and takes one step."""
    (made,) = fan_out(info, request_id, prompt.token_ids, _PARAMS)
    return replace(made, priority=IDLE_PRIORITY, cache_salt=_KEY)


def predictions(deltas: Sequence[Delta]) -> list[Prediction]:
    """What such a request's answer says of each position."""
    prompt = [one for delta in deltas for one in delta.prompt_logprobs or ()]
    return [*prompt, *(one for delta in deltas for one in delta.logprobs or ())]


def worst(recorded: CanaryRecord, now: Sequence[Sequence[Prediction]]) -> float:
    """The largest mean of a prompt's divergences, in nats, a lower bound; infinity where the model
    failed at a prompt."""
    return max(map(_mean, recorded.prompts, now))


def _mean(prompt: CanaryPrompt, found: Sequence[Prediction]) -> float:
    if len(found) != len(prompt.top):
        return math.inf
    return sum(map(divergence, prompt.top, found)) / len(found)


def divergence(recorded: Mapping[int, float], now: Prediction) -> float:
    """A lower bound of KL(recorded || now) in nats, where both are known in part.

    Tokens known in both stand alone, those known of the record alone together, and all others
    together: to lump what is not known apart can only lessen it (the data processing inequality).
    No token that is not among the likeliest now is likelier than the last of these.
    """
    both = recorded.keys() & now.keys()
    known = sum(
        math.exp(recorded[token]) * (recorded[token] - now[token].logprob) for token in both
    )
    gone = sum(math.exp(recorded[token]) for token in recorded.keys() - both)
    others = max(0.0, 1 - sum(map(math.exp, recorded.values())))
    left = max(0.0, 1 - sum(math.exp(now[token].logprob) for token in both))
    last = min(one.logprob for one in now.values() if one.rank <= _SEEN)
    share = left * gone / (gone + others) if gone else 0.0  # where the bound is lowest
    now_gone = min(len(recorded.keys() - both) * math.exp(last), share)
    return max(0.0, known + _term(gone, now_gone) + _term(others, left - now_gone))


def _term(before: float, now: float) -> float:
    return before * math.log(before / max(now, 1e-9)) if before > 0 else 0.0


def _prompts(info: EngineInfo, encode: Callable[[str], list[int]] | None) -> list[list[int]]:
    length = min(_PROMPT_TOKENS, info.max_model_len - 1)
    if encode is not None:
        return [encode(text)[:length] for text in _TEXTS]
    return [
        [(31 * place + 7 * at * at) % info.vocab_size for at in range(1, length + 1)]
        for place in range(1, len(_TEXTS) + 1)
    ]


def _of_output(output: RequestOutput) -> list[Prediction]:
    prompt = [one for one in output.prompt_logprobs or () if one is not None]
    return [*prompt, *(output.outputs[0].logprobs or ())]


def _kept(found: Prediction) -> dict[int, float]:
    by_rank = sorted(found.items(), key=lambda item: item[1].rank)
    return {token: round(one.logprob, 5) for token, one in by_rank}


# --- files ---


def as_json(recorded: CanaryRecord) -> dict[str, Any]:
    """The record as it stands in vivace.json, a text for each position."""
    return {
        "precision": recorded.precision,
        "max_kl": recorded.max_kl,
        "prompts": [
            {
                "tokens": " ".join(map(str, prompt.token_ids)),
                "top": [
                    " ".join(f"{t}:{value:.5f}" for t, value in one.items()) for one in prompt.top
                ],
            }
            for prompt in recorded.prompts
        ],
    }


def save(folder: Path, recorded: CanaryRecord) -> Path:
    """Put a record into a model folder's vivace.json, beside what else is there.

    Raises:
        UsageError: the model is no folder, or cannot be written to.
        CheckpointError: its vivace.json is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; a canary is kept in a model's folder.")
    path = folder / FILE
    text = json.dumps({**_read(path), _KEY: as_json(recorded)}, indent=1, ensure_ascii=False)
    fresh = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error
    return path


def load(folder: Path) -> CanaryRecord | None:
    """The record in a model's folder, or None.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / FILE
    found = _read(path).get(_KEY) if folder.is_dir() else None
    if found is None:
        return None
    try:
        prompts = tuple(
            CanaryPrompt(tuple(map(int, one["tokens"].split())), tuple(map(_parsed, one["top"])))
            for one in found["prompts"]
        )
        if not prompts or any(not one.top for one in prompts):
            raise ValueError
        return CanaryRecord(found["precision"], prompts, float(found["max_kl"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} has a damaged canary; record it anew with vivace canary record."
        ) from error


def _parsed(text: str) -> dict[int, float]:
    pairs: Iterator[list[str]] = (pair.split(":") for pair in text.split())
    return {int(token): float(value) for token, value in pairs}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return found
