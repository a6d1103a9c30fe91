"""Every sampling parameter over HTTP by OpenAI's client: each acts, and as it does in `LLM`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from vivace import LLM, SamplingParams

PROMPT = list(range(40, 60))
GREEDY = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}
DRAWN = {"temperature": 1, "max_tokens": 24, "ignore_eos": True, "seed": 5}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def llm(model: Path) -> LLM:
    return LLM(str(model), backend="reference", kv_memory_bytes=4 << 20, notify=lambda line: None)


def tokens(client: openai.OpenAI, model: Path, **fields: Any) -> list[int]:
    answer = client.completions.create(
        model=str(model), prompt=PROMPT, extra_body={"return_token_ids": True, **fields}
    )
    found: list[int] = answer.choices[0].token_ids  # type: ignore[attr-defined]
    return found


ACTING = [
    (DRAWN, {"seed": 6}),
    (DRAWN, {"temperature": 0.2}),
    (DRAWN, {"top_k": 2}),
    (DRAWN, {"top_p": 0.2}),
    (DRAWN, {"min_p": 0.5}),
    (GREEDY, {"repetition_penalty": 3.0}),
    (GREEDY, {"presence_penalty": 2.0}),
    (GREEDY, {"frequency_penalty": 2.0}),
    (GREEDY, {"logit_bias": {"70": 100}}),
    (GREEDY, {"allowed_token_ids": [5, 6, 7]}),
    (GREEDY, {"max_tokens": 3}),
]


@pytest.mark.parametrize(("base", "fields"), ACTING, ids=[str(case[1]) for case in ACTING])
def test_each_acts_as_in_the_library(
    client: openai.OpenAI, llm: LLM, model: Path, base: dict[str, Any], fields: dict[str, Any]
) -> None:
    asked = {**base, **fields}
    if "logit_bias" in asked:
        asked["logit_bias"] = {int(key): value for key, value in asked["logit_bias"].items()}
    (expected,) = llm.generate(PROMPT, SamplingParams(**asked))
    found = tokens(client, model, **{**base, **fields})
    assert found == expected.outputs[0].token_ids
    assert found != tokens(client, model, **base)


def test_narrow_limits_leave_the_likeliest_token(client: openai.OpenAI, model: Path) -> None:
    greedy = tokens(client, model, **GREEDY)
    for only in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"temperature": 1e-9}):
        assert tokens(client, model, **{**DRAWN, **only}) == greedy


def test_a_bad_word_is_not_spelt(client: openai.OpenAI, llm: LLM, model: Path) -> None:
    assert llm.tokenizer is not None
    greedy = tokens(client, model, **GREEDY)
    word = next(text for text in map(llm.tokenizer.token_text, greedy) if text.strip().isalnum())
    barred = llm.tokenizer.encode(word.strip(), add_special_tokens=False)
    found = tokens(client, model, **GREEDY, bad_words=[word])
    assert found != greedy
    spans = [found[at : at + len(barred)] for at in range(len(found))]
    assert barred not in spans


def test_stop_strings_and_tokens_end_the_answer(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": PROMPT, "temperature": 0, "max_tokens": 24}
    whole = client.completions.create(**asked, extra_body={"ignore_eos": True}).choices[0].text
    stop = whole[4:7]
    for keeps in (False, True):
        extra = {"ignore_eos": True, "include_stop_str_in_output": keeps}
        choice = client.completions.create(**asked, stop=[stop], extra_body=extra).choices[0]
        end = whole.index(stop) + (len(stop) if keeps else 0)
        assert (choice.text, choice.finish_reason) == (whole[:end], "stop")
        assert choice.stop_reason == stop  # type: ignore[attr-defined]


def test_min_tokens_puts_off_every_end(client: openai.OpenAI, model: Path) -> None:
    greedy = tokens(client, model, **GREEDY)
    asked = {**GREEDY, "stop_token_ids": greedy[:2]}
    assert len(tokens(client, model, **asked)) == 1
    found = tokens(client, model, **asked, min_tokens=6)
    assert len(found) >= 6
    assert not {*greedy[:2]} & {*found[:5]}


def test_the_best_of_n_is_the_likeliest_of_them(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": PROMPT, "max_tokens": 6, "seed": 3, "logprobs": 0}
    drawn = client.completions.create(**asked, n=5).choices

    def mean(choice: Any) -> float:
        logprobs = choice.logprobs.token_logprobs
        return float(sum(logprobs) / len(logprobs))

    best = client.completions.create(**asked, n=2, best_of=5)
    expected = sorted(drawn, key=mean, reverse=True)[:2]
    assert [choice.text for choice in best.choices] == [choice.text for choice in expected]
    assert best.usage is not None
    assert best.usage.completion_tokens >= sum(
        len(choice.logprobs.token_logprobs or ()) for choice in drawn if choice.logprobs
    )


def test_prompt_logprobs_are_the_models(client: openai.OpenAI, llm: LLM, model: Path) -> None:
    answer = client.chat.completions.create(
        model=str(model),
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=1,
        extra_body={"prompt_logprobs": 2, "return_token_ids": True},
    )
    found = answer.prompt_logprobs  # type: ignore[attr-defined]
    prompt = answer.choices[0].prompt_token_ids  # type: ignore[attr-defined]
    (expected,) = llm.generate([prompt], SamplingParams(max_tokens=1, prompt_logprobs=2))
    assert expected.prompt_logprobs is not None
    assert found[0] is None
    for entry, known in zip(found[1:], expected.prompt_logprobs[1:], strict=True):
        assert known is not None
        assert list(entry) == [str(token) for token in known]
        for token, one in known.items():
            assert entry[str(token)]["logprob"] == pytest.approx(one.logprob, abs=1e-4)


def test_usage_is_streamed_when_asked_for(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": [9, *range(5, 104)], "max_tokens": 3, "stream": True}
    client.completions.create(**{**asked, "stream": False})
    for continuous in (False, True):
        options = {"include_usage": True, "continuous_usage_stats": continuous}
        *chunks, last = client.completions.create(**asked, stream_options=options)
        assert (last.choices, last.usage.prompt_tokens) == ([], 100)
        assert last.usage.prompt_tokens_details.cached_tokens == 96
        assert all((chunk.usage is not None) == continuous for chunk in chunks)
    assert all(chunk.usage is None for chunk in client.completions.create(**asked))


REFUSED = [
    ({"temperature": -1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"allowed_token_ids": [10**6]}, "allowed_token_ids", "invalid_value"),
    ({"bad_words": [""]}, "bad_words", "invalid_value"),
    ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
    ({"max_tokens": 10**6}, "max_tokens", "context_length_exceeded"),
    ({"prompt": [5] * 600}, "prompt", "context_length_exceeded"),
    ({"suffix": "a"}, "suffix", "unsupported_parameter"),
    ({"surprise": 1}, "surprise", "unknown_parameter"),
    ({"allowed_token_ids": [9], "stop_token_ids": [9], "min_tokens": 1}, "allowed_token_ids", None),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=str)
def test_refusals_are_openais_errors(
    client: openai.OpenAI, model: Path, fields: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=str(model), prompt=PROMPT, extra_body=fields)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert code in (None, caught.value.code)
    assert caught.value.request_id


def test_a_model_that_is_not_here(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="a")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
