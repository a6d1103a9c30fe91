"""Constraints in the engine: what an answer may be, and that nothing around it disturbs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.serve.checkpoint import write_tiny_chat_model
from vivace import LLM, SamplingParams, StructuredOutputsParams
from vivace.core.errors import RequestError

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
