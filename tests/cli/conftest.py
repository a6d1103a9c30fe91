"""Tiny random models to run commands on, with and without what a chat needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from program import Result, Vivace
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from vivace.bench.random_model import PRESETS, write_random_model
from vivace.cli import main

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"

TINY = replace(PRESETS["tiny"], max_position_embeddings=256)  # a context soon full


@pytest.fixture(scope="session")
def bare_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a tokenizer."""
    return write_random_model(tmp_path_factory.mktemp("bare"), TINY)


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer of single bytes."""
    return _with_tokenizer(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer and a chat template."""
    folder = _with_tokenizer(tmp_path_factory.mktemp("chat"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def vivace(capsys: pytest.CaptureFixture[str]) -> Vivace:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run


def _with_tokenizer(folder: Path) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_random_model(folder, replace(TINY, vocab_size=len(vocab)))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.5}))
    return folder
