"""What a step trips over costs only the requests at fault; the others' tokens stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.engine.tiny import write_tiny_llama
from vivace.core.config import EngineConfig
from vivace.core.request import Delta, Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.core.step import ScheduledSequence, Step
from vivace.engine.build import build_engine
from vivace.engine.core import SHRINK_SHARE, EngineCore
from vivace.engine.requests import fan_out, to_pool

MANY = 32
CULPRIT = "r20"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def engine(folder: Path) -> EngineCore:
    return build_engine(EngineConfig(str(folder), backend="reference", kv_memory_bytes=4 << 20))


def requests(info: EngineInfo) -> list[Request]:
    """Two of them for vectors."""
    params = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    asked = [
        fan_out(info, f"r{number}", [1 + number, *range(40, 60)], params)[0]
        for number in range(MANY - 2)
    ]
    return asked + [to_pool(info, f"v{number}", range(1 + number, 90)) for number in range(2)]


def run(core: EngineCore) -> dict[str, list[Delta]]:
    """Every request's deltas."""
    said: dict[str, list[Delta]] = {}
    for request in requests(core.info):
        core.add(request)
        said[request.request_id] = []
    while core.has_work:
        for delta in core.step():
            said[delta.request_id].append(delta)
    core.check_integrity()
    assert core.stats().pages_used == 0
    return said


def answers(said: dict[str, list[Delta]]) -> dict[str, Any]:
    return {
        name: ([t for d in deltas for t in d.token_ids], deltas[-1].embedding)
        for name, deltas in said.items()
    }


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    return answers(run(engine(folder)))


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Tokens are equal; vectors are as near as the reference backend makes them."""
    for name, (tokens, embedding) in found.items():
        assert tokens == expected[name][0], name
        if embedding is not None:
            np.testing.assert_allclose(embedding, expected[name][1], atol=1e-5)


def breaking(owner: Any, method: str, fault: Callable[..., None]) -> None:
    """Have a method call `fault` first."""
    whole = getattr(owner, method)

    def broken(*given: Any) -> Any:
        fault(*given)
        return whole(*given)

    setattr(owner, method, broken)


def culprit_fails(folder: Path, method: str, fault: Callable[..., None]) -> dict[str, list[Delta]]:
    core = engine(folder)
    breaking(core._runner if method == "run" else core._text, method, fault)
    return run(core)


def in_step(step: Step) -> None:
    if any(one.request.request_id == CULPRIT and len(one.token_ids) > 25 for one in step.sequences):
        raise ZeroDivisionError("on purpose")


def in_text(sequence: ScheduledSequence, token_id: int) -> None:
    if sequence.request.request_id == CULPRIT and len(sequence.token_ids) > 25:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(("method", "fault"), [("run", in_step), ("advance", in_text)])
def test_one_of_many_fails_alone(
    folder: Path, expected: dict[str, Any], method: str, fault: Callable[..., None]
) -> None:
    said = culprit_fails(folder, method, fault)
    failed = said.pop(CULPRIT)
    assert [delta.finish_reason for delta in failed] == [None] * 5 + ["error"]
    assert "on purpose" in (failed[-1].error or "")
    same(answers(said), expected)


def test_what_fails_once_fails_nobody(folder: Path, expected: dict[str, Any]) -> None:
    core = engine(folder)
    failures = iter([ValueError, ValueError, ValueError])

    def fault(step: Step) -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    breaking(core._runner, "run", fault)
    same(answers(run(core)), expected)


def test_where_memory_runs_out_the_cache_gives_some_up(
    folder: Path, expected: dict[str, Any]
) -> None:
    core = engine(folder)
    run(core)  # prefixes are known now
    before = core.stats().pages_total
    core.reset_prefix_cache()
    failures = iter([MemoryError, MemoryError])

    def fault(step: Step) -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    breaking(core._runner, "run", fault)
    same(answers(run(core)), expected)
    assert core.stats().pages_total == before - before // 4


def test_the_cache_keeps_room_for_the_longest_request(folder: Path) -> None:
    core = engine(folder)
    for _ in range(100):
        core._shrink()
    blocks = -(-core.info.max_model_len // core.info.page_tokens)
    assert core.stats().pages_total >= blocks
    params = SamplingParams(max_tokens=core.info.max_model_len - 5, ignore_eos=True)
    (request,) = fan_out(core.info, "long", range(1, 6), params)
    core.add(request)
    while core.has_work:
        last = core.step()[-1]
    assert last.finish_reason == "length"
    core.check_integrity()


def test_the_system_gets_the_memory_back(folder: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")
    many = {"max_num_seqs": 1024, "max_num_batched_tokens": 1024}
    config = EngineConfig(str(folder), backend="cpu", kv_memory_bytes=32 << 20, **many)
    core = build_engine(config)
    caches = [cache.pages for cache in core._runner._caches]
    for pages in caches:
        pages[:] = 1
    before = psutil.Process().memory_info().rss
    core._shrink()
    given_back = before - psutil.Process().memory_info().rss
    assert given_back >= 0.95 * SHRINK_SHARE * sum(pages.nbytes for pages in caches)
    assert given_back >= 4 << 20


def test_a_request_that_finds_no_memory_is_told_so(folder: Path) -> None:
    core = engine(folder)

    def fault(step: Step) -> None:
        raise MemoryError

    breaking(core._runner, "run", fault)
    said = run(core)
    assert {deltas[-1].error_code for deltas in said.values()} == {"no_capacity"}
