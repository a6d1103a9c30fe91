"""All that Anthropic's Python client can ask: python anthropic_features.py URL MODEL."""

from __future__ import annotations

import sys

import anthropic
import pytest
from features import run_all

URL, MODEL = sys.argv[1:]
CLIENT = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
MESSAGES = [{"role": "user", "content": "hello"}]


def message() -> None:
    answer = CLIENT.messages.create(model=MODEL, max_tokens=8, messages=MESSAGES, system="Hi.")
    assert answer.role == "assistant"
    assert answer.content[0].type == "text"
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert 0 < answer.usage.output_tokens <= 8


def message_options() -> None:
    answer = CLIENT.messages.create(
        model=MODEL,
        max_tokens=8,
        messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        stop_sequences=["zzz"],
        extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 20},
    )
    assert answer.type == "message"


def message_streamed() -> None:
    with CLIENT.messages.stream(model=MODEL, max_tokens=8, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text  # type: ignore[union-attr]
    assert final.stop_reason in ("end_turn", "max_tokens")


def tools_are_used() -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    asked = {
        "model": MODEL,
        "max_tokens": 90,
        "tools": [{"name": "say", "input_schema": {**schema, "additionalProperties": False}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    answer = CLIENT.messages.create(messages=MESSAGES, **asked)
    assert answer.stop_reason == "tool_use"
    (use,) = answer.content
    assert "yes" in use.input
    with CLIENT.messages.stream(messages=MESSAGES, **asked) as stream:
        (streamed,) = stream.get_final_message().content
    assert "yes" in streamed.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "done"}
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": [use.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    again = CLIENT.messages.create(model=MODEL, max_tokens=4, messages=turns)
    assert again.role == "assistant"


def tokens_are_counted() -> None:
    counted = CLIENT.messages.count_tokens(model=MODEL, messages=MESSAGES)
    usage = CLIENT.messages.create(model=MODEL, max_tokens=1, messages=MESSAGES).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def errors_have_their_classes() -> None:
    with pytest.raises(anthropic.NotFoundError, match="another"):
        CLIENT.messages.create(model="another", max_tokens=1, messages=MESSAGES)
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        CLIENT.messages.create(
            model=MODEL, max_tokens=1, messages=MESSAGES, extra_body={"temperature": -1}
        )


if __name__ == "__main__":
    run_all(
        [
            message,
            message_options,
            message_streamed,
            tools_are_used,
            tokens_are_counted,
            errors_have_their_classes,
        ]
    )
