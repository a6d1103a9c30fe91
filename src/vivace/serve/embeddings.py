"""Vectors of texts, and how near texts are by them."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from vivace.core.errors import RequestError
from vivace.engine.pooling import unit
from vivace.engine.requests import to_pool
from vivace.serve.call_names import call_name
from vivace.serve.model_parts import ModelParts
from vivace.serve.prompts import GivenPrompts, called, last_tokens
from vivace.serve.schemas import EmbeddingBody, RerankBody, ScoreBody
from vivace.serve.standing import tenant_of, with_standing
from vivace.serve.streaming import while_connected

MAX_TEXTS_PER_CALL = 2048  # as OpenAI's

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class _Embedded:
    """Attributes:
    vectors: [texts, hidden_size], each of length 1.
    num_tokens: of all texts.
    """

    vectors: Vectors
    num_tokens: int

    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self.num_tokens, "total_tokens": self.num_tokens}


class Embedder:
    """Answers calls for vectors of one model, and for what follows from them: texts are as near as
    the cosine of their vectors, from -1 to 1.

    """

    def __init__(self, model: ModelParts) -> None:
        self._model = model

    async def embeddings(self, http: Request, body: EmbeddingBody) -> dict[str, Any]:
        found = await self._embed(http, body, body.input, "input")
        encode = _base64 if body.encoding_format == "base64" else np.ndarray.tolist
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(found.vectors)
        ]
        return {
            "object": "list",
            "data": data,
            "model": body.model or self._model.names.model,
            "usage": found.usage(),
        }

    async def score(self, http: Request, body: ScoreBody) -> dict[str, Any]:
        first, second = _texts(body.text_1), _texts(body.text_2)
        if len(first) != len(second) and len(first) != 1:
            raise RequestError(
                f"text_1 must be one text or as many as text_2 ({len(second)}), not {len(first)}.",
                "text_1",
            )
        found = await self._embed(http, body, [*first, *second], "text_1")
        left, right = found.vectors[: len(first)], found.vectors[len(first) :]
        scores = (left * right).sum(axis=1)
        data = [
            {"object": "score", "index": index, "score": score}
            for index, score in enumerate(scores.tolist())
        ]
        return {
            "id": f"score-{uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": body.model or self._model.names.model,
            "data": data,
            "usage": found.usage(),
        }

    async def rerank(self, http: Request, body: RerankBody) -> dict[str, Any]:
        found = await self._embed(http, body, [body.query, *body.documents], "documents")
        query, *_ = found.vectors
        scores = (found.vectors[1:] * query).sum(axis=1)
        order = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
        results = []
        for index in order:
            result: dict[str, Any] = {"index": index, "relevance_score": float(scores[index])}
            if body.return_documents is not False:
                result["document"] = {"text": body.documents[index]}
            results.append(result)
        return {
            "id": f"rerank-{uuid4().hex}",
            "model": body.model or self._model.names.model,
            "results": results,
            "usage": found.usage(),
        }

    async def _embed(
        self,
        http: Request,
        body: EmbeddingBody | ScoreBody | RerankBody,
        given: GivenPrompts,
        param: str,
    ) -> _Embedded:
        room = self._model.info.max_model_len
        prompts = [
            last_tokens(prompt, body.truncate_prompt_tokens, room)
            for prompt in await self._model.prompts.each(given, param)
        ]
        if len(prompts) > MAX_TEXTS_PER_CALL:
            raise RequestError(
                f"One call may have at most {MAX_TEXTS_PER_CALL} texts, not {len(prompts)}.", param
            )
        call_id, tenant = f"embd-{call_name(http, None)}", tenant_of(http, body)
        with called(prompt=param):
            requests = [
                to_pool(self._model.info, f"{call_id}/{place}", prompt, body.pooling)
                for place, prompt in enumerate(prompts)
            ]
        adapter = self._model.names.adapter(body.model)
        standing = [with_standing(request, body, tenant, adapter) for request in requests]

        async def compute() -> Vectors:
            found: dict[int, Vectors] = {}
            async with aclosing(self._model.generation.run(standing)) as deltas:
                async for place, delta in deltas:
                    found[place] = unit(_needed(delta.embedding))
            return np.stack([found[place] for place in range(len(standing))])

        vectors = await while_connected(http.receive, compute())
        return _Embedded(vectors, sum(map(len, prompts)))


def _needed(embedding: Sequence[float] | None) -> Sequence[float]:
    """Raises RequestError where a request ended without: its timeout has passed."""
    if embedding is None:
        raise RequestError("The timeout passed before all was computed.", "timeout")
    return embedding


def _texts(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _base64(vector: Vectors) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
