"""Several models under names: loaded on demand, unloaded least recently used, never in use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.models.peft_files import write_adapter
from tests.serve.launched import launched
from tests.serve.scripted import ByteTokenizer, RoleTemplate, ScriptedEngine, serving, wait_until
from vivace.core.config import EngineConfig
from vivace.core.errors import CapacityError, CheckpointError, UsageError, VivaceError
from vivace.core.stats import AdapterInfo
from vivace.serve import models as models_module
from vivace.serve.app import create_app_for
from vivace.serve.errors import ApiError
from vivace.serve.models import ModelLimits, Models
from vivace.serve.observers import Observers
from vivace.serve.options import ServeOptions
from vivace.serve.served import Served, Shared, served_model
from vivace.serve.starting import model_configs

NAMES = ["a", "b", "c"]
OPTIONS = ServeOptions(admin_key="root")
KEY = {"authorization": "Bearer root"}
MINI = Path(__file__).parents[2] / "src" / "vivace" / "assets" / "vivace-mini"


class Fleet:
    """Starts scripted engines.

    Attributes:
        started, stopped: names, in order.
        errors: why a model cannot be started, by name.
        sizes: bytes, by name.
        open: whether starting goes on; closed, it waits.
        memory: what the last one was given.
    """

    def __init__(self) -> None:
        self.shared = Shared(OPTIONS, Observers(OPTIONS))
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.errors: dict[str, VivaceError] = {}
        self.sizes: dict[str, int] = {}
        self.engines: dict[str, ScriptedEngine] = {}
        self.open = True
        self.memory: int | None = None

    async def start(self, name: str, memory_bytes: int | None) -> Served:
        self.started.append(name)
        self.memory = memory_bytes
        while not self.open:
            await asyncio.sleep(0.005)
        if name in self.errors:
            raise self.errors[name]
        size = self.sizes.get(name, 1)
        if memory_bytes is not None and size > memory_bytes:
            raise CapacityError("The weights need more.")
        adapters = (AdapterInfo(f"{name}-lora", "/lora", 8),)
        engine = ScriptedEngine(model_name=name, memory_bytes=size, adapters=adapters)
        self.engines[name] = engine
        return served_model(name, engine, ByteTokenizer(), RoleTemplate(), self.shared)

    async def stop(self, served: Served) -> None:
        self.stopped.append(served.names.model)

    def models(self, **limits: Any) -> Models:
        given = ModelLimits(**{"wait_seconds": 5.0, **limits})
        return Models(NAMES, self.start, self.stop, given, self.shared.doors)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def use(models: Models, *names: str | None) -> None:
    for name in names:
        served, give_back = await models.lend(name)
        assert served.names.model == (name or "a").split("-")[0]
        give_back()


def test_models_are_loaded_when_asked_for_and_the_least_used_go(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(max_loaded=2)
        await models.start()
        assert models.states == {"a": "loaded", "b": "unloaded", "c": "unloaded"}
        await use(models, "b", None, "b", "a", "c")
        assert (fleet.started, fleet.stopped) == (["a", "b", "c"], ["b"])
        await use(models, "b")
        assert fleet.stopped == ["b", "a"]
        await models.close()
        assert sorted(fleet.stopped[2:]) == ["b", "c"]

    asyncio.run(run())


def test_callers_at_once_share_a_load(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models()
        fleet.open = False
        asking = [asyncio.create_task(use(models, "b")) for _ in range(5)]
        await asyncio.sleep(0.02)
        assert models.states["b"] == "loading"
        fleet.open = True
        await asyncio.gather(*asking)
        assert fleet.started == ["b"]

    asyncio.run(run())


def test_who_is_in_use_is_not_unloaded_and_who_waits_gets_its_place(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(max_loaded=1)
        _, give_back = await models.lend("a")
        waiting = asyncio.create_task(use(models, "b"))
        await asyncio.sleep(0.03)
        assert (fleet.stopped, models.states["b"]) == ([], "loading")
        give_back()
        await waiting
        assert fleet.stopped == ["a"]

    asyncio.run(run())


def test_nobody_waits_for_ever_and_what_nobody_wants_is_not_loaded(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(max_loaded=1, wait_seconds=0.05)
        _, give_back = await models.lend("a")
        with pytest.raises(ApiError) as error:
            await models.lend("b")
        assert (error.value.status, error.value.code) == (503, "model_loading")
        assert error.value.headers is not None
        assert int(error.value.headers["retry-after"]) >= 1
        give_back()
        await asyncio.sleep(0.01)
        assert (fleet.started, models.states["b"]) == (["a"], "unloaded")
        await use(models, "b")

    asyncio.run(run())


def test_who_gives_up_does_not_end_the_load(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(wait_seconds=0.02)
        fleet.open = False
        with pytest.raises(ApiError):
            await models.lend("b")
        fleet.open = True
        while models.states["b"] != "loaded":
            await asyncio.sleep(0.005)
        assert fleet.started == ["b"]

    asyncio.run(asyncio.wait_for(run(), 5))


def test_memory_is_shared_within_the_cap(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(memory_bytes=10)
        fleet.sizes = {"a": 4, "b": 4, "c": 11}
        await use(models, "a", "b")
        assert fleet.memory == 6
        fleet.sizes["c"] = 5
        await use(models, "c")
        assert (fleet.stopped, fleet.memory) == (["a"], 6)
        fleet.sizes["a"] = 11
        with pytest.raises(CapacityError):
            await use(models, "a")
        assert fleet.memory == 10  # alone, and still too large

    asyncio.run(run())


def test_a_load_that_fails_is_told_to_its_own_callers(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        models = fleet.models()
        await models.start()
        fleet.errors["b"] = CheckpointError("b is damaged.")
        outcomes = await asyncio.gather(
            use(models, "b"), use(models, "a"), use(models, "b"), return_exceptions=True
        )
        assert [str(one) for one in outcomes] == ["b is damaged.", "None", "b is damaged."]
        with pytest.raises(CheckpointError):
            await use(models, "b")
        assert fleet.started == ["a", "b"]  # not tried again at once
        monkeypatch.setattr(models_module, "FAILED_SECONDS", 0.0)
        del fleet.errors["b"]
        await asyncio.sleep(0)
        models._entries["b"].failure = None
        await use(models, "b")

    asyncio.run(run())


def test_adapters_lead_to_their_model_even_while_it_is_unloaded(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models(max_loaded=1)
        await use(models, "a", "a-lora", "b", "a-lora", "b-lora")
        assert fleet.started == ["a", "b", "a", "b"]
        assert {"a-lora", "b-lora"} <= models.names
        with pytest.raises(ApiError, match="does not exist"):
            await models.lend("c-lora")  # never loaded: nobody knows

    asyncio.run(run())


def test_closing_ends_what_is_being_loaded(fleet: Fleet) -> None:
    async def run() -> None:
        models = fleet.models()
        await models.start()
        fleet.open = False
        waiting = asyncio.create_task(use(models, "b"))
        await asyncio.sleep(0.02)
        await models.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert fleet.stopped == ["a"]

    asyncio.run(run())


def test_names_are_given_once() -> None:
    options = ServeOptions(served_model_name="x", models="y=path/y,z=path/z")
    config = EngineConfig("first", enable_lora=True, lora_modules="l=lora", quantize="int8")
    configs = model_configs(config, options)
    assert [(name, one.model) for name, one in configs.items()] == [
        ("x", "first"),
        ("y", "path/y"),
        ("z", "path/z"),
    ]
    assert [one.lora_modules for one in configs.values()] == ["l=lora", None, None]
    assert {one.quantize for one in configs.values()} == {"int8"}
    for wrong in ("x=other", "y", "y=1,y=2"):
        with pytest.raises(UsageError, match="models"):
            model_configs(config, ServeOptions(served_model_name="x", models=wrong))


# --- over HTTP ---


@contextmanager
def served(fleet: Fleet, **limits: Any) -> Iterator[httpx.Client]:
    app = create_app_for(fleet.models(**limits), fleet.shared)
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def complete(client: httpx.Client, model: str, **body: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"prompt": "x", "model": model, **body})


def states(client: httpx.Client) -> dict[str, str]:
    return {card["id"]: card["state"] for card in client.get("/v1/models").json()["data"]}


def test_a_name_chooses_the_engine(fleet: Fleet) -> None:
    with served(fleet) as client:
        assert states(client) == dict.fromkeys(NAMES, "unloaded")
        answer = complete(client, "b", max_tokens=2)
        assert (answer.status_code, answer.json()["model"]) == (200, "b")
        assert list(fleet.engines) == ["b"]
        assert states(client) == {
            "a": "unloaded",
            "b": "loaded",
            "b-lora": "loaded",
            "c": "unloaded",
        }
        assert client.get("/v1/models/c").json()["state"] == "unloaded"
        assert complete(client, "d").status_code == 404
        assert complete(client, "c").json()["model"] == "c"
        assert client.get("/health").json() == {"status": "ok"}
        info = client.get("/server_info").json()
        assert (info["model"], sorted(info["models"])) == (None, ["b", "c"])
        assert info["states"] == {"a": "unloaded", "b": "loaded", "c": "loaded"}
        fleet.engines["b"].gone = "It is gone."
        assert client.get("/health").status_code == 503


def test_metrics_are_told_by_model(fleet: Fleet) -> None:
    with served(fleet) as client:
        complete(client, "a", max_tokens=2)
        complete(client, "b", max_tokens=3)
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    values = {
        (sample.name, sample.labels["model_name"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name in ("vivace:model_loaded", "vllm:request_generation_tokens_sum")
    }
    assert values == {
        ("vivace:model_loaded", "a"): 1,
        ("vivace:model_loaded", "b"): 1,
        ("vivace:model_loaded", "c"): 0,
        ("vllm:request_generation_tokens_sum", "a"): 2,
        ("vllm:request_generation_tokens_sum", "b"): 3,
    }
    told = [
        (sample.labels["process"], sample.labels.get("model_name"))
        for family in families
        for sample in family.samples
        if sample.name == "vivace:cpu_seconds_total"
    ]
    assert sorted(told, key=str) == [("engine", "a"), ("engine", "b"), ("server", None)]


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_stream_keeps_its_model_until_its_end(fleet: Fleet) -> None:
    with served(fleet, max_loaded=1, wait_seconds=0.2) as client:
        complete(client, "a", max_tokens=1)
        fleet.engines["a"].seconds = 0.01
        lines: list[str] = []

        def stream() -> None:
            body = {"prompt": "x", "model": "a", "max_tokens": 80, "stream": True}
            with client.stream("POST", "/v1/completions", json=body) as answer:
                lines.extend(answer.iter_lines())

        streaming = in_background(stream)
        wait_until(lambda: bool(fleet.engines["a"].running))
        refused = complete(client, "b", max_tokens=1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading")
        assert refused.headers["retry-after"]
        streaming.join()
        assert lines[-2] == "data: [DONE]"
        assert fleet.stopped == []
        assert complete(client, "b", max_tokens=1).status_code == 200
        assert fleet.stopped == ["a"]


def test_a_client_that_leaves_gives_its_model_back(fleet: Fleet) -> None:
    with served(fleet, max_loaded=1) as client:
        complete(client, "a", max_tokens=1)
        fleet.engines["a"].seconds = 0.01
        body = {"prompt": "x", "model": "a", "max_tokens": 1000, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())
        assert complete(client, "b", max_tokens=1).status_code == 200
        assert fleet.stopped == ["a"]


def test_a_failed_load_and_a_bad_call_give_it_back_too(fleet: Fleet) -> None:
    fleet.errors["c"] = CheckpointError("c is damaged.")
    with served(fleet, max_loaded=1) as client:
        failed = complete(client, "c")
        assert (failed.status_code, failed.json()["error"]["message"]) == (500, "c is damaged.")
        assert complete(client, "a", temperature=-1).status_code == 400
        assert complete(client, "b", max_tokens=1).status_code == 200


def test_administrators_reach_all_models(fleet: Fleet) -> None:
    with served(fleet) as client:
        for name in ("a", "b"):
            complete(client, name, max_tokens=1)
        client.post("/reset_prefix_cache", headers=KEY)
        assert [engine.resets for engine in fleet.engines.values()] == [1, 1]
        body = {"lora_name": "b", "lora_path": "/x"}
        taken = client.post("/v1/load_lora_adapter", json=body, headers=KEY)
        assert (taken.status_code, taken.json()["error"]["param"]) == (400, "lora_name")
        body = {"lora_name": "sql", "lora_path": "/x", "model": "b"}
        assert client.post("/v1/load_lora_adapter", json=body, headers=KEY).status_code == 200
        assert complete(client, "sql", max_tokens=1).json()["model"] == "sql"
        assert fleet.engines["b"].seen[-1].adapter == "sql"
        pinned = client.post("/v1/prefetch", json={"prompt": "x", "model": "b", "pin": True}).json()
        fleet.engines["b"].pins = (pinned["id"],)
        assert client.delete(f"/v1/prefetch/{pinned['id']}").json()["deleted"]
        assert client.delete("/v1/prefetch/other").status_code == 404
        client.post("/drain", headers=KEY)
        closed = complete(client, "c")
        assert (closed.status_code, closed.json()["error"]["code"]) == (503, "server_draining")
        assert "c" not in fleet.engines


# --- the whole system ---


def test_two_real_models_take_turns_and_keep_their_adapters(model: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path, {"model.layers.1.mlp.down_proj": (48, 80)}, lora_alpha=128)
    flags = ["--served-model-name", "tiny", "--models", f"mini={MINI}", "--max-loaded-models", "1"]
    flags += ["--enable-lora", "--max-model-len", "64"]
    body = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}
    with launched(model, *flags) as url, httpx.Client(base_url=url, timeout=60) as client:
        adapter = {"lora_name": "sql", "lora_path": str(tmp_path)}
        assert client.post("/v1/load_lora_adapter", json=adapter, headers=KEY).status_code == 200
        texts = [
            complete(client, name, **body).json()["choices"][0]["text"]
            for name in ("tiny", "sql", "mini", "sql")
        ]
        assert texts[1] == texts[3]
        assert len(set(texts)) == 3
        assert states(client) == {"tiny": "loaded", "sql": "loaded", "mini": "unloaded"}
