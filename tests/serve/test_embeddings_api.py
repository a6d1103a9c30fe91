"""Vectors over HTTP, by OpenAI's client, against the engine's own."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from vivace import LLM

TEXTS = ["def main():", "naïve café", "東京 は 日本"]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def llm(model: Path) -> LLM:
    return LLM(str(model), backend="reference", kv_memory_bytes=4 << 20, notify=lambda line: None)


@pytest.mark.parametrize("pooling", [None, "mean", "last"])
def test_vectors_are_the_engines(
    client: openai.OpenAI, llm: LLM, model: Path, pooling: Any
) -> None:
    extra = {} if pooling is None else {"pooling": pooling}
    answer = client.embeddings.create(model=str(model), input=TEXTS, extra_body=extra)
    assert [one.index for one in answer.data] == [0, 1, 2]
    found = np.array([one.embedding for one in answer.data])
    np.testing.assert_allclose(found, llm.embed(TEXTS, pooling), atol=1e-5)
    assert llm.tokenizer is not None
    assert answer.usage.prompt_tokens == sum(len(llm.tokenizer.encode(text)) for text in TEXTS)


def test_base64_and_numbers_are_the_same_bits(client: openai.OpenAI, url: str, model: Path) -> None:
    asked = {"input": TEXTS[0], "encoding_format": "base64"}
    (one,) = httpx.post(f"{url}/v1/embeddings", json=asked).json()["data"]
    packed = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
    plain = client.embeddings.create(model=str(model), input=TEXTS[0], encoding_format="float")
    assert packed.tolist() == plain.data[0].embedding


def test_token_ids_are_texts_too(url: str) -> None:
    texts = httpx.post(f"{url}/v1/embeddings", json={"input": TEXTS}).json()["data"]
    tokens = [
        httpx.post(f"{url}/tokenize", json={"prompt": text}).json()["tokens"] for text in TEXTS
    ]
    ids = httpx.post(f"{url}/v1/embeddings", json={"input": tokens}).json()["data"]
    for one, other in zip(texts, ids, strict=True):
        np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-5)


@pytest.mark.parametrize("path", ["score", "v1/score"])
def test_scores_are_cosines(url: str, llm: LLM, path: str) -> None:
    one, *others = TEXTS
    left, *right = llm.embed(TEXTS)
    answer = httpx.post(f"{url}/{path}", json={"text_1": one, "text_2": others}).json()
    scores = [pair["score"] for pair in answer["data"]]
    np.testing.assert_allclose(scores, [left @ vector for vector in right], atol=1e-5)
    pairs = httpx.post(f"{url}/{path}", json={"text_1": TEXTS, "text_2": TEXTS}).json()
    np.testing.assert_allclose([pair["score"] for pair in pairs["data"]], 1, atol=1e-5)


@pytest.mark.parametrize("path", ["rerank", "v1/rerank"])
def test_documents_come_nearest_first(url: str, path: str) -> None:
    asked = {"query": TEXTS[1], "documents": TEXTS}
    results = httpx.post(f"{url}/{path}", json=asked).json()["results"]
    assert results[0]["index"] == 1
    assert results[0]["document"] == {"text": TEXTS[1]}
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    few = httpx.post(f"{url}/{path}", json={**asked, "top_n": 2, "return_documents": False}).json()
    assert [set(result) for result in few["results"]] == [{"index", "relevance_score"}] * 2


BAD = [
    ("v1/embeddings", {"input": []}, "input"),
    ("v1/embeddings", {"input": ["a", ""]}, "input"),
    ("v1/embeddings", {"input": "a", "dimensions": 8}, "dimensions"),
    ("v1/embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ("v1/embeddings", {"input": "a", "pooling": "max"}, "pooling"),
    ("v1/embeddings", {"input": [10**6]}, "input"),
    ("v1/embeddings", {"input": ["a"] * 2049}, "input"),
    ("score", {"text_1": ["a", "b"], "text_2": "c"}, "text_1"),
    ("rerank", {"query": "a", "documents": []}, "documents"),
    ("rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
]


@pytest.mark.parametrize(("path", "fields", "param"), BAD, ids=[str(one)[:60] for one in BAD])
def test_what_cannot_be_is_refused(url: str, path: str, fields: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{url}/{path}", json=fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
