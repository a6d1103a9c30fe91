"""Conversations of several turns that share a system prompt, with prefix sharing and without.

    python benchmarks/chat.py [--rounds 1] [--short]

With sharing, without, and with it again, all conversations go on at once; each asks its next turn
as soon as it has its answer, with all that was said before. Then the next turn of each, one at a
time: with its prefix on the device, computed from the beginning, and after a restart that finds it
on disk (the files are dropped from the system's cache before). Prints one JSON object: tokens of
answers per second, the most that they could be with sharing if prompts took no time at all, and
times to first token.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import models
from scheduling.command import Command, report
from scheduling.conversations import Conversations, Shape
from scheduling.drive import Run, drive
from scheduling.engines import config_of, int8_engine, rest, start
from scheduling.files import drop_from_cache

from vivace.bench.run import random_requests, run_requests
from vivace.engine.core import EngineCore

HOST_BYTES, DISK_BYTES = 2**30, 2**32
TURN_ABOUT = ("shared", "apart", "shared")  # a machine that changes its pace favours neither


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    restarts: conversations that go on in an engine of their own.
    """

    preset: str
    shape: Shape
    max_model_len: int
    restarts: int

    @property
    def limits(self) -> dict[str, int]:
        return {"max_num_seqs": self.shape.conversations, "max_model_len": self.max_model_len}


FULL = Sizes("1.1b", Shape(8, 6, system=1024, asked=64, answered=64), 2048, restarts=4)
SHORT = Sizes("tiny", Shape(3, 2, system=64, asked=16, answered=8), 512, restarts=2)


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    engines = {
        "shared": int8_engine(sizes.preset, **sizes.limits),
        "apart": int8_engine(sizes.preset, **sizes.limits, enable_prefix_caching=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in [*engines, "decodes alone"]}
    ttfts: dict[str, list[float]] = {name: [] for name in engines}
    for core in engines.values():
        _fill(core, sizes, rng)
    for done in range(rounds):
        for name in TURN_ABOUT:
            core = engines[name]
            chat = Conversations(sizes.shape, core.info.vocab_size, rng)
            run = drive(core, chat.first_turns(), chat.reply)
            rates[name].append(_answers_per_second(run))
            if name == "shared":
                rates["decodes alone"].append(sizes.shape.conversations / median(run.steps))
            ttfts[name] += _one_by_one(core, chat)
        report(f"round {done + 1} of {rounds}")
    for core in engines.values():
        core.close()
    ttfts["restarted"] = _restarted(sizes, rng)
    return {
        "tokens_per_second": {name: median(found) for name, found in rates.items()},
        "median_ttfts": {name: median(found) for name, found in ttfts.items()},
        "rates_by_round": rates,
        "ttfts": ttfts,
    }


def _warm_up(core: EngineCore, rng: np.random.Generator) -> None:
    run_requests(core, random_requests(core, 1, 64, 8, rng))


def _fill(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> None:
    """Use every KV page once, so that no step that is timed waits until the system finds memory."""
    longest = random_requests(core, sizes.shape.conversations, sizes.max_model_len - 1, 1, rng)
    run_requests(core, longest)


def _answers_per_second(run: Run) -> float:
    return sum(len(one.token_ids) for one in run.ended) / run.seconds


def _one_by_one(core: EngineCore, chat: Conversations) -> list[float]:
    """Times to first token of one more turn of each conversation, on an engine that is idle."""
    return [drive(core, [turn]).ended[0].ttft for turn in chat.openings()]


def _restarted(sizes: Sizes, rng: np.random.Generator) -> list[float]:
    """As `_one_by_one`, each in an engine of its own that finds the conversation on disk."""
    with tempfile.TemporaryDirectory(dir=models.FOLDER) as folder:  # /tmp may be no disk
        tiers = {"kv_host_bytes": HOST_BYTES, "kv_disk_bytes": DISK_BYTES}
        config = config_of(sizes.preset, **sizes.limits, **tiers, kv_disk_folder=folder)
        core = start(config)
        chat = Conversations(sizes.shape, core.info.vocab_size, rng)
        drive(core, chat.first_turns(), chat.reply)
        rest(core)
        core.close()
        ttfts = []
        for turn in chat.openings()[: sizes.restarts]:
            drop_from_cache(Path(folder))
            core = start(config)
            _warm_up(core, rng)
            ttfts.append(drive(core, [turn]).ended[0].ttft)
            core.close()
        return ttfts


if __name__ == "__main__":
    Command(
        about="Conversations with and without prefix sharing, and after a restart.",
        takes="5 minutes, and 4 more for each further round",
        full=FULL,
        short=SHORT,
        measure=measure,
        rounds=1,
    ).main()
