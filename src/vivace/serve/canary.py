"""Compares what the model predicts with its canary's record: at load, and while nobody asks."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from prometheus_client import Counter, Gauge

from vivace.core.errors import UsageError
from vivace.core.stats import EngineInfo
from vivace.engine import canary
from vivace.serve.engine_metrics import LABELS
from vivace.serve.errors import ApiError
from vivace.serve.generation import Generation
from vivace.serve.logs import LOGGER, log
from vivace.serve.metrics import ServerMetrics
from vivace.serve.options import ServeOptions

_LOOK_SECONDS = 0.2  # how often to see whether nobody asks
_FAILED = 500  # the model's own fault
_AGAIN_SECONDS = 1.0  # after a first look that was not answered


class Canary:
    """Looks at one prompt after the other, each a request that gives way to all others and takes
    one short step: so long may it hold up whoever comes.

    Attributes:
        kl: nats of the last look; None before it, and where there is no record.

    Raises:
        UsageError: readiness is to depend on it, and there is no record.
        CheckpointError: the record is damaged.
    """

    def __init__(
        self,
        info: EngineInfo,
        generation: Generation,
        metrics: ServerMetrics,
        options: ServeOptions,
    ) -> None:
        self.kl: float | None = None
        self._info = info
        self._generation = generation
        self._every = options.canary_interval_seconds
        self._fails_ready = options.canary_fail_ready
        self._record = _comparable(info, self._fails_ready)
        self._labels = metrics.labels
        self._gauge = Gauge(
            "vivace:canary_kl_nats",
            "How far predictions are from the record: the worst prompt's mean.",
            LABELS,
            registry=metrics.registry,
        )
        self._checks = Counter(
            "vivace:canary_checks",
            "Looks at the canary.",
            (*LABELS, "result"),
            registry=metrics.registry,
        )

    @property
    def drifted(self) -> bool:
        return self.kl is not None and self._record is not None and self.kl > self._record.max_kl

    def check_ready(self) -> None:
        """Raises ApiError (503) where readiness depends on the canary, and it drifted or was not
        looked at yet."""
        if self._fails_ready and self.kl is None:
            raise ApiError(
                503, "The canary was not looked at yet; ask again.", code="canary_unknown"
            )
        if self._fails_ready and self.drifted:
            raise ApiError(
                503,
                "The model predicts otherwise than when its canary was recorded; see the log.",
                code="canary_drift",
            )

    async def watch(self) -> None:
        """Look at once, and then whenever the interval has passed and nobody asks."""
        if self._record is None:
            return
        while True:
            with suppress(ApiError):  # it was not answered, for reasons that are told elsewhere
                await self.look(self._record)
            await asyncio.sleep(self._every if self.kl is not None else _AGAIN_SECONDS)

    async def look(self, record: canary.CanaryRecord) -> None:
        """Compare every prompt, and tell what was found.

        Raises:
            ApiError: a prompt was refused, cut short, or the engine is gone; so nothing is known.
        """
        try:
            found = []
            for prompt in record.prompts:
                if self.kl is not None:
                    await self._until_idle()
                found.append(await self._predictions(prompt))
            self.kl = canary.worst(record, found)
        except ApiError as error:
            if error.status != _FAILED:
                raise
            LOGGER.error("The canary's request failed: %s", error)
            self.kl = math.inf
        self._gauge.labels(*self._labels).set(self.kl)
        self._checks.labels(*self._labels, "drift" if self.drifted else "ok").inc()
        self._tell(record)

    def _tell(self, record: canary.CanaryRecord) -> None:
        known = self.kl is not None and math.isfinite(self.kl)
        fields = {"kl_nats": self.kl if known else None, "max_kl_nats": record.max_kl}
        if self.drifted:
            log(logging.ERROR, "The canary drifted: the model predicts otherwise.", fields)
        else:
            log(logging.DEBUG, "The canary is well.", fields)

    async def _predictions(self, prompt: canary.CanaryPrompt) -> list[canary.Prediction]:
        request = canary.request(self._info, f"canary-{uuid4().hex}", prompt)
        deltas = await self._generation.deltas(request)
        if deltas[-1].finish_reason == "abort":
            raise ApiError(503, "The canary's request was aborted.")
        return canary.predictions(deltas)

    async def _until_idle(self) -> None:
        while self._generation.running:
            await asyncio.sleep(_LOOK_SECONDS)


def _comparable(info: EngineInfo, needed: bool) -> canary.CanaryRecord | None:
    record = canary.load(Path(info.folder))
    if record is not None and record.precision == info.precision:
        return record
    if needed:
        raise UsageError(
            f"--canary-fail-ready needs a canary recorded in {info.precision}; make it with "
            "vivace canary record MODEL and the same flags."
        )
    if record is not None:
        LOGGER.warning(
            "The canary was recorded in %s and is not compared in %s.",
            record.precision,
            info.precision,
        )
    return None
