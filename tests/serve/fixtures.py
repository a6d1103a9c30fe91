"""Served tiny models, for the tests of the server and of the load driver; one for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serve.calling import TEMPLATE
from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.process import served


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with served(model) as (_, url):
        yield url


@pytest.fixture(scope="module")
def hermes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template shows tools."""
    return write_tiny_chat_model(tmp_path_factory.mktemp("hermes"), TEMPLATE)


@pytest.fixture(scope="module")
def hermes_client(hermes: Path) -> Iterator[openai.OpenAI]:
    """Of a server of that model."""
    with (
        served(hermes) as (_, url),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
