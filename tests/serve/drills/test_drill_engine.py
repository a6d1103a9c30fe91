"""Engines that die, hang, trip or run out of memory under load, and full disks.

Whatever happens, who is answered has the tokens that he would have had, who is not is told exactly
why, and /health says 200 only while tokens come.
"""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.drills.load import Answer, ask, ask_all, body, counted, health_watched, is_idle
from tests.serve.process import READY_SECONDS, Served, Setting, serving_process, start, url_of
from tests.serve.scripted import wait_until

STREAMS = 32
HANG_SECONDS = 2.0
FAULTY = Path(__file__).parents[1] / "faulty_server.py"
MARK = 4  # of the requests that the fault is for
SYSTEM = list(range(30, 80))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model: Path) -> list[Answer]:
    """Of an engine that nothing happens to."""
    with serving_process(model) as server:
        return ask_all(server.url, [body(number, 200) for number in range(STREAMS)])


def faulty(kind: str, **options: object) -> Setting:
    return Setting(options=options, variables={"VIVACE_FAULT": kind}, program=FAULTY)


def marked(number: int, max_tokens: int) -> dict[str, object]:
    """A request that the fault is for."""
    return {**body(number, max_tokens), "prompt": [MARK, *range(5, 25)]}


def is_healthy(url: str) -> bool:
    return httpx.get(f"{url}/health", timeout=60).status_code == 200


def test_one_of_32_trips_the_model(model: Path, expected: list[Answer]) -> None:
    asked = [body(number, 200) for number in range(STREAMS)]
    asked[20] = marked(20, 200)
    with serving_process(model, faulty("raise")) as server, health_watched(server.url) as health:
        answers = ask_all(server.url, asked)
        assert answers.pop(20) == Answer(500)
        assert answers == expected[:20] + expected[21:]
        whole = httpx.post(f"{server.url}/v1/completions", json={**asked[20], **marked(20, 2)})
        assert whole.status_code in (200, 500)
        wait_until(lambda: is_idle(server.url))
        assert counted(server.url, "vivace:engine_restarts_total") == 0
        assert {status for _, status in health} == {200}
        assert "the fault of this drill" in server.logged()


def num_pages(url: str) -> int:
    return int(httpx.get(f"{url}/server_info").json()["engine"]["pages_total"])


def test_memory_runs_out_for_a_while(model: Path, expected: list[Answer]) -> None:
    """Three allocations fail in a step of many: with a smaller cache, and in parts, it works."""
    asked = [body(number, 200) for number in range(STREAMS)]
    asked[7] = marked(7, 200)
    with serving_process(model, faulty("memory 3")) as server, health_watched(server.url) as health:
        pages = num_pages(server.url)
        answers = ask_all(server.url, asked)
        assert answers.pop(7).finish_reason == "length"
        assert answers == expected[:7] + expected[8:]
        assert num_pages(server.url) < pages
        wait_until(lambda: is_idle(server.url))
        assert {status for _, status in health} == {200}
        assert "Memory has run out" in server.logged()


def test_there_is_no_memory_for_one(model: Path) -> None:
    with serving_process(model, faulty("memory 2")) as server:
        assert ask(server.url, marked(0, 50)) == Answer(503, code="no_capacity")
        assert ask(server.url, marked(0, 50)).finish_reason == "length"
        assert is_healthy(server.url)


def test_no_allocation_succeeds(model: Path, expected: list[Answer]) -> None:
    """The system gives the engine's process no more memory: some are refused, or the engine ends;
    afterwards all is well."""
    asked = [body(number, 200, prompt_logprobs=20, stream=False) for number in range(STREAMS)]
    with serving_process(model) as server:
        engine = server.engine
        used = engine.memory_info().vms
        engine.rlimit(psutil.RLIMIT_AS, (used, used))
        limited = [
            answer.json()["error"]["code"] if answer.status_code != 200 else None
            for answer in _post_all(server.url, asked)
        ]
        assert set(limited) <= {None, "no_capacity", "engine_unavailable"}
        if engine.is_running():
            most = resource.RLIM_INFINITY
            resource.prlimit(engine.pid, resource.RLIMIT_AS, (most, most))
        wait_until(lambda: is_healthy(server.url), seconds=30)
        assert ask_all(server.url, [body(n, 200) for n in range(STREAMS)]) == expected


