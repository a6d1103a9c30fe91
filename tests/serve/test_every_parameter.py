"""Every parameter that users of such servers send: it is supported, or refused by its name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from vivace.serve.schemas import ChatBody, CompletionBody

TURNS = [{"role": "user", "content": "a"}]
SCHEMA = {"type": "object"}
TOOL = {"type": "function", "function": {"name": "f"}}

# With a value that asks for something, and what else a call needs for it.
SUPPORTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "add_generation_prompt": (False, {}),
    "allowed_token_ids": ([97], {}),
    "bad_words": (["a"], {}),
    "cache_salt": ("a", {}),
    "chat_template_kwargs": ({"a": 1}, {}),
    "continue_final_message": (True, {"messages": [*TURNS, {"role": "assistant", "content": "b"}]}),
    "documents": ([{"text": "a"}], {}),
    "frequency_penalty": (0.5, {}),
    "ignore_eos": (True, {}),
    "include_reasoning": (False, {}),
    "include_stop_str_in_output": (True, {}),
    "logit_bias": ({"97": 1}, {}),
    "logprobs": (True, {}),
    "max_completion_tokens": (1, {"max_tokens": None}),
    "max_tokens": (1, {}),
    "messages": (TURNS, {}),
    "min_p": (0.5, {}),
    "min_tokens": (1, {}),
    "model": ("scripted", {}),
    "n": (2, {}),
    "parallel_tool_calls": (False, {}),
    "presence_penalty": (0.5, {}),
    "priority": (1, {}),
    "prompt_logprobs": (1, {}),
    "repetition_penalty": (1.5, {}),
    "request_id": ("mine", {}),
    "return_token_ids": (True, {}),
    "return_tokens_as_token_ids": (True, {}),
    "seed": (1, {}),
    "skip_special_tokens": (False, {}),
    "stop": (["a"], {}),
    "stop_token_ids": ([97], {}),
    "stream": (True, {}),
    "stream_options": ({"include_usage": True, "continuous_usage_stats": True}, {"stream": True}),
    "temperature": (0.5, {}),
    "tool_choice": ("none", {}),
    "top_k": (5, {}),
    "top_logprobs": (2, {"logprobs": True}),
    "top_p": (0.5, {}),
    "truncate_prompt_tokens": (4, {}),
    "user": ("me", {}),
}
# These need more of a model than the scripted one has; they are tested with real ones.
NEED_A_MODEL: dict[str, Any] = {
    "response_format": {"type": "json_object"},
    "structured_outputs": {"regex": "a"},
    "tools": [TOOL],
}
COMPLETIONS_ALONE: dict[str, Any] = {"echo": True}
REFUSED: dict[str, Any] = {
    "chat_template": "{{ messages }}",
    "kv_transfer_params": {"a": 1},
    "length_penalty": 0.5,
    "reasoning_effort": "low",
    "repetition_detection": {"max_pattern_size": 2},
    "session_id": "a",
    "stream_interval": 2,
    "thinking_token_budget": 10,
    "use_beam_search": True,
    "vllm_xargs": {"a": 1},
}
OLD_NAMES: dict[str, Any] = {
    "guided_choice": ["a"],
    "guided_grammar": "start: /a/",
    "guided_json": SCHEMA,
    "guided_regex": "a",
}
OF_OTHER_SERVERS = (
    *("regex", "ebnf", "stop_regex", "custom_logit_processor", "lora_path", "rid"),
    *("grammar", "typical_p", "xtc_probability", "dry_multiplier", "mirostat", "cache_prompt"),
    *("id_slot", "timings_per_token", "guided_decoding_backend"),
)


def ask(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    given = {"prompt": "a"} if path == "/v1/completions" else {"messages": TURNS}
    return client.post(path, json={"max_tokens": 1, **given, **fields})


@pytest.mark.parametrize("name", SUPPORTED)
def test_what_is_supported(client: httpx.Client, name: str) -> None:
    value, besides = SUPPORTED[name]
    answer = ask(client, "/v1/chat/completions", **{**besides, name: value})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", COMPLETIONS_ALONE)
def test_what_is_for_completions_alone(client: httpx.Client, name: str) -> None:
    given = {name: COMPLETIONS_ALONE[name]}
    assert ask(client, "/v1/completions", **given).status_code == 200
    refused(ask(client, "/v1/chat/completions", **given), name, "unsupported_parameter")


@pytest.mark.parametrize("name", {**NEED_A_MODEL, **OLD_NAMES})
def test_what_needs_more_of_a_model_is_refused_where_that_is_missing(
    client: httpx.Client, name: str
) -> None:
    value = {**NEED_A_MODEL, **OLD_NAMES}[name]
    refused(ask(client, "/v1/chat/completions", **{name: value}), name, "invalid_value")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported(client: httpx.Client, path: str, name: str) -> None:
    kind = CompletionBody if path == "/v1/completions" else ChatBody
    code = "unsupported_parameter" if name in kind.neutral else "unknown_parameter"
    refused(ask(client, path, **{name: REFUSED[name]}), name, code)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("name", OF_OTHER_SERVERS)
def test_what_only_others_know(client: httpx.Client, path: str, name: str) -> None:
    refused(ask(client, path, **{name: 1}), name, "unknown_parameter")


def refused(answer: httpx.Response, param: str, code: str) -> None:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
