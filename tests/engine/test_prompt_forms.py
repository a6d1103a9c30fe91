"""Prompts in every form that vLLM takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, SamplingParams, TextPrompt, TokensPrompt
from vivace.core.errors import RequestError
from vivace.engine.prompts import GivenPrompt, each_prompt, given_prompt

IDS = (5, 6, 7)

FORMS = [
    ("a", GivenPrompt("a", None)),
    ([5, 6, 7], GivenPrompt(None, IDS)),
    (np.array(IDS), GivenPrompt(None, IDS)),
    (TextPrompt(prompt="a"), GivenPrompt("a", None)),
    (TokensPrompt(prompt_token_ids=[5, 6, 7]), GivenPrompt(None, IDS)),
    (
        {"prompt_token_ids": IDS, "prompt": "a", "cache_salt": "s"},
        GivenPrompt("a", IDS, "s"),
    ),
    ({"prompt": "a", "multi_modal_data": None}, GivenPrompt("a", None)),
]


@pytest.mark.tiny
@pytest.mark.parametrize(("prompt", "given"), FORMS, ids=str)
def test_each_form_says_what_it_says(prompt: Any, given: GivenPrompt) -> None:
    assert given_prompt(prompt) == given


@pytest.mark.tiny
def test_one_prompt_or_several() -> None:
    for one in ("a", [5, 6], {"prompt": "a"}):
        assert each_prompt(one) == [one]  # type: ignore[arg-type]
    assert each_prompt(np.array(IDS)) == [list(IDS)]  # type: ignore[arg-type]
    for several in (["a", "b"], [[5], [6]], [{"prompt": "a"}, {"prompt_token_ids": [5]}], []):
        assert each_prompt(several) == several  # type: ignore[arg-type]


WRONG = [
    ({}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt_token_ids": [1.5]}, "prompt"),
    ({"prompt_token_ids": 5}, "prompt"),
    ([1.5], "prompt"),
    ({"prompt": "a", "multi_modal_data": {"image": 1}}, "multi_modal_data"),
    ({"prompt": "a", "cache_salt": 5}, "cache_salt"),
]


@pytest.mark.tiny
@pytest.mark.parametrize(("prompt", "param"), WRONG, ids=str)
def test_what_is_no_prompt_is_refused_by_name(prompt: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        given_prompt(prompt)
    assert caught.value.param == param


def test_maps_are_answered_as_lists_are(tmp_path: Path) -> None:
    llm = LLM(str(write_tiny_llama(tmp_path)), backend="reference", notify=lambda line: None)
    params = SamplingParams(temperature=0, max_tokens=5)
    (plain,) = llm.generate([5, 6, 7], params)
    maps = [{"prompt_token_ids": [5, 6, 7]}, {"prompt_token_ids": [5, 6, 7], "prompt": "told"}]
    first, second = llm.generate(maps, params)  # type: ignore[arg-type]
    assert first.outputs[0].token_ids == plain.outputs[0].token_ids
    assert (first.prompt, second.prompt) == (None, "told")
    vectors = llm.embed(maps[0]), llm.embed([5, 6, 7])  # type: ignore[arg-type]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    (streamed,) = llm.generate(TokensPrompt(prompt_token_ids=[5, 6, 7]), params)
    assert streamed.outputs == first.outputs


def test_prompts_of_other_salts_share_nothing(tmp_path: Path) -> None:
    llm = LLM(str(write_tiny_llama(tmp_path)), backend="reference", notify=lambda line: None)
    params = SamplingParams(max_tokens=1)
    found = []
    for salt in ("a", "a", "b"):
        prompt = TokensPrompt(prompt_token_ids=list(range(1, 40)), cache_salt=salt)
        found.append(llm.generate(prompt, params)[0].num_cached_tokens)
    assert found == [0, 32, 0]
