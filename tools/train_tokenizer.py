"""Train the tokenizer of the bundled models: byte-level BPE with the GPT-2 pre-tokenizer.

It sees training files alone (tools/corpus.py). The vocabulary has 8192 tokens, of which three
are special: `<|endoftext|>` starts and ends a document, `<|im_start|>` and `<|im_end|>` stand
around the messages of a chat.

    python tools/train_tokenizer.py --output runs/tokenizer
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import corpus
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 8192
END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, MESSAGE_START, MESSAGE_END)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer that starts every text with END_OF_TEXT, as the training documents do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, model_max_length: int) -> None:
    """tokenizer.json, tokenizer_config.json and generation_config.json."""
    end, message_end = (tokenizer.token_to_id(token) for token in (END_OF_TEXT, MESSAGE_END))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "additional_special_tokens": [MESSAGE_START, MESSAGE_END],
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model_max_length,
        "chat_template": CHAT_TEMPLATE,
    }
    generation_config = {"bos_token_id": end, "eos_token_id": [end, message_end]}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    write_json(folder / "generation_config.json", generation_config)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer of the bundled models.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model-max-length", type=int, default=2048)
    arguments = parser.parse_args()
    files = corpus.load()
    tokenizer = train(file.text for file in files.train)
    save(tokenizer, arguments.output, arguments.model_max_length)
    for name, part in (("training", files.train), ("held-out", files.held_out)):
        size = sum(len(file.text.encode()) for file in part)
        tokens = sum(len(tokenizer.encode(file.text).ids) for file in part)
        print(f"{name}: {size} bytes, {tokens} tokens, {size / tokens:.2f} bytes per token")


if __name__ == "__main__":
    main()
