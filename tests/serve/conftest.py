"""What tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.serve.fixtures import hermes, hermes_client, model, url
from tests.serve.scripted import ScriptedEngine, scripted_app, serving

__all__ = ["client", "engine", "hermes", "hermes_client", "model", "url"]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    """Of a server in front of that engine."""
    with serving(scripted_app(engine)) as url, httpx.Client(base_url=url) as client:
        yield client
