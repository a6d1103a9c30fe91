"""`vivace bench serve` from the command line, against vivace's own server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from program import Result, Vivace

from tests.serve.process import served

WORK = ("--num-prompts", 6, "--input-len", 5, "--output-len", 4, "--vocab-size", 200)


@pytest.fixture(scope="module")
def url(text_model: Path) -> Iterator[str]:
    with served(text_model) as (_, url):
        yield url


@pytest.fixture
def bench(vivace: Vivace, url: str) -> Vivace:
    def run(*arguments: object) -> Result:
        return vivace("bench", "serve", "--base-url", url, "--ignore-eos", *WORK, *arguments)

    return run


def answer(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    return dict(json.loads(result.out))


def test_json(bench: Vivace, text_model: Path) -> None:
    result = answer(bench("--json", "--max-concurrency", 2, "--request-rate", 100))
    assert (result["completed"], result["failed"]) == (6, 0)
    assert (result["max_concurrency"], result["request_rate"]) == (2, 100.0)
    assert result["model_id"] == str(text_model)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (30, 24)
    assert "ttfts" not in result


def test_a_table_for_people(bench: Vivace) -> None:
    result = bench("--metric-percentiles", "50,99.5", "--percentile-metrics", "ttft,e2el")
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert ["requests", "completed", "6"] in lines
    assert ["milliseconds", "mean", "median", "std", "p50", "p99.5"] in lines
    assert [line[:2] for line in lines[-2:]] == [["first", "token"], ["whole", "answer"]]
    assert "good" not in result.out


def test_goodput_takes_its_words_as_vllm_does(bench: Vivace) -> None:
    result = answer(bench("--json", "--goodput", "ttft:60000", "tpot:60000"))
    assert result["request_goodput"] == result["request_throughput"]
    assert answer(bench("--goodput", "e2el:0.001", "--json"))["request_goodput"] == 0
    assert bench("ttft:200").code == 2
    assert bench("--goodput", "ttft:200", "never").code == 2


def test_results_are_saved(bench: Vivace, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    printed = bench("--save-result", file, "--save-detailed", "--json")
    assert json.loads(file.read_text()) == answer(printed)
    assert len(answer(printed)["ttfts"]) == 6
    assert str(file) in printed.err


def test_a_picture(bench: Vivace, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "picture.svg"
    result = bench("--plot", file, "--json")
    assert answer(result)["completed"] == 6
    assert file.read_text().startswith("<?xml")
    assert str(file) in result.err


@pytest.mark.parametrize("flag", ["--plot", "--save-result"])
def test_a_folder_that_is_missing_is_noticed_before_measuring(
    vivace: Vivace, tmp_path: Path, flag: str
) -> None:
    result = vivace("bench", "serve", flag, tmp_path / "none" / "x.png")
    assert (result.code, result.out) == (2, "")
    if flag == "--save-result" or find_spec("matplotlib"):
        assert str(tmp_path / "none") in result.err


def test_matplotlib_is_asked_for_before_measuring(
    vivace: Vivace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivace.cli.bench_output.find_spec", lambda name: None)
    result = vivace("bench", "latency", "nowhere", "--plot", "x.png")
    assert (result.code, result.out) == (2, "")
    assert "pip install" in result.err
    assert vivace("bench", "latency", "nowhere", "--plot", "x.gif").code == 2


def test_some_failures_are_told_of_and_all_exit_with_1(
    bench: Vivace, tmp_path: Path, url: str
) -> None:
    file = tmp_path / "prompts.jsonl"
    good, bad = '{"prompt": [1]}', '{"prompt": [99999]}'
    file.write_text("\n".join([bad, good]))
    some = bench("--dataset", file, "--num-prompts", 3, "--json")
    assert (answer(some)["completed"], answer(some)["failed"]) == (1, 2)
    assert "2 failed: HTTP 400" in some.err
    file.write_text("\n".join([bad, bad, good]))  # the last one warms up
    every = bench("--dataset", file, "--num-prompts", 2, "--json")
    assert every.code == 1
    assert json.loads(every.out)["failed"] == 2
    assert every.err.endswith("Every request failed: there is nothing to measure.\n")


def test_a_key_is_sent(vivace: Vivace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it never answers
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        result = vivace("bench", "serve", "--base-url", url, "--timeout", 0.5)
        assert (result.code, result.out) == (1, "")
        connection, _ = listener.accept()
        with connection:
            assert b"Bearer from-the-environment" in connection.recv(4096)
