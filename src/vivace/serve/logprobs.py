"""Log-probabilities in OpenAI's two formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivace.core.request import Logprob

LOWEST = -9999.0  # JSON has no infinity; vLLM's stand-in for it

TokenLogprobs = Sequence[dict[int, Logprob]]
PromptLogprobs = Sequence[dict[int, Logprob] | None]  # None for the first, that nothing predicts


def legacy_logprobs(
    token_ids: Sequence[int], logprobs: PromptLogprobs, offset: int, unpredicted: str = ""
) -> tuple[dict[str, Any], int]:
    """The object of /v1/completions, and the text offset after these tokens.

    Args:
        offset: characters of the answer before these tokens.
        unpredicted: the text of a token without log-probabilities.
    """
    tokens, offsets = [], []
    for token_id, entry in zip(token_ids, logprobs, strict=True):
        tokens.append(unpredicted if entry is None else _text(token_id, entry[token_id]))
        offsets.append(offset)
        offset += len(tokens[-1])
    body = {
        "tokens": tokens,
        "token_logprobs": [
            None if entry is None else _number(entry[token_id])
            for token_id, entry in zip(token_ids, logprobs, strict=True)
        ],
        "top_logprobs": [None if entry is None else _by_text(entry) for entry in logprobs],
        "text_offset": offsets,
    }
    return body, offset


def prompt_logprobs(logprobs: PromptLogprobs) -> list[dict[str, Any] | None]:
    """vLLM's field of that name: for each prompt token a map from token id."""
    return [
        None
        if entry is None
        else {
            str(token_id): {
                "logprob": _number(one),
                "rank": one.rank,
                "decoded_token": one.decoded_token,
            }
            for token_id, one in entry.items()
        }
        for entry in logprobs
    ]


def chat_logprobs(token_ids: Sequence[int], logprobs: TokenLogprobs, top: int) -> dict[str, Any]:
    """The object of /v1/chat/completions, with the `top` likeliest tokens at each place."""
    return {
        "content": [
            {
                **_entry(token_id, entry[token_id]),
                "top_logprobs": [_entry(*pair) for pair in _by_rank(entry) if pair[1].rank <= top],
            }
            for token_id, entry in zip(token_ids, logprobs, strict=True)
        ],
        "refusal": None,
    }


def _entry(token_id: int, logprob: Logprob) -> dict[str, Any]:
    text = _text(token_id, logprob)
    return {"token": text, "logprob": _number(logprob), "bytes": list(text.encode())}


def _by_text(entry: dict[int, Logprob]) -> dict[str, float]:
    """Of tokens that read the same (parts of characters do), the likeliest."""
    likeliest: dict[str, float] = {}
    for token_id, one in _by_rank(entry):
        likeliest.setdefault(_text(token_id, one), _number(one))
    return likeliest


def _by_rank(entry: dict[int, Logprob]) -> list[tuple[int, Logprob]]:
    return sorted(entry.items(), key=lambda pair: pair[1].rank)


def _text(token_id: int, logprob: Logprob) -> str:
    """As vLLM writes a token that has no text."""
    return logprob.decoded_token or f"token_id:{token_id}"


def _number(logprob: Logprob) -> float:
    return max(logprob.logprob, LOWEST)
