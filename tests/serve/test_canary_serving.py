"""A server whose model predicts otherwise than recorded says so."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.serve.commanded import commanded, sample_values
from tests.serve.scripted import ScriptedEngine, scripted_app, serving, wait_until
from vivace import LLM
from vivace.core.errors import UsageError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.engine import canary
from vivace.serve.canary import Canary
from vivace.serve.errors import ApiError
from vivace.serve.generation import Doors, Generation
from vivace.serve.metrics import ServerMetrics
from vivace.serve.options import ServeOptions


@pytest.fixture(scope="module")
def recorded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model with its canary."""
    folder = tmp_path_factory.mktemp("recorded") / "model"
    shutil.copytree(model, folder)
    llm = LLM(str(folder), backend="reference", kv_memory_bytes=4 << 20, notify=lambda _: None)
    assert llm.tokenizer is not None
    canary.save(folder, canary.record(llm, llm.tokenizer.encode, max_kl=1e-4))
    return folder


def scraped(url: str) -> dict[str, float]:
    return sample_values(httpx.get(f"{url}/metrics").text)


def test_a_healthy_model_is_ready_and_looked_at_again(recorded: Path, tmp_path: Path) -> None:
    flags = ("--canary-fail-ready", "--canary-interval-seconds", 0.2)
    with commanded(recorded, tmp_path / "log", *flags) as server:
        wait_until(lambda: httpx.get(f"{server.url}/ready").status_code == 200, 60)
        wait_until(lambda: scraped(server.url).get("vivace:canary_checks_total ok", 0) >= 2, 60)
        assert scraped(server.url)["vivace:canary_kl_nats"] < 1e-6
        assert "drifted" not in server.stop()


def test_damage_is_a_metric_a_line_and_a_failing_readiness(recorded: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(recorded, damaged)
    tensors = load_file(damaged / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"] *= np.float32(-4)
    save_file(tensors, damaged / "model.safetensors")
    with commanded(damaged, tmp_path / "log", "--canary-fail-ready") as server:
        wait_until(lambda: "vivace:canary_kl_nats" in scraped(server.url), 60)
        assert scraped(server.url)["vivace:canary_kl_nats"] > 1e-4
        assert scraped(server.url)["vivace:canary_checks_total drift"] == 1
        answer = httpx.get(f"{server.url}/ready")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "canary_drift")
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert "The canary drifted" in server.stop()


def of_record(folder: Path) -> ScriptedEngine:
    """An engine that predicts otherwise than recorded."""
    return ScriptedEngine(folder=str(folder), quantization=None, vocab_size=1000)


def looker(engine: ScriptedEngine, **options: Any) -> tuple[Canary, Generation]:
    metrics = ServerMetrics("m")
    generation = Generation(engine, metrics, Doors())
    return Canary(engine.info, generation, metrics, ServeOptions(**options)), generation


def test_before_the_first_look_readiness_that_depends_on_it_fails(recorded: Path) -> None:
    engine = of_record(recorded)
    with serving(scripted_app(engine, ServeOptions(canary_fail_ready=True))) as url:
        answer = httpx.get(f"{url}/ready")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "canary_unknown")
        assert httpx.get(f"{url}/health").is_success


@pytest.mark.parametrize("fails", [True, False])
def test_a_drift_fails_readiness_where_that_is_asked_for(recorded: Path, fails: bool) -> None:
    engine = of_record(recorded)
    engine.fails_after = 0  # on every request: no prediction at all
    one, _ = looker(engine, canary_fail_ready=fails)
    record = canary.load(recorded)
    assert record is not None
    asyncio.run(one.look(record))
    assert one.drifted
    with pytest.raises(ApiError, match="otherwise") if fails else nullcontext():
        one.check_ready()


def test_an_engine_that_is_gone_says_nothing_of_the_model(recorded: Path) -> None:
    engine = of_record(recorded)
    engine.gone = "It is gone."
    one, _ = looker(engine)
    record = canary.load(recorded)
    assert record is not None
    with pytest.raises(ApiError, match="gone"):
        asyncio.run(one.look(record))
    assert one.kl is None


def test_a_record_in_another_precision_is_not_compared(recorded: Path) -> None:
    one, _ = looker(ScriptedEngine(folder=str(recorded), quantization="int8"))
    asyncio.run(asyncio.wait_for(one.watch(), 5))  # there is nothing to watch
    assert one.kl is None


def test_who_asks_is_not_held_up_by_further_looks(recorded: Path) -> None:
    async def run() -> None:
        engine = of_record(recorded)
        one, generation = looker(engine, canary_interval_seconds=0.001)
        watching = asyncio.create_task(one.watch())
        while len(engine.seen) < 20:
            await asyncio.sleep(0.001)
        engine.seconds = 0.002
        user = Request("user", (1, 2, 3), SamplingParams(max_tokens=200))
        answered = asyncio.create_task(generation.deltas(user))
        await asyncio.sleep(0.05)  # for the look that it met
        before = len(engine.seen)
        await answered
        assert len(engine.seen) == before
        while len(engine.seen) == before:
            await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_readiness_cannot_depend_on_a_canary_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="vivace canary record"):
        scripted_app(ScriptedEngine(), ServeOptions(canary_fail_ready=True))
