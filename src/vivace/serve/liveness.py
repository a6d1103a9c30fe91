"""Whether the engine really computes: a process that answers may still be stuck."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.engine.requests import fan_out
from vivace.serve.errors import ApiError, unavailable
from vivace.serve.generation import Generation

RECENT_SECONDS = 30.0  # a token that was produced since proves enough
PROOF_SECONDS = 20.0
_ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)


class Liveness:
    """An engine lives while it gets on with what it has to do, and that is watched
    (`EngineClient.check_health`). With nothing to do, it proves it by a token when asked."""

    def __init__(self, info: EngineInfo, generation: Generation) -> None:
        self._info = info
        self._generation = generation
        self._proving = asyncio.Lock()  # those who ask at once share a proof

    async def check(self) -> None:
        """Raises ApiError (503) where the engine is dead, hung or unable to produce a token."""
        await self._generation.check_engine()
        async with self._proving:
            if not self._is_known():
                await self._prove()

    def _is_known(self) -> bool:
        generation = self._generation
        return bool(generation.running) or time.monotonic() - generation.last_token < RECENT_SECONDS

    async def _prove(self) -> None:
        (request,) = fan_out(self._info, f"alive-{uuid4().hex}", [0], _ONE_TOKEN)
        try:
            await asyncio.wait_for(self._generation.last(request), PROOF_SECONDS)
        except asyncio.TimeoutError:
            raise _dead(f"it was silent for {PROOF_SECONDS:.0f} seconds.") from None
        except ApiError as error:
            raise _dead(str(error)) from error


def _dead(why: str) -> ApiError:
    return unavailable(f"The engine produces no token: {why}")
