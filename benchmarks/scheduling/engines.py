"""Engines of random-weight models in int8, and requests of random tokens for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from peers.models import FOLDER

from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.run import random_requests
from vivace.core.config import EngineConfig
from vivace.core.request import Request
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.engine.loop import WRITE_SECONDS


def config_of(preset: str, **options: Any) -> EngineConfig:
    """The model of a preset in int8; made where it is not there.

    Args:
        options: other fields of the configuration. With `kv_memory_bytes` that a warm-up fills,
            no step that is timed has to wait until the system finds memory.
    """
    folder = write_random_model(FOLDER / preset, PRESETS[preset])
    return EngineConfig(str(folder), quantize="int8", **options)


def start(config: EngineConfig) -> EngineCore:
    return build_engine(config, lambda line: print(line, file=sys.stderr, flush=True))


def int8_engine(preset: str, **options: Any) -> EngineCore:
    return start(config_of(preset, **options))


def rest(core: EngineCore) -> None:
    """Leave an engine alone until it has written down what it computed."""
    while core.unwritten:
        core.write_down()
        time.sleep(WRITE_SECONDS)


def arriving(requests: Sequence[Request], at: Sequence[float], **standing: Any) -> list[Request]:
    """Requests with their arrivals, in seconds after the run begins.

    Args:
        standing: priority, tenant and the like of all of them.
    """
    return [
        replace(request, arrival=float(when), **standing)
        for request, when in zip(requests, at, strict=True)
    ]


def endless(
    core: EngineCore, lengths: tuple[int, int], rng: np.random.Generator, **standing: Any
) -> Iterator[Request]:
    """Requests of that many tokens in and out, one after another."""
    while True:
        (request,) = random_requests(core, 1, *lengths, rng)
        yield replace(request, **standing)
