"""Answers a checked request body: tokenize, generate, write."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from vivace.core.errors import RequestError
from vivace.core.request import Delta
from vivace.core.request import Request as EngineRequest
from vivace.core.sampling import SamplingParams
from vivace.core.sight import Sight
from vivace.core.structured import PARAM
from vivace.engine.outputs import Collector
from vivace.engine.requests import fan_out
from vivace.serve.call_names import call_name
from vivace.serve.calls import Call, Usage
from vivace.serve.chat_format import ChatFormat
from vivace.serve.errors import ApiError
from vivace.serve.formats import AnswerFormat, CompletionFormat
from vivace.serve.logprobs import by_id, by_text
from vivace.serve.model_parts import ModelParts
from vivace.serve.prompts import called, last_tokens
from vivace.serve.sampling import (
    asked_max_tokens,
    chat_params,
    completion_params,
    echoes_alone,
)
from vivace.serve.schemas import ChatBody, CompletionBody, StreamOptions
from vivace.serve.standing import sight_of, tenant_of, with_standing
from vivace.serve.streaming import EventStream, while_connected
from vivace.serve.structured import constraint_name, renamed

MAX_CHOICES_PER_CALL = 1024

Body: TypeAlias = CompletionBody | ChatBody


class Answerer:
    """Answers calls about one model.

    Args:
        fingerprint: names the software and numbers behind the answers.
    """

    def __init__(self, model: ModelParts, fingerprint: str) -> None:
        self._model = model
        self._fingerprint = fingerprint

    async def completion(self, http: Request, body: CompletionBody) -> Response:
        params = completion_params(body, self._model.info.default_params)
        prompts = await self._model.prompts.each(
            body.prompt, adds=body.add_special_tokens is not False
        )
        prompts = [self._truncated(prompt, body) for prompt in prompts]
        call = self._call(http, body, prompts, params, CompletionFormat.id_prefix)
        if body.echo:
            echoes = await self._model.prompts.echoes(body, prompts)
            call = replace(call, echoes=echoes, answers=not echoes_alone(body))
        return await self._respond(http, bool(body.stream), CompletionFormat(call))

    async def chat(
        self,
        http: Request,
        body: ChatBody,
        make: Callable[[Call], AnswerFormat] = ChatFormat,
        id_prefix: str = ChatFormat.id_prefix,
    ) -> Response:
        """Answer a conversation in the words of one of the APIs."""
        params = chat_params(body, self._model.info.default_params)
        conversation = await self._model.prompts.conversation(body)
        params = self._model.prompts.constrained(params, body, conversation)
        prompt = self._truncated(conversation.token_ids, body)
        call = self._call(http, body, [prompt], params, id_prefix)
        read = partial(self._model.metrics.tools.ended, id_prefix, bool(body.stream))
        call = replace(call, reader=self._model.prompts.reader(body, conversation, read))
        return await self._respond(http, bool(body.stream), make(call))

    def _truncated(self, prompt: list[int], body: Body) -> list[int]:
        room = self._model.info.longest(self._sight(body)) - (asked_max_tokens(body) or 1)
        return last_tokens(prompt, body.truncate_prompt_tokens, room)

    def _sight(self, body: Body) -> Sight:
        return sight_of(body.kv_eviction) or self._model.info.sight

    def _call(
        self,
        http: Request,
        body: Body,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        prefix: str,
    ) -> Call:
        call_id = f"{prefix}{call_name(http, body.request_id)}"
        wants = body.stream_options or StreamOptions()
        prompt = "messages" if isinstance(body, ChatBody) else "prompt"
        constraint = _constraint_name(body)
        with called(prompt=prompt, **{PARAM: constraint}):
            requests = self._requests(call_id, body, prompts, params)
        tenant, adapter = tenant_of(http, body), self._model.names.adapter(body.model)
        return Call(
            call_id=call_id,
            created=int(time.time()),
            model=body.model or self._model.names.model,
            fingerprint=self._fingerprint,
            requests=[with_standing(one, body, tenant, adapter) for one in requests],
            num_choices=params.n,
            num_shown=self._model.info.default_params.n if body.n is None else body.n,
            include_usage=bool(wants.include_usage),
            continuous_usage=bool(wants.continuous_usage_stats),
            return_token_ids=bool(body.return_token_ids),
            shows_logprobs=body.logprobs is not None and body.logprobs is not False,
            shows_prompt_logprobs=body.prompt_logprobs is not None,
            token_name=by_id if body.return_tokens_as_token_ids else by_text,
            constraint_name=constraint,
        )

    def _requests(
        self,
        call_id: str,
        body: Body,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> list[EngineRequest]:
        """Raises RequestError where they are too many, or do not fit the model."""
        if len(prompts) * params.n > MAX_CHOICES_PER_CALL:
            raise RequestError(
                f"One call may ask for at most {MAX_CHOICES_PER_CALL} choices, not "
                f"{len(prompts)} prompts times n = {params.n}.",
                "prompt",
            )
        sight, asked = self._sight(body), asked_max_tokens(body)
        for prompt in prompts:
            _check_room(self._model.info.longest(sight), prompt, asked)
        return [
            request
            for place, prompt in enumerate(prompts)
            for request in fan_out(self._model.info, f"{call_id}/{place}", prompt, params, sight)
        ]

    async def _respond(self, http: Request, streams: bool, form: AnswerFormat) -> Response:
        if streams:
            return EventStream(self._events(form), form.failure)
        return await while_connected(http.receive, self._whole(form))

    async def _whole(self, form: AnswerFormat) -> Response:
        call, usage = form.call, Usage.of(form.call)
        collectors = [_collector(request) for request in call.requests]
        async with aclosing(self._deltas(call, usage)) as deltas:
            async for place, delta in deltas:
                collectors[place].take(delta)
        results = [collector.output for collector in collectors]
        return JSONResponse(form.whole(results, usage))

    async def _events(self, form: AnswerFormat) -> AsyncGenerator[bytes, None]:
        call, usage = form.call, Usage.of(form.call)
        async with aclosing(self._deltas(call, usage)) as deltas:
            async for place, delta in deltas:
                for one in form.events(place, delta, usage):
                    yield one
        for one in form.end(usage):
            yield one

    async def _deltas(self, call: Call, usage: Usage) -> AsyncGenerator[tuple[int, Delta], None]:
        try:
            async with aclosing(self._model.generation.run(call.requests)) as deltas:
                async for place, delta in deltas:
                    wanted = call.wanted(delta)
                    usage.take(place, wanted, call)
                    yield place, wanted
        except ApiError as error:
            raise renamed(error, call.constraint_name) from error


def _constraint_name(body: Body) -> str:
    tools = isinstance(body, ChatBody) and body.tools
    return constraint_name(body) or ("tools" if tools else PARAM)


def _collector(request: EngineRequest) -> Collector:
    return Collector(request.request_id, None, [request])


def _check_room(longest: int, prompt: Sequence[int], asked: int | None) -> None:
    """Raises RequestError where the context cannot hold what was asked for by name."""
    if asked is None or len(prompt) >= longest:  # the latter has its own sentence
        return
    if len(prompt) + asked > longest:
        raise RequestError(
            f"A prompt of {len(prompt)} tokens and max_tokens of {asked} exceed the model's "
            f"context of {longest}; lower max_tokens to {longest - len(prompt)} or less.",
            "max_tokens",
            "context_length_exceeded",
        )
