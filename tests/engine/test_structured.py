"""Constraints in the engine: what an answer may be, and that nothing around it disturbs them."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serve.checkpoint import write_tiny_chat_model
from vivace import LLM, SamplingParams, StructuredOutputsParams
from vivace.core.config import EngineConfig
from vivace.core.errors import OverloadedError, RequestError
from vivace.core.request import Request
from vivace.decoding import compiling
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.engine.requests import fan_out

ITEM = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}},
    "required": ["on"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": ITEM, "minItems": 5, "maxItems": 6}
PROMPTS = ["def a():", "x = [", "class B:\n    pass\n" * 4, "1, 2, 3"]


def engine(folder: Path, **options: Any) -> LLM:
    options = {"backend": "reference", "kv_memory_bytes": 4 << 20, **options}
    return LLM(str(folder), notify=lambda line: None, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_chat_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return engine(folder)


def params(seed: int = 0, **fields: Any) -> SamplingParams:
    constraint = StructuredOutputsParams(json=SCHEMA)
    fields = {"max_tokens": 150, "structured_outputs": constraint, "seed": seed, **fields}
    return SamplingParams(**fields)


def texts(llm: LLM, sampling: list[SamplingParams]) -> list[str]:
    outputs = llm.generate(PROMPTS, sampling)
    assert all(one.outputs[0].finish_reason == "stop" for one in outputs)
    return [one.outputs[0].text for one in outputs]


@pytest.mark.parametrize("fields", [{}, {"temperature": 0}, {"top_p": 0.5, "logprobs": 2}])
def test_nothing_around_a_request_disturbs_it(llm: LLM, fields: Any) -> None:
    sampling = [params(seed, **fields) for seed in range(4)]
    together = texts(llm, sampling)
    assert all(5 <= len(json.loads(text)) <= 6 for text in together)
    alone = [
        llm.generate(prompt, one)[0].outputs[0].text
        for prompt, one in zip(PROMPTS, sampling, strict=True)
    ]
    assert alone == together  # prefixes are found in the cache now


def test_preemption_does_not_disturb_it(llm: LLM, folder: Path) -> None:
    sampling = [params(seed) for seed in range(4)]
    narrow = engine(folder, kv_memory_bytes=110_000, max_model_len=256)
    assert texts(narrow, sampling) == texts(llm, sampling)
    assert narrow.stats().preemptions > 0


def test_a_failed_step_is_drawn_again(llm: LLM) -> None:
    """One request rules out what its grammar wants; the others lose no token."""
    sampling = [params(seed) for seed in range(4)]
    expected = texts(llm, sampling)
    sampling[2] = params(2, allowed_token_ids=[5])
    found = llm.generate(PROMPTS, sampling)
    assert found[2].outputs[0].finish_reason == "error"
    for place in (0, 1, 3):
        assert found[place].outputs[0].text == expected[place]


def test_it_ends_where_it_is_complete(llm: LLM) -> None:
    constraint = StructuredOutputsParams(regex="[ab]{3}")
    lengthened = {"min_tokens": 40, "ignore_eos": True, "max_tokens": 60}
    (output,) = llm.generate("a", SamplingParams(structured_outputs=constraint, **lengthened))
    assert re.fullmatch("[ab]{3}", output.outputs[0].text)
    assert output.outputs[0].finish_reason == "stop"


def test_what_comes_before_is_free(llm: LLM) -> None:
    constraint = StructuredOutputsParams(choice=("oui", "non"), after="e")
    (output,) = llm.generate("a", params(structured_outputs=constraint, temperature=1))
    before, _, answer = output.outputs[0].text.partition("e")
    assert answer in ("oui", "non"), before


@pytest.mark.parametrize(
    "bad",
    [
        {"json": {"type": "foo"}},
        {"json": "{"},
        {"json": "[1]"},
        {"json": {"$ref": "#/x"}},
        {"regex": "a(?=b)"},
        {"grammar": "start: foo"},
        {"structural_tag": {"format": {}}},
    ],
    ids=str,
)
def test_a_bad_one_fails_alone(llm: LLM, bad: dict[str, Any]) -> None:
    sampling = [params(0, structured_outputs=StructuredOutputsParams(**bad)), params(1)]
    failed, good = llm.generate(PROMPTS[:2], sampling)
    assert (failed.outputs[0].finish_reason, good.outputs[0].finish_reason) == ("error", "stop")
    assert (failed.outputs[0].error or "").startswith("structured_outputs: ")


@pytest.mark.parametrize(
    "fields",
    [{}, {"json": {}, "regex": "a"}, {"choice": []}, {"choice": "ab"}, {"regex": 1}],
    ids=str,
)
def test_what_is_no_constraint_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        StructuredOutputsParams(**fields)
    assert caught.value.param == "structured_outputs"


SLOW = StructuredOutputsParams(json={"type": "integer", "multipleOf": 199_999})


def asked(core: EngineCore, name: str, **fields: Any) -> Request:
    sampling = params(max_tokens=4, structured_outputs=SLOW)
    (request,) = fan_out(core.info, name, [1, 2, 3], sampling)
    return replace(request, **fields)


def test_who_waits_for_a_grammar_has_a_place_in_the_queue(folder: Path) -> None:
    core = build_engine(EngineConfig(str(folder), backend="reference", max_queued_requests=1))
    core.add(asked(core, "a"))
    assert core.stats().waiting == 1
    with pytest.raises(OverloadedError):
        core.add(asked(core, "b"))
    plain = replace(asked(core, "c"), params=SamplingParams(max_tokens=2))
    with pytest.raises(OverloadedError):
        core.add(plain)
    core.abort("a")
    core.add(plain)
    core.close()


def test_who_waits_for_a_grammar_can_be_late(folder: Path) -> None:
    core = build_engine(EngineConfig(str(folder), backend="reference"))
    core.add(asked(core, "a", deadline=0.0, drop_if_late=True))
    core.add(asked(core, "b", deadline=0.0))
    ends = [delta for delta in core.step() if delta.finish_reason is not None]
    assert [(one.request_id, one.finish_reason) for one in ends] == [("a", "deadline")]
    assert core.has_work
    core.close()


@pytest.mark.parametrize(
    ("divisors", "fits"),
    [([5, 60, 3600, 0.01], True), ([500_000_000], True), ([9_999_991], False), ([997, 991], False)],
)
def test_too_many_remainders_are_refused_at_once(llm: LLM, divisors: Any, fits: bool) -> None:
    schema = {"anyOf": [{"type": "number", "multipleOf": one} for one in divisors]}
    written = StructuredOutputsParams(grammar=f"start: %json {json.dumps(schema)}")
    for form in (StructuredOutputsParams(json=schema), written):
        (output,) = llm.generate("a", params(structured_outputs=form, max_tokens=2))
        told = output.outputs[0]
        assert (told.finish_reason == "error") is not fits, told.error
        assert fits or "multipleOf" in (told.error or "")


def test_nobody_waits_for_ever_behind_what_takes_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "TURN_SECONDS", 0.0)
    core = build_engine(EngineConfig(str(folder), backend="reference"))
    blocked = threading.Event()
    monkeypatch.setattr(compiling.Compiler, "_compile", lambda self, params: blocked.wait())
    for i in range(compiling.THREADS + 1):
        form = StructuredOutputsParams(regex=f"a{{{i + 1}}}")
        sampling = params(max_tokens=4, structured_outputs=form)
        core.add(fan_out(core.info, f"r{i}", [1, 2, 3], sampling)[0])
    (end,) = core.step()
    blocked.set()
    assert (end.request_id, end.finish_reason) == (f"r{compiling.THREADS}", "error")
    assert end.retry_after_seconds == compiling.COMPILE_SECONDS
    core.close()
