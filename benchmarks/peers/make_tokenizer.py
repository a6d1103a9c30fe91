"""A byte-level BPE tokenizer for a random-weight model, trained on the standard library's sources.

    python make_tokenizer.py MODEL

Writes tokenizer.json, tokenizer_config.json and generation_config.json beside the config.json of
MODEL, with exactly its vocabulary; a tokenizer that is there is left as it is. A vocabulary that
has no room for every byte gets none.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def sources() -> Iterator[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    for path in [*sorted(folder.glob("*.py")), *sorted(folder.glob("*/*.py"))]:
        yield path.read_text(encoding="utf-8", errors="replace")


def train(vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sources(), trainer)
    return tokenizer


def main(folder: Path) -> None:
    if (folder / "generation_config.json").exists():
        return
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    if vocab_size < len(pre_tokenizers.ByteLevel.alphabet()) + len(SPECIAL_TOKENS):
        return
    tokenizer = train(vocab_size)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens instead of {vocab_size}.")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
