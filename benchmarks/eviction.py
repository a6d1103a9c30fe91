"""Perplexity of streams far longer than the KV cache: sinks and a window, against a window alone.

    python benchmarks/eviction.py [--window 512] [--times 20] [--sinks 0 4] [--streams 4]

Scores streams of held-out text, `times` windows long each, with what `--kv-eviction` keeps. Beside
it: `fresh`, where each token stands in a context of its own, computed anew, of half a window to a
whole one, as the best that a cache of this size can do; and `whole`, where every position is kept,
past those that the model was trained for. Text differs from place to place, so compare window by
window.

Takes some minutes; prints one JSON object. `pages` is the most that a request held, by the
allocator's own count.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace import LLM, SamplingParams
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.divergence import log_probabilities, negative_log_likelihood
from vivace.evaluate.plans import Protocol
from vivace.formats.hub import resolve_model

Stream = list[int]
Losses = NDArray[np.float64]
GOES_ON = SamplingParams(max_tokens=16, temperature=0, ignore_eos=True)


def streams_of(llm: LLM, length: int, count: int) -> list[Stream]:
    """Token ids of the held-out files one behind the other, cut into streams."""
    assert llm.tokenizer is not None, "The model has no tokenizer.json to encode the text with."
    tokens: Stream = []
    for file in held_out_files():
        tokens += llm.tokenizer.encode(file.text)
        if len(tokens) > length * count:
            return [tokens[i * length : (i + 1) * length + 1] for i in range(count)]
    raise SystemExit(f"The held-out text has only {len(tokens)} tokens; ask for less.")


def losses(llm: LLM, stream: Sequence[int], first: int = 0) -> Losses:
    """In nats, of each next token from `first` on; a batch of logits at a time."""
    found, start = [], 0
    for logits in llm.logit_batches(stream[:-1]):
        end = start + len(logits)
        found.append(
            negative_log_likelihood(log_probabilities(logits), stream[start + 1 : end + 1])
        )
        start = end
    return np.concatenate(found)[first:]


def fresh(llm: LLM, stream: Stream, window: int) -> Losses:
    """Every token in a context of its own, of half a window to a whole one."""
    windows = Protocol(window, window // 2).windows(len(stream))
    parts = [losses(llm, stream[start : end + 1], first - start) for start, first, end in windows]
    return np.concatenate(parts)


def by_window(streams: Sequence[Losses], window: int) -> list[float]:
    """Perplexity of each window's tokens, over all streams."""
    nats = np.mean(streams, axis=0).reshape(-1, window).mean(axis=1)
    return [math.exp(mean) for mean in nats]


def pages_held(llm: LLM, stream: Stream) -> int:
    """The most that one request ever holds while it is computed and goes on."""
    return max(llm.stats().pages_used for _ in llm.stream(stream, GOES_ON))


def lengthened(model: Path, folder: Path, positions: int) -> str:
    """The model for so many positions, though it was trained for fewer."""
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(
        json.dumps({**config, "max_position_embeddings": positions})
    )
    return str(folder)


def scored(model: str | None, streams: Sequence[Stream], window: int, eviction: str) -> Any:
    """Perplexity by window, and the pages held, with what an eviction keeps."""
    length = len(streams[0]) - 1
    llm = LLM(
        model,
        max_model_len=length + GOES_ON.max_tokens,
        kv_eviction=eviction,
        enable_prefix_caching=False,
        max_num_seqs=1,
    )
    found = by_window([losses(llm, stream) for stream in streams], window)
    pages = pages_held(llm, streams[0][:-1])
    llm.close()
    print(f"{eviction}: {found[-1]:.3f} in the last window, {pages} pages", file=sys.stderr)
    return {"perplexity": found, "pages": pages}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    window, length = given.window, given.window * given.times
    plain = LLM(given.model, enable_prefix_caching=False, max_num_seqs=1)
    streams = streams_of(plain, length, given.streams)
    with TemporaryDirectory() as made:
        folder = Path(resolve_model(given.model))
        longer = lengthened(folder, Path(made), length + GOES_ON.max_tokens)
        whole = scored(longer, streams, window, "none")
    kept = {
        str(sinks): scored(given.model, streams, window, f"sinks:{window - sinks}:{sinks}")
        for sinks in given.sinks
    }
    return {
        "model": plain.info.model_name,
        "precision": plain.info.precision,
        "trained_for": plain.info.max_model_len,
        "window": window,
        "length": length,
        "streams": len(streams),
        "fresh": by_window([fresh(plain, stream, window) for stream in streams], window),
        "whole": whole,
        "kept": kept,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Perplexity far past the KV cache.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--window", type=int, default=512, help="tokens that the cache holds")
    parser.add_argument("--times", type=int, default=20, help="length of a stream, in windows")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--sinks", type=int, nargs="+", default=[0, 4])
    given = parser.parse_args()
    print(json.dumps(measure(given)))


if __name__ == "__main__":
    main()
