"""What a body may hold: everything else is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vivace.core.errors import RequestError
from vivace.core.sampling import SamplingParams
from vivace.serve.bodies import parse_body
from vivace.serve.errors import ApiError
from vivace.serve.sampling import chat_params, completion_params
from vivace.serve.schemas import Body, ChatBody, CompletionBody

pytestmark = pytest.mark.tiny

TURN = {"role": "user", "content": "hi"}


def completion(**fields: Any) -> CompletionBody:
    return parse_body(json.dumps({"prompt": "a", **fields}).encode(), CompletionBody)


def chat(**fields: Any) -> ChatBody:
    return parse_body(json.dumps({"messages": [TURN], **fields}).encode(), ChatBody)


NEUTRAL_COMPLETION = [
    {"echo": False},
    {"best_of": 1},
    {"suffix": None},
    {"response_format": {"type": "text"}},
    {"user": "me", "n": None, "stop": None},
]
NEUTRAL_CHAT = [
    {"tools": []},
    {"tools": None, "tool_choice": "none", "parallel_tool_calls": True},
    {"modalities": ["text"], "store": False, "reasoning_effort": None},
    {"messages": [{**TURN, "tool_calls": None, "refusal": None, "annotations": []}]},
]


@pytest.mark.parametrize("fields", NEUTRAL_COMPLETION, ids=str)
def test_a_completion_may_ask_for_nothing_special(fields: dict[str, Any]) -> None:
    assert completion_params(completion(**fields), SamplingParams()) == SamplingParams()


@pytest.mark.parametrize("fields", NEUTRAL_CHAT, ids=str)
def test_a_chat_may_ask_for_nothing_special(fields: dict[str, Any]) -> None:
    assert chat_params(chat(**fields), SamplingParams()) == SamplingParams(max_tokens=None)


REFUSED = [
    (completion, {"suffix": "b"}, "suffix is not a parameter that this server supports."),
    (chat, {"echo": True}, "echo is not"),
    (chat, {"best_of": 2}, "best_of is not"),
    (completion, {"best_of": True}, "best_of: input should be a valid integer, got true"),
    (completion, {"request_id": "a b"}, "request_id: string should match pattern"),
    (completion, {"truncate_prompt_tokens": "1"}, "truncate_prompt_tokens must be how many"),
    (completion, {"stream_interval": 2}, "stream_interval is not"),
    (completion, {"guided_json": 1}, "guided_json: input should be a valid"),
    (completion, {"max_token": 3}, "max_token is not"),
    (completion, {"prompt": None}, "prompt must be a string, a list of token ids"),
    (completion, {"prompt": [1, "a"]}, "prompt must be a string, a list of token ids"),
    (completion, {"stop": [1]}, "stop must be a string or a list"),
    (completion, {"stop": ["a"] * 65}, "stop must be a string or a list"),
    (completion, {"temperature": "0.7"}, 'temperature: input should be a valid number, got "0.7"'),
    (completion, {"n": 1.5}, "n: input should be a valid integer, got 1.5"),
    (completion, {"n": True}, "n: input should be a valid integer, got true"),
    (completion, {"seed": 2**63}, "seed: input should be less than"),
    (chat, {"messages": []}, "messages: list should have at least 1 item"),
    (chat, {"messages": [{"content": "a"}]}, "messages.0.role is required."),
    (chat, {"messages": [{**TURN, "role": "king"}]}, "messages.0.role: input should be 'system'"),
    (chat, {"messages": [{**TURN, "tool_calls": [{}]}]}, "messages.0.tool_calls.0.id is required."),
    (chat, {"tools": [{"type": "function"}]}, "tools.0.function is required."),
    (chat, {"tool_choice": "some"}, "tool_choice: input should be 'none', 'auto' or"),
    (chat, {"response_format": {"type": "xml"}}, "response_format.type: input should be 'text'"),
    (chat, {"reasoning_effort": "high"}, "reasoning_effort is not"),
    (chat, {"top_logprobs": 21}, "top_logprobs: input should be less than or equal to 20"),
    (
        chat,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.type: input should be 'text', got \"image_url\".",
    ),
]


@pytest.mark.parametrize(("parse", "fields", "sentence"), REFUSED, ids=str)
def test_what_is_not_supported_is_refused_by_name(
    parse: Any, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    assert str(caught.value).startswith(sentence)
    assert caught.value.status == 400
    assert caught.value.param == next(iter(fields))


CODES = [
    (completion, {"prompt": None}, "invalid_type"),
    (completion, {"temperature": "0.7"}, "invalid_type"),
    (completion, {"n": 1.5}, "invalid_type"),
    (completion, {"seed": 2**63}, "invalid_value"),
    (completion, {"suffix": "b"}, "unsupported_parameter"),
    (completion, {"max_token": 3}, "unknown_parameter"),
    (chat, {"messages": [{"content": "a"}]}, "missing_required_parameter"),
    (chat, {"messages": [{**TURN, "role": "king"}]}, "invalid_value"),
    (chat, {"messages": [{**TURN, "audio": {}}]}, "unsupported_parameter"),
    (chat, {"messages": [{**TURN, "surprise": 1}]}, "unknown_parameter"),
]


@pytest.mark.parametrize(("parse", "fields", "code"), CODES, ids=str)
def test_programs_are_told_what_is_wrong(parse: Any, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    assert caught.value.code == code


BAD_BODIES = [
    (b"", "The body is not valid JSON in UTF-8: "),
    (b'{"prompt": ', "The body is not valid JSON in UTF-8: "),
    (b'{"prompt": "\xff\xfe"}', "The body is not valid JSON in UTF-8: invalid unicode"),
    (b'{"prompt": "\\ud800"}', "The body is not valid JSON in UTF-8: "),
    (b'{"prompt": "a", "temperature": NaN}', "The body is not valid JSON in UTF-8: "),
    (b"[" * 100_000, "The body is not valid JSON in UTF-8: recursion limit"),
    (b'["prompt"]', "The body must be a JSON object."),
    (b"{}", "prompt is required."),
    (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", "The body is not valid JSON"),
]


@pytest.mark.parametrize(("data", "sentence"), BAD_BODIES, ids=[b[0][:20] for b in BAD_BODIES])
def test_a_body_that_is_no_request_gets_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(data, CompletionBody)
    assert str(caught.value).startswith(sentence)


MANY = 1000
ENDLESS = [
    (CompletionBody, {"prompt": ["a"] * MANY + [1]}),
    (CompletionBody, {"prompt": [[1.5]] * MANY}),
    (CompletionBody, {"prompt": "a", **{f"unknown{number}": 1 for number in range(MANY)}}),
    (CompletionBody, {"prompt": "a", "stop": [1] * MANY}),
    (CompletionBody, {"prompt": "a", "stop_token_ids": ["a"] * MANY}),
    (ChatBody, {"messages": [{}] * MANY}),
    (ChatBody, {"messages": [{**TURN, "content": [1] * MANY}]}),
]


@pytest.mark.parametrize(("kind", "fields"), ENDLESS, ids=[str(case)[:60] for case in ENDLESS])
def test_a_body_with_a_thousand_faults_is_not_searched_for_all(
    kind: type[Body], fields: dict[str, Any]
) -> None:
    """10 MiB of faults took a minute and 4 GB before the first was enough."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    assert caught.value.error_count() < 10


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(ApiError) as caught:
        completion(temperature="x" * 10_000)
    assert len(str(caught.value)) < 200


