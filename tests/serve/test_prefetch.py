"""POST /v1/prefetch, on an engine that says what the test wants and on a real one."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine
from vivace.core.request import IDLE_PRIORITY


def test_a_prefix_is_computed_at_idle_priority(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    answer = client.post("/v1/prefetch", json={"prompt": "hello", "cache_salt": "s"}).json()
    (request,) = engine.seen
    assert request.prompt_token_ids == tuple(b"hello")
    assert (request.priority, request.params.max_tokens) == (IDLE_PRIORITY, 1)
    assert (request.cache_salt, request.pin_id) == ("s", None)
    assert answer["object"] == "prefetch"
    assert answer["model"] == "scripted"
    assert (answer["prompt_tokens"], answer["cached_tokens"]) == (5, 4)
    assert answer["pinned"] is False


def test_messages_end_before_the_assistant_speaks(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    messages = [{"role": "system", "content": "be brief"}]
    answer = client.post("/v1/prefetch", json={"messages": messages, "pin": True}).json()
    (request,) = engine.seen
    assert bytes(request.prompt_token_ids) == b"system: be brief\n"
    assert request.pin_id == answer["id"]
    assert answer["pinned"] is True


@pytest.mark.parametrize("both", [{}, {"prompt": "a", "messages": [{"role": "user"}]}])
def test_a_prompt_or_messages_must_be_given(client: httpx.Client, both: dict[str, object]) -> None:
    answer = client.post("/v1/prefetch", json=both)
    assert answer.status_code == 400
    assert "either prompt or messages" in answer.json()["error"]["message"]


def test_an_unknown_pin_is_not_found(client: httpx.Client, engine: ScriptedEngine) -> None:
    assert client.delete("/v1/prefetch/nothing").status_code == 404
    engine.pins = ("p",)
    assert client.delete("/v1/prefetch/p").json()["deleted"] is True
    assert engine.pins == ()


def test_the_real_engine_finds_what_was_prefetched(url: str) -> None:
    prompt = "def add(a, b):\n    return a + b\n" * 4
    with httpx.Client(base_url=url, timeout=60) as client:
        warmed = client.post("/v1/prefetch", json={"prompt": prompt, "pin": True}).json()
        asked = {"prompt": prompt + "x", "max_tokens": 1}
        usage = client.post("/v1/completions", json=asked).json()["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert warmed["prompt_tokens"] - 32 <= cached < usage["prompt_tokens"]
        metrics = client.get("/metrics").text
        assert "vivace:kv_pages_pinned" in metrics
        used = re.search(r"^vivace:prefetched_tokens_used_total{.*} (.+)$", metrics, re.MULTILINE)
        assert used is not None
        assert float(used[1]) == cached
        best = client.get("/server_info").json()["engine"]["prefixes"][0]
        assert (best["num_tokens"], best["hits"], best["tokens_saved"]) == (cached, 1, cached)
        assert client.delete(f"/v1/prefetch/{warmed['id']}").status_code == 200
        assert client.delete(f"/v1/prefetch/{warmed['id']}").status_code == 404
        refused = client.post("/v1/prefetch", json={"prompt": "x" * 100_000, "pin": True})
        assert refused.status_code == 400
