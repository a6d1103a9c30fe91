"""Small tokenizers of every kind that checkpoints bring, trained on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>"]
CORPUS = [
    "def main():\n    return [x for x in range(10)]\n",
    "The quick brown fox  jumps over the lazy dog, again and again.",
    "naïve café — 東京 は 日本 の 首都 です",
    "Здравствуй, мир! 👩‍👩‍👧‍👦 👍🏽 🇫🇷",
] * 4


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("a plain é", special=False)])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As Llama 2 and Mistral: SentencePiece converted, with a leading space."""
    return _sentence_piece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ],
    )


def gemma_like() -> Tokenizer:
    """As Gemma: SentencePiece converted, without a leading space."""
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return _sentence_piece(normalizers.Replace(" ", "▁"), parts)


def metaspace() -> Tokenizer:
    """As T5 and XLNet."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "byte_fallback": byte_fallback,
    "gemma_like": gemma_like,
    "metaspace": metaspace,
}


def with_bos(tokenizer: Tokenizer) -> Tokenizer:
    """Have it put <s> before every text, as Llama's does."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def _sentence_piece(normalizer: normalizers.Normalizer, parts: list[decoders.Decoder]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizer
    special = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=special,
        limit_alphabet=60,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    vocab = tokenizer.get_vocab()
    kept = Tokenizer(
        models.BPE(vocab, _merges(tokenizer), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    kept.normalizer = normalizer
    kept.decoder = decoders.Sequence(parts)
    kept.add_special_tokens(SPECIAL)
    return kept


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges]