def test_the_request_comes_before_the_model_and_the_model_before_the_defaults() -> None:
    model = SamplingParams(temperature=0.6, top_p=0.9, top_k=20)
    params = completion_params(completion(temperature=0, top_p=None), model)
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0, 0.9, 20, 0.0)


def test_max_tokens_is_16_or_the_rest_of_the_context() -> None:
    assert completion_params(completion(), SamplingParams(max_tokens=99)).max_tokens == 16
    assert chat_params(chat(), SamplingParams()).max_tokens is None
    assert chat_params(chat(max_completion_tokens=5), SamplingParams()).max_tokens == 5
    assert chat_params(chat(max_tokens=6), SamplingParams()).max_tokens == 6


def test_every_sampling_field_arrives() -> None:
    fields: dict[str, Any] = {
        "n": 2,
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.8,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "allowed_token_ids": [5, 6],
        "bad_words": ["no"],
        "seed": -4,
        "stop_token_ids": [3, 4],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "min_tokens": 2,
        "skip_special_tokens": False,
        "max_tokens": 9,
        "logprobs": 3,
        "prompt_logprobs": 4,
    }
    params = completion_params(
        completion(**fields, stop="end", logit_bias={"5": -100}), SamplingParams()
    )
    assert params == SamplingParams(
        **{**fields, "stop_token_ids": (3, 4)}, stop=("end",), logit_bias={5: -100.0}
    )


