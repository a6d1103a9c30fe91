"""/tokenize and /detokenize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer

TEXT = "def main():\n    naïve 東京"
TURN = {"role": "user", "content": "hi"}


def post(url: str, path: str, **fields: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}/{path}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_comes_back_from_its_tokens(url: str, model: Path) -> None:
    answer = post(url, "tokenize", prompt=TEXT, return_token_strs=True)
    tokenizer = load_tokenizer(model)
    assert tokenizer is not None
    assert answer["tokens"] == tokenizer.encode(TEXT)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["token_strs"][0] in TEXT
    assert answer["max_model_len"] == 512
    assert post(url, "detokenize", tokens=answer["tokens"]) == {"prompt": TEXT}
    assert post(url, "tokenize", prompt="")["tokens"] == tokenizer.encode("")
    long = post(url, "tokenize", prompt=TEXT * 200)["tokens"]
    assert post(url, "detokenize", tokens=long) == {"prompt": TEXT * 200}


def test_a_conversation_is_tokenized_as_the_model_sees_it(url: str, model: Path) -> None:
    tokenizer, template = load_tokenizer(model), load_chat_template(model)
    assert tokenizer is not None
    for opens in (True, False):
        answer = post(url, "tokenize", messages=[TURN], add_generation_prompt=opens)
        text = template.render([TURN], add_generation_prompt=opens)
        assert answer["tokens"] == tokenizer.encode(text, add_special_tokens=False)
        assert post(url, "detokenize", tokens=answer["tokens"]) == {"prompt": text}
    assert answer["token_strs"] is None
    assert post(url, "tokenize", messages=[TURN])["count"] > answer["count"]


BAD = [
    ("tokenize", {}, "prompt"),
    ("tokenize", {"prompt": "a", "messages": [TURN]}, "prompt"),
    ("tokenize", {"messages": [TURN], "add_special_tokens": True}, "add_special_tokens"),
    ("tokenize", {"prompt": "a", "tools": [{}]}, "tools"),
    ("tokenize", {"prompt": [-1], "return_token_strs": True}, "prompt"),
    ("tokenize", {"prompt": [10**6]}, "prompt"),
    ("detokenize", {"tokens": [-1]}, "tokens"),
    ("detokenize", {"tokens": [10**6]}, "tokens"),
    ("detokenize", {"tokens": "a"}, "tokens"),
    ("detokenize", {}, "tokens"),
]


@pytest.mark.parametrize(("path", "fields", "param"), BAD, ids=str)
def test_what_cannot_be_is_refused(url: str, path: str, fields: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{url}/{path}", json=fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
