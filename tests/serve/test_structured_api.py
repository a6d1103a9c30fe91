"""Structured output over HTTP by OpenAI's client: by every name, and every refusal by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer", "maximum": 9}},
    "required": ["kind", "n"],
    "additionalProperties": False,
}
TAG = {
    "triggers": ["<n>"],
    "structures": [{"begin": "<n>", "schema": {"type": "integer", "maximum": 9}, "end": "</n>"}],
}
TURN = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def fits(text: str) -> bool:
    value = json.loads(text)
    return set(value) == {"kind", "n"} and value["kind"] in ("a", "b") and value["n"] <= 9


def is_object(text: str) -> bool:
    return isinstance(json.loads(text), dict)


FORMS = [
    ({"structured_outputs": {"json": SCHEMA}}, fits),
    ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, fits),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, fits),
    ({"guided_json": SCHEMA}, fits),
    ({"structured_outputs": {"regex": "[ab]{3}/"}}, re.compile("[ab]{3}/").fullmatch),
    ({"guided_regex": "[ab]{3}"}, re.compile("[ab]{3}").fullmatch),
    ({"structured_outputs": {"choice": ["oui", "né"]}}, ["oui", "né"].count),
    ({"guided_choice": ["oui", "non"]}, ["oui", "non"].count),
    ({"structured_outputs": {"grammar": 'start: "x" /[01]{2}/'}}, re.compile("x[01]{2}").fullmatch),
    ({"guided_grammar": 'root ::= "x" b\nb ::= [01] "y"'}, re.compile("x[01]y").fullmatch),
]


@pytest.mark.parametrize(("fields", "holds"), FORMS, ids=[str(form[0])[:60] for form in FORMS])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_name_constrains(
    client: openai.OpenAI, model: Path, fields: dict[str, Any], holds: Any, temperature: float
) -> None:
    asked = {"model": str(model), "max_tokens": 200, "temperature": temperature, "seed": 1}
    whole = client.completions.create(**asked, prompt="a", extra_body=fields).choices[0]
    assert (whole.finish_reason, bool(holds(whole.text))) == ("stop", True), whole.text
    with client.chat.completions.create(
        **asked, messages=[TURN], stream=True, extra_body=fields
    ) as events:
        text = "".join(event.choices[0].delta.content or "" for event in events)
    assert holds(text), text


def test_json_mode_ends_in_an_object(client: openai.OpenAI, model: Path) -> None:
    for fields in (
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json_object": True}},
    ):
        answer = client.chat.completions.create(
            model=str(model), messages=[TURN], max_tokens=400, extra_body=fields, seed=4
        ).choices[0]
        text = answer.message.content or ""
        assert text.startswith("{")
        assert answer.finish_reason == "length" or is_object(text)


class Point(BaseModel):
    x: bool
    kind: str | None


def test_the_clients_own_parser_reads_it(client: openai.OpenAI, model: Path) -> None:
    answer = client.chat.completions.parse(
        model=str(model),
        messages=[{"role": "user", "content": "hi"}],
        response_format=Point,
        max_tokens=300,
        logit_bias={},
        stop=["zzzz"],
        seed=2,
    )
    assert isinstance(answer.choices[0].message.parsed, Point)


def test_text_with_tags(client: openai.OpenAI, model: Path) -> None:
    for fields in (
        {"response_format": {"type": "structural_tag", **TAG}},
        {"structured_outputs": {"structural_tag": TAG}},
    ):
        answer = client.completions.create(
            model=str(model), prompt="a", max_tokens=40, temperature=1, extra_body=fields, seed=3
        )
        parts = answer.choices[0].text.split("<n>")[1:]
        assert all(re.match(r"-?\d*(</n>|<?/?n?>?$|$)", part) for part in parts)


def test_it_goes_with_every_other_parameter(client: openai.OpenAI, model: Path) -> None:
    answer = client.completions.create(
        model=str(model),
        prompt=["a", "b"],
        n=2,
        best_of=3,
        max_tokens=60,
        logprobs=2,
        temperature=1,
        frequency_penalty=1,
        seed=7,
        extra_body={
            "guided_json": SCHEMA,
            "min_tokens": 50,
            "ignore_eos": True,
            "repetition_penalty": 1.3,
            "bad_words": ["b"],
        },
    )
    assert len(answer.choices) == 4
    assert all(fits(choice.text) for choice in answer.choices)
    assert all(choice.finish_reason == "stop" for choice in answer.choices)


BAD = [
    ({"structured_outputs": {"json": {"type": "foo"}}}, "structured_outputs", "foo"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
    ({"response_format": {"type": "yaml"}}, "response_format", "json_object"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
        "response_format",
        "not",
    ),
    ({"guided_regex": "(a"}, "guided_regex", "regex"),
    ({"guided_choice": []}, "guided_choice", "at least 1"),
    ({"guided_grammar": "start: foo"}, "guided_grammar", "foo"),
    ({"structured_outputs": {}}, "structured_outputs", "exactly one"),
    ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs", "exactly one"),
    ({"structured_outputs": {"xml": "a"}}, "structured_outputs", "xml"),
    ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex", "only one"),
    ({"guided_json": SCHEMA, "allowed_token_ids": [9]}, "allowed_token_ids", "No token"),
]


@pytest.mark.parametrize(("fields", "param", "says"), BAD, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_one_is_refused_before_it_is_streamed(
    client: openai.OpenAI,
    model: Path,
    fields: dict[str, Any],
    param: str,
    says: str,
    stream: bool,
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(says)) as caught:
        client.completions.create(
            model=str(model), prompt="a", max_tokens=8, stream=stream, extra_body=fields
        )
    assert caught.value.param == param


def test_a_schema_that_explodes_hurts_nobody_else(url: str) -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/d9", "$defs": {"d0": {"type": "object"}}}
    for i in range(1, 10):
        parts = [{"$ref": f"#/$defs/d{i - 1}"}, {"properties": {f"p{i}": {"type": "integer"}}}]
        schema["$defs"][f"d{i}"] = {"allOf": [{"anyOf": parts}, {"anyOf": parts[::-1]}]}
    with httpx.Client(base_url=url, timeout=20) as client:
        body = {"prompt": "a", "max_tokens": 4, "guided_json": schema}
        answer = client.post("/v1/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "guided_json")
        body = {"prompt": "a", "max_tokens": 4}
        assert client.post("/v1/completions", json=body).status_code == 200