def test_echo_with_logprobs_scores_the_prompt() -> None:
    params = completion_params(completion(echo=True, logprobs=2), SamplingParams())
    assert (params.logprobs, params.prompt_logprobs) == (2, 2)
    both = completion(echo=True, logprobs=2, prompt_logprobs=0)
    assert completion_params(both, SamplingParams()).prompt_logprobs == 0
    assert completion_params(completion(echo=True), SamplingParams()).prompt_logprobs is None


def test_best_of_draws_more_and_scores_them() -> None:
    params = completion_params(completion(best_of=5, n=2), SamplingParams())
    assert (params.n, params.logprobs) == (5, 0)
    params = completion_params(completion(best_of=5, logprobs=3), SamplingParams())
    assert (params.n, params.logprobs) == (5, 3)


def test_the_prompt_alone_is_asked_back_by_a_token_that_nothing_can_end_early() -> None:
    body = completion(echo=True, max_tokens=0, stop="x", stop_token_ids=[3])
    params = completion_params(body, SamplingParams(min_p=0.5))
    assert params == SamplingParams(min_p=0.5, max_tokens=1, ignore_eos=True)


CONTRADICTIONS = [
    (chat, {"top_logprobs": 2}, "top_logprobs"),
    (chat, {"max_tokens": 2, "max_completion_tokens": 3}, "max_completion_tokens"),
    (chat, {"stream_options": {"include_usage": True}}, "stream_options"),
    (completion, {"logit_bias": {"word": 1}}, "logit_bias"),
    (completion, {"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    (completion, {"temperature": -1}, "temperature"),
    (completion, {"best_of": 1, "n": 2}, "best_of"),
    (completion, {"best_of": 129}, "best_of"),
    (completion, {"best_of": 2, "stream": True}, "best_of"),
    (completion, {"allowed_token_ids": []}, "allowed_token_ids"),
    (completion, {"bad_words": [""]}, "bad_words"),
    (
        completion,
        {"stream": True, "stream_options": {"continuous_usage_stats": True}},
        "stream_options",
    ),
    (completion, {"n": 0}, "n"),
    (completion, {"logprobs": 21}, "logprobs"),
    (completion, {"stop": ""}, "stop"),
    (completion, {"min_tokens": 17}, "min_tokens"),
    (completion, {"max_tokens": 0}, "max_tokens"),
    (completion, {"prompt_logprobs": 21}, "prompt_logprobs"),
    (completion, {"prompt_logprobs": -1}, "prompt_logprobs"),
    (completion, {"prompt_logprobs": 0, "stream": True}, "stream"),
    (completion, {"echo": True, "logprobs": 0, "stream": True, "n": 2}, "echo"),
    (completion, {"echo": True, "max_tokens": 0, "min_tokens": 2}, "min_tokens"),
]


@pytest.mark.parametrize(("parse", "fields", "param"), CONTRADICTIONS, ids=str)
def test_values_that_make_no_sense_are_refused(
    parse: Any, fields: dict[str, Any], param: str
) -> None:
    body = parse(**fields)
    with pytest.raises(RequestError) as caught:
        (chat_params if parse is chat else completion_params)(body, SamplingParams())
    assert caught.value.param == param
