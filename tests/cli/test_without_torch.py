"""Neither `import vivace` nor a served CPU model imports PyTorch or Transformers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ABSENT = {"torch", "transformers"}


def imported(profile: str) -> set[str]:
    """Top-level packages in what PYTHONPROFILEIMPORTTIME wrote, of all processes."""
    names = re.findall(r"^import time:.*\| +([\w.]+)$", profile, re.M)
    return {name.split(".")[0] for name in names}


@pytest.mark.tiny
def test_importing_vivace() -> None:
    program = "import sys, vivace, vivace.cli; vivace.LLM, vivace.AsyncLLM; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(process.stdout.split())
    assert "vivace.engine.llm" in modules
    assert not ABSENT & modules


def test_generating(text_model: Path) -> None:
    flags = ["--prompt", "x", "--max-tokens", "2"]
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vivace", "generate", str(text_model), *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"vivace", "numpy"} <= imported(process.stderr)
    assert not ABSENT & imported(process.stderr)


def test_serving(text_model: Path, tmp_path: Path) -> None:
    """In both processes of a server that has answered a request."""
    log = tmp_path / "stderr"
    command = [sys.executable, "-m", "vivace", "serve", str(text_model), "--port", "0"]
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        try:
            assert url, log.read_text()
            body = {"prompt": "x", "max_tokens": 2}
            response = httpx.post(f"{url[0]}/v1/completions", json=body, timeout=30)
            assert response.status_code == 200, response.text
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    profile = log.read_text()
    processes = len(re.findall(r"\| +vivace\.core\.config$|\| +vivace\.core$", profile, re.M))
    assert processes >= 2
    assert not ABSENT & imported(profile)
