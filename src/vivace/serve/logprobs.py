"""Log-probabilities in OpenAI's two formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from vivace.core.request import Logprob

LOWEST = -9999.0  # JSON has no infinity; vLLM's stand-in for it

TokenLogprobs = Sequence[dict[int, Logprob]]
PromptLogprobs = Sequence[dict[int, Logprob] | None]  # None for the first, that nothing predicts
TokenName: TypeAlias = Callable[[int, str], str]  # of a token's id and text


def by_text(token_id: int, text: str) -> str:
    """As vLLM writes a token, one without text too."""
    return text or f"token_id:{token_id}"


def by_id(token_id: int, text: str) -> str:
    """As vLLM writes it with `return_tokens_as_token_ids`."""
    return f"token_id:{token_id}"


def legacy_logprobs(
    token_ids: Sequence[int],
    logprobs: PromptLogprobs,
    offset: int,
    unpredicted: str = "",
    name: TokenName = by_text,
) -> tuple[dict[str, Any], int]:
    """The object of /v1/completions, and the text offset after these tokens.

    Args:
        offset: characters of the answer before these tokens.
        unpredicted: the text of a token without log-probabilities.
    """
    pairs = list(zip(token_ids, logprobs, strict=True))
    texts = [unpredicted if entry is None else entry[token].decoded_token for token, entry in pairs]
    offsets = []
    for token_id, text in zip(token_ids, texts, strict=True):
        offsets.append(offset)
        offset += len(by_text(token_id, text))
    body = {
        "tokens": list(map(name, token_ids, texts)),
        "token_logprobs": [
            None if entry is None else _number(entry[token_id]) for token_id, entry in pairs
        ],
        "top_logprobs": [None if entry is None else _by_name(entry, name) for entry in logprobs],
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


def chat_logprobs(
    token_ids: Sequence[int], logprobs: TokenLogprobs, top: int, name: TokenName = by_text
) -> dict[str, Any]:
    """The object of /v1/chat/completions, with the `top` likeliest tokens at each place."""
    return {
        "content": [
            {
                **_entry(token_id, entry[token_id], name),
                "top_logprobs": [
                    _entry(other, one, name) for other, one in _by_rank(entry) if one.rank <= top
                ],
            }
            for token_id, entry in zip(token_ids, logprobs, strict=True)
        ],
        "refusal": None,
    }


def _entry(token_id: int, logprob: Logprob, name: TokenName) -> dict[str, Any]:
    text = logprob.decoded_token
    return {
        "token": name(token_id, text),
        "logprob": _number(logprob),
        "bytes": list(by_text(token_id, text).encode()),
    }


def _by_name(entry: dict[int, Logprob], name: TokenName) -> dict[str, float]:
    """Of tokens that read the same (parts of characters do), the likeliest."""
    likeliest: dict[str, float] = {}
    for token_id, one in _by_rank(entry):
        likeliest.setdefault(name(token_id, one.decoded_token), _number(one))
    return likeliest


def _by_rank(entry: dict[int, Logprob]) -> list[tuple[int, Logprob]]:
    return sorted(entry.items(), key=lambda pair: pair[1].rank)


def _number(logprob: Logprob) -> float:
    return max(logprob.logprob, LOWEST)
