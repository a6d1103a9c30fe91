"""A server whose model predicts otherwise than recorded says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.serve.commanded import commanded, sample_values
from tests.serve.scripted import ScriptedEngine, scripted_app, wait_until
from vivace import LLM
from vivace.core.errors import UsageError
from vivace.engine import canary
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


def test_readiness_cannot_depend_on_a_canary_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="vivace canary record"):
        scripted_app(ScriptedEngine(), ServeOptions(canary_fail_ready=True))
