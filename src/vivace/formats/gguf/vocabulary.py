"""A tokenizer as a GGUF file's metadata: the way back from `tokenizer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vivace.core.errors import CheckpointError
from vivace.formats.gguf.config import CONTROL
from vivace.formats.gguf.header import Metadata
from vivace.formats.gguf.tokenizer import (
    CUTS,
    SPACE,
    SPECIAL_TOKENS,
    UNKNOWN,
    USER_DEFINED,
    WHOLE_WORDS,
)

_NORMAL, _UNUSED, _BYTE = 1, 5, 6  # of tokenizer.ggml.token_type, beside the reader's
_NFC = {"type": "NFC"}
_NO_SCORE = -1e4  # of pieces that no merge makes: llama.cpp never looks for them


def tokenizer_metadata(
    described: Mapping[str, Any], special: Mapping[str, str | None], adds_bos: bool, size: int
) -> Metadata:
    """What llama.cpp makes the same tokenizer of.

    Args:
        described: tokenizer.json.
        special: "bos_token" and the like, where there are such.
        size: rows of the model's table; tokens that are missing are filled up.

    Raises:
        CheckpointError: it is of a kind that llama.cpp has no name for.
    """
    model = described.get("model") or {}
    if model.get("type") != "BPE":
        raise _unknown(f"{model.get('type')}, no byte pairs")
    tokens = {**model["vocab"], **{each["content"]: each["id"] for each in _added(described)}}
    by_id = {token_id: token for token, token_id in tokens.items()}
    if max(by_id) >= size:
        raise _unknown(f"larger than the model's table of {size}")
    names = [by_id.get(i, f"[PAD{i}]") for i in range(size)]
    kinds = _types(described, names, by_id)
    ids = {
        f"tokenizer.ggml.{key}_token_id": tokens[token]
        for name, key in SPECIAL_TOKENS.items()
        for token in [special.get(name)]
        if token in tokens
    }
    how = _pieces(described, names) if model.get("byte_fallback") else _of_bytes(described)
    return {
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_bos_token": adds_bos,
        **ids,
        **how,
    }


def _unknown(why: str) -> CheckpointError:
    return CheckpointError(
        f"The tokenizer cannot be written as GGUF: it is {why}; give a model with another one."
    )


def _added(described: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return described.get("added_tokens") or []


def _types(
    described: Mapping[str, Any], names: list[str], by_id: Mapping[int, str]
) -> np.ndarray[Any, Any]:
    model = described["model"]
    kinds = [_NORMAL if i in by_id else _UNUSED for i in range(len(names))]
    if model.get("byte_fallback"):
        for i, name in enumerate(names):
            kinds[i] = _BYTE if name.startswith("<0x") and name.endswith(">") else kinds[i]
    for each in _added(described):
        unknown = each["content"] == model.get("unk_token")
        kinds[each["id"]] = UNKNOWN if unknown else CONTROL if each["special"] else USER_DEFINED
    return np.asarray(kinds, np.int32)


def _of_bytes(described: Mapping[str, Any]) -> dict[str, Any]:
    """Byte pairs of bytes, with llama.cpp's name for how text is cut before."""
    merges = described["model"].get("merges", [])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _cut(described),
        "tokenizer.ggml.merges": [
            each if isinstance(each, str) else " ".join(each) for each in merges
        ],
    }


def _cut(described: Mapping[str, Any]) -> str:
    """The name of those that reading makes the same rules of."""
    given = _steps(described.get("pre_tokenizer"))
    whole = bool(described["model"].get("ignore_merges"))
    normalizer = described.get("normalizer")
    for name, steps in CUTS.items():
        wanted = _NFC if name == "qwen2" else None
        if (_alike(steps), name in WHOLE_WORDS, wanted) == (given, whole, normalizer):
            return name
    raise _unknown("one that cuts text in a way of its own")


def _steps(rules: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if rules is None:
        return []
    return _alike(rules["pretokenizers"] if rules["type"] == "Sequence" else [rules])


def _alike(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without what changes no token."""
    return [{key: each[key] for key in each if key != "trim_offsets"} for each in steps]


def _pieces(described: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Sentence pieces: what the first merge makes has the best score."""
    scores = dict.fromkeys(names, _NO_SCORE)
    for rank, merge in reversed(list(enumerate(described["model"]["merges"]))):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        scores[left + right] = -float(rank)
    normalizer = described.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    if described.get("pre_tokenizer") or not _is_of_pieces(parts):
        raise _unknown("one of sentence pieces with rules of its own")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": np.asarray([scores[name] for name in names], np.float32),
        "tokenizer.ggml.add_space_prefix": any(each.get("type") == "Prepend" for each in parts),
    }


def _is_of_pieces(parts: Sequence[Mapping[str, Any]]) -> bool:
    """Spaces become pieces' own; one may be put before the text."""
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepended = {"type": "Prepend", "prepend": SPACE}
    return replaced in parts and all(each in (replaced, prepended) for each in parts)
