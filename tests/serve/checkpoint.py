"""A tiny random model with a tokenizer and a chat template, for the whole system."""

from __future__ import annotations

import json
from pathlib import Path

from tests.engine.tiny import write_tiny_llama
from tests.text.trained import byte_level

CONTEXT = 512
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_chat_model(folder: Path, template: str = TEMPLATE) -> Path:
    tokenizer = byte_level()
    write_tiny_llama(
        folder,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
