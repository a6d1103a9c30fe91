"""The tokenizer in a GGUF file's metadata, as the tokenizer.json and tokenizer_config.json that a
Hugging Face checkpoint would have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vivace.core.errors import CheckpointError
from vivace.formats.gguf.config import CONTROL
from vivace.formats.gguf.header import Metadata

UNKNOWN, USER_DEFINED = 2, 4  # of tokenizer.ggml.token_type, beside CONTROL
SPECIAL_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
}
SPACE = "▁"

# How text is cut before merges: the expressions of the models' own tokenizer.json.
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_LEAD}{_UPPER}+{_LOWER}*{_ENDINGS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_TEKKEN = _GPT4O.replace(_ENDINGS + "?", "").replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _split(expression: str) -> list[dict[str, Any]]:
    cut = {"pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return [{"type": "Split", **cut}, _byte_level(use_regex=False)]


_GPT2 = [_byte_level(use_regex=True)]
_DIGITS = [{"type": "Digits", "individual_digits": True}, *_GPT2]

# By tokenizer.ggml.pre, as far as the families of `models` use them.
CUTS: Mapping[str, list[dict[str, Any]]] = {
    **dict.fromkeys(("gpt-2", "mellum", "olmo"), _GPT2),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "dbrx", "smaug-bpe"), _split(_LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _split(_QWEN2)),
    **dict.fromkeys(("starcoder", "refact", "smollm"), _DIGITS),
    "gpt-4o": _split(_GPT4O),
    "tekken": _split(_TEKKEN),
}
# A word in the vocabulary is a token, and text begins with a start token unless the file says no.
WHOLE_WORDS = ("llama3", "llama-v3", "llama-bpe", "tekken")


def tokenizer_json(path: Path, metadata: Metadata) -> dict[str, Any] | None:
    """None where the file has no tokenizer.

    Raises:
        CheckpointError: it is of a kind that is not supported.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind in (None, "none", "no_vocab"):
        return None
    if kind not in _MODELS:
        raise CheckpointError(
            f"The tokenizer of {path} is of the kind {kind!r}, which is not supported; known are "
            f"{', '.join(_MODELS)}."
        )
    try:
        rules = _MODELS[kind](path, metadata)
        return {"version": "1.0", "added_tokens": _added(metadata), **rules}
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"The tokenizer of {path} is incomplete ({error}); download the file again."
        ) from error


def tokenizer_config(metadata: Metadata) -> dict[str, Any]:
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    ids = {
        name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in SPECIAL_TOKENS.items()
    }
    special = {name: tokens[i] for name, i in ids.items() if i is not None and i < len(tokens)}
    return {
        **special,
        "add_bos_token": _adds_bos(metadata),
        "chat_template": metadata.get("tokenizer.chat_template"),
    }


def _adds_bos(metadata: Metadata) -> bool:
    """Where the file does not say, as llama.cpp: sentence pieces, Llama 3 and Tekken have one."""
    given = metadata.get("tokenizer.ggml.add_bos_token")
    if given is not None:
        return bool(given)
    pieces = metadata.get("tokenizer.ggml.model") == "llama"
    return pieces or metadata.get("tokenizer.ggml.pre") in WHOLE_WORDS


def _added(metadata: Metadata) -> list[dict[str, Any]]:
    """Tokens that are found in text before anything else."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata.get("tokenizer.ggml.token_type", ())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": i, "content": tokens[i], **flags, "special": bool(kind != USER_DEFINED)}
        for i, kind in enumerate(types[: len(tokens)])
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]


def _vocabulary(metadata: Metadata) -> dict[str, int]:
    return {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}


def _of_bytes(path: Path, metadata: Metadata) -> dict[str, Any]:
    """Byte pair encoding of bytes, as GPT-2's."""
    cut = metadata.get("tokenizer.ggml.pre")
    if cut is None:
        raise CheckpointError(
            f"{path} does not say how its tokenizer cuts text; convert the model again with a "
            "current llama.cpp."
        )
    if cut not in CUTS:
        raise CheckpointError(
            f"The tokenizer of {path} cuts text like {cut!r}, which is not supported; known are "
            f"{', '.join(CUTS)}."
        )
    model = {
        "type": "BPE",
        "vocab": _vocabulary(metadata),
        "merges": metadata.get("tokenizer.ggml.merges", []),
        "ignore_merges": cut in WHOLE_WORDS,
    }
    return {
        "normalizer": {"type": "NFC"} if cut == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": CUTS[cut]},
        "decoder": _byte_level(use_regex=True),
        "model": model,
    }


def _of_pieces(path: Path, metadata: Metadata) -> dict[str, Any]:
    """Sentence pieces with scores: of all neighbours the two merge first whose piece scores best,
    which is byte pair encoding with merges in the order of scores."""
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    vocabulary = _vocabulary(metadata)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    lead = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *strip,
    ]
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    model = {
        "type": "BPE",
        "vocab": vocabulary,
        "merges": _merges(vocabulary, metadata["tokenizer.ggml.scores"]),
        "unk_token": None if unknown is None else metadata["tokenizer.ggml.tokens"][unknown],
        "fuse_unk": True,
        "byte_fallback": True,
    }
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*lead, spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def _merges(vocabulary: Mapping[str, int], scores: Any) -> list[tuple[str, str]]:
    """Every way to make a piece of two, best pieces first."""
    by_score = sorted(vocabulary, key=lambda piece: -scores[vocabulary[piece]])
    return [
        (piece[:place], piece[place:])
        for piece in by_score
        for place in range(1, len(piece))
        if piece[:place] in vocabulary and piece[place:] in vocabulary
    ]


_MODELS: Mapping[str, Callable[[Path, Metadata], dict[str, Any]]] = {
    "gpt2": _of_bytes,
    "llama": _of_pieces,
}
