"""Recall from long prompts of which only some positions are kept: SnapKV's choice against others.

    python benchmarks/recall.py [--pairs 192] [--kept 40 64 96 128] [--model FOLDER]

Asks vivace-recall, a small decoder that tools/train_recall.py has trained for nothing else: the
prompt is pairs of a key and a value, and then one of the keys, whose value comes next. So many
positions of it are kept:

    snap         those that the prompt's last rows look at, the question among them
    snap_unseen  the same, chosen before the question comes
    sinks        the first 4 and the last ones, as many in all
    whole        every position: the limit

Prints one JSON object: the share of questions answered rightly, over all and by the depth of the
pair in quarters of the prompt, the oldest first; and the most pages that a request held while it
answered, by the allocator's own count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.core.config import EngineConfig
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, SINK_TOKENS, Sight
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.evaluate.pairs import Pairs

MODEL = Path(__file__).parent / "models" / "vivace-recall"
# The answer is the first token; while the second comes, pages are seen as they are kept.
GREEDY = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
QUARTERS = 4


@dataclass(frozen=True)
class Way:
    """What a request keeps of its prompt, which may end before the question: `behind` tokens."""

    sight: Sight
    behind: int = 0


def ways(kept: int) -> dict[str, Way]:
    snap = Sight(kept=kept)
    return {
        "snap": Way(snap),
        "snap_unseen": Way(snap, behind=1),
        "sinks": Way(Sight(kept - SINK_TOKENS, SINK_TOKENS)),
    }


def asked(name: str, task: Pairs, way: Way) -> Request:
    """A prompt of pairs and a key, whose value is the token to draw."""
    prompt = (*task.context.tolist(), int(task.answers[0]))
    return Request(name, prompt, GREEDY, sight=way.sight.of_prompt(len(prompt) - way.behind))


def ask(core: EngineCore, tasks: Sequence[Pairs], way: Way) -> dict[str, Any]:
    """How often the answer is right, one task behind the other."""
    right, pages = np.zeros(len(tasks), np.bool_), 0
    for number, task in enumerate(tasks):
        core.add(asked(str(number), task, way))
        tokens: list[int] = []
        while core.has_work:
            tokens += [token for delta in core.step() for token in delta.token_ids]
            pages = max(pages, core.stats().pages_used)
        right[number] = tokens[0] == task.answers[1]
    return {**by_depth(right, tasks), "pages": pages}


def by_depth(right: NDArray[np.bool_], tasks: Sequence[Pairs]) -> dict[str, Any]:
    depths = np.asarray([task.asked[0] * QUARTERS // len(task.keys) for task in tasks])
    quarters = [float(right[depths == quarter].mean()) for quarter in range(QUARTERS)]
    return {"right": float(right.mean()), "by_depth": quarters}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(1)  # training has drawn from 0
    tasks = [Pairs.draw(rng, given.pairs, 1) for _ in range(given.questions)]
    config = EngineConfig(str(given.model), backend=given.backend, enable_prefix_caching=False)
    core = build_engine(config)
    whole = ask(core, tasks, Way(ALL))
    kept = {}
    for count in given.kept:
        kept[str(count)] = {name: ask(core, tasks, way) for name, way in ways(count).items()}
        shares = {name: one["right"] for name, one in kept[str(count)].items()}
        print(f"{count} of {2 * given.pairs + 1}: {shares}", file=sys.stderr)
    tokens = 2 * given.pairs + 1
    return {"tokens": tokens, "questions": given.questions, "whole": whole, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall from prompts that are kept in part.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--backend", choices=("cpu", "reference", "torch"), default="cpu")
    parser.add_argument("--pairs", type=int, default=192, help="of a prompt")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--kept", type=int, nargs="+", default=[40, 64, 96, 128])
    given = parser.parse_args()
    print(json.dumps(measure(given)))


if __name__ == "__main__":
    main()
