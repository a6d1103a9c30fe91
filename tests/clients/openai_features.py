"""All that OpenAI's Python client can ask of the server: python openai_features.py URL MODEL."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import openai
import pytest
from features import run_all

URL, MODEL = sys.argv[1:]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
PROMPT = "hello, this is"
ANSWER = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
FUNCTION = {"name": "say", "parameters": ANSWER}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


def models() -> None:
    (card,) = CLIENT.models.list().data
    assert card.id == MODEL == CLIENT.models.retrieve(card.id).id


def completion() -> None:
    answer = CLIENT.completions.create(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.object == "text_completion"
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.choices[0].finish_reason in ("stop", "length")


def completion_streamed_equals_whole() -> None:
    whole = CLIENT.completions.create(model=MODEL, prompt=PROMPT, max_tokens=8, seed=3)
    chunks = list(
        CLIENT.completions.create(
            model=MODEL,
            prompt=PROMPT,
            max_tokens=8,
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


def completion_of_token_ids_and_of_several_prompts() -> None:
    for prompt in ([5, 6, 7], [[5, 6], [7]], ["one", "two"]):
        answer = CLIENT.completions.create(model=MODEL, prompt=prompt, max_tokens=2)
        assert len(answer.choices) == (1 if prompt == [5, 6, 7] else 2)


def completion_echo_with_logprobs() -> None:
    choice = CLIENT.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=0, echo=True, logprobs=2
    ).choices[0]
    assert choice.text == PROMPT
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])


def completion_best_of() -> None:
    answer = CLIENT.completions.create(model=MODEL, prompt=PROMPT, max_tokens=4, n=2, best_of=4)
    assert len(answer.choices) == 2


def completion_options() -> None:
    answer = CLIENT.completions.create(
        model=MODEL,
        prompt=PROMPT,
        max_tokens=6,
        temperature=0.7,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={"7": -100},
        seed=1,
        user="someone",
        stop=["zzz"],
        extra_body={
            "top_k": 20,
            "min_p": 0.01,
            "repetition_penalty": 1.1,
            "min_tokens": 2,
            "ignore_eos": True,
            "return_token_ids": True,
        },
    )
    assert len(answer.choices[0].token_ids) == 6  # type: ignore[attr-defined]
    assert 7 not in answer.choices[0].token_ids  # type: ignore[attr-defined]


def chat() -> None:
    answer = CLIENT.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content is not None


def chat_streamed_equals_whole() -> None:
    whole = CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=8, seed=5
    )
    with CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=8, seed=5, stream=True
    ) as chunks:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


def chat_logprobs_and_choices() -> None:
    answer = CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=3, n=2, logprobs=True, top_logprobs=4
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert all(len(one.top_logprobs) == 4 for one in choice.logprobs.content or ())


def chat_in_a_form() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}
    answer = CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=30, response_format=schema
    )
    assert json.loads(answer.choices[0].message.content or "") in ({"yes": True}, {"yes": False})
    answer = CLIENT.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=30,
        extra_body={"structured_outputs": {"regex": "[ab]{3}"}},
    )
    assert re.fullmatch("[ab]{3}", answer.choices[0].message.content or "")


def chat_calls_tools_and_takes_their_outputs() -> None:
    asked = {
        "model": MODEL,
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 90,
        "seed": 1,
    }
    message = CLIENT.chat.completions.create(messages=MESSAGES, **asked).choices[0].message
    (call,) = message.tool_calls
    assert "yes" in json.loads(call.function.arguments)
    with CLIENT.chat.completions.create(messages=MESSAGES, stream=True, **asked) as chunks:
        pieces = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
    assert "".join(one.function.arguments for one in pieces) == call.function.arguments
    output = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    turns = [*MESSAGES, message.model_dump(exclude_none=True), output]
    again = CLIENT.chat.completions.create(model=MODEL, messages=turns, max_tokens=4)
    assert again.choices[0].message.role == "assistant"


def response_calls_functions_and_takes_their_outputs() -> None:
    asked = {
        "model": MODEL,
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": {"type": "function", "name": "say"},
        "max_output_tokens": 90,
    }
    (call,) = CLIENT.responses.create(input="hello", **asked).output
    assert "yes" in json.loads(call.arguments)
    with CLIENT.responses.stream(input="hello", **asked) as events:
        kinds = [event.type for event in events]
        (streamed,) = events.get_final_response().output
    assert "response.function_call_arguments.delta" in kinds
    assert "yes" in json.loads(streamed.arguments)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    items = [{"role": "user", "content": "hello"}, call.model_dump(exclude_none=True), output]
    assert CLIENT.responses.create(model=MODEL, input=items, max_output_tokens=4).output


def response() -> None:
    answer = CLIENT.responses.create(
        model=MODEL, input="hello", instructions="Be brief.", max_output_tokens=8, store=False
    )
    assert answer.status in ("completed", "incomplete")
    assert isinstance(answer.output_text, str)


def response_streamed() -> None:
    with CLIENT.responses.create(
        model=MODEL, input=MESSAGES, max_output_tokens=8, store=False, stream=True
    ) as events:
        kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")


def embeddings() -> None:
    for how in ("float", "base64"):
        answer = CLIENT.embeddings.create(model=MODEL, input=["a", "b"], encoding_format=how)
        assert len(answer.data) == 2
    assert isinstance(CLIENT.embeddings.create(model=MODEL, input="a").data[0].embedding, list)


def errors_have_their_classes() -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        CLIENT.completions.create(model=MODEL, prompt=PROMPT, temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        CLIENT.completions.create(model="another", prompt=PROMPT)
    assert missing.value.code == "model_not_found"


def calls_have_names() -> None:
    raw = CLIENT.completions.with_raw_response.create(
        model=MODEL, prompt=PROMPT, max_tokens=1, extra_headers={"X-Request-Id": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"
    assert raw.parse().id.endswith("mine")


def many_at_once() -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as client:
            ask = client.completions.create
            asked = [ask(model=MODEL, prompt=[5 + n], max_tokens=4, seed=0) for n in range(16)]
            return [answer.choices[0].text for answer in await asyncio.gather(*asked)]

    texts = asyncio.run(run())
    alone = CLIENT.completions.create(model=MODEL, prompt=[5 + 3], max_tokens=4, seed=0)
    assert texts[3] == alone.choices[0].text


if __name__ == "__main__":
    run_all(
        [
            models,
            completion,
            completion_streamed_equals_whole,
            completion_of_token_ids_and_of_several_prompts,
            completion_echo_with_logprobs,
            completion_best_of,
            completion_options,
            chat,
            chat_streamed_equals_whole,
            chat_logprobs_and_choices,
            chat_in_a_form,
            chat_calls_tools_and_takes_their_outputs,
            response_calls_functions_and_takes_their_outputs,
            response,
            response_streamed,
            embeddings,
            errors_have_their_classes,
            calls_have_names,
            many_at_once,
        ]
    )
