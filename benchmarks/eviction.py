"""Perplexity of a stream far longer than the KV cache: sinks and a window, against a window alone.

    python benchmarks/eviction.py [--window 512] [--times 20] [--sinks 4 0] [--plot FILE]

Scores streams of held-out text, `times` windows long each, with what `--kv-eviction` keeps, and
beside it what a fresh context gives that is as long as the cache (each token sees half of it at
least): the limit of any cache that forgets. Text differs from place to place, so compare the two
window by window. Prints one JSON object; `pages` is the most that a request ever held, by the
allocator's own count, and `pages_whole` what the same request holds that keeps everything.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace import LLM, SamplingParams
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.divergence import log_probabilities, negative_log_likelihood
from vivace.evaluate.plans import Protocol

Losses = NDArray[np.float64]


def streams_of(llm: LLM, length: int, count: int) -> list[list[int]]:
    """Token ids of the held-out files one behind the other, cut into streams."""
    assert llm.tokenizer is not None, "The model has no tokenizer.json to encode the text with."
    tokens: list[int] = []
    for file in held_out_files():
        tokens += llm.tokenizer.encode(file.text)
        if len(tokens) > length * count:
            return [tokens[i * length : (i + 1) * length + 1] for i in range(count)]
    raise SystemExit(f"The held-out text has only {len(tokens)} tokens; ask for less.")


def losses(logits: NDArray[np.float32], targets: Sequence[int]) -> Losses:
    return negative_log_likelihood(log_probabilities(logits), targets)


def fresh(llm: LLM, stream: Sequence[int], window: int) -> Losses:
    """Every token in a context of its own, of half a window to a whole one."""
    parts = [
        losses(llm.logits(stream[start:end])[first - start :], stream[first + 1 : end + 1])
        for start, first, end in Protocol(window, window // 2).windows(len(stream))
    ]
    return np.concatenate(parts)


def by_window(streams: Sequence[Losses], window: int) -> list[float]:
    """Perplexity of each window's tokens, over all streams."""
    mean = np.mean(streams, axis=0).reshape(-1, window).mean(axis=1)
    return [math.exp(nats) for nats in mean]


def pages_held(llm: LLM, prompt: Sequence[int]) -> int:
    """The most that one request ever holds while it is computed and goes on."""
    params = SamplingParams(max_tokens=16, temperature=0, ignore_eos=True)
    return max(llm.stats().pages_used for _ in llm.stream(prompt, params))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    window, length = given.window, given.window * given.times
    plain = LLM(given.model, enable_prefix_caching=False, max_num_seqs=1)
    streams = streams_of(plain, length, given.streams)
    limit = by_window([fresh(plain, stream, window) for stream in streams], window)
    kept = {}
    for sinks in given.sinks:
        llm = LLM(
            given.model,
            max_model_len=length + 16,
            kv_eviction=f"sinks:{window}:{sinks}",
            enable_prefix_caching=False,
            max_num_seqs=1,
        )
        found = [losses(llm.logits(stream[:-1]), stream[1:]) for stream in streams]
        kept[str(sinks)] = {
            "perplexity": by_window(found, window),
            "pages": pages_held(llm, streams[0][:length]),
        }
        print(f"{sinks} sinks: {kept[str(sinks)]['perplexity'][-1]:.3f}", file=sys.stderr)
        llm.close()
    return {
        "model": plain.info.model_name,
        "precision": plain.info.precision,
        "trained_for": plain.info.max_model_len,
        "window": window,
        "length": length,
        "streams": len(streams),
        "fresh_context": limit,
        "kept": kept,
        "pages_whole": -(-(length + 15) // plain.info.page_tokens),
    }


def draw(path: Path, result: dict[str, Any]) -> None:
    """Perplexity over position, in windows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(1, len(result["fresh_context"]) + 1)
    for sinks, one in result["kept"].items():
        axes.plot(places, one["perplexity"], label=f"{sinks} sinks and the window")
    axes.plot(places, result["fresh_context"], "--", color="grey", label="a fresh context")
    axes.axvline(result["trained_for"] / result["window"], color="black", linewidth=0.8)
    axes.annotate("trained for", (result["trained_for"] / result["window"], axes.get_ylim()[1]))
    axes.set_yscale("log")
    axes.set_xlabel(f"position, in windows of {result['window']} tokens")
    axes.set_ylabel("perplexity")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Perplexity far past the KV cache.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--times", type=int, default=20, help="length of a stream, in windows")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--sinks", type=int, nargs="+", default=[0, 1, 4, 16])
    parser.add_argument("--plot", type=Path, help="an image to write; needs matplotlib")
    given = parser.parse_args()
    result = measure(given)
    if given.plot is not None:
        draw(given.plot, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