def _post_all(url: str, asked: list[dict[str, object]]) -> list[httpx.Response]:
    answers: list[httpx.Response] = []

    def post(one: dict[str, object]) -> None:
        answers.append(httpx.post(f"{url}/v1/completions", json=one, timeout=60))

    threads = [threading.Thread(target=post, args=(one,)) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def kill(server: Served) -> None:
    server.engine.kill()


def freeze(server: Served) -> None:
    server.engine.send_signal(signal.SIGSTOP)


def hang(server: Served) -> None:
    """A native call that holds the interpreter and never returns."""
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{server.url}/v1/completions", json={**marked(0, 5), "priority": -1}, timeout=1)


@pytest.mark.parametrize("harm", [kill, freeze, hang])
def test_the_engine_is_lost_under_load(
    model: Path, expected: list[Answer], harm: Callable[[Served], None]
) -> None:
    """Half of the requests run, half wait, a prefix is pinned; then the engine is gone."""
    setting = replace(
        faulty("hang", engine_hang_seconds=HANG_SECONDS), config={"max_num_seqs": STREAMS // 2}
    )
    with serving_process(model, setting) as server, health_watched(server.url) as health:
        pin = httpx.post(f"{server.url}/v1/prefetch", json={"prompt": SYSTEM, "pin": True})
        pinned = counted(server.url, "vivace:kv_pages_pinned")
        answers: list[Answer] = []
        asked = [body(number, 200) for number in range(STREAMS)]
        load = threading.Thread(target=lambda: answers.extend(ask_all(server.url, asked)))
        load.start()
        wait_until(lambda: counted(server.url, "vllm:num_requests_running") >= STREAMS // 2)
        harmed = time.monotonic()
        harm(server)
        load.join()
        cut = [one for one in answers if one.code is not None]
        assert {one.code for one in cut} == {"engine_unavailable"}
        assert {one.status for one in cut} <= {200, 503}
        for one, whole in zip(answers, expected, strict=True):
            assert one.tokens == whole.tokens[: len(one.tokens)]
            assert one == whole or one.code is not None
        assert sum(one.code is None for one in answers) >= STREAMS // 4
        wait_until(lambda: is_healthy(server.url), seconds=READY_SECONDS)
        assert counted(server.url, "vivace:engine_restarts_total") == 1
        assert ask_all(server.url, asked) == expected
        assert counted(server.url, "vivace:kv_pages_pinned") == pinned > 0
        assert httpx.delete(f"{server.url}/v1/prefetch/{pin.json()['id']}").is_success
        wait_until(lambda: is_idle(server.url))
    statuses = [status for asked_at, status in health if asked_at > harmed]
    assert 503 in statuses
    assert set(statuses) == {200, 503}
    assert statuses[-1] == 200


def test_disks_are_full(model: Path, expected: list[Answer], tmp_path: Path) -> None:
    """No log line can be written, and no KV page: nobody who is served notices."""
    config = {
        "kv_memory_bytes": 1 << 20,
        "kv_host_bytes": 1 << 16,
        "kv_disk_bytes": 1 << 30,
        "kv_disk_folder": str(tmp_path),
    }
    with open("/dev/full", "w") as log, start(model, log, setting=Setting(config)) as process:
        try:
            server = Served(process, url_of(process), log)
            server.engine.rlimit(psutil.RLIMIT_FSIZE, (512, 512))
            with health_watched(server.url) as health:
                asked = [body(number, 200) for number in range(STREAMS)]
                assert ask_all(server.url, asked) == expected
                wait_until(lambda: counted(server.url, "vivace:kv_pages_lost_total") > 0)
                server.engine.kill()  # which the log should have been told
                wait_until(lambda: not is_healthy(server.url))
                wait_until(lambda: is_healthy(server.url), seconds=READY_SECONDS)
                assert ask_all(server.url, asked) == expected
            assert {status for _, status in health} == {200, 503}
        finally:
            process.terminate()
            assert process.wait(60) == 0
