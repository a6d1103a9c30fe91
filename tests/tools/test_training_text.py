"""What an epoch holds, and that its chats are what the chat template renders."""

from __future__ import annotations

import pytest
from corpus import SourceFile
from jinja2.sandbox import ImmutableSandboxedEnvironment
from train_tokenizer import CHAT_TEMPLATE, END_OF_TEXT
from training_text import TrainingText, render_chat

pytestmark = pytest.mark.tiny

FILE = '''"""A module."""

import os


@cached
def first(a, b):
    """Add two numbers.

    Slowly.
    """
    total = a
    total += b
    return total


class Second:
    def method(self):
        for i in range(3):
            print(i)
        return os
'''
FILES = [SourceFile(f"{i}.py", FILE.replace("total", f"total_{i}")) for i in range(40)]


def plain(documents: list[str]) -> list[str]:
    texts = [document.removeprefix(END_OF_TEXT) for document in documents]
    return [text for text in texts if not text.startswith("<|im_start|>")]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    text = TrainingText(FILES, seed=1)
    assert text.epoch(3) == TrainingText(FILES, seed=1).epoch(3)
    assert text.epoch(3) != text.epoch(4)
    assert text.epoch(3) != TrainingText(FILES, seed=2).epoch(3)


def test_every_file_stands_in_an_epoch_once() -> None:
    documents = plain(TrainingText(FILES, seed=0).epoch(0))
    whole = [document for document in documents if document in {file.text for file in FILES}]
    pieces = [document for document in documents if document not in whole]
    assert len(set(whole)) == len(whole) < len(FILES)
    assert len(pieces) == 3 * (len(FILES) - len(whole))
    assert sum(map(len, documents)) == sum(len(file.text) for file in FILES)
    assert any(piece.startswith("@cached\ndef first") for piece in pieces)


def test_chats_ask_for_functions_as_the_template_renders_them() -> None:
    turns = [("Complete this", "```python\npass\n```"), ("Hello!", "Hi.")]
    roles = [("user", "assistant")] * len(turns)
    messages = [
        {"role": role, "content": content}
        for pair, names in zip(turns, roles, strict=True)
        for role, content in zip(names, pair, strict=True)
    ]
    template = ImmutableSandboxedEnvironment().from_string(CHAT_TEMPLATE)
    rendered = template.render(messages=messages, bos_token=END_OF_TEXT)
    assert END_OF_TEXT + render_chat(turns) == rendered
    documents = TrainingText(FILES, seed=0).epoch(0)
    chats = [document for document in documents if "<|im_start|>" in document]
    assert all(chat.startswith(END_OF_TEXT + "<|im_start|>user\n") for chat in chats)
    assert all(chat.endswith("<|im_end|>\n") for chat in chats)
    assert any("def method(self):" in chat for chat in chats)


def test_segments_are_the_documents_cut_at_lines_and_after_indentation() -> None:
    text = TrainingText(FILES, seed=0)
    segments = text.segments(2)
    assert "".join(segments) == "".join(text.epoch(2))
    assert segments == text.segments(2)
    ends = [before[-1] for before in segments if not before.endswith("<|im_end|>\n")]
    assert {"\n", " "} <= set(ends)
    lines = sum(document.count("\n") for document in text.epoch(2))
    assert 0.04 < (len(segments) - len(text.epoch(2))) / lines < 0.12
