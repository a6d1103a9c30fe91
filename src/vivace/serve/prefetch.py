"""POST /v1/prefetch: a prefix that will be needed is computed ahead, and may be pinned."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from vivace.core.request import IDLE_PRIORITY
from vivace.core.request import Request as EngineRequest
from vivace.core.sampling import SamplingParams
from vivace.engine.requests import fan_out
from vivace.serve.model_parts import ModelParts
from vivace.serve.schemas import PrefetchBody
from vivace.serve.standing import sight_of
from vivace.serve.streaming import while_connected

# A prompt's last token is always computed, and one drawn from it, which is left out here.
_NOTHING_MORE = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)


class Prefetcher:
    """Warms prefixes of one model."""

    def __init__(self, model: ModelParts) -> None:
        self._model = model

    async def prefetch(self, http: Request, body: PrefetchBody) -> Response:
        """Answers when the prefix is computed; a client that leaves ends it."""
        prompt = await self._model.prompts.either(body, opens=False)
        call_id = f"prefetch-{uuid4().hex}"
        sight = sight_of(body.kv_eviction) or self._model.info.sight
        (request,) = fan_out(self._model.info, call_id, prompt, _NOTHING_MORE, sight.uncut)
        request = replace(
            request,
            priority=IDLE_PRIORITY,
            cache_salt=body.cache_salt or "",
            pin_id=call_id if body.pin else None,
            adapter=self._model.names.adapter(body.model),
            ahead=True,
        )
        return await while_connected(http.receive, self._compute(request))

    async def _compute(self, request: EngineRequest) -> Response:
        delta = await self._model.generation.last(request)
        return JSONResponse(
            {
                "id": request.request_id,
                "object": "prefetch",
                "created": int(time.time()),
                "model": request.adapter or self._model.names.model,
                "prompt_tokens": len(request.prompt_token_ids),
                "cached_tokens": delta.num_cached_tokens,
                "pinned": request.pin_id is not None,
            }
        )
