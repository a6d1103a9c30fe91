"""The official clients of OpenAI and Anthropic run a script of every supported feature."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.serve.calling import TEMPLATE
from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.process import Setting, served

HERE = Path(__file__).parent
NODE_CLIENT = HERE.parents[1] / "build" / "node"
NAME = "tiny-chat"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = write_tiny_chat_model(tmp_path_factory.mktemp("model"), TEMPLATE)
    with served(model, Setting(options={"served_model_name": NAME})) as (_, url):
        yield url


def run(*command: str) -> None:
    environment = {**os.environ, "NODE_CLIENT": str(NODE_CLIENT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "features work" in done.stdout


def test_openai_for_python(url: str) -> None:
    run(sys.executable, str(HERE / "openai_features.py"), url, NAME)


def test_anthropic_for_python(url: str) -> None:
    if find_spec("anthropic") is None:
        pytest.skip("Anthropic's client is not installed")
    run(sys.executable, str(HERE / "anthropic_features.py"), url, NAME)


def test_openai_for_node(url: str) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_CLIENT / "node_modules" / "openai").exists():
        pytest.skip("OpenAI's client for Node.js is not in build/node: make node-client")
    run(node, str(HERE / "openai_features.mjs"), url, NAME)
