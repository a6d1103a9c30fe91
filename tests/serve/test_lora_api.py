"""Adapters by call: loaded, asked for by name, listed, unloaded; with a scripted engine, and once
with the whole server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.models.peft_files import write_adapter
from tests.serve.launched import launched
from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.core.stats import AdapterInfo
from vivace.serve.options import ServeOptions

KEY = {"authorization": "Bearer root"}
SQL = {"lora_name": "sql", "lora_path": "/adapters/sql"}
MODULES = {"model.layers.0.self_attn.q_proj": (48, 48), "model.layers.1.mlp.up_proj": (80, 48)}
ASKED = {"prompt": "def f(", "max_tokens": 8, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(max_loras=4, adapters=(AdapterInfo("first", "/adapters/first", 8),))


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    app = scripted_app(engine, ServeOptions(admin_key="root"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


def names(client: httpx.Client) -> dict[str, str | None]:
    """Models and what they are adapters of."""
    return {card["id"]: card["parent"] for card in client.get("/v1/models").json()["data"]}


def load(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/load_lora_adapter", json={**SQL, **body}, headers=KEY)


def unload(client: httpx.Client, **body: Any) -> httpx.Response:
    body = {"lora_name": "sql", **body}
    return client.post("/v1/unload_lora_adapter", json=body, headers=KEY)


def test_adapters_are_models_while_they_are_loaded(client: httpx.Client) -> None:
    assert names(client) == {"scripted": None, "first": "scripted"}
    answer = load(client)
    assert (answer.status_code, answer.text) == (
        200,
        "Success: LoRA adapter 'sql' added successfully.",
    )
    assert names(client) == {"scripted": None, "first": "scripted", "sql": "scripted"}
    card = client.get("/v1/models/sql").json()
    assert (card["id"], card["root"], card["parent"]) == ("sql", "/adapters/sql", "scripted")
    assert unload(client).text == "Success: LoRA adapter 'sql' removed successfully."
    assert client.get("/v1/models/sql").status_code == 404
    assert names(client) == {"scripted": None, "first": "scripted"}


CALLS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    "/v1/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    "/v1/responses": {"input": "a", "max_output_tokens": 1},
    "/v1/prefetch": {"prompt": "a"},
}


@pytest.mark.parametrize("path", CALLS)
def test_a_name_chooses_the_adapter(
    client: httpx.Client, engine: ScriptedEngine, path: str
) -> None:
    for model, adapter in (("first", "first"), ("scripted", None)):
        answer = client.post(path, json={**CALLS[path], "model": model})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == model
        assert engine.seen[-1].adapter == adapter
    unknown = client.post(path, json={**CALLS[path], "model": "other"})
    assert unknown.status_code == 404
    if path != "/v1/messages":  # which needs a model
        client.post(path, json=CALLS[path])
        assert engine.seen[-1].adapter is None


def test_what_cannot_be_loaded_or_unloaded(client: httpx.Client) -> None:
    taken = load(client, lora_name="scripted")
    assert (taken.status_code, taken.json()["error"]["param"]) == (400, "lora_name")
    unknown = unload(client)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    for body in ({"lora_name": ""}, {"load_inplace": True}, {"other": 1}):
        assert load(client, **body).status_code == 400
    assert unload(client, lora_int_id=3).status_code == 400
    assert load(client, load_inplace=False).status_code == 200


def test_the_metrics_tell_the_adapters_in_use(client: httpx.Client) -> None:
    lines = client.get("/metrics").text.splitlines()
    (info,) = [line for line in lines if line.startswith("vllm:lora_requests_info{")]
    assert 'max_lora="4"' in info
    assert 'running_lora_adapters=""' in info
    assert 'waiting_lora_adapters=""' in info


# --- the whole system ---


def test_a_real_engine_loads_answers_and_unloads(model: Path, tmp_path: Path) -> None:
    for name, seed in (("start", 1), ("sql", 2)):
        write_adapter(tmp_path / name, MODULES, rank=4, seed=seed, lora_alpha=64)
    options = ["--enable-lora", "--lora-modules", f"start={tmp_path / 'start'}"]
    with launched(model, *options) as url, httpx.Client(base_url=url, timeout=30) as client:
        base = str(client.get("/v1/models").json()["data"][0]["id"])

        def text(name: str) -> str:
            answer = client.post("/v1/completions", json={**ASKED, "model": name})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["text"])

        assert load(client, lora_path=str(tmp_path / "sql")).status_code == 200
        again = load(client, lora_path=str(tmp_path / "sql"))
        assert (again.status_code, again.json()["error"]["param"]) == (400, "lora_name")
        wrong = load(client, lora_name="wrong", lora_path=str(model))
        assert wrong.status_code == 400
        assert "no LoRA adapter" in wrong.json()["error"]["message"]
        texts = {name: text(name) for name in (base, "start", "sql")}
        assert len(set(texts.values())) == 3
        assert {name: text(name) for name in texts} == texts
        assert unload(client).status_code == 200
        gone = client.post("/v1/completions", json={**ASKED, "model": "sql"})
        assert gone.status_code == 404
        assert text(base) == texts[base]
